//! SIGINT and SIGTERM.
#![cfg(unix)]

use crate::guest::{print, with};
use crate::lunatic::{Ended, Place};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Sends a signal to a program that says that it runs and then does what `body` says; returns how it ended.
fn interrupted(signal: Signal, body: &str) -> Ended {
    let place = Place::new();
    let (text, printing) = print("ready\n");
    place.write("guest.wat", with(&format!("{printing} {body}"), &text));
    let mut command = place.command(&["guest.wat"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built");
    let _stdin = child.stdin.take();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut line).expect("it prints");
    assert_eq!(line, "ready\n");
    kill_process(Pid::from_child(&child), signal).expect("it is alive");
    Ended::from(child.wait_with_output().expect("it was started"))
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
