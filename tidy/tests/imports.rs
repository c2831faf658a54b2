//! Checks that imports are followed to the file that defines a name, no matter how the name is
//! imported.

use lunatic_tidy::Crate;
use std::fs;
use tempfile::TempDir;

/// Reads a crate made of the given files, and returns which file uses which names from which other
/// file.
fn ties(files: &[(&str, &str)]) -> Vec<String> {
    let directory = TempDir::new().expect("the temporary directory is writable");
    for (name, text) in files {
        let path = directory.path().join("src").join(name);
        fs::create_dir_all(path.parent().expect("the file is under src"))
            .and_then(|()| fs::write(path, text))
            .expect("the temporary directory is writable");
    }
    let path = directory
        .path()
        .to_str()
        .expect("the path of a temporary directory is UTF-8");
    let read = Crate::read(path);
    let all: Vec<&str> = read.files().iter().map(String::as_str).collect();
    let source = format!("{path}/src/");
    read.ties(&all)
        .iter()
        .map(|tie| tie.replace(&source, ""))
        .collect()
}

#[test]
fn a_reexport_leads_to_the_definition() {
    let found = ties(&[
        ("lib.rs", "mod front; mod user;"),
        ("front.rs", "mod back; pub use back::Thing;"),
        ("front/back.rs", "pub struct Thing;"),
        (
            "user.rs",
            "use crate::front; fn make() -> front::Thing { front::Thing }",
        ),
    ]);
    assert_eq!(
        found,
        [
            "front.rs → front/back.rs: Thing",
            "user.rs → front/back.rs: Thing"
        ]
    );
}

#[test]
fn globs_groups_and_renames_are_followed() {
    let found = ties(&[
        ("lib.rs", "mod a; mod b; mod c; pub use c::own as other;"),
        ("a.rs", "pub struct One; pub mod inner { pub struct Two; }"),
        (
            "b.rs",
            "use super::a::{inner::*, One as First}; fn of(_: First, _: Two) {}",
        ),
        ("c.rs", "pub fn own() { let _ = vec![crate::a::One]; }"),
    ]);
    assert_eq!(
        found,
        [
            "lib.rs → c.rs: own",
            "b.rs → a.rs: First, One, Two",
            "c.rs → a.rs: One"
        ]
    );
}

#[test]
fn tests_in_the_sources_and_other_crates_do_not_count() {
    let found = ties(&[
        ("lib.rs", "mod a; mod b; use std::fmt;"),
        (
            "a.rs",
            "#[cfg(test)] mod tests { use crate::b::Thing; } #[cfg(test)] use crate::b::Thing;",
        ),
        (
            "b.rs",
            "pub struct Thing; impl fmt::Debug for Thing {} use std::fmt;",
        ),
    ]);
    assert!(found.is_empty(), "{found:?}");
}
