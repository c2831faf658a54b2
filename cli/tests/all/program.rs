//! Tests the program file.

use crate::guest::guest;
use crate::lunatic::{WorkDir, run};

#[test]
fn wasm_and_wat_run() {
    let dir = WorkDir::new();
    let text = guest("(call $exit (i32.const 5))");
    dir.write("app.wat", &text);
    dir.write(
        "app.wasm",
        wat::parse_str(&text).expect("the text is valid"),
    );
    dir.run(&["app.wat"]).check(5, &[]);
    dir.run(&["app.wasm"]).check(5, &[]);
}

#[test]
fn a_program_may_have_the_name_of_a_command() {
    let dir = WorkDir::new();
    dir.write("init", guest("(call $exit (i32.const 5))"));
    dir.run(&["--", "init"]).check(5, &[]);
    dir.run(&["run", "init"]).check(5, &[]);
}

#[test]
fn the_status_for_a_missing_file_is_127() {
    let dir = WorkDir::new();
    dir.run(&["missing.wasm"])
        .check(127, &["`missing.wasm` cannot be read"]);
    dir.run(&["biuld"])
        .check(127, &["not a command of `lunatic` either"]);
}

#[test]
fn a_program_built_for_another_profile_is_found() {
    let dir = WorkDir::new();
    dir.write("target/wasm32-wasip1/release/app.wasm", "");
    let found = "target/wasm32-wasip1/release/app.wasm";
    dir.run(&["target/wasm32-wasip1/debug/app.wasm"])
        .check(127, &[found]);
    dir.run(&["app"]).check(127, &[found]);
}

#[test]
fn the_status_for_a_file_that_is_not_wasm_is_126_and_the_error_names_the_position() {
    let dir = WorkDir::new();
    dir.run(&["."]).check(126, &["`.` cannot be read"]);
    let mut damaged = wat::parse_str(guest("")).expect("the text is valid");
    damaged.truncate(damaged.len() / 2);
    for (name, content, part) in [
        (
            "picture.wasm",
            &b"\x89PNG\r\n\x1a\n\xff"[..],
            "not a wasm module",
        ),
        ("empty.wasm", b"", "cannot be run"),
        ("damaged.wasm", &damaged, "offset 0x"),
        ("text.wat", b"(module (func $f (call $g)))", "1:24"),
    ] {
        dir.write(name, content);
        dir.run(&[name]).check(126, &[name, part]);
    }
}

#[test]
fn the_error_for_what_is_not_a_module_says_what_to_run_instead() {
    let dir = WorkDir::new();
    dir.run(&["."]).check(126, &["hint: name a .wasm file"]);
    dir.write("package/Cargo.toml", "");
    dir.run(&["package"])
        .check(126, &["cargo build --target wasm32-wasip1"]);
    dir.write("project/lunatic.toml", "");
    dir.run(&["project"])
        .check(126, &["`lunatic dev`", "`lunatic serve`"]);
    dir.write("script", "#!/bin/sh\n");
    dir.run(&["script"])
        .check(126, &["`script` cannot be run", "this is a script"]);
    dir.write("native", b"\x7fELF");
    dir.run(&["native"])
        .check(126, &["this is a native program", "wasm32-wasip1"]);
}

#[test]
fn a_program_built_with_threads_is_refused_and_the_error_offers_a_remedy() {
    let dir = WorkDir::new();
    for import in [
        r#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#,
        r#"(import "env" "memory" (memory 1 2 shared))"#,
    ] {
        let text = format!("(module {import} (func (export \"_start\")))");
        let wasm = wat::parse_str(&text).expect("the text is valid");
        for (name, content) in [("app.wat", text.as_bytes()), ("app.wasm", &wasm)] {
            dir.write(name, content);
            dir.run(&[name])
                .check(126, &["built with threads", "wasm32-wasip1", "processes"]);
        }
    }
    run(
        &[],
        "(module (memory 1 1 shared) (func (export \"_start\")))",
    )
    .check(126, &["shared memory", "+atomics"]);
}

#[test]
fn a_program_whose_memory_is_too_large_is_refused_and_the_error_names_the_flag() {
    let guest = "(module (memory 5000) (func (export \"_start\")))";
    run(&[], guest).check(
        126,
        &[
            "`guest.wat` cannot be run: the memory of a process is limited to 268435456 bytes, but 327680000 are needed",
            "hint: `--max-memory` sets the limit",
        ],
    );
    run(&["--max-memory", "400MiB"], guest).check(0, &[]);
}

#[test]
fn a_component_is_recognised() {
    run(&[], "(component)").check(
        126,
        &["this is a component", "wasm32-wasip1", "lunatic serve"],
    );
}

#[test]
fn the_error_names_an_import_that_nothing_provides() {
    let guest = "(module (import \"my::space\" \"call\" (func)) (func (export \"_start\")))";
    run(&[], guest).check(
        126,
        &[
            "nothing provides the import `my::space::call`",
            "VmBuilder::host",
        ],
    );
}

#[test]
fn a_program_of_the_older_generation_runs() {
    let guest = "(module
        (import \"lunatic::process\" \"this\" (func $this (result i64)))
        (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
        (memory (export \"memory\") 1)
        (func (export \"_start\") (drop (call $this)) (call $exit (i32.wrap_i64 (call $this)))))";
    run(&[], guest).check(1, &[]);
}

#[test]
fn a_program_of_an_unsupported_generation_is_refused_and_the_error_offers_a_remedy() {
    let guest = "(module
        (import \"lunatic::process\" \"this\" (func (result i64)))
        (import \"lunatic::registry\" \"put\" (func (param i32 i32 i64)))
        (func (export \"_start\")))";
    let parts = [
        "`guest.wat` cannot be run: the module was built with version 0.9 of the guest crate `lunatic`",
        "`lunatic::process::this`",
        "build it with version 0.14.1 or 0.7.4",
    ];
    run(&[], guest).check(126, &parts);
}

#[test]
fn a_program_of_two_generations_is_refused_and_the_error_names_the_conflict() {
    let guest = "(module
        (import \"lunatic::process\" \"inherit_spawn\" (func (param i64 i32 i32 i32 i32 i32) (result i32)))
        (import \"lunatic::process\" \"process_id\" (func (result i64)))
        (func (export \"_start\")))";
    run(&[], guest).check(
        126,
        &[
            "`lunatic::process::inherit_spawn`",
            "`lunatic::process::process_id`",
            "one version",
        ],
    );
}

#[test]
fn a_module_without_an_entry_point_is_refused_and_the_error_lists_its_exports() {
    run(
        &[],
        "(module (func (export \"one\")) (func (export \"two\")))",
    )
    .check(
        126,
        &["`_start`", "`one`, `two`", "`lunatic call guest.wat"],
    );
    run(&[], "(module)").check(126, &["`_start`", "does not export any functions"]);
    // This is how Rust exports `main` for `wasm32-unknown-unknown`.
    run(&[], "(module (func (export \"main\")))").check(
        126,
        &["built for `wasm32-unknown-unknown`; build it for `wasm32-wasip1`"],
    );
}

#[test]
fn what_is_missing_is_reported_before_the_module_is_compiled() {
    let dir = WorkDir::new();
    let check = |text: &str, parts: &[&str]| {
        let wasm = wat::parse_str(text).expect("the text is valid");
        dir.write("app.wasm", wasm);
        // Compiling the module would fail at its first function.
        dir.run(&["app.wasm"]).check(126, parts);
    };
    check(
        "(module (func (result i32) (i64.const 1)))",
        &["does not export `_start`, the function"],
    );
    check(
        r#"(module (import "wasi_snapshot_preview1" "fd_wriet" (func)) (import "env" "other" (func))
            (func (result i32) (i64.const 1)) (func (export "_start")))"#,
        &[
            "nothing provides 2 of its imports: `env::other`, `wasi_snapshot_preview1::fd_wriet`",
            "for `wasi_snapshot_preview1::fd_wriet`, did you mean `wasi_snapshot_preview1::fd_write`",
            "VmBuilder::host",
        ],
    );
    check(
        r#"(module (import "lunatic::spark" "write" (func (param i64 i32 i32) (result i64)))
            (func (result i32) (i64.const 1)) (func (export "_start")))"#,
        &["shows that it answers requests", "lunatic serve"],
    );
}

#[test]
fn a_command_flag_after_the_program_is_passed_to_the_program_with_a_note() {
    let dir = WorkDir::new();
    dir.write("app.wat", guest(""));
    dir.run(&["app.wat", "--timeout", "1s", "--other"]).check(
        0,
        &["note: `--timeout` after `app.wat` is passed to the program"],
    );
    dir.run(&["app.wat", "--other", "-v", "--help"])
        .check(0, &[]);
    dir.run(&["--", "app.wat", "--timeout", "1s"]).check(0, &[]);
}

#[test]
fn the_report_on_a_program_that_needs_threads_offers_a_way_out() {
    let (text, _) = crate::guest::print("Error: operation not supported on this platform\n");
    let program = crate::guest::with(
        "(drop (call $write (i32.const 2) (i32.const 1024) (i32.const 48)))
         (call $exit (i32.const 1))",
        &text,
    );
    run(&[], &program).check(1, &["hint: `std::thread` and `std::net`", "lunatic::net"]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_descriptor_limit_is_raised_to_what_the_system_allows() {
    let dir = WorkDir::new();
    let (text, printing) = crate::guest::print("ready\n");
    dir.write(
        "app.wat",
        crate::guest::with(&format!("{printing} (loop br 0)"), &text),
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -Sn 64 && exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_lunatic")).arg("app.wat");
    let mut child = command
        .current_dir(dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut line = [0; 6];
    let stdout = child.stdout.as_mut().expect("the stream is piped");
    std::io::Read::read_exact(stdout, &mut line).expect("the program prints a line");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()))
        .expect("the program is running");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("the system limits open files");
    let numbers: Vec<&str> = line.split_whitespace().skip(3).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    child.kill().expect("the child was started");
    child.wait().expect("the child was started");
}
