//! Tests exit statuses.

use crate::guest::{guest, with};
use crate::lunatic::run;

#[test]
fn a_program_that_returns_has_status_0() {
    run(&[], &guest("")).check(0, &[]);
    run(&["run"], &guest("(call $exit (i32.const 0))")).check(0, &[]);
}

#[test]
fn the_command_has_the_exit_status_of_the_program() {
    run(&[], &guest("(call $exit (i32.const 7))")).check(7, &[]);
    run(&[], &guest("(call $exit (i32.const 125))")).check(125, &[]);
}

#[test]
fn the_status_for_a_trap_is_134() {
    run(&[], &guest("unreachable")).check(
        134,
        &[
            "the main process `_start` of `guest.wat` trapped",
            "unreachable",
        ],
    );
}

/// Imports for a main process that sends its pid to a child, which then kills it.
const KILL: &str = r#"
    (import "lunatic::message" "send_bytes" (func $send (param i64 i64 i32 i32 i32 i32) (result i32)))
    (import "lunatic::message" "data_size" (func $size (result i64)))
    (import "lunatic::message" "read_data" (func $read_data (param i32 i32) (result i32)))"#;

#[test]
fn the_status_for_a_killed_main_process_is_137() {
    let guest = with(
        r#"(drop (call $spawn (i64.const 0) (i32.const 1024) (i32.const 5)))
           (i64.store (i32.const 48) (call $this))
           (drop (call $send (i64.load (i32.const 40)) (i64.const 0) (i32.const 48) (i32.const 8) (i32.const 0) (i32.const 0)))
           (drop (call $receive))
           (drop (call $receive))"#,
        r#"(data (i32.const 1024) "child")
           (func (export "child")
               (drop (call $receive))
               (drop (call $read_data (i32.const 48) (i32.const 8)))
               (call $kill (i64.load (i32.const 48)))
               (loop br 0))"#,
    );
    // Imports must come first in a module.
    let guest = guest.replacen("(memory", &format!("{KILL}\n(memory"), 1);
    run(&[], &guest).check(137, &["was killed", "RUST_LOG=lunatic=debug"]);
}

#[test]
fn a_main_process_that_dies_with_a_child_has_the_childs_status() {
    let guest = with(
        "(drop (call $spawn (i64.const 1) (i32.const 1024) (i32.const 5))) (drop (call $receive))",
        r#"(data (i32.const 1024) "child") (func (export "child") (call $exit (i32.const 3)))"#,
    );
    run(&[], &guest).check(3, &["died with process", "exited with status 3"]);
}

#[test]
fn the_status_for_exceeding_a_limit_is_152_and_the_error_names_the_limit() {
    let memory = guest("(drop (memory.grow (i32.const 100))) unreachable");
    run(&["--max-memory", "1MiB"], &memory).check(
        152,
        &[
            "the memory of a process is limited to 1048576 bytes",
            "--max-memory",
        ],
    );
    let compute = guest("(loop br 0)");
    run(&["--max-compute", "3"], &compute).check(
        152,
        &[
            "the compute of a process is limited to 3 units",
            "--max-compute",
        ],
    );
}

#[test]
fn a_program_that_needs_more_memory_than_allowed_is_not_started() {
    let needed = (8 * 65_536).to_string();
    run(&["--max-memory", "100KiB"], &guest("")).check(126, &["102400", &needed]);
}

#[test]
fn a_spawn_beyond_the_process_limit_fails() {
    let guest = with(
        "(call $exit (call $spawn (i64.const 0) (i32.const 1024) (i32.const 5)))",
        r#"(data (i32.const 1024) "child") (func (export "child"))"#,
    );
    run(&["--max-processes", "1"], &guest).check(1, &[]);
    run(&["--max-processes", "2"], &guest).check(0, &[]);
}

#[test]
fn the_status_for_a_timeout_is_124() {
    run(&["--timeout", "20ms"], &guest("(loop br 0)"))
        .check(124, &["did not end within the `--timeout` of 20ms"]);
    run(&["--timeout", "1h"], &guest("")).check(0, &[]);
}

#[test]
fn remaining_processes_end_with_the_main_process() {
    let guest = with(
        "(drop (call $spawn (i64.const 0) (i32.const 1024) (i32.const 5)))",
        r#"(data (i32.const 1024) "child") (func (export "child") (loop br 0))"#,
    );
    run(&[], &guest).check(0, &[]);
}

#[test]
fn a_main_process_that_no_message_can_reach_stops_waiting() {
    run(
        &[],
        &guest("(if (i32.ne (call $receive) (i32.const 9028)) (then unreachable))"),
    )
    .check(0, &[]);
}

#[test]
fn the_status_for_an_invalid_command_line_is_2() {
    for flags in [
        &["--no-such-flag"][..],
        &["--workers", "0"],
        &["--tick", "1us"],
        &["--slice", "0"],
        &["--max-memory", "1 MB"],
        &["--timeout", "soon"],
    ] {
        let ended = run(flags, &guest(""));
        assert_eq!(ended.status, Some(2), "{ended:#?}");
    }
}
