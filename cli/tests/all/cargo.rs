//! Builds guests in Rust, with the cargo that runs the tests. Nothing compiled is kept in the repository.

use crate::lunatic::{Ended, Place};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

/// Returns cargo with arguments as somebody would call it from a shell: what the cargo that runs this test has set is gone,
/// but for where it keeps what it has fetched. Guests of all tests are built in one directory, which is not the one that
/// this test was built in: that is locked while cargo builds there.
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

/// Returns cargo with arguments for programs of which the lock file of the repository has all versions: they are there, so
/// nothing has to be fetched.
fn offline(arguments: &[&str]) -> Command {
    // In front: behind a `--` it would be an argument of the program.
    cargo(&[&["--offline"], arguments].concat())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")
}

/// Returns the path of an example, compiled.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "lunatic-examples"]));
    directory()
        .join("wasm32-wasip1/release")
        .join(name)
        .with_extension("wasm")
}

/// Builds programs of the repository.
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

/// Runs cargo to its end, which has to be a good one.
fn run(cargo: &mut Command, remedy: &str) {
    let output = cargo.output().expect("cargo runs this test");
    let said = String::from_utf8_lossy(&output.stderr);
    let remedy = match said.contains("target may not be installed") {
        true => "the tests need guests in Rust: `rustup target add wasm32-wasip1`",
        false => remedy,
    };
    assert!(
        output.status.success(),
        "{remedy}\n{cargo:?} failed:\n{said}"
    );
}

/// Returns the directory with the compiled programs of a package in `cli/tests/published/`. Each is compiled once, as
/// programs are while people work on them, and by itself: their versions are their own lock file's.
pub(crate) fn published(package: &str) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, Arc<OnceLock<()>>>>> =
        LazyLock::new(Mutex::default);
    let built = BUILT
        .lock()
        .expect("nothing panics here")
        .entry(package.to_owned())
        .or_default()
        .clone();
    built.get_or_init(|| {
        let remedy =
            "the tests need the published guest libraries, and cargo could not fetch them: is there a network?";
        run(&mut published_cargo(package, &["fetch", "--quiet"]), remedy);
        run(&mut published_cargo(package, &["build", "--quiet"]), "");
    });
    directory().join(package).join("wasm32-wasip1/debug")
}

/// Returns `cargo test` for a package in `cli/tests/published/`, with arguments for its tests. The command that is tested
/// is the runner.
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
    cargo
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .env("LUNATIC_CACHE", directory().join(package).join("cache"));
    cargo
}

fn published_cargo(package: &str, arguments: &[&str]) -> Command {
    let (command, arguments) = arguments.split_first().expect("cargo is told what to do");
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

/// A project that `lunatic new` made, with a program.
pub(crate) struct Project {
    pub(crate) place: Place,
    name: String,
}

impl Project {
    /// Makes one. The name is its own: all are compiled in the same directory.
    pub(crate) fn new(name: &str, program: &str) -> Project {
        let place = Place::new();
        place.run(&["new", name]).check(0, &[]);
        place.write(&format!("{name}/src/main.rs"), program);
        std::fs::copy(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"),
            place.path().join(name).join("Cargo.lock"),
        )
        .expect("the repository has a lock file");
        Project {
            place,
            name: name.to_owned(),
        }
    }

    /// Returns `cargo` with arguments, which finds the command that is tested as the runner.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let command = Path::new(env!("CARGO_BIN_EXE_lunatic"))
            .parent()
            .expect("it lies in a directory");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            [command.to_owned()]
                .into_iter()
                .chain(std::env::split_paths(&path)),
        );
        let mut cargo = offline(arguments);
        cargo
            .current_dir(self.place.path().join(&self.name))
            .stdin(Stdio::null());
        cargo
            .env("PATH", path.expect("the PATH was one before"))
            .env_remove("RUST_LOG");
        cargo.env("LUNATIC_CACHE", self.place.path().join("cache"));
        cargo
    }

    /// Runs the program with `cargo run`, and tells the end of every process.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let mut cargo = self.cargo(&[&["run", "--quiet"], arguments].concat());
        Ended::from(
            cargo
                .env("RUST_LOG", "lunatic=debug")
                .output()
                .expect("cargo runs this test"),
        )
    }
}
