//! Tests `lunatic build`, `serve` and `dev`.

use crate::lunatic::{Ended, WorkDir};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

/// A timeout that expires only if a test hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Returns a function that answers with the given text.
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

/// The running command.
struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    fn start(dir: &WorkDir, arguments: &[&str]) -> Server {
        let mut child = dir
            .command(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command was built with this test");
        let stderr = BufReader::new(child.stderr.take().expect("the stream is piped"));
        Server { child, stderr }
    }

    /// Reads until a line starts with a prefix, and returns the rest of that line.
    #[track_caller]
    fn wait_for(&mut self, prefix: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let length = self
                .stderr
                .read_line(&mut line)
                .expect("the output is text");
            assert_ne!(length, 0, "`{prefix}` is not in {all}");
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.trim_end().to_string();
            }
            all += &line;
        }
    }

    /// Waits until a gateway is listening, and returns its address and target.
    #[track_caller]
    fn gateway(&mut self, name: &str, scheme: &str) -> (SocketAddr, String) {
        let line = self.wait_for(&format!("{name}: {scheme}://"));
        let (address, target) = line.split_once(" -> ").expect("the gateway has a target");
        (
            address.parse().expect("the line has an address"),
            target.to_string(),
        )
    }

    #[cfg(unix)]
    fn interrupt(mut self) -> Ended {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the process is alive");
        let mut stderr = String::new();
        self.stderr
            .read_to_string(&mut stderr)
            .expect("the output is text");
        let status = self.child.wait().expect("the child was started").code();
        Ended {
            status,
            stdout: String::new(),
            stderr,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The command may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server is listening");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("the timeout is not zero");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("the other side is reading");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the server answers");
    answer
        .split_once("\r\n\r\n")
        .map_or(answer.clone(), |(_, body)| body.to_string())
}

#[test]
fn build_lists_what_was_built_and_reports_what_failed() {
    let dir = WorkDir::new();
    dir.run(&["build"]).check(
        1,
        &[
            "no `lunatic.toml` or `embly-project.yml` in this directory or a parent",
            "hint: use `--file FILE`",
        ],
    );
    dir.write(
        "lunatic.toml",
        "[functions.a]\nwasm = \"a.wat\"\n[functions.second]\nwasm = \"b.wat\"\n",
    );
    dir.write("a.wat", answering("a"));
    dir.write("b.wat", answering("b"));
    dir.write("inner/x", "");
    let mut below = dir.command(&["build"]);
    let ended = Ended::from(
        below
            .current_dir(dir.path().join("inner"))
            .output()
            .expect("the command was built with this test"),
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

    dir.write("b.wat", "(module)");
    let ended = dir.run(&["build"]);
    ended.check(
        1,
        &["error: `second` was not built: `./b.wat` is not a function: the module exports neither"],
    );
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:#?}");

    dir.write("lunatic.toml", "[functions.a]\nwasm = 1\n");
    dir.run(&["build"]).check(
        1,
        &["error: expected path string, found `1`\n --> lunatic.toml:2:8\n  |\n2 | wasm = 1\n"],
    );
}

#[test]
#[cfg(unix)]
fn serve_prints_the_addresses_of_gateways_and_ends_on_a_signal() {
    let dir = WorkDir::new();
    dir.write("lunatic.toml", PROJECT);
    dir.write("a.wat", answering("a"));
    let mut serving = Server::start(&dir, &["serve"]);
    let (address, target) = serving.gateway("web", "http");
    assert_eq!((get(address, "/").as_str(), target.as_str()), ("a", "a"));
    assert_eq!(serving.interrupt().status, Some(0));
}

#[test]
fn serve_fails_if_there_is_nothing_to_serve() {
    let dir = WorkDir::new();
    dir.run(&["serve"])
        .check(1, &["no `lunatic.toml`", "hint: `--deploy`"]);
    dir.write("lunatic.toml", "[functions.a]\nwasm = \"a.wat\"\n");
    dir.write("a.wat", answering("a"));
    dir.run(&["serve"])
        .check(1, &["the project has no gateways", "`[gateways.web]`"]);
    dir.write("lunatic.toml", PROJECT);
    dir.write("a.wat", "(module)");
    dir.run(&["serve"]).check(
        1,
        &["`a` was not built", "some functions could not be built"],
    );
    let secret = format!(
        "{PROJECT}[functions.a.environment.secrets]\nA = {{ env = \"LUNATIC_TEST_NOT_SET\" }}\n"
    );
    dir.write("lunatic.toml", secret);
    dir.write("a.wat", answering("a"));
    dir.run(&["serve"]).check(
        1,
        &[
            "`LUNATIC_TEST_NOT_SET`, which holds this secret, is not set",
            "lunatic.toml:8:5",
        ],
    );
    // Building does not require secrets.
    dir.run(&["build"]).check(0, &["building a"]);
}

#[test]
fn dev_replaces_a_function_when_it_changes() {
    let dir = WorkDir::new();
    dir.write("lunatic.toml", PROJECT);
    dir.write("a.wat", answering("first"));
    let mut serving = Server::start(&dir, &["dev"]);
    serving.wait_for("a serves version 1");
    let (address, _) = serving.gateway("web", "http");
    assert_eq!(get(address, "/"), "first");
    dir.write("a.wat", "(module");
    serving.wait_for("error: `a` was not built");
    assert_eq!(get(address, "/"), "first");
    dir.write("a.wat", answering("second"));
    serving.wait_for("a serves version 2");
    assert_eq!(get(address, "/"), "second");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the directory is writable");
    for entry in std::fs::read_dir(from).expect("the directory is in the repository") {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .expect("the directory can be listed");
        if path.is_dir() && name != "target" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            std::fs::copy(&path, to.join(name)).expect("the directory is writable");
        }
    }
}

#[test]
fn the_example_project_works() {
    let dir = WorkDir::new();
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/functions"),
        dir.path(),
    );
    let toml = dir
        .read("lunatic.toml")
        .replace("port = 8080", "port = 0")
        .replace("port = 8081", "port = 0");
    dir.write("lunatic.toml", toml);
    let mut serving = Server::start(&dir, &["serve"]);
    let (web, target) = serving.gateway("web", "http");
    assert_eq!(target, "hello, /ready ready, /pages ./pages");
    assert_eq!(get(web, "/world"), "Hello from /world\n");
    assert_eq!(get(web, "/ready"), "ready.\n");
    assert!(get(web, "/pages/index.html").contains("served as is"));

    serving.gateway("raw", "tcp");
}

#[test]
fn the_project_from_the_readme_of_embly_runs() {
    let dir = WorkDir::new();
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/functions/rust"),
        &dir.path().join("listener"),
    );
    std::fs::remove_file(dir.path().join("listener/src/bin/echo.rs")).expect("the file was copied");
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
    dir.write("embly-project.yml", yaml);
    let mut serving = Server::start(&dir, &["serve"]);
    let (address, target) = serving.gateway("index", "http");
    assert_eq!(
        (get(address, "/x").as_str(), target.as_str()),
        (" from /x\n", "listener")
    );
}
