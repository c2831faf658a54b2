//! Tests `lunatic new`.

use crate::cargo::Project;
use crate::lunatic::{Ended, WorkDir};

/// Runs a new project or its tests the way a user does: with cargo, which in turn runs the command.
fn cargo(subcommand: &str, project: &Project) -> Ended {
    let mut cargo = project.cargo(&[subcommand, "--quiet"]);
    Ended::from(cargo.output().expect("cargo can be run"))
}

#[test]
fn a_new_project_runs() {
    let dir = WorkDir::new();
    let made = dir.run(&["new", "greeter"]);
    made.check(0, &[]);
    assert!(made.stdout.contains("cd greeter && cargo run"), "{made:#?}");
    let project = Project::in_dir(dir, "greeter");
    let ended = cargo("run", &project);
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, "Hello, world!\n", "{ended:#?}");
    let ended = cargo("test", &project);
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert!(
        ended
            .stdout
            .contains("test result: ok. 1 passed; 0 failed;"),
        "{ended:#?}"
    );

    // There is nothing left for `init` to do.
    assert!(
        project
            .dir
            .run(&["init", "greeter"])
            .stdout
            .contains("already set up")
    );
}

#[test]
fn a_panic_is_reported_with_file_and_line() {
    let program = "#[inline(never)]\nfn fail(number: i32) {\n    panic!(\"number {number}\");\n}\n\n\
        fn main() {\n    fail(std::env::args().count() as i32);\n}\n";
    let ended = cargo("run", &Project::new("panicking", program));
    for part in [
        "number 1",
        "`_start` of `panicking.wasm` trapped",
        "panicking::fail",
        "src/main.rs:3",
        "src/main.rs:7",
    ] {
        assert!(
            ended.stderr.contains(part),
            "`{part}` is missing from {ended:#?}"
        );
    }
    assert!(!ended.stderr.contains("line-tables-only"), "{ended:#?}");
}

#[test]
fn a_new_project_inside_a_workspace_is_not_a_member_of_it() {
    let dir = WorkDir::new();
    dir.write("Cargo.toml", "[workspace]\nmembers = []\n");
    dir.run(&["new", "inner/one"]).check(0, &[]);
    assert!(dir.read("inner/one/Cargo.toml").contains("[workspace]"));
    let dir = WorkDir::new();
    dir.run(&["new", "one"]).check(0, &[]);
    assert!(!dir.read("one/Cargo.toml").contains("[workspace]"));
}

#[test]
fn a_project_that_cannot_be_created_is_refused() {
    let dir = WorkDir::new();
    dir.write("there/file", "");
    dir.run(&["new", "there"])
        .check(1, &["`there` already exists", "lunatic init"]);
    dir.run(&["new", "fn"]).check(1, &["keyword"]);
    dir.run(&["new", "a b"])
        .check(1, &["`a b` cannot be used as a package name"]);
    dir.run(&["new", "one", "--guest-path", "nowhere"])
        .check(1, &["`nowhere`", "--guest-path"]);
    assert!(!dir.path().join("one").exists());
}
