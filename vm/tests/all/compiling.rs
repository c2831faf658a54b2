//! Tests for compiling code from outside the host: the limits, and the separate compiler process.

use crate::support::{Lab, binary, guest};
use lunatic_vm::{CompileLimits, Exit, ModuleError, Vm};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A module that any compiler can compile.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A command that writes its process id to a file and never answers.
fn silent(pid: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = "echo $$ > \"$0.part\"; /bin/mv \"$0.part\" \"$0\"; exec /bin/sleep 1000";
    command.arg("-c").arg(script).arg(pid);
    command
}

/// Waits until the file contains a process id. Returns this process's directory in `/proc`.
fn shown(pid: &Path) -> PathBuf {
    loop {
        if let Ok(pid) = std::fs::read_to_string(pid) {
            return Path::new("/proc").join(pid.trim());
        }
        std::thread::yield_now();
    }
}

/// A guest that compiles a module and reports the result.
fn compiling(module: &str) -> String {
    let (bytes, length) = binary(module);
    guest(
        &["lunatic::process::compile_module"],
        &format!(
            r#"(data (i32.const 64) "{bytes}")
            (func (export "main") (call $say (i64.extend_i32_s
                (call $compile_module (i32.const 64) (i32.const {length}) (i32.const 8)))))"#
        ),
    )
}

#[test]
fn a_compiler_ends_with_the_process_that_waits_for_it() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let pid = directory.path().join("pid");
    let lab = Lab::with(Vm::builder().compiler(silent(&pid)));
    let process = lab.spawn(&compiling("(module)"));
    let compiler = shown(&pid);
    process.kill();
    assert!(matches!(lab.exit(&process), Exit::Killed));
    while compiler.exists() {
        std::thread::yield_now();
    }
}

#[test]
fn a_compiler_that_takes_too_long_is_stopped() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let pid = directory.path().join("pid");
    let lab = Lab::with(Vm::builder().compiler(silent(&pid)));
    let compiled = lab
        .vm
        .client_module("test", MODULE, Duration::from_millis(300));
    let error = compiled.expect_err("the compiler does not answer");
    assert!(matches!(error, ModuleError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("took too long"), "{error}");
}

#[test]
fn a_compiler_that_fails_or_answers_with_nonsense_is_an_error() {
    for (command, words) in [
        ("/bin/false", "its process ended with"),
        ("/bin/cat", "its process ended with"),
        ("/bin/true", "its process ended with"),
        ("/no/such/command", "could not be started"),
    ] {
        let lab = Lab::with(Vm::builder().compiler(Command::new(command)));
        let compiled = lab
            .vm
            .client_module("test", MODULE, Duration::from_secs(60));
        let error = compiled.expect_err("the compiler does not answer");
        assert!(error.to_string().contains(words), "{command}: {error}");
        // The host's own code is compiled in this process.
        lab.module("(module)");
    }
}

#[test]
fn guests_compile_within_the_limits_of_the_host() {
    let limits = CompileLimits {
        functions: 1,
        ..CompileLimits::default()
    };
    let lab = Lab::with(Vm::builder().compile_limits(limits));
    for (module, result) in [("(module (func))", 0), ("(module (func) (func))", 1)] {
        assert!(lab.run(&compiling(module)).is_normal());
        assert_eq!(lab.hear(), result, "{module}");
    }
    // The guest itself has more functions than the limit allows.
    let limits = CompileLimits {
        size: 8,
        ..CompileLimits::default()
    };
    let lab = Lab::with(Vm::builder().compile_limits(limits));
    for (module, result) in [("(module)", 0), ("(module (func))", 1)] {
        assert!(lab.run(&compiling(module)).is_normal());
        assert_eq!(lab.hear(), result, "{module}");
    }
}

#[test]
fn a_few_bytes_that_expand_to_many_values_are_refused() {
    let wide = "i32 ".repeat(1_000);
    let module = format!(
        "(module (func $f (param {wide}) (result {wide}) unreachable) (func {} {} {}))",
        "i32.const 0 ".repeat(1_000),
        "call $f ".repeat(1_000),
        "drop ".repeat(1_000)
    );
    let lab = Lab::new();
    assert!(lab.run(&compiling(&module)).is_normal());
    assert_eq!(lab.hear(), 1);
}

#[test]
fn elements_that_a_process_would_compute_are_limited_for_guests_and_not_for_the_host() {
    let elements = |count: usize| {
        let functions = "0 ".repeat(count);
        format!("(module (func (export \"main\")) (elem func {functions}))")
    };
    let limits = CompileLimits {
        elements: 10,
        ..CompileLimits::default()
    };
    let lab = Lab::with(Vm::builder().compile_limits(limits));
    for (count, result) in [(10, 0), (11, 1)] {
        assert!(lab.run(&compiling(&elements(count))).is_normal());
        assert_eq!(lab.hear(), result, "{count} elements");
    }
    lab.module(&elements(11));
    // In a table, functions are known beforehand.
    let table = format!("(module (func) (table funcref (elem {})))", "0 ".repeat(11));
    assert!(lab.run(&compiling(&table)).is_normal());
    assert_eq!(lab.hear(), 0);
}

#[test]
fn data_that_is_far_apart_is_where_the_module_puts_it() {
    let lab = Lab::new();
    let far = 100 << 20;
    for length in [1, 2 << 20] {
        let data = "x".repeat(length);
        let last = far + length - 1;
        let exit = lab.run(&format!(
            r#"(module (import "test" "say" (func $say (param i64)))
                (memory 1700) (data (i32.const 5) "a") (data (i32.const {far}) "{data}")
                (func (export "main")
                    (call $say (i64.load8_u (i32.const 5)))
                    (call $say (i64.load8_u (i32.const 6)))
                    (call $say (i64.load8_u (i32.const {})))
                    (call $say (i64.load8_u (i32.const {far})))
                    (call $say (i64.load8_u (i32.const {last})))
                    (call $say (i64.load8_u (i32.const {})))))"#,
            far - 1,
            last + 1
        ));
        assert!(exit.is_normal(), "{exit}");
        let (a, x) = (i64::from(b'a'), i64::from(b'x'));
        assert_eq!(lab.hear_all(), [a, 0, 0, x, x, 0], "{length} bytes");
    }
}

#[test]
fn a_module_that_needs_an_unsupported_feature_is_refused_with_a_remedy() {
    let lab = Lab::new();
    for (fields, feature, remedy) in [
        ("(memory 1 1 shared)", "shared memory", "+atomics"),
        (
            "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
            "shared memory",
            "processes",
        ),
        ("(memory i64 1)", "64-bit memory", "wasm64"),
        ("(table i64 1 funcref)", "64-bit memory", "wasm64"),
        ("(tag)", "exceptions", "-fwasm-exceptions"),
        ("(func try_table end)", "exceptions", "panic=abort"),
        ("(type (struct))", "garbage collection", "wasm32-wasip1"),
        (
            "(type (array i32))",
            "garbage collection",
            "garbage collector",
        ),
        (
            "(rec (type (func)) (type (func)))",
            "garbage collection",
            "wasm32-wasip1",
        ),
        (
            "(type (func)) (func (param (ref 0)))",
            "typed function references",
            "wasm32-wasip1",
        ),
    ] {
        let module = format!("(module {fields})");
        let error = lab.vm.module("test", module.as_bytes());
        let error = error.expect_err("the module needs an unsupported feature");
        assert!(matches!(error, ModuleError::Unsupported { .. }), "{error}");
        let error = error.to_string();
        for words in [feature, "does not support", remedy] {
            assert!(error.contains(words), "{fields}: {error}");
        }
    }
}

#[test]
fn a_file_that_is_another_kind_of_program_is_recognized() {
    let lab = Lab::new();
    for (bytes, words) in [
        (&b"#!/bin/sh\n"[..], "this is a script; build"),
        (b"\x7fELF\x02\x01\x01", "this is a native program; build"),
        (b"!<arch>\n", "this is a static library; build"),
    ] {
        let error = lab.vm.module("test", bytes);
        let error = error.expect_err("the file is not wasm").to_string();
        assert!(
            error.contains(words) && error.contains("wasm32-wasip1"),
            "{error}"
        );
    }
}

#[test]
fn a_program_that_compiles_leaves_room_for_others() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let pid = directory.path().join("pid");
    // The command does not answer if the module has a function.
    let script = format!(
        "case $(/bin/cat | /usr/bin/wc -c) in 9) exit 1;; *) echo $$ > '{}'; exec /bin/sleep 1000;; esac",
        pid.display()
    );
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    let lab = Lab::with(Vm::builder().compiler(command));
    let greedy = lab.environment();
    let module = lab.module(&compiling("(module (func))"));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            greedy
                .spawn(&module, "main", &[])
                .expect("no limit applies")
        })
        .collect();
    shown(&pid);
    // One of the eight processes holds its program's place at the compiler while it lives. Another
    // program has its own place.
    assert!(lab.run(&compiling("(module)")).is_normal());
    assert_eq!(lab.hear(), 1);
    for process in waiting {
        process.kill();
    }
}
