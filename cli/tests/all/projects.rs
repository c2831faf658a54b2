//! `lunatic build`, `serve` and `dev`.

use crate::lunatic::{Ended, Place};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

/// What no test waits for.
const NEVER: Duration = Duration::from_secs(120);

/// A function that answers with a text of one digit's length.
fn answering(text: &str) -> String {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let escaped: String = answer.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\{:02x}\00\00\00")
            (data (i32.const 16) "{escaped}")
            (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        answer.len()
    )
}

const PROJECT: &str = "[functions.a]\nwasm = \"a.wat\"\n[gateways.web]\ntype = \"http\"\nport = 0\nfunction = \"a\"\n";

/// The command while it serves.
struct Serving {
    child: Child,
    told: BufReader<ChildStderr>,
}

impl Serving {
    fn start(place: &Place, arguments: &[&str]) -> Serving {
        let mut child = place
            .command(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built with this test");
        let told = BufReader::new(child.stderr.take().expect("it is piped"));
        Serving { child, told }
    }

    /// Reads until a line begins so, and returns its rest.
    #[track_caller]
    fn wait_for(&mut self, begin: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let length = self.told.read_line(&mut line).expect("it is text");
            assert_ne!(length, 0, "`{begin}` is not in {all}");
            if let Some(rest) = line.strip_prefix(begin) {
                return rest.trim_end().to_string();
            }
            all += &line;
        }
    }

    /// Waits for a gateway to listen, and returns where and what it leads to.
    #[track_caller]
    fn gateway(&mut self, name: &str, scheme: &str) -> (SocketAddr, String) {
        let line = self.wait_for(&format!("{name}: {scheme}://"));
        let (address, target) = line.split_once(" -> ").expect("it leads somewhere");
        (
            address.parse().expect("it is an address"),
            target.to_string(),
        )
    }

    #[cfg(unix)]
    fn interrupt(mut self) -> Ended {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is alive");
        let mut stderr = String::new();
        self.told.read_to_string(&mut stderr).expect("it is text");
        let status = self.child.wait().expect("it was started").code();
        Ended {
            status,
            stdout: String::new(),
            stderr,
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(NEVER))
        .expect("it is a socket");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
        .split_once("\r\n\r\n")
        .map_or(answer.clone(), |(_, body)| body.to_string())
}

#[test]
fn build_lists_what_it_built_and_says_what_it_did_not() {
    let place = Place::new();
    place.run(&["build"]).check(
        1,
        &[
            "no `lunatic.toml` and no `embly-project.yml` here or above",
            "hint: `--file FILE`",
        ],
    );
    place.write(
        "lunatic.toml",
        "[functions.a]\nwasm = \"a.wat\"\n[functions.second]\nwasm = \"b.wat\"\n",
    );
    place.write("a.wat", answering("a"));
    place.write("b.wat", answering("b"));
    place.write("inner/x", "");
    let mut below = place.command(&["build"]);
    let ended = Ended::from(
        below
            .current_dir(place.path().join("inner"))
            .output()
            .expect("it was built"),
    );
    ended.check(0, &["building a\n", "building second\n"]);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(
        lines[0].starts_with("a       ") && lines[0].contains(" B "),
        "{ended:#?}"
    );
    assert!(
        lines[1].starts_with("second  ") && lines[1].contains("/.lunatic/build/second-"),
        "{ended:#?}"
    );

    place.write("b.wat", "(module)");
    let ended = place.run(&["build"]);
    ended.check(
        1,
        &["error: `second` was not built: `./b.wat` is no function: the module exports neither"],
    );
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:#?}");

    place.write("lunatic.toml", "[functions.a]\nwasm = 1\n");
    place.run(&["build"]).check(
        1,
        &["error: expected path string, found `1`\n --> lunatic.toml:2:8\n  |\n2 | wasm = 1\n"],
    );
}

#[test]
#[cfg(unix)]
fn serve_says_what_listens_where_and_ends_at_a_signal() {
    let place = Place::new();
    place.write("lunatic.toml", PROJECT);
    place.write("a.wat", answering("a"));
    let mut serving = Serving::start(&place, &["serve"]);
    let (address, target) = serving.gateway("web", "http");
    assert_eq!((get(address, "/").as_str(), target.as_str()), ("a", "a"));
    assert_eq!(serving.interrupt().status, Some(0));
}

#[test]
fn serve_needs_something_to_serve() {
    let place = Place::new();
    place
        .run(&["serve"])
        .check(1, &["no `lunatic.toml`", "hint: `--deploy`"]);
    place.write("lunatic.toml", "[functions.a]\nwasm = \"a.wat\"\n");
    place.write("a.wat", answering("a"));
    place
        .run(&["serve"])
        .check(1, &["the project has no gateways", "`[gateways.web]`"]);
    place.write("lunatic.toml", PROJECT);
    place.write("a.wat", "(module)");
    place
        .run(&["serve"])
        .check(1, &["`a` was not built", "not all functions were built"]);
    let secret = format!(
        "{PROJECT}[functions.a.environment.secrets]\nA = {{ env = \"LUNATIC_TEST_NOT_SET\" }}\n"
    );
    place.write("lunatic.toml", secret);
    place.write("a.wat", answering("a"));
    place.run(&["serve"]).check(
        1,
        &[
            "`LUNATIC_TEST_NOT_SET`, which this secret is in, is not set",
            "lunatic.toml:8:5",
        ],
    );
    // What is only built needs no secrets.
    place.run(&["build"]).check(0, &["building a"]);
}

#[test]
fn dev_swaps_what_changes() {
    let place = Place::new();
    place.write("lunatic.toml", PROJECT);
    place.write("a.wat", answering("first"));
    let mut serving = Serving::start(&place, &["dev"]);
    serving.wait_for("a serves, version 1");
    let (address, _) = serving.gateway("web", "http");
    assert_eq!(get(address, "/"), "first");
    place.write("a.wat", "(module");
    serving.wait_for("error: `a` was not built");
    assert_eq!(get(address, "/"), "first");
    place.write("a.wat", answering("second"));
    serving.wait_for("a serves, version 2");
    assert_eq!(get(address, "/"), "second");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("there is room");
    for entry in std::fs::read_dir(from).expect("it is in the repository") {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .expect("it can be read");
        if path.is_dir() && name != "target" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            std::fs::copy(&path, to.join(name)).expect("there is room");
        }
    }
}

#[test]
fn the_example_does_what_the_readme_says() {
    let place = Place::new();
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/functions"),
        place.path(),
    );
    let toml = place
        .read("lunatic.toml")
        .replace("port = 8080", "port = 0")
        .replace("port = 8081", "port = 0");
    place.write("lunatic.toml", toml);
    let mut serving = Serving::start(&place, &["serve"]);
    let (web, target) = serving.gateway("web", "http");
    assert_eq!(target, "hello, /ready ready, /pages ./pages");
    assert_eq!(get(web, "/world"), "Hello from /world\n");
    assert_eq!(get(web, "/ready"), "ready.\n");
    assert!(get(web, "/pages/index.html").contains("served as it is"));

    serving.gateway("raw", "tcp");
}

#[test]
fn the_project_of_embly_s_readme_runs() {
    let place = Place::new();
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/functions/rust"),
        &place.path().join("listener"),
    );
    std::fs::remove_file(place.path().join("listener/src/bin/echo.rs")).expect("it was copied");
    let yaml = "\
functions:
  - name: listener
    path: ./listener
    language: rust
gateways:
  - name: index
    type: http
    port: 0
    function: listener
";
    place.write("embly-project.yml", yaml);
    let mut serving = Serving::start(&place, &["serve"]);
    let (address, target) = serving.gateway("index", "http");
    assert_eq!(
        (get(address, "/x").as_str(), target.as_str()),
        (" from /x\n", "listener")
    );
}
