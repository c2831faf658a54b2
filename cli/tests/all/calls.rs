//! `lunatic call` and `lunatic bridge`: functions for the shell, and for a program at the other end of two pipes.

use crate::cargo::example;
use crate::lunatic::Place;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// The functions of `examples/functions.rs`, compiled.
fn functions() -> String {
    example("functions")
        .to_str()
        .expect("the repository lies where paths are text")
        .to_string()
}

#[test]
fn a_function_is_called_with_a_value() {
    let place = Place::new();
    let check = |arguments: &[&str], printed: &str| {
        let ended = place.run(&[&["call", &functions()], arguments].concat());
        ended.check(0, &[]);
        assert_eq!(ended.stdout, printed);
    };
    check(&["hello", r#"{"arg": "World"}"#], "\"Hello, World!\"\n");
    check(
        &["hello", "--data", r#"{"arg": "World"}"#],
        "\"Hello, World!\"\n",
    );
    place.write("arguments.json", r#"{"dividend": 6, "divisor": 2}"#);
    check(&["divide", "--data", "@arguments.json"], "3\n");
    check(&["count"], "1\n");
    place.write("picture.rgb", [1; 4 * 4 * 3]);
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
fn a_call_that_fails_says_what_and_has_a_status() {
    let place = Place::new();
    place.write("spin.wat", r#"(module (memory (export "memory") 1) (func (export "spin") (param i32 i32) (result i32) (loop br 0) (i32.const 0)))"#);
    let check = |arguments: &[&str], status: i32, part: &str| {
        place
            .run(&[&["call"], arguments].concat())
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
        "the argument is no JSON",
    );
    check(
        &["spin.wat", "spin", "--timeout", "50ms"],
        124,
        "took longer than 50ms",
    );
    check(&["spin.wat", "spin", "--max-compute", "1"], 152, "compute");
    check(&["no-such.wasm", "spin"], 127, "no-such.wasm");
    place.write("text.wasm", "no module");
    check(&["text.wasm", "spin"], 126, "text.wasm");
}

/// `lunatic bridge`, and the two pipes.
struct Bridge(Child);

impl Bridge {
    fn start(place: &Place, arguments: &[&str]) -> Bridge {
        let mut command = place.command(&[&["bridge"], arguments].concat());
        Bridge(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the command was built"),
        )
    }

    fn send(&mut self, frame: &[u8]) {
        let input = self.0.stdin.as_mut().expect("it is a pipe");
        input
            .write_all(&(frame.len() as u32).to_be_bytes())
            .expect("it reads");
        input.write_all(frame).expect("it reads");
    }

    fn receive(&mut self) -> Vec<u8> {
        let output = self.0.stdout.as_mut().expect("it is a pipe");
        let mut length = [0; 4];
        output.read_exact(&mut length).expect("it replies");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        output.read_exact(&mut frame).expect("it replies");
        frame
    }

    #[track_caller]
    fn check(&mut self, request: &str, reply: &str) {
        self.send(request.as_bytes());
        assert_eq!(String::from_utf8_lossy(&self.receive()), reply);
    }

    fn end(mut self) -> Option<i32> {
        drop(self.0.stdin.take());
        self.0.wait().expect("it ends").code()
    }
}

#[test]
fn requests_over_a_pipe_are_answered_and_wrong_ones_too() {
    let place = Place::new();
    let mut bridge = Bridge::start(&place, &[&functions()]);
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
    let reply = String::from_utf8(bridge.receive()).expect("it is text");
    assert!(
        reply.starts_with(
            r#"{"id":4,"error":{"kind":"request","message":"the request is wrong: unknown field"#
        ),
        "{reply}"
    );
    // The frame that a wrong request announces is no request.
    for wrong in [
        r#"{"id": 4, "function": "shrink", "image": {"width": -2, "height": 2}}"#,
        r#"{"id": 4, "function": "shrink", "bytes": true, "arguments": 1}"#,
        r#"{"id": 4, "function": "shrink", "bytes": true, "image": {"width": 2, "height": 2}}"#,
        r#"{"id": 4, "function": "shrink", "bytes": true, "data": 1}"#,
    ] {
        bridge.send(wrong.as_bytes());
        bridge.send(b"attached");
        let reply = String::from_utf8(bridge.receive()).expect("it is text");
        assert!(
            reply.starts_with(r#"{"id":4,"error":{"kind":"request""#),
            "{reply}"
        );
    }
    bridge.send(b"no JSON");
    let reply = String::from_utf8(bridge.receive()).expect("it is text");
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
fn a_request_that_takes_too_long_does_not_hold_up_the_others() {
    let place = Place::new();
    let module = r#"(module
        (memory (export "memory") 1)
        (func (export "spin") (param i32 i32) (result i32) (loop br 0) (i32.const 0))
        (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length)))"#;
    place.write("module.wat", module);
    let mut bridge = Bridge::start(&place, &["module.wat", "--instances", "2"]);
    bridge.send(br#"{"id": "spinning", "function": "spin", "timeout": 2000}"#);
    bridge.check(
        r#"{"id": "first", "function": "echo", "data": [1]}"#,
        r#"{"id":"first","ok":[1]}"#,
    );
    let reply = String::from_utf8(bridge.receive()).expect("it is text");
    assert!(
        reply.starts_with(r#"{"id":"spinning","error":{"kind":"timeout""#),
        "{reply}"
    );
    assert_eq!(bridge.end(), Some(0));
}

#[test]
fn a_frame_that_is_too_large_or_cut_off_ends_the_bridge_with_a_sentence() {
    let place = Place::new();
    for (bytes, said) in [
        (&[0xff, 0xff, 0xff, 0xff][..], "a frame of 4294967295 bytes"),
        (&[0, 0, 0, 9, b'{'], "requests"),
    ] {
        let mut command = place.command(&["bridge", &functions()]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command was built");
        child
            .stdin
            .take()
            .expect("it is a pipe")
            .write_all(bytes)
            .expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(said), "{text}");
    }
}

/// The client of `bridge/README.md`, as it stands there.
#[test]
fn the_client_in_python_works() {
    let readme = include_str!("../../../bridge/README.md");
    let (_, client) = readme
        .split_once("```python\n")
        .expect("the README has a client");
    let (client, _) = client.split_once("```").expect("it ends");
    let place = Place::new();
    let client = place.write("client.py", client);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::path::Path::new(env!("CARGO_BIN_EXE_lunatic"))
        .parent()
        .expect("it lies in a directory")
        .to_path_buf();
    let paths = std::env::join_paths(std::iter::once(here).chain(std::env::split_paths(&path)))
        .expect("they are paths");
    let ran = Command::new("python3")
        .arg(client)
        .arg(functions())
        .env("PATH", paths)
        .output();
    let output = match ran {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("there is no python3 here: the client in Python was not tried");
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
