//! Standard input and output.

use crate::guest::{guest, print, with};
use crate::lunatic::{Ended, Place};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

/// Copies standard input to standard output.
fn copying() -> String {
    guest(
        "(local $length i32)
         (loop $next
             (local.set $length (call $read (i32.const 65536) (i32.const 65536)))
             (if (local.get $length) (then
                 (call $print (i32.const 65536) (local.get $length))
                 (br $next))))",
    )
}

#[test]
fn a_megabyte_passes_through() {
    let place = Place::new();
    place.write("guest.wat", copying());
    let mut command = place.command(&["guest.wat"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built");
    let (mut stdin, mut stdout) = (
        child.stdin.take().expect("it is piped"),
        child.stdout.take().expect("it is piped"),
    );
    let sent: Vec<u8> = (0u32..1 << 18).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let mut received = Vec::new();
    stdout
        .read_to_end(&mut received)
        .expect("the pipe is there until the end");
    writer
        .join()
        .expect("it does not panic")
        .expect("all is read");
    assert!(
        received == expected,
        "{} of {} bytes arrived as they were",
        received.len(),
        expected.len()
    );
    assert!(child.wait().expect("it was started").success());
}

#[test]
fn both_outputs_are_the_programs_own() {
    let (text, printing) = print("out\u{1b}[0m\n");
    let place = Place::new();
    let errors = "(drop (call $write (i32.const 2) (i32.const 2048) (i32.const 4)))";
    place.write(
        "guest.wat",
        with(
            &format!("{printing} {errors}"),
            &format!("{text} (data (i32.const 2048) \"err\\0a\")"),
        ),
    );
    let ended = place.run(&["guest.wat"]);
    // What a program prints is its own affair, escape sequences too.
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("out\u{1b}[0m\n", "err\n")
    );
}

#[test]
fn a_reader_that_has_read_enough_ends_the_program_without_a_panic() {
    let place = Place::new();
    let (text, _) = print("line\n");
    // Prints until that fails.
    let endless = with(
        "(loop $next
            (br_if $next (i32.eqz (call $write (i32.const 1) (i32.const 1024) (i32.const 5)))))
         (call $exit (i32.const 9))",
        &text,
    );
    place.write("guest.wat", endless);
    let mut command = place.command(&["guest.wat"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("it prints");
    assert_eq!(line, "line\n");
    let ended = Ended::from(child.wait_with_output().expect("it was started"));
    assert!(matches!(ended.status, Some(9 | 134)), "{ended:#?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
}
