//! Tests `--metrics`.

use crate::guest::with;
use crate::lunatic::{WorkDir, run};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

/// A program that increments a counter and then reads until its input ends.
fn counting() -> String {
    let text = with(
        "(call $count (i32.const 1024) (i32.const 5))
         (drop (call $read (i32.const 2048) (i32.const 1)))",
        r#"(data (i32.const 1024) "calls")"#,
    );
    text.replacen(
        "(module",
        r#"(module (import "lunatic::metrics" "increment_counter" (func $count (param i32 i32)))"#,
        1,
    )
}

/// A program that serves metrics on a port chosen by the system.
struct Server {
    child: Child,
    address: String,
    // The directory that the program runs in.
    _dir: WorkDir,
}

impl Server {
    fn start() -> Server {
        let dir = WorkDir::new();
        dir.write("guest.wat", counting());
        let mut command = dir.command(&["--metrics", "127.0.0.1:0", "guest.wat"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command was built with this test");
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("the stream is piped"))
            .read_line(&mut line)
            .expect("the command prints the address");
        let address = line
            .trim()
            .strip_prefix("metrics are served at http://")
            .and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("{line}")).to_string();
        Server {
            child,
            address,
            _dir: dir,
        }
    }

    /// Sends bytes and returns the entire response.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the server is listening");
        stream
            .write_all(request.as_bytes())
            .expect("the other side is reading");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the server answers in text and closes the connection");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        ))
    }

    /// Ends the program by closing its input.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("the child was started").success());
    }
}

#[test]
fn the_metrics_of_a_program_are_served_while_it_runs() {
    let serving = Server::start();
    // Metrics may be served before the program has incremented its counter.
    let answer = loop {
        let answer = serving.get("/metrics");
        if answer.contains("calls{") {
            break answer;
        }
    };
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer
            .to_lowercase()
            .contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    for line in [
        "# TYPE calls counter",
        "calls{environment=\"0\"} 1",
        "lunatic_machine_processes 1",
    ] {
        assert!(
            answer.lines().any(|known| known == line),
            "`{line}` is missing from {answer}"
        );
    }
    serving.end();
}

#[test]
fn only_one_page_and_one_method_are_supported() {
    let serving = Server::start();
    for (request, status) in [
        (
            "GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
            "404",
        ),
        (
            "POST /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "405",
        ),
        ("GET /metrics HTTP/9\r\n\r\n", "400"),
        ("\0\0\0\0\r\n\r\n", "400"),
    ] {
        let answer = serving.ask(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request:?}: {answer}"
        );
    }
    let fields = "a: b\r\n".repeat(101);
    for large in [
        format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(20_000)),
        format!("GET /{}", "x".repeat(20_000)),
        format!("GET /metrics HTTP/1.1\r\n{fields}\r\n"),
    ] {
        let answer = serving.ask(&large);
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    for other in ["/metrics?name=x", "http://here/metrics"] {
        assert!(serving.get(other).starts_with("HTTP/1.1 200"), "{other}");
    }
    let answer = serving.ask("HEAD /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(
        serving.get("/metrics").starts_with("HTTP/1.1 200"),
        "the server still answers"
    );
    serving.end();
}

#[test]
fn a_silent_connection_does_not_delay_other_clients() {
    let serving = Server::start();
    let mut silent: Vec<TcpStream> = (0..10)
        .map(|_| TcpStream::connect(&serving.address).expect("the server is listening"))
        .collect();
    for stream in &mut silent {
        stream
            .write_all(b"GET /met")
            .expect("the other side is reading");
    }
    assert!(serving.get("/metrics").starts_with("HTTP/1.1 200"));
    serving.end();
}

#[test]
fn an_address_that_is_invalid_or_in_use_is_an_error() {
    let ended = run(&["--metrics", "localhost"], &counting());
    assert_eq!(ended.status, Some(2), "{ended:#?}");
    assert!(
        ended.stderr.contains("`localhost` is not an address") && ended.stderr.contains("9100"),
        "{ended:#?}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken
        .local_addr()
        .expect("the listener is bound")
        .to_string();
    let ended = run(&["--metrics", &address], &counting());
    assert_eq!(ended.status, Some(126), "{ended:#?}");
    assert!(
        ended
            .stderr
            .contains(&format!("metrics cannot be served at {address}")),
        "{ended:#?}"
    );
}
