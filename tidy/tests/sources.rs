//! Checks the invariants of the source tree, stated as prohibitions: which code must not depend on
//! which other code.
//!
//! These tests search the sources for violations that neither the compiler nor clippy can detect.
//! They cannot prove that there are none. The rest is covered by `clippy.toml` and the lints in
//! `Cargo.toml`.

use lunatic_tidy::{root, sources};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns a file's lines of code, without comments and without the tests at its end.
fn code(file: &str) -> Vec<String> {
    let text =
        fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let lines = text.lines().take_while(|line| {
        !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test")
    });
    lines
        .map(|line| line.split("//").next().unwrap_or_default().to_string())
        .collect()
}

/// Returns whether a line contains a word. A word that begins with a dot must match a whole word:
/// `.await` is not found in `.awaits`.
fn says(line: &str, word: &str) -> bool {
    let is_longer = |rest: &str| word.starts_with('.') && rest.starts_with(char::is_alphanumeric);
    line.match_indices(word)
        .any(|(at, _)| !is_longer(&line[at + word.len()..]))
}

/// Fails if a file's code contains any of the words.
fn must_not_say(file: &str, words: &[&str], why: &str) {
    for (number, line) in code(file).iter().enumerate() {
        for word in words {
            assert!(
                !says(line, word),
                "{file}:{}: `{word}`: {why}\n{line}",
                number + 1
            );
        }
    }
}

#[test]
fn the_rules_are_plain_data() {
    for rules in [
        "vm/process/src/mailbox.rs",
        "vm/process/src/links.rs",
        "vm/process/src/exit.rs",
        "vm/process/src/state.rs",
        "vm/process/src/signal.rs",
        "vm/src/environment/registry.rs",
    ] {
        must_not_say(
            rules,
            &[
                "async",
                ".await",
                "Mutex",
                "RwLock",
                "Atomic",
                "Waker",
                "Instant",
                "SystemTime",
                "wasmtime",
                "thread",
            ],
            "rules are decided without waiting, locks, clocks or wasm; `cell.rs` and `run.rs` act on them",
        );
    }
    // Pids are just numbers; only the source of new pids is shared between threads.
    must_not_say(
        "vm/process/src/pid.rs",
        &["async", "Mutex", "Instant", "wasmtime"],
        "a pid is a number",
    );
}

#[test]
fn the_scheduler_does_not_depend_on_processes() {
    let mut files = sources("vm/src/scheduler");
    files.push("vm/src/scheduler.rs".into());
    assert!(files.len() > 4, "the scheduler was moved");
    for file in files {
        must_not_say(
            &file,
            &[
                "wasmtime",
                "lunatic_process",
                "crate::environment",
                "crate::host",
                "crate::vm",
                "crate::module",
                "Pid",
            ],
            "the scheduler runs futures without knowing what they do",
        );
    }
}

/// Returns which of our own crates a workspace member depends on, ignoring dev-dependencies.
fn dependencies(member: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(member).join("Cargo.toml"))
        .unwrap_or_else(|error| panic!("{member}: {error}"));
    let mut found = BTreeSet::new();
    let mut is_in = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_in = line.contains("dependencies") && !line.contains("dev-dependencies");
            continue;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if is_in && name.starts_with("lunatic") {
            found.insert(name.to_string());
        }
    }
    found
}

#[test]
fn crates_depend_only_on_crates_below_them() {
    for (member, allowed) in [
        ("vm/abi", &[][..]),
        // `lunatic-workspace-hack` is a list of features. It is at the bottom, so that every crate
        // above it gets those features.
        ("net", &["lunatic-workspace-hack"]),
        ("vm/process", &["lunatic-abi"]),
        ("vm", &["lunatic-abi", "lunatic-net", "lunatic-process"]),
        ("lib-guest", &["lunatic-abi", "lunatic-macros"]),
        ("lib-guest/macros", &[]),
        ("cli", &["lunatic-vm", "lunatic-serve", "lunatic-bridge"]),
        ("watch", &[]),
        ("serve", &["lunatic-vm", "lunatic-watch"]),
        ("bridge", &["lunatic-vm", "lunatic-watch"]),
        ("bridge/elixir/native", &["lunatic-bridge"]),
    ] {
        for dependency in dependencies(member) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{member} must not depend on {dependency}"
            );
        }
    }
    let abi = fs::read_to_string(root().join("vm/abi/Cargo.toml"))
        .expect("the ABI crate is a workspace member");
    assert!(
        !abi.contains("dependencies"),
        "the ABI crate must have no dependencies, so that both sides can use it"
    );
    assert!(
        fs::read_to_string(root().join("vm/abi/src/lib.rs"))
            .expect("the ABI crate is a library")
            .contains("#![no_std]")
    );
}

#[test]
fn unsafe_code_lives_in_the_files_that_the_readme_lists() {
    let readme = fs::read_to_string(root().join("vm/README.md")).expect("the machine has a README");
    let (_, section) = readme
        .split_once("\n## Unsafe\n")
        .expect("the README has a section on unsafe code");
    let section = section.split("\n## ").next().unwrap_or(section);
    let listed: BTreeSet<String> = section
        .split('`')
        .filter(|word| word.ends_with(".rs"))
        .map(|file| format!("vm/{file}"))
        .collect();

    // The compiler rejects `unsafe` elsewhere.
    let says = |file: &str, words: &str| code(file).iter().any(|line| line.contains(words));
    assert!(says("vm/src/lib.rs", "#![deny(unsafe_code)]"));
    for member in ["net", "vm/abi", "vm/process", "serve", "bridge", "watch"] {
        let library = format!("{member}/src/lib.rs");
        assert!(says(&library, "#![forbid(unsafe_code)]"), "{library}");
    }
    assert!(says("cli/src/main.rs", "#![forbid(unsafe_code)]"));
    let mut allowed = sources("vm/src");
    allowed.retain(|file| file != "vm/src/lib.rs" && says(file, "unsafe_code"));
    assert_eq!(BTreeSet::from_iter(allowed), listed);
}

#[test]
fn files_are_named_after_their_contents() {
    for directory in [
        "vm",
        "net",
        "bridge",
        "serve",
        "cli",
        "lib-guest",
        "examples",
        "benches",
    ] {
        for file in sources(directory) {
            let stem = Path::new(&file)
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            assert!(
                !matches!(stem, "common" | "utils" | "util" | "helpers" | "misc"),
                "the name of {file} says nothing about its contents"
            );
        }
    }
}
