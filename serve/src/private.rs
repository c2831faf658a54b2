//! Directories that no function may access and no gateway may serve, such as a service's storage:
//! the stored manifests contain secrets and determine what code is run.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The private directories of a machine.
#[derive(Default)]
pub(crate) struct PrivateDirectories(Mutex<Vec<PathBuf>>);

/// The error for a directory that cannot be granted or served, because it contains a private
/// directory or is inside one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` would give access to `{}`, where the service stores functions and their secrets; use another directory, or \
     store functions in another one (`--storage`)",
    lunatic_vm::printable(&.directory.to_string_lossy()),
    lunatic_vm::printable(&.storage.to_string_lossy())
)]
pub struct PrivateDirectory {
    /// The directory that would be granted or served.
    pub directory: PathBuf,
    /// The private directory.
    pub storage: PathBuf,
}

impl PrivateDirectories {
    /// Adds a private directory.
    pub(crate) fn add(&self, directory: &Path) {
        let directory = directory.to_path_buf();
        let mut known = self.known();
        if !known.contains(&directory) {
            known.push(directory);
        }
    }

    /// Checks a directory that is about to be granted or served.
    pub(crate) fn check(&self, directory: &Path) -> Result<(), PrivateDirectory> {
        let known = self.known();
        let leads_to = |private| lunatic_vm::leads_to(directory, private).unwrap_or(false);
        let storage = known.iter().find(|private| {
            contains(directory, private) || contains(private, directory) || leads_to(private)
        });
        storage.map_or(Ok(()), |storage| {
            Err(PrivateDirectory {
                directory: directory.to_path_buf(),
                storage: storage.clone(),
            })
        })
    }

    fn known(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether `outer` is `inner` or contains it, no matter which links lead to the two
/// directories. Returns false if either of them cannot be found, because such a directory cannot be
/// granted either.
fn contains(outer: &Path, inner: &Path) -> bool {
    let lies_in = || -> io::Result<bool> {
        let outer = identity(outer)?;
        let inner = inner.canonicalize()?;
        Ok(inner
            .ancestors()
            .any(|directory| identity(directory).is_ok_and(|identity| identity == outer)))
    };
    lies_in().unwrap_or(false)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    #[test]
    fn neither_a_private_directory_nor_one_around_or_inside_it_is_allowed() {
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        let path = |name: &str| root.path().join(name);
        for directory in ["project/store/functions", "project/data", "links"] {
            create_dir_all(path(directory)).expect("there is disk space");
        }
        symlink(path("project/store"), path("links/to-store")).expect("there is disk space");
        symlink(path("project"), path("links/to-project")).expect("there is disk space");
        let private = PrivateDirectories::default();
        private.add(&path("links/to-project/store"));
        for (directory, is_allowed) in [
            ("project/data", true),
            ("links", true),
            ("missing", true),
            ("", false),
            ("project", false),
            ("project/data/..", false),
            ("project/store", false),
            ("project/store/functions", false),
            ("links/to-store", false),
            ("links/to-store/functions", false),
        ] {
            assert_eq!(
                private.check(&path(directory)).is_ok(),
                is_allowed,
                "{directory}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_private_directory_is_also_found_through_another_mount() {
        const TEST: &str =
            "private::tests::a_private_directory_is_also_found_through_another_mount";
        if std::env::var_os("IN_OWN_NAMESPACE").is_none() {
            let own = |program: &Path| {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--mount", "--"]);
                command.arg(program);
                command
            };
            let is_allowed = own(Path::new("true")).output();
            if !is_allowed.is_ok_and(|output| output.status.success()) {
                return;
            }
            let program = std::env::current_exe().expect("the path of the test binary is known");
            let mut run = own(&program);
            run.args(["--exact", TEST, "--nocapture"])
                .env("IN_OWN_NAMESPACE", "1");
            let run = run.output().expect("`unshare` is installed");
            assert!(run.status.success(), "{run:?}");
            return;
        }
        let root = tempfile::tempdir().expect("a temporary directory can be created");
        let path = |name: &str| root.path().join(name);
        for directory in [
            "project/store/functions",
            "project/data",
            "seen",
            "around/again",
        ] {
            create_dir_all(path(directory)).expect("there is disk space");
        }
        for (from, to) in [("project/store", "seen"), ("project", "around/again")] {
            let mount = Command::new("mount")
                .arg("--bind")
                .args([path(from), path(to)])
                .status();
            assert!(mount.expect("`mount` is installed").success());
        }
        let private = PrivateDirectories::default();
        private.add(&path("project/store"));
        for (directory, is_allowed) in [
            ("seen", false),
            ("seen/functions", false),
            ("around/again/store", false),
            ("around", false),
            ("around/again/data", true),
        ] {
            assert_eq!(
                private.check(&path(directory)).is_ok(),
                is_allowed,
                "{directory}"
            );
        }
    }
}
