//! Builds guests written in Rust, using the cargo that runs the tests. The repository does not
//! contain any compiled code.

use crate::lunatic::{Ended, WorkDir};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

/// Returns a cargo command with arguments, as if run from a shell: the variables set by the cargo
/// that runs this test are removed, except for the one with its home directory. All tests build
/// their guests in one shared directory, separate from this test's build directory, which cargo may
/// have locked.
fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME"
            || name.starts_with("RUST") && name.ends_with("FLAGS")
        {
            cargo.env_remove(&*name);
        }
    }
    cargo.args(arguments).env("CARGO_TARGET_DIR", directory());
    cargo
}

/// Returns a cargo command with arguments. Programs may use only the versions in the repository's
/// lock file, which have already been downloaded.
fn offline(arguments: &[&str]) -> Command {
    // The flag comes first because, after a `--`, it would be an argument for the program.
    cargo(&[&["--offline"], arguments].concat())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")
}

/// Returns the path of a compiled example.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "lunatic-examples"]));
    directory()
        .join("wasm32-wasip1/release")
        .join(name)
        .with_extension("wasm")
}

/// Builds programs from the repository.
fn build(what: &[&str]) {
    let arguments = [
        &["build", "--quiet", "--release", "--target", "wasm32-wasip1"],
        what,
    ]
    .concat();
    run(
        offline(&arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")),
        "",
    );
}

/// Runs cargo and checks that it succeeds.
fn run(cargo: &mut Command, remedy: &str) {
    let output = cargo.output().expect("cargo can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    let remedy = match said.contains("target may not be installed") {
        true => "the tests build Rust guests; run `rustup target add wasm32-wasip1`",
        false => remedy,
    };
    assert!(
        output.status.success(),
        "{remedy}\n{cargo:?} failed:\n{said}"
    );
}

/// Returns the directory with a package's compiled programs, from `cli/tests/published/`. Each
/// package is compiled once, in the dev profile. Packages are compiled separately because each has
/// its own lock file.
pub(crate) fn published(package: &str) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, Arc<OnceLock<()>>>>> =
        LazyLock::new(Mutex::default);
    let built = BUILT
        .lock()
        .expect("no code panics while it holds this lock")
        .entry(package.to_owned())
        .or_default()
        .clone();
    built.get_or_init(|| {
        let remedy =
            "the tests need the published guest libraries, which cargo could not fetch: is the network up?";
        run(&mut published_cargo(package, &["fetch", "--quiet"]), remedy);
        run(&mut published_cargo(package, &["build", "--quiet"]), "");
    });
    directory().join(package).join("wasm32-wasip1/debug")
}

/// Returns `cargo test` for a package in `cli/tests/published/`, with arguments for its tests and
/// the command under test as the runner.
pub(crate) fn published_tests(package: &str, arguments: &[&str]) -> Command {
    published(package);
    let runner = format!(
        "target.wasm32-wasip1.runner = ['{}']",
        env!("CARGO_BIN_EXE_lunatic")
    );
    let mut cargo = published_cargo(
        package,
        &[&["test", "--config", &runner, "--tests", "--"], arguments].concat(),
    );
    cargo.stdin(Stdio::null()).env_remove("RUST_LOG").env(
        "LUNATIC_CACHE",
        directory().join(format!("{package}-cache")),
    );
    cargo
}

fn published_cargo(package: &str, arguments: &[&str]) -> Command {
    let (command, arguments) = arguments
        .split_first()
        .expect("the first argument is the subcommand");
    let mut cargo = cargo(
        &[
            &[*command, "--locked", "--target", "wasm32-wasip1"],
            arguments,
        ]
        .concat(),
    );
    cargo.current_dir(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/published")
            .join(package),
    );
    cargo.env("CARGO_TARGET_DIR", directory().join(package));
    cargo
}

/// A project created by `lunatic new`, with a program.
pub(crate) struct Project {
    pub(crate) dir: WorkDir,
    name: String,
}

impl Project {
    /// Creates a project with the given program.
    pub(crate) fn new(name: &str, program: &str) -> Project {
        let dir = WorkDir::new();
        dir.run(&["new", name]).check(0, &[]);
        dir.write(&format!("{name}/src/main.rs"), program);
        Project::in_dir(dir, name)
    }

    /// Prepares a project that has already been created. Its name must be unique because all
    /// projects are compiled in the same directory.
    pub(crate) fn in_dir(dir: WorkDir, name: &str) -> Project {
        // The lock file lists the versions that have already been downloaded.
        std::fs::copy(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"),
            dir.path().join(name).join("Cargo.lock"),
        )
        .expect("the repository has a lock file");
        Project {
            dir,
            name: name.to_owned(),
        }
    }

    /// Returns a `cargo` command with arguments, and with the command under test in the PATH.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let command = Path::new(env!("CARGO_BIN_EXE_lunatic"))
            .parent()
            .expect("the executable is in a directory");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            [command.to_owned()]
                .into_iter()
                .chain(std::env::split_paths(&path)),
        );
        let mut cargo = offline(arguments);
        cargo
            .current_dir(self.dir.path().join(&self.name))
            .stdin(Stdio::null());
        cargo
            .env(
                "PATH",
                path.expect("the directories can be joined to a PATH"),
            )
            .env_remove("RUST_LOG");
        cargo.env("LUNATIC_CACHE", self.dir.path().join("cache"));
        cargo
    }

    /// Runs the program with `cargo run` and logs how every process ends.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let mut cargo = self.cargo(&[&["run", "--quiet"], arguments].concat());
        Ended::from(
            cargo
                .env("RUST_LOG", "lunatic=debug")
                .output()
                .expect("cargo can be run"),
        )
    }
}
