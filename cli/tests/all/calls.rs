//! Tests `lunatic call`, which calls functions from the shell, and `lunatic bridge`, through which
//! a program calls them over two pipes.

use crate::cargo::example;
use crate::lunatic::WorkDir;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// Returns the path of the module compiled from `examples/functions.rs`.
fn functions() -> String {
    example("functions")
        .to_str()
        .expect("the repository has a UTF-8 path")
        .to_string()
}

#[test]
fn a_function_can_be_called_with_a_value() {
    let dir = WorkDir::new();
    let check = |arguments: &[&str], printed: &str| {
        let ended = dir.run(&[&["call", &functions()], arguments].concat());
        ended.check(0, &[]);
        assert_eq!(ended.stdout, printed);
    };
    check(&["hello", r#"{"arg": "World"}"#], "\"Hello, World!\"\n");
    check(
        &["hello", "--data", r#"{"arg": "World"}"#],
        "\"Hello, World!\"\n",
    );
    dir.write("arguments.json", r#"{"dividend": 6, "divisor": 2}"#);
    check(&["divide", "--data", "@arguments.json"], "3\n");
    check(&["count"], "1\n");
    dir.write("picture.rgb", [1; 4 * 4 * 3]);
    check(
        &[
            "image_size",
            "--image",
            "picture.rgb",
            "--width",
            "4",
            "--height",
            "4",
        ],
        "{\"width\":4,\"height\":4}\n",
    );
    check(
        &[
            "shrink",
            "--image",
            "picture.rgb",
            "--width",
            "4",
            "--height",
            "4",
        ],
        &"\u{1}".repeat(2 * 2 * 3),
    );
}

#[test]
fn a_failed_call_reports_the_reason_and_sets_the_status() {
    let dir = WorkDir::new();
    dir.write("spin.wat", r#"(module (memory (export "memory") 1) (func (export "spin") (param i32 i32) (result i32) (loop br 0) (i32.const 0)))"#);
    let check = |arguments: &[&str], status: i32, part: &str| {
        dir.run(&[&["call"], arguments].concat())
            .check(status, &[part]);
    };
    let functions = functions();
    check(
        &[&functions, "divide", r#"{"dividend": 6, "divisor": 0}"#],
        1,
        "6 cannot be divided by 0",
    );
    check(
        &[&functions, "divide", r#"{"dividend": 6}"#],
        1,
        "missing field `divisor`",
    );
    check(&[&functions, "devide"], 1, "no function `devide`");
    check(
        &[&functions, "hello", "World"],
        2,
        "the argument is not JSON",
    );
    check(
        &["spin.wat", "spin", "--timeout", "50ms"],
        124,
        "took longer than 50ms",
    );
    check(&["spin.wat", "spin", "--max-compute", "1"], 152, "compute");
    check(&["no-such.wasm", "spin"], 127, "no-such.wasm");
    dir.write("text.wasm", "not a module");
    check(&["text.wasm", "spin"], 126, "text.wasm");
}

/// A module whose function prints a bridge frame to standard output and then answers with the
/// number of bytes that it reads from standard input.
const FORGES: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\16\00\00\00") (data (i32.const 16) "\00\00\00\12{\"id\":2,\"ok\":true}")
    (data (i32.const 64) "\80\00\00\00\40\00\00\00")
    (func (export "forge") (param $index i32) (param i32) (result i32)
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 72)))
        (i32.store8 (local.get $index) (i32.add (i32.const 48) (i32.load (i32.const 72))))
        (i32.const 1)))"#;

#[test]
fn what_a_function_prints_goes_to_standard_error_and_requests_are_not_its_to_read() {
    let dir = WorkDir::new();
    dir.write("forges.wat", FORGES);
    let allowed = ["--allow", "wasi_snapshot_preview1::"];
    let mut bridge = Bridge::start(&dir, &[&["forges.wat"], &allowed[..]].concat());
    bridge.send(br#"{"id": 1, "function": "forge"}"#);
    bridge.check(r#"{"id": 2, "function": "forge"}"#, r#"{"id":1,"ok":0}"#);
    assert_eq!(bridge.receive(), br#"{"id":2,"ok":0}"#);
    assert_eq!(bridge.end(), Some(0));
    for _ in 0..10 {
        let ended = dir.run(&[&["call", "forges.wat", "forge"], &allowed[..]].concat());
        assert_eq!(ended.stdout, "0\n");
        assert!(
            ended.stderr.contains(r#"{"id":2,"ok":true}"#),
            "{}",
            ended.stderr
        );
    }
}

/// A running `lunatic bridge` and its two pipes.
struct Bridge(Child);

impl Bridge {
    fn start(dir: &WorkDir, arguments: &[&str]) -> Bridge {
        let mut command = dir.command(&[&["bridge"], arguments].concat());
        Bridge(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the command was built with this test"),
        )
    }

    fn send(&mut self, frame: &[u8]) {
        let input = self.0.stdin.as_mut().expect("the stream is piped");
        input
            .write_all(&(frame.len() as u32).to_be_bytes())
            .expect("the other side is reading");
        input.write_all(frame).expect("the other side is reading");
    }

    fn receive(&mut self) -> Vec<u8> {
        let output = self.0.stdout.as_mut().expect("the stream is piped");
        let mut length = [0; 4];
        output.read_exact(&mut length).expect("the bridge replies");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        output.read_exact(&mut frame).expect("the bridge replies");
        frame
    }

    #[track_caller]
    fn check(&mut self, request: &str, reply: &str) {
        self.send(request.as_bytes());
        assert_eq!(String::from_utf8_lossy(&self.receive()), reply);
    }

    fn end(mut self) -> Option<i32> {
        drop(self.0.stdin.take());
        self.0.wait().expect("the bridge ends").code()
    }
}

#[test]
fn requests_over_a_pipe_are_answered_even_if_they_are_invalid() {
    let dir = WorkDir::new();
    let mut bridge = Bridge::start(&dir, &[&functions()]);
    bridge.check(
        r#"{"id": 1, "function": "hello", "data": {"arg": "pipe"}}"#,
        r#"{"id":1,"ok":"Hello, pipe!"}"#,
    );
    bridge.send(br#"{"id": [2], "function": "shrink", "image": {"width": 2, "height": 2}}"#);
    bridge.check(&"x".repeat(12), r#"{"id":[2],"bytes":3}"#);
    assert_eq!(bridge.receive(), b"xxx");
    bridge.check(
        r#"{"id": 3, "function": "divide", "data": {"dividend": 1, "divisor": 0}}"#,
        r#"{"id":3,"error":{"kind":"failed","message":"the function failed: 1 cannot be divided by 0"}}"#,
    );
    bridge.send(br#"{"id": 4, "function": "hello", "arguments": 1}"#);
    let reply = String::from_utf8(bridge.receive()).expect("the output is text");
    assert!(
        reply.starts_with(
            r#"{"id":4,"error":{"kind":"request","message":"the request is invalid: unknown field"#
        ),
        "{reply}"
    );
    // A frame attached to an invalid request is not read as a request.
    for wrong in [
        r#"{"id": 4, "function": "shrink", "image": {"width": -2, "height": 2}}"#,
        r#"{"id": 4, "function": "shrink", "bytes": true, "arguments": 1}"#,
        r#"{"id": 4, "function": "shrink", "bytes": true, "image": {"width": 2, "height": 2}}"#,
        r#"{"id": 4, "function": "shrink", "bytes": true, "data": 1}"#,
    ] {
        bridge.send(wrong.as_bytes());
        bridge.send(b"attached");
        let reply = String::from_utf8(bridge.receive()).expect("the output is text");
        assert!(
            reply.starts_with(r#"{"id":4,"error":{"kind":"request""#),
            "{reply}"
        );
    }
    bridge.send(b"no JSON");
    let reply = String::from_utf8(bridge.receive()).expect("the output is text");
    assert!(
        reply.starts_with(r#"{"id":null,"error":{"kind":"request""#),
        "{reply}"
    );
    bridge.check(
        r#"{"id": 5, "function": "hello", "data": {"arg": "again"}}"#,
        r#"{"id":5,"ok":"Hello, again!"}"#,
    );
    assert_eq!(bridge.end(), Some(0));
}

#[test]
fn a_slow_request_does_not_delay_the_others() {
    let dir = WorkDir::new();
    let module = r#"(module
        (memory (export "memory") 1)
        (func (export "spin") (param i32 i32) (result i32) (loop br 0) (i32.const 0))
        (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length)))"#;
    dir.write("module.wat", module);
    let mut bridge = Bridge::start(&dir, &["module.wat", "--instances", "2"]);
    bridge.send(br#"{"id": "spinning", "function": "spin", "timeout": 2000}"#);
    bridge.check(
        r#"{"id": "first", "function": "echo", "data": [1]}"#,
        r#"{"id":"first","ok":[1]}"#,
    );
    let reply = String::from_utf8(bridge.receive()).expect("the output is text");
    assert!(
        reply.starts_with(r#"{"id":"spinning","error":{"kind":"timeout""#),
        "{reply}"
    );
    assert_eq!(bridge.end(), Some(0));
}

#[test]
fn a_frame_that_is_too_large_or_truncated_ends_the_bridge_with_an_error() {
    let dir = WorkDir::new();
    for (bytes, said) in [
        (
            &[0xff, 0xff, 0xff, 0xff][..],
            "the frame is 4294967295 bytes long",
        ),
        (&[0, 0, 0, 9, b'{'], "requests"),
    ] {
        let mut command = dir.command(&["bridge", &functions()]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("the command was built with this test");
        child
            .stdin
            .take()
            .expect("the stream is piped")
            .write_all(bytes)
            .expect("the other side is reading");
        let output = child.wait_with_output().expect("the bridge ends");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(said), "{text}");
    }
}

/// Tests the client in `bridge/README.md`, verbatim.
#[test]
fn the_client_in_python_works() {
    let readme = include_str!("../../../bridge/README.md");
    let (_, client) = readme
        .split_once("```python\n")
        .expect("the README has a client");
    let (client, _) = client.split_once("```").expect("the block is closed");
    let dir = WorkDir::new();
    let client = dir.write("client.py", client);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::path::Path::new(env!("CARGO_BIN_EXE_lunatic"))
        .parent()
        .expect("the executable is in a directory")
        .to_path_buf();
    let paths = std::env::join_paths(std::iter::once(here).chain(std::env::split_paths(&path)))
        .expect("the directories can be joined to a PATH");
    let ran = Command::new("python3")
        .arg(client)
        .arg(functions())
        .env("PATH", paths)
        .output();
    let output = match ran {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("python3 is not installed; the client in Python was not tested");
            return;
        }
        ran => ran.expect("python3 can be run"),
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        printed,
        "Hello, World!\n{'width': 256, 'height': 256}\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
