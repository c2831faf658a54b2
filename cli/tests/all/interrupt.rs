//! Tests of SIGINT and SIGTERM.
#![cfg(unix)]

use crate::guest::{print, with};
use crate::lunatic::{Ended, WorkDir};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Sends a signal to a program that prints that it is ready and then runs `body`. Returns how the
/// program ended.
fn interrupted(signal: Signal, body: &str) -> Ended {
    let dir = WorkDir::new();
    let (text, printing) = print("ready\n");
    dir.write("guest.wat", with(&format!("{printing} {body}"), &text));
    let mut command = dir.command(&["guest.wat"]);
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
    Ended::from(child.wait_with_output().expect("the child was started"))
}

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
