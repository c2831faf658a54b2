//! `lunatic new`.

use crate::lunatic::{Ended, WorkDir};
use std::path::Path;
use std::process::Command;

fn cargo_run(dir: &WorkDir, project: &str) -> Ended {
    cargo("run", dir, project)
}

/// Runs a new project or its tests as a user does: with cargo, which runs the command.
fn cargo(subcommand: &str, dir: &WorkDir, project: &str) -> Ended {
    let command = Path::new(env!("CARGO_BIN_EXE_lunatic"))
        .parent()
        .expect("the executable is in a directory");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [command.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    );
    // As in a shell: of the variables set by the cargo that runs this test, only its home is left.
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME"
            || name.starts_with("RUST") && name.ends_with("FLAGS")
        {
            cargo.env_remove(&*name);
        }
    }
    // The lock file of the repository lists the versions that are downloaded.
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"),
        dir.path().join(project).join("Cargo.lock"),
    )
    .expect("the repository has a lock file");
    let output = cargo
        .args([subcommand, "--quiet", "--offline"])
        .current_dir(dir.path().join(project))
        .env("PATH", path.expect("the parts come from a PATH"))
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"),
        )
        .env("LUNATIC_CACHE", dir.path().join("cache"))
        .output()
        .expect("cargo can be run");
    Ended::from(output)
}

#[test]
fn a_new_project_runs() {
    let dir = WorkDir::new();
    let made = dir.run(&["new", "greeter"]);
    made.check(0, &[]);
    assert!(made.stdout.contains("cd greeter && cargo run"), "{made:#?}");
    let ended = cargo_run(&dir, "greeter");
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, "Hello, world!\n", "{ended:#?}");
    let ended = cargo("test", &dir, "greeter");
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert!(
        ended
            .stdout
            .contains("test result: ok. 1 passed; 0 failed;"),
        "{ended:#?}"
    );

    // Nothing is left to do for `init`.
    assert!(
        dir.run(&["init", "greeter"])
            .stdout
            .contains("already set up")
    );
}

#[test]
fn a_panic_is_reported_with_file_and_line() {
    let dir = WorkDir::new();
    dir.run(&["new", "panicking"]).check(0, &[]);
    let program = "#[inline(never)]\nfn fail(number: i32) {\n    panic!(\"number {number}\");\n}\n\n\
        fn main() {\n    fail(std::env::args().count() as i32);\n}\n";
    dir.write("panicking/src/main.rs", program);
    let ended = cargo_run(&dir, "panicking");
    for part in [
        "number 1",
        "`_start` of `panicking.wasm` trapped",
        "panicking::fail",
        "src/main.rs:3",
        "src/main.rs:7",
    ] {
        assert!(
            ended.stderr.contains(part),
            "`{part}` is missing in {ended:#?}"
        );
    }
    assert!(!ended.stderr.contains("line-tables-only"), "{ended:#?}");
}

#[test]
fn a_project_within_a_workspace_is_not_its_member() {
    let dir = WorkDir::new();
    dir.write("Cargo.toml", "[workspace]\nmembers = []\n");
    dir.run(&["new", "inner/one"]).check(0, &[]);
    assert!(dir.read("inner/one/Cargo.toml").contains("[workspace]"));
    let dir = WorkDir::new();
    dir.run(&["new", "one"]).check(0, &[]);
    assert!(!dir.read("one/Cargo.toml").contains("[workspace]"));
}

#[test]
fn what_cannot_be_created_is_refused() {
    let dir = WorkDir::new();
    dir.write("there/file", "");
    dir.run(&["new", "there"])
        .check(1, &["`there` already exists", "lunatic init"]);
    dir.run(&["new", "fn"]).check(1, &["keyword"]);
    dir.run(&["new", "a b"])
        .check(1, &["`a b` cannot be the name of a package"]);
    dir.run(&["new", "one", "--guest-path", "nowhere"])
        .check(1, &["`nowhere`", "--guest-path"]);
    assert!(!dir.path().join("one").exists());
}
