//! Tests reports on a failed main process and, with flags, on other processes.

use crate::guest::{guest, with};
use crate::lunatic::{WorkDir, run};

#[test]
fn a_trap_is_reported_once_with_a_backtrace() {
    let ended = run(
        &[],
        "(module (func $inner unreachable) (func $outer (export \"_start\") call $inner))",
    );
    ended.check(
        134,
        &["0: inner (at 0x", "1: outer (at 0x", "line-tables-only"],
    );
    assert_eq!(ended.stderr.matches("error:").count(), 1, "{ended:#?}");
    assert_eq!(ended.stdout, "");
}

#[test]
fn the_error_names_a_function_that_is_not_granted_and_the_flag_that_grants_it() {
    let ended = run(
        &["--deny", "lunatic::process"],
        &guest("(drop (call $this))"),
    );
    ended.check(
        134,
        &[
            "does not grant `lunatic::process::process_id`",
            "--allow lunatic::process::process_id",
        ],
    );
}

#[test]
fn text_from_a_guest_cannot_control_the_terminal() {
    // The names of a function and of an export contain escape sequences.
    let name = "evil\\1b[2J\\07";
    let ended = run(
        &[],
        &format!(
            "(module (func $f (@name \"{name}\") unreachable) (func (export \"_start\") call $f))"
        ),
    );
    ended.check(134, &["evil\\u{1b}[2J"]);
    let listed = run(&[], &format!("(module (func (export \"{name}\")))"));
    listed.check(126, &["evil\\u{1b}[2J"]);
    for ended in [ended, listed] {
        assert!(
            !ended
                .stderr
                .contains(|character: char| character.is_control() && character != '\n'),
            "{ended:#?}"
        );
    }
}

fn failing_child() -> String {
    with(
        "(drop (call $spawn (i64.const 0) (i32.const 1024) (i32.const 5))) (drop (call $receive))",
        r#"(data (i32.const 1024) "child") (func (export "child") unreachable)"#,
    )
}

#[test]
fn a_childs_failure_is_reported_once_with_its_name_and_frames() {
    let ended = run(&[], &failing_child());
    ended.check(
        0,
        &[
            "error: process <",
            "> `child` of `guest.wat` trapped: ",
            "0: ",
        ],
    );
    assert_eq!(ended.stderr.matches("trapped").count(), 1, "{ended:#?}");
    run(&["-v"], &failing_child()).check(0, &["`child` trapped: ", "`_start` ended normally"]);
}

#[test]
fn the_frames_of_a_linked_process_are_shown_once() {
    let linked = with(
        "(drop (call $spawn (i64.const 1) (i32.const 1024) (i32.const 5))) (drop (call $receive))",
        r#"(data (i32.const 1024) "child") (func $deep (export "child") unreachable)"#,
    );
    let ended = run(&[], &linked);
    ended.check(
        134,
        &[
            "> `child` of `guest.wat` trapped: ",
            "error: the main process `_start` of `guest.wat` died with process <",
        ],
    );
    assert_eq!(ended.stderr.matches("deep").count(), 1, "{ended:#?}");
}

#[test]
fn a_childs_status_is_reported_and_being_killed_is_not() {
    let program = with(
        "(drop (call $spawn (i64.const 0) (i32.const 1024) (i32.const 4)))
         (drop (call $spawn (i64.const 0) (i32.const 1040) (i32.const 4)))
         (call $kill (i64.load (i32.const 40)))
         (drop (call $receive))",
        r#"(data (i32.const 1024) "exit") (func (export "exit") (call $exit (i32.const 3)))
           (data (i32.const 1040) "spin") (func (export "spin") (loop br 0))"#,
    );
    let ended = run(&[], &program);
    ended.check(0, &["> `exit` of `guest.wat` exited with status 3"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
}

#[test]
fn the_log_filter_can_show_every_exit() {
    let dir = WorkDir::new();
    dir.write("guest.wat", failing_child());
    let output = dir
        .command(&["guest.wat"])
        .env("RUST_LOG", "lunatic=debug")
        .output()
        .expect("the command was built with this test");
    crate::lunatic::Ended::from(output).check(0, &["`child` trapped: ", "`_start` ended normally"]);
    let output = dir
        .command(&["-v", "guest.wat"])
        .env("RUST_LOG", "off")
        .output()
        .expect("the command was built with this test");
    let ended = crate::lunatic::Ended::from(output);
    assert!(!ended.stderr.contains("ended normally"), "{ended:#?}");
}

#[test]
fn a_closed_standard_error_changes_nothing() {
    let dir = WorkDir::new();
    dir.write("guest.wat", guest("unreachable"));
    let (reader, writer) = std::io::pipe().expect("a pipe can be created");
    drop(reader);
    let status = dir
        .command(&["guest.wat"])
        .stderr(writer)
        .status()
        .expect("the command was built with this test");
    assert_eq!(status.code(), Some(134));
}
