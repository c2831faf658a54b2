//! Runs the command in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A temporary directory for the command to run in. The cache is next to it, so that the program is
/// not granted the cache.
pub(crate) struct WorkDir {
    _both: TempDir,
    work: PathBuf,
    cache: PathBuf,
}

impl WorkDir {
    pub(crate) fn new() -> WorkDir {
        let both = TempDir::new().expect("the temporary directory is writable");
        let [work, cache] = ["work", "cache"].map(|name| both.path().join(name));
        std::fs::create_dir(&work).expect("the temporary directory is writable");
        WorkDir {
            _both: both,
            work,
            cache,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.work
    }

    /// Returns where compiled code is cached.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Writes a file, creating its directories.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("the file is in the directory"))
            .expect("the directory is writable");
        std::fs::write(&path, content).expect("the directory is writable");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Returns the command with arguments, independent of the user's settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunatic"));
        command
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
            .env_remove("RUST_LOG")
            .env("LUNATIC_CACHE", self.cache());
        command
    }

    /// Runs the command to completion.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(
            self.command(arguments)
                .output()
                .expect("the command was built with this test"),
        )
    }
}

/// Runs a guest with flags, in a new directory.
pub(crate) fn run(flags: &[&str], guest: &str) -> Ended {
    let dir = WorkDir::new();
    dir.write("guest.wat", guest);
    dir.run(&[flags, &["guest.wat"]].concat())
}

/// How the command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit status, or `None` if a signal ended the command.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Checks the status and standard error, which must contain all of `parts` or, if there are
    /// none, be empty.
    #[track_caller]
    pub(crate) fn check(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:#?}");
        assert_eq!(self.stderr.is_empty(), parts.is_empty(), "{self:#?}");
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "`{part}` is missing from {self:#?}"
            );
        }
    }
}
