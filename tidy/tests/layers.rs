//! Checks the dependencies between each crate's files: no file depends on a file in a layer above
//! it, and there are no large cycles.

use lunatic_tidy::{Crate, root};

/// Returns how many of a crate's files may import each other in a cycle: four, or 8% of the files
/// if the crate is large.
fn bound(files: usize) -> usize {
    (files * 8 / 100).max(4)
}

#[test]
fn no_cycle_of_files_is_large() {
    for directory in [
        "vm",
        "vm/abi",
        "vm/process",
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
                "{} of {} files of {directory} use each other in a cycle; the maximum is {bound}:\n{}",
                circle.len(),
                read.files().len(),
                read.ties(&circle).join("\n"),
            );
        }
    }
}

/// Fails if any file whose path begins with one of `from` imports, directly or indirectly, a file
/// whose path begins with one of `to`.
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
        panic!("{from:?} must not depend on {to:?}: {}", way.join(" → "));
    }
}

#[test]
fn the_rules_depend_only_on_the_guest_interface() {
    let manifest = root().join("vm/process/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).expect("the rules are a separate crate");
    let (_, dependencies) = manifest
        .split_once("[dependencies]\n")
        .expect("the rules have dependencies");
    let dependencies = dependencies.lines().take_while(|line| !line.is_empty());
    assert!(dependencies.eq(["lunatic-abi.workspace = true"]));
}

/// The machine's rooms, from top to bottom. Each room depends only on the rooms below it.
/// `vm/README.md` says what each of them contains.
const ROOMS: [&str; 24] = [
    "vm",
    "host",
    "spawn",
    "run",
    "guest",
    "timer",
    "machine",
    "observe",
    "travel",
    "sqlite",
    "metrics",
    "environment",
    "compile_limits",
    "module",
    "compiler",
    "cache",
    "engine",
    "tally",
    "scheduler",
    "console",
    "pipe",
    "mounts",
    "pauses",
    "unblock",
];

#[test]
fn each_room_of_the_machine_depends_only_on_rooms_below() {
    for (number, room) in ROOMS.iter().enumerate().skip(1) {
        must_not_reach("vm", &[room], &ROOMS[..number]);
    }
}

/// Code needed by several namespaces is in the rooms below (`guest` and `spawn`), so that a call
/// passes through only one file of host functions. Only the older generation may use the newer
/// generation's host functions.
#[test]
fn a_host_function_depends_on_no_other_file_of_host_functions() {
    let read = Crate::read("vm");
    let is_older =
        |file: &str| file == "vm/src/host/older.rs" || file.starts_with("vm/src/host/older/");
    let of_host = read
        .files()
        .iter()
        .filter(|file| file.starts_with("vm/src/host/"));
    let newer: Vec<&String> = of_host.filter(|file| !is_older(file)).collect();
    assert!(newer.len() > 16, "have the host functions moved?");
    // A namespace consists of a file and, if there is a directory of the same name, the files in
    // it.
    let namespace = |file: &str| {
        let inside = file.strip_prefix("vm/src/host/")?;
        inside.split(['/', '.']).next().map(String::from)
    };
    for file in &newer {
        let is_other =
            |other: &str| other.starts_with("vm/src/host") && namespace(other) != namespace(file);
        if let Some(way) = read.way(|from| from == file.as_str(), is_other) {
            panic!(
                "{file} must not depend on host functions: {}",
                way.join(" → ")
            );
        }
    }
}

#[test]
fn engines_and_modules_do_not_depend_on_guests() {
    must_not_reach(
        "vm",
        &["engine", "module"],
        &["guest", "host", "run", "machine"],
    );
}

#[test]
fn environments_do_not_depend_on_processes() {
    must_not_reach(
        "vm",
        &["environment"],
        &["machine", "run", "spawn", "guest", "host"],
    );
}

/// The rooms between a connection and a function, from top to bottom. Each room depends only on the
/// rooms below it.
const SERVING_ROOMS: [&str; 19] = [
    "server",
    "gateway/http",
    "gateway/tcp",
    "answer",
    "spark",
    "functions",
    "component/answer",
    "in_flight",
    "function",
    "component/instances",
    "program",
    "code",
    "outbound",
    "runtime",
    "turnstile",
    "stop",
    "request_id",
    "fields",
    "body",
];

#[test]
fn each_room_between_a_connection_and_a_function_depends_only_on_rooms_below() {
    for (number, room) in SERVING_ROOMS.iter().enumerate().skip(1) {
        must_not_reach("serve", &[room], &SERVING_ROOMS[..number]);
    }
}
