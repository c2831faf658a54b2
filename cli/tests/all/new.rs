//! `lunatic new`.

use crate::lunatic::{Ended, Place};
use std::path::Path;
use std::process::Command;

fn cargo_run(place: &Place, project: &str) -> Ended {
    cargo("run", place, project)
}

/// Runs a new project or its tests as its user does: with cargo, which runs the command.
fn cargo(subcommand: &str, place: &Place, project: &str) -> Ended {
    let command = Path::new(env!("CARGO_BIN_EXE_lunatic"))
        .parent()
        .expect("it lies in a directory");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [command.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    );
    // As in a shell: nothing of the cargo that runs this test is left, but where it keeps what it has fetched.
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME"
            || name.starts_with("RUST") && name.ends_with("FLAGS")
        {
            cargo.env_remove(&*name);
        }
    }
    // The lock file of the repository has the versions that are there.
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"),
        place.path().join(project).join("Cargo.lock"),
    )
    .expect("the repository has a lock file");
    let output = cargo
        .args([subcommand, "--quiet", "--offline"])
        .current_dir(place.path().join(project))
        .env("PATH", path.expect("the PATH was one before"))
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"),
        )
        .env("LUNATIC_CACHE", place.path().join("cache"))
        .output()
        .expect("cargo runs this test");
    Ended::from(output)
}

#[test]
fn a_new_project_runs() {
    let place = Place::new();
    let made = place.run(&["new", "greeter"]);
    made.check(0, &[]);
    assert!(made.stdout.contains("cd greeter && cargo run"), "{made:#?}");
    let ended = cargo_run(&place, "greeter");
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, "Hello, world!\n", "{ended:#?}");
    let ended = cargo("test", &place, "greeter");
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert!(
        ended
            .stdout
            .contains("test result: ok. 1 passed; 0 failed;"),
        "{ended:#?}"
    );

    // `init` has nothing left to do.
    assert!(
        place
            .run(&["init", "greeter"])
            .stdout
            .contains("set up already")
    );
}

#[test]
fn a_panic_is_reported_with_file_and_line() {
    let place = Place::new();
    place.run(&["new", "panicking"]).check(0, &[]);
    let program = "#[inline(never)]\nfn fail(number: i32) {\n    panic!(\"number {number}\");\n}\n\n\
        fn main() {\n    fail(std::env::args().count() as i32);\n}\n";
    place.write("panicking/src/main.rs", program);
    let ended = cargo_run(&place, "panicking");
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
    let place = Place::new();
    place.write("Cargo.toml", "[workspace]\nmembers = []\n");
    place.run(&["new", "inner/one"]).check(0, &[]);
    assert!(place.read("inner/one/Cargo.toml").contains("[workspace]"));
    let place = Place::new();
    place.run(&["new", "one"]).check(0, &[]);
    assert!(!place.read("one/Cargo.toml").contains("[workspace]"));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let place = Place::new();
    place.write("there/file", "");
    place
        .run(&["new", "there"])
        .check(1, &["`there` exists already", "lunatic init"]);
    place.run(&["new", "fn"]).check(1, &["keyword"]);
    place
        .run(&["new", "a b"])
        .check(1, &["`a b` cannot be a package's name"]);
    place
        .run(&["new", "one", "--guest-path", "nowhere"])
        .check(1, &["`nowhere`", "--guest-path"]);
    assert!(!place.path().join("one").exists());
}
