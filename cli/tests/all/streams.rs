//! Tests standard input and output.

use crate::guest::{guest, print, with};
use crate::lunatic::{Ended, WorkDir};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

/// Returns a guest that copies standard input to standard output.
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
    let dir = WorkDir::new();
    dir.write("guest.wat", copying());
    let mut command = dir.command(&["guest.wat"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command was built with this test");
    let (mut stdin, mut stdout) = (
        child.stdin.take().expect("the stream is piped"),
        child.stdout.take().expect("the stream is piped"),
    );
    let sent: Vec<u8> = (0u32..1 << 18).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let mut received = Vec::new();
    stdout
        .read_to_end(&mut received)
        .expect("the pipe can be read to its end");
    writer
        .join()
        .expect("the writer does not panic")
        .expect("the writing thread succeeds");
    assert!(
        received == expected,
        "{} of {} bytes arrived, or some of them were changed",
        received.len(),
        expected.len()
    );
    assert!(child.wait().expect("the child was started").success());
}

#[test]
fn the_programs_output_is_passed_on_unchanged() {
    let (text, printing) = print("out\u{1b}[0m\n");
    let dir = WorkDir::new();
    let errors = "(drop (call $write (i32.const 2) (i32.const 2048) (i32.const 4)))";
    dir.write(
        "guest.wat",
        with(
            &format!("{printing} {errors}"),
            &format!("{text} (data (i32.const 2048) \"err\\0a\")"),
        ),
    );
    let ended = dir.run(&["guest.wat"]);
    // Escape sequences are written unchanged, too.
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("out\u{1b}[0m\n", "err\n")
    );
}

#[test]
fn closing_the_output_ends_the_program_without_a_panic() {
    let dir = WorkDir::new();
    let (text, _) = print("line\n");
    // The guest prints until printing fails.
    let endless = with(
        "(loop $next
            (br_if $next (i32.eqz (call $write (i32.const 1) (i32.const 1024) (i32.const 5)))))
         (call $exit (i32.const 9))",
        &text,
    );
    dir.write("guest.wat", endless);
    let mut command = dir.command(&["guest.wat"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command was built with this test");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("the stream is piped"))
        .read_line(&mut line)
        .expect("the program prints a line");
    assert_eq!(line, "line\n");
    let ended = Ended::from(child.wait_with_output().expect("the child was started"));
    assert!(matches!(ended.status, Some(9 | 134)), "{ended:#?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_reported_and_determines_the_status() {
    let dir = WorkDir::new();
    let (text, printing) = print("line\n");
    dir.write("program.wat", with(&printing, &text));
    dir.write(
        "function.wat",
        r#"(module (memory (export "memory") 1)
            (func (export "echo") (param i32) (param $length i32) (result i32) (local.get $length)))"#,
    );
    // A frame for the bridge.
    let request = br#"{"id":1,"function":"echo","data":1}"#;
    let length = u32::try_from(request.len()).expect("the request is short");
    let requests = dir.write("requests", [&length.to_be_bytes()[..], request].concat());
    dir.write(
        "tests.wat",
        r##"(module (func (export "#lunatic_test_m::t")))"##,
    );
    for (arguments, status) in [
        (&["program.wat"][..], 1),
        (&["call", "function.wat", "echo", "1"], 1),
        (&["tests.wat"], 101),
        (&["tests.wat", "--list"], 101),
        (&["tests.wat", "--help"], 101),
        (&["bridge", "function.wat"], 1),
        (&["completions", "bash"], 1),
        (&["new", "created"], 1),
        (&["--help"], 1),
        (&["--version"], 1),
    ] {
        let full = std::fs::File::create("/dev/full").expect("Linux has this device");
        let requests = std::fs::File::open(&requests).expect("the file was just written");
        let output = dir
            .command(arguments)
            .stdin(requests)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .expect("the command was built with this test");
        let ended = Ended::from(output);
        ended.check(status, &["standard output cannot be written: "]);
    }
}
