//! Tests SIGINT and SIGTERM.
#![cfg(unix)]

use crate::guest::{print, with};
use crate::lunatic::{Ended, WorkDir};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

/// Sends a signal to a program that prints that it is ready and then runs `body`. Returns how the
/// program ended.
fn interrupted(signal: Signal, body: &str) -> Ended {
    interrupted_with(signal, &[], body, "")
}

/// Like [`interrupted`], but with additional flags, and with `more` added to the program's module.
fn interrupted_with(signal: Signal, flags: &[&str], body: &str, more: &str) -> Ended {
    let dir = WorkDir::new();
    let (text, printing) = print("ready\n");
    let body = format!("{printing} {body}");
    dir.write("guest.wat", with(&body, &format!("{text} {more}")));
    let mut command = dir.command(&[flags, &["guest.wat"]].concat());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .expect("the command was built with this test");
    let _stdin = child.stdin.take();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("the stream is piped"));
    stdout
        .read_line(&mut line)
        .expect("the program prints a line");
    assert_eq!(line, "ready\n");
    kill_process(Pid::from_child(&child), signal).expect("the process is alive");
    let mut ended = Ended::from(child.wait_with_output().expect("the child was started"));
    stdout
        .read_to_string(&mut ended.stdout)
        .expect("the rest of the output is text");
    ended
}

/// The export that tells the command that a program's processes handle requests to end.
const UNDERSTANDS: &str = "(func (export \"_lunatic_spawn_entry_0\"))";

#[test]
fn a_signal_ends_a_program_that_computes() {
    interrupted(Signal::INT, "(loop br 0)").check(130, &[]);
    interrupted(Signal::TERM, "(loop br 0)").check(143, &[]);
}

#[test]
fn a_signal_ends_a_program_that_waits_for_input() {
    interrupted(
        Signal::INT,
        "(drop (call $read (i32.const 65536) (i32.const 1)))",
    )
    .check(130, &[]);
}

#[test]
fn the_status_is_the_signals_even_if_the_main_process_dies_with_another() {
    // The first process to be killed is either the main process or one of the twenty linked
    // processes.
    let body = "(loop $again
            (drop (call $spawn (i64.const 1) (i32.const 2048) (i32.const 4)))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (global.get $n) (i32.const 20))))
        (drop (call $receive))";
    let child = r#"(global $n (mut i32) (i32.const 0)) (data (i32.const 2048) "wait") (func (export "wait") (drop (call $receive)))"#;
    for _ in 0..5 {
        interrupted_with(Signal::TERM, &[], body, child).check(143, &[]);
    }
}

/// Returns a function that prints its name when its process is asked to end.
fn told(name: &str, at: u32) -> String {
    let length = name.len() + 1;
    format!(
        r#"(data (i32.const {at}) "{name}\n")
           (func (export "{name}")
               (drop (call $receive)) (call $print (i32.const {at}) (i32.const {length})))"#
    )
}

#[test]
fn a_signal_ends_the_main_process_first_and_then_the_others_from_the_last_to_the_first() {
    let body = "(drop (call $spawn (i64.const 0) (i32.const 2048) (i32.const 5)))
        (drop (call $spawn (i64.const 0) (i32.const 2064) (i32.const 6)))
        (drop (call $receive)) (call $print (i32.const 2080) (i32.const 5))";
    let more = [
        told("first", 2048),
        told("second", 2064),
        r#"(data (i32.const 2080) "main\n")"#.into(),
        UNDERSTANDS.into(),
    ];
    let ended = interrupted_with(Signal::TERM, &["--grace", "60s"], body, &more.join("\n"));
    assert_eq!(ended.status, Some(143), "{ended:#?}");
    assert_eq!(ended.stdout, "main\nsecond\nfirst\n");
}

#[test]
fn a_process_that_another_would_end_is_left_to_it() {
    // Like a supervisor, `outer` ends the process it has spawned before it ends itself.
    let outer = r#"(data (i32.const 2048) "outer\n") (data (i32.const 2064) "inner")
        (func (export "outer")
            (drop (call $spawn (i64.const 0) (i32.const 2064) (i32.const 5)))
            (drop (call $receive))
            (call $kill (i64.load (i32.const 40)))
            (call $print (i32.const 2048) (i32.const 6)))
        (data (i32.const 2080) "inner\n")
        (func (export "inner")
            (drop (call $receive)) (call $print (i32.const 2080) (i32.const 6)))"#;
    let body = "(drop (call $spawn (i64.const 0) (i32.const 2048) (i32.const 5)))
        (drop (call $receive))";
    let more = format!("{outer} {UNDERSTANDS}");
    let ended = interrupted_with(Signal::TERM, &["--grace", "60s"], body, &more);
    assert_eq!(ended.status, Some(143), "{ended:#?}");
    assert_eq!(ended.stdout, "outer\n");
}

#[test]
fn what_does_not_end_within_the_grace_period_is_killed() {
    let ended = interrupted_with(
        Signal::INT,
        &["--grace", "20ms"],
        "(loop br 0)",
        UNDERSTANDS,
    );
    ended.check(130, &[]);
}
