//! Who knows whom, inside each crate: nobody those above, and no large circles.

use lunatic_tidy::Crate;

/// The most files of a crate that may use each other in a circle: four, or 8 % in a large crate.
fn bound(files: usize) -> usize {
    (files * 8 / 100).max(4)
}

#[test]
fn no_circle_of_files_is_large() {
    for directory in [
        "vm",
        "vm/abi",
        "net",
        "serve",
        "bridge",
        "bridge/elixir/native",
        "lib-guest",
        "lib-guest/macros",
        "cli",
        "benches",
        "tidy",
    ] {
        let read = Crate::read(directory);
        let bound = bound(read.files().len());
        for circle in read.circles() {
            assert!(
                circle.len() <= bound,
                "{} of {} files of {directory} use each other in a circle, {bound} may:\n{}",
                circle.len(),
                read.files().len(),
                read.ties(&circle).join("\n"),
            );
        }
    }
}

/// Fails if a file whose path begins with one of `from` reaches one whose path begins with one of `to`.
#[track_caller]
fn must_not_reach(directory: &str, from: &[&str], to: &[&str]) {
    let read = Crate::read(directory);
    let source = format!("{directory}/src/");
    let is_of = |file: &str, rooms: &[&str]| {
        let file = file.strip_prefix(&source).unwrap_or(file);
        rooms
            .iter()
            .any(|room| file == format!("{room}.rs") || file.starts_with(&format!("{room}/")))
    };
    for room in from.iter().chain(to) {
        assert!(
            read.files().iter().any(|file| is_of(file, &[*room])),
            "{directory} has no {room}; has it moved?"
        );
    }
    if let Some(way) = read.way(|file| is_of(file, from), |file| is_of(file, to)) {
        panic!("{from:?} must not know {to:?}: {}", way.join(" → "));
    }
}

#[test]
fn the_rules_know_neither_modules_nor_engines_nor_the_machine() {
    must_not_reach(
        "vm",
        &["process"],
        &["module", "engine", "host", "guest", "run", "machine", "vm"],
    );
}

#[test]
fn engines_and_modules_know_no_guest() {
    must_not_reach(
        "vm",
        &["engine", "module"],
        &["guest", "host", "run", "process"],
    );
}

#[test]
fn environments_know_no_process() {
    must_not_reach(
        "vm",
        &["environment"],
        &["machine", "run", "spawn", "guest", "host"],
    );
}

#[test]
fn outbound_connections_know_no_gateway() {
    must_not_reach("serve", &["outbound"], &["gateway"]);
}
