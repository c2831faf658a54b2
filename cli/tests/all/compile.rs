//! Tests the separate process that compiles code other than the user's own.

use crate::lunatic::WorkDir;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// Returns the compiler's answer to a module for an engine of the given kind.
fn compile(kind: u8, module: &[u8]) -> Vec<u8> {
    let dir = WorkDir::new();
    let mut compiler = dir
        .command(&["compile-for-machine"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command was built with this test");
    let mut input = compiler.stdin.take().expect("standard input is a pipe");
    input
        .write_all(&[&[kind], module].concat())
        .expect("the compiler reads its input");
    drop(input);
    let output = compiler.wait_with_output().expect("the compiler ends");
    output.stdout
}

#[test]
fn modules_and_components_are_compiled_for_each_kind_of_engine() {
    let module = wat::parse_str(r#"(module (func (export "f") (loop (br 0))))"#);
    let component = wat::parse_str("(component (core module (func)))");
    for kind in 0..6 {
        let wasm = if kind < 4 { &module } else { &component };
        let answer = compile(kind, wasm.as_ref().expect("the module text is well-formed"));
        assert_eq!(
            answer.first(),
            Some(&0),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        assert!(answer[9..].starts_with(b"\x7fELF"));
    }
}

#[test]
fn what_is_wrong_with_a_module_is_reported() {
    let answer = compile(0, b"\0asm\x01\0\0\0\x0a\x01");
    assert_eq!(answer.first(), Some(&1));
    assert!(String::from_utf8_lossy(&answer).contains("at offset"));
    assert_eq!(compile(0, b"not wasm").first(), Some(&1));
    assert!(compile(77, b"").is_empty(), "there is no kind 77");
}

/// Every program inherits the descriptors that its parent did not mark as close-on-exec.
#[cfg(target_os = "linux")]
#[test]
fn a_compiler_keeps_no_descriptor_but_its_streams() {
    let script = "exec 9</dev/null 77</dev/null; exec \"$0\" compile-for-machine";
    let mut compiler = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_lunatic")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let mut input = compiler.stdin.take().expect("standard input is a pipe");
    input.write_all(&[0]).expect("the compiler reads its input");
    let process = format!("/proc/{}", compiler.id());
    // Once this limit is in effect, the compiler has given up its rights and is waiting for the
    // module.
    let is_confined = || {
        let limits = fs::read_to_string(format!("{process}/limits"));
        let limits = limits.expect("the compiler waits for its input");
        let size = limits
            .lines()
            .find(|line| line.starts_with("Max file size"));
        size.and_then(|line| line.split_whitespace().nth(3)) == Some("0")
    };
    while !is_confined() {
        std::thread::yield_now();
    }
    let open = fs::read_dir(format!("{process}/fd")).expect("the compiler waits for its input");
    let mut open: Vec<_> = open
        .map(|entry| entry.expect("the directory can be listed").file_name())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    drop(input);
    compiler.wait().expect("the compiler ends without a module");
}

#[test]
fn a_guest_runs_a_module_that_another_process_compiled() {
    let dir = WorkDir::new();
    let module = wat::parse_str(r#"(module (func (export "f") unreachable))"#)
        .expect("the module text is well-formed");
    let bytes: String = module.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let length = module.len();
    dir.write(
        "guest.wat",
        format!(
            r#"(module
                (import "lunatic::process" "compile_module" (func $compile (param i32 i32 i32) (result i32)))
                (import "lunatic::process" "spawn" (func $spawn (param i64 i64 i64 i32 i32 i32 i32 i32) (result i32)))
                (import "lunatic::process" "sleep_ms" (func $sleep (param i64)))
                (memory (export "memory") 1)
                (data (i32.const 1024) "{bytes}") (data (i32.const 64) "f")
                (func (export "_start")
                    (if (call $compile (i32.const 1024) (i32.const {length}) (i32.const 8)) (then unreachable))
                    (if (call $spawn (i64.const 7) (i64.const -1) (i64.load (i32.const 8)) (i32.const 64) (i32.const 1)
                            (i32.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
                    (call $sleep (i64.const 600000))))"#
        ),
    );
    dir.run(&["guest.wat"])
        .check(134, &["died with process", "trapped"]);
}

/// The size of the program's own module is not limited, only the sizes of the modules that it
/// compiles.
#[test]
fn the_largest_module_that_a_program_may_compile_can_be_set() {
    let dir = WorkDir::new();
    let text = r#"(import "lunatic::process" "compile_module" (func $compile (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "\00asm\01\00\00\00")"#;
    let text = format!(
        r#"(module {text} (func (export "_start")
            (if (call $compile (i32.const 0) (i32.const 8) (i32.const 16)) (then unreachable))))"#
    );
    dir.write("guest.wat", text);
    dir.run(&["guest.wat"]).check(0, &[]);
    dir.run(&["--max-module", "7", "guest.wat"])
        .check(134, &["unreachable"]);
}
