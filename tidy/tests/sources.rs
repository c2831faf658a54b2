//! The invariants of the tree, as absences: who must not know whom.
//!
//! These are searches over the sources, not proofs. They hold the line where a compiler cannot.

use lunatic_tidy::{root, sources};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns the lines of a file that are code for the machine itself: no comments, no tests at its end.
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

/// Fails where a file's code has one of the words.
fn must_not_say(file: &str, words: &[&str], why: &str) {
    for (number, line) in code(file).iter().enumerate() {
        for word in words {
            assert!(
                !line.contains(word),
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
            "rules are decided without waiting, locks, clocks and wasm; `cell.rs` and `run.rs` act on them",
        );
    }
    // Pids are numbers; only where new ones come from is shared by threads.
    must_not_say(
        "vm/process/src/pid.rs",
        &["async", "Mutex", "Instant", "wasmtime"],
        "a pid is a number",
    );
}

#[test]
fn the_scheduler_does_not_know_what_a_process_is() {
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
            "the scheduler runs futures, whatever they are",
        );
    }
}

/// Who touches guests' memory: `guest/call.rs` for host functions, `host/wasi.rs` to hand it to `wasmtime-wasi`, which checks
/// by itself, `run/live.rs` for the host program that drives an instance and addresses it as a host function does,
/// `guest/state.rs`, which keeps where the memory is, and `engine/memory.rs`, which makes memories, with `run/instance.rs`,
/// which has them reset whole.
const TOUCH_MEMORY: [&str; 6] = [
    "vm/src/engine/memory.rs",
    "vm/src/guest/call.rs",
    "vm/src/guest/state.rs",
    "vm/src/host/wasi.rs",
    "vm/src/run/instance.rs",
    "vm/src/run/live.rs",
];

#[test]
fn guest_memory_is_touched_through_one_type() {
    let words = [
        "Memory,",
        "Memory>",
        "Memory}",
        "Memory;",
        "SharedMemory",
        "data_and_store_mut",
        "data_ptr",
    ];
    for file in sources("vm/src") {
        // That is a stack of the host's.
        let code = code(&file).join("\n").replace("StackMemory", "");
        let touches = code.contains("wasmtime")
            && words
                .iter()
                .any(|word| code.contains(word) && !code.contains(&format!("Limit::{word}")));
        if touches && !TOUCH_MEMORY.contains(&file.as_str()) {
            must_not_say(
                &file,
                &words,
                "an address of a guest's is checked in `guest/call.rs`",
            );
        }
    }
    for file in TOUCH_MEMORY {
        assert!(
            code(file).join("\n").contains("Memory"),
            "{file} touches no memory any more; take it off the list"
        );
    }
}

#[test]
fn wasmtime_is_set_up_in_one_place() {
    for file in sources("vm/src") {
        if file == "vm/src/engine.rs" || file.starts_with("vm/src/engine/") {
            continue;
        }
        must_not_say(
            &file,
            &[
                "PoolingAllocationConfig",
                "epoch_interruption(",
                "consume_fuel(",
                "async_stack_size(",
            ],
            "`engine.rs` alone knows where memories come from and whether code counts",
        );
    }
}

/// Returns the crates of ours that a member depends on, tests aside.
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
fn crates_know_only_what_is_below_them() {
    for (member, allowed) in [
        ("vm/abi", &[][..]),
        ("net", &[]),
        ("vm/process", &["lunatic-abi"]),
        ("vm", &["lunatic-abi", "lunatic-net", "lunatic-process"]),
        ("lib-guest", &["lunatic-abi", "lunatic-macros"]),
        ("lib-guest/macros", &[]),
        ("cli", &["lunatic-vm", "lunatic-serve", "lunatic-bridge"]),
        ("serve", &["lunatic-vm"]),
        ("bridge", &["lunatic-vm"]),
        ("bridge/elixir/native", &["lunatic-bridge"]),
    ] {
        if !root().join(member).join("Cargo.toml").exists() && matches!(member, "serve" | "bridge")
        {
            continue;
        }
        for dependency in dependencies(member) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{member} must not know {dependency}"
            );
        }
    }
    let abi = fs::read_to_string(root().join("vm/abi/Cargo.toml")).expect("it is a member");
    assert!(
        !abi.contains("dependencies"),
        "the table has no dependency, so that both sides can use it"
    );
    assert!(
        fs::read_to_string(root().join("vm/abi/src/lib.rs"))
            .expect("it is there")
            .contains("#![no_std]")
    );
}

/// The files of the machine that may hold `unsafe`; `vm/README.md` lists the same.
const UNSAFE: [&str; 11] = [
    "vm/src/cache.rs",
    "vm/src/engine/arena.rs",
    "vm/src/engine/image.rs",
    "vm/src/engine/memory.rs",
    "vm/src/engine/pages.rs",
    "vm/src/engine/stack.rs",
    "vm/src/run/instance.rs",
    "vm/src/sqlite/database.rs",
    "vm/src/sqlite/functions.rs",
    "vm/src/sqlite/heap.rs",
    "vm/src/sqlite/vfs.rs",
];

#[test]
fn unsafe_code_lives_in_the_listed_files() {
    let mut found: Vec<String> = [
        "vm/src",
        "vm/abi/src",
        "vm/process/src",
        "net/src",
        "cli/src",
    ]
    .into_iter()
    .flat_map(sources)
    .collect();
    let is_unsafe = |line: &String| {
        [
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe extern",
            "unsafe trait",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    found.retain(|file| code(file).iter().any(is_unsafe));
    assert_eq!(
        found, UNSAFE,
        "`unsafe` lives in the files that `vm/README.md` lists"
    );
    if let Ok(readme) = fs::read_to_string(root().join("vm/README.md")) {
        for file in UNSAFE {
            let name = file.trim_start_matches("vm/");
            assert!(
                readme.contains(name),
                "vm/README.md does not list {name} among the files with `unsafe`"
            );
        }
    }
}

#[test]
fn every_unsafe_block_has_its_argument() {
    for file in UNSAFE {
        let text = fs::read_to_string(root().join(file)).expect("it is listed");
        let blocks = code(file)
            .iter()
            .filter(|line| line.contains("unsafe {"))
            .count();
        assert!(
            text.matches("// SAFETY:").count() >= blocks,
            "{file}: a block without its argument"
        );
    }
}

#[test]
fn nothing_is_held_across_a_wait() {
    // A guard in a variable is what could live across an await; the machine's own are in functions that do not wait.
    for file in sources("vm/src")
        .into_iter()
        .filter(|file| !file.starts_with("vm/src/scheduler"))
    {
        let code = code(&file).join("\n");
        for function in code
            .split("\n    async fn ")
            .skip(1)
            .chain(code.split("async move {").skip(1))
        {
            let body = function.split("\n    }\n").next().unwrap_or_default();
            assert!(
                !body.contains(".lock()"),
                "{file}: an async function takes a lock"
            );
        }
    }
}

#[test]
fn modules_are_files_of_their_own_name() {
    for directory in [
        "vm",
        "net",
        "bridge",
        "cli",
        "lib-guest",
        "examples",
        "benches",
    ] {
        for file in sources(directory) {
            assert!(
                !file.ends_with("/mod.rs"),
                "{file}: `foo.rs` and `foo/`, never `mod.rs`"
            );
            let stem = Path::new(&file)
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            assert!(
                !matches!(stem, "common" | "utils" | "util" | "helpers" | "misc"),
                "{file} says nothing by its name"
            );
        }
    }
}

/// What is called in a guest in the middle of a host function has its own rules: who else may call, what a kill does there.
#[test]
fn host_functions_call_their_guest_in_one_place() {
    for file in ["vm/src/host", "vm/src/guest"]
        .into_iter()
        .flat_map(sources)
        .filter(|file| file != "vm/src/guest/call_back.rs")
    {
        must_not_say(
            &file,
            &["call_async", "get_typed_func", ".call("],
            "a guest is called by `Call::call_back` only",
        );
    }
    let calls = code("vm/src/guest/call_back.rs")
        .iter()
        .filter(|line| line.contains("call_async"))
        .count();
    assert_eq!(
        calls, 1,
        "`Call::call_back` is the one that calls its guest"
    );
}
