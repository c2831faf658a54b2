//! `--metrics`.

use crate::guest::with;
use crate::lunatic::{Place, run};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

/// A program that counts and then reads until its input ends.
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

/// A program that serves metrics at a port that the system chose.
struct Serving {
    child: Child,
    address: String,
    // Until it is dropped there is a directory to run in.
    _place: Place,
}

impl Serving {
    fn start() -> Serving {
        let place = Place::new();
        place.write("guest.wat", counting());
        let mut command = place.command(&["--metrics", "127.0.0.1:0", "guest.wat"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it says where");
        let address = line
            .trim()
            .strip_prefix("metrics are served at http://")
            .and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("{line}")).to_string();
        Serving {
            child,
            address,
            _place: place,
        }
    }

    /// Sends bytes and returns all that comes back.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("it answers in text and closes");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        ))
    }

    /// Ends the program by the end of its input.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it was started").success());
    }
}

#[test]
fn what_a_program_counts_is_collected_while_it_runs() {
    let serving = Serving::start();
    // The program is started before it counts.
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
            "`{line}` is missing in {answer}"
        );
    }
    serving.end();
}

#[test]
fn there_is_one_page_and_one_way_to_get_it() {
    let serving = Serving::start();
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
    let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    assert!(serving.ask(&endless).starts_with("HTTP/1.1 431"));
    assert!(
        serving.get("/metrics").starts_with("HTTP/1.1 200"),
        "it goes on"
    );
    serving.end();
}

#[test]
fn who_connects_and_says_nothing_holds_up_nobody() {
    let serving = Serving::start();
    let mut silent: Vec<TcpStream> = (0..10)
        .map(|_| TcpStream::connect(&serving.address).expect("it listens"))
        .collect();
    for stream in &mut silent {
        stream.write_all(b"GET /met").expect("it is read");
    }
    assert!(serving.get("/metrics").starts_with("HTTP/1.1 200"));
    serving.end();
}

#[test]
fn an_address_that_is_none_or_taken_is_an_error() {
    let ended = run(&["--metrics", "localhost"], &counting());
    assert_eq!(ended.status, Some(2), "{ended:#?}");
    assert!(
        ended.stderr.contains("`localhost` is no address") && ended.stderr.contains("9100"),
        "{ended:#?}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ended = run(&["--metrics", &address], &counting());
    assert_eq!(ended.status, Some(126), "{ended:#?}");
    assert!(
        ended
            .stderr
            .contains(&format!("metrics cannot be served at {address}")),
        "{ended:#?}"
    );
}
