//! Tests `lunatic init`.

use crate::lunatic::WorkDir;

const CONFIG: &str = ".cargo/config.toml";

fn project() -> WorkDir {
    let dir = WorkDir::new();
    dir.write("Cargo.toml", "[package]\nname = \"x\"\n");
    dir
}

#[test]
fn a_project_is_set_up_once() {
    let dir = project();
    let first = dir.run(&["init"]);
    first.check(0, &[]);
    for part in [
        "config.toml",
        "build.target = \"wasm32-wasip1\"",
        "target.wasm32-wasip1.runner = \"lunatic\"",
    ] {
        assert!(first.stdout.contains(part), "{first:#?}");
    }
    let written = dir.read(CONFIG);
    assert_eq!(
        written,
        "[build]\ntarget = \"wasm32-wasip1\"\n\n[target.wasm32-wasip1]\nrunner = \"lunatic\"\n"
    );
    let second = dir.run(&["init"]);
    second.check(0, &[]);
    assert!(second.stdout.contains("already set up"), "{second:#?}");
    assert_eq!(dir.read(CONFIG), written);
}

#[test]
fn the_guest_library_is_added_unless_it_is_already_there() {
    let dir = WorkDir::new();
    let before = "# Mine.\n[package]\nname = \"x\" # the name\n\n[dependencies]\nserde = \"1\"\n";
    dir.write("Cargo.toml", before);
    let ended = dir.run(&["init"]);
    ended.check(0, &[]);
    assert!(
        ended.stdout.contains("dependencies.lunatic.path"),
        "{ended:#?}"
    );
    let after = dir.read("Cargo.toml");
    let added = after
        .strip_prefix(before)
        .expect("the existing content is kept");
    assert!(added.starts_with("lunatic = { path = \"/"), "{added}");
    dir.run(&["init"]).check(0, &[]);
    assert_eq!(dir.read("Cargo.toml"), after);

    for already in [
        "[package]\nname = \"x\"\n[dependencies]\nlunatic = \"0.14\"\n",
        "[package]\nname = \"x\"\n[dependencies]\nl = { package = \"lunatic\", version = \"0.14\" }\n",
        "[package]\nname = \"x\"\n[target.wasm32-wasip1.dependencies]\nlunatic.version = \"0.14\"\n",
        "[workspace]\nmembers = [\"a\"]\n",
    ] {
        let dir = WorkDir::new();
        dir.write("Cargo.toml", already);
        dir.run(&["init"]).check(0, &[]);
        assert_eq!(dir.read("Cargo.toml"), already);
    }
    let dir = project();
    dir.run(&["init", "--guest-path", "missing"]).check(
        1,
        &["the guest library is not in `missing`", "--guest-path"],
    );
}

#[test]
fn comments_and_other_keys_are_kept() {
    let dir = project();
    dir.write(
        CONFIG,
        "# Mine.\n[build] # here\njobs = 1\n\n[env]\nX = \"1\" # one\n",
    );
    dir.run(&["init"]).check(0, &[]);
    let written = dir.read(CONFIG);
    for kept in [
        "# Mine.\n[build] # here\njobs = 1\n",
        "[env]\nX = \"1\" # one\n",
        "target = \"wasm32-wasip1\"",
        "runner = \"lunatic\"",
    ] {
        assert!(written.contains(kept), "{written}");
    }
}

#[test]
fn other_values_are_replaced_only_with_force() {
    let dir = project();
    let before = "[target.wasm32-wasip1]\nrunner = \"other\" # why\n";
    dir.write(CONFIG, before);
    dir.run(&["init"])
        .check(1, &["`target.wasm32-wasip1.runner = \"other\"`", "--force"]);
    assert_eq!(dir.read(CONFIG), before);
    dir.run(&["init", "--force"]).check(0, &[]);
    assert!(
        dir.read(CONFIG).contains("runner = \"lunatic\" # why"),
        "{}",
        dir.read(CONFIG)
    );
}

#[test]
fn a_subdirectory_belongs_to_the_project() {
    let dir = project();
    dir.write("src/main.rs", "");
    dir.run(&["init", "src"]).check(0, &[]);
    assert!(dir.read(CONFIG).contains("lunatic"));
}

#[test]
fn a_directory_that_is_not_a_project_is_not_changed() {
    let dir = WorkDir::new();
    dir.run(&["init"])
        .check(1, &["there is no Cargo.toml", "lunatic new"]);
    dir.run(&["init", "missing"]).check(1, &["`missing`"]);
    let dir = project();
    dir.write(CONFIG, "[build");
    dir.run(&["init"]).check(1, &["is not TOML"]);
    assert_eq!(dir.read(CONFIG), "[build");
}
