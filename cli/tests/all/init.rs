//! `lunatic init`.

use crate::lunatic::Place;

const CONFIG: &str = ".cargo/config.toml";

fn project() -> Place {
    let place = Place::new();
    place.write("Cargo.toml", "[package]\nname = \"x\"\n");
    place
}

#[test]
fn a_project_is_set_up_once() {
    let place = project();
    let first = place.run(&["init"]);
    first.check(0, &[]);
    for part in [
        "config.toml",
        "build.target = \"wasm32-wasip1\"",
        "target.wasm32-wasip1.runner = \"lunatic\"",
    ] {
        assert!(first.stdout.contains(part), "{first:#?}");
    }
    let written = place.read(CONFIG);
    assert_eq!(
        written,
        "[build]\ntarget = \"wasm32-wasip1\"\n\n[target.wasm32-wasip1]\nrunner = \"lunatic\"\n"
    );
    let second = place.run(&["init"]);
    second.check(0, &[]);
    assert!(second.stdout.contains("set up already"), "{second:#?}");
    assert_eq!(place.read(CONFIG), written);
}

#[test]
fn comments_and_other_keys_stay() {
    let place = project();
    place.write(
        CONFIG,
        "# Mine.\n[build] # here\njobs = 1\n\n[env]\nX = \"1\" # one\n",
    );
    place.run(&["init"]).check(0, &[]);
    let written = place.read(CONFIG);
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
fn something_else_is_replaced_only_when_forced() {
    let place = project();
    let before = "[target.wasm32-wasip1]\nrunner = \"other\" # why\n";
    place.write(CONFIG, before);
    place
        .run(&["init"])
        .check(1, &["`target.wasm32-wasip1.runner = \"other\"`", "--force"]);
    assert_eq!(place.read(CONFIG), before);
    place.run(&["init", "--force"]).check(0, &[]);
    assert!(
        place.read(CONFIG).contains("runner = \"lunatic\" # why"),
        "{}",
        place.read(CONFIG)
    );
}

#[test]
fn a_directory_below_belongs_to_the_project() {
    let place = project();
    place.write("src/main.rs", "");
    place.run(&["init", "src"]).check(0, &[]);
    assert!(place.read(CONFIG).contains("lunatic"));
}

#[test]
fn what_is_no_project_is_left_alone() {
    let place = Place::new();
    place
        .run(&["init"])
        .check(1, &["there is no Cargo.toml", "lunatic new"]);
    place.run(&["init", "missing"]).check(1, &["`missing`"]);
    let place = project();
    place.write(CONFIG, "[build");
    place.run(&["init"]).check(1, &["is not TOML"]);
    assert_eq!(place.read(CONFIG), "[build");
}
