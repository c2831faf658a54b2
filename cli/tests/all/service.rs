//! Tests `lunatic serve --deploy` and its client commands `functions`, `logs` and `invoke`.

use crate::lunatic::{Ended, WorkDir};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// A timeout that expires only if a test hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

const TOKEN: &str = "correct-horse-battery-staple";

/// A service run by the command.
struct Service {
    child: Child,
    deploy: SocketAddr,
    invoke: SocketAddr,
    /// Kept open so that the service can write to standard error.
    _stderr: BufReader<ChildStderr>,
}

impl Service {
    fn start(dir: &WorkDir, flags: &[&str]) -> Service {
        let arguments = [
            &[
                "serve",
                "--deploy",
                "127.0.0.1:0",
                "--invoke",
                "127.0.0.1:0",
            ],
            flags,
        ]
        .concat();
        Service::run(dir.command(&arguments))
    }

    fn run(mut command: Command) -> Service {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command was built with this test");
        let mut stderr = BufReader::new(child.stderr.take().expect("the stream is piped"));
        let (mut deploy, mut invoke, mut said) = (None, None, String::new());
        while deploy.is_none() || invoke.is_none() {
            let before = said.len();
            assert_ne!(
                stderr.read_line(&mut said).expect("the output is text"),
                0,
                "the service has ended: {said}"
            );
            let line = said[before..].trim();
            let address = |name: &str| {
                line.strip_prefix(name)?
                    .strip_prefix(": http://")?
                    .parse()
                    .ok()
            };
            deploy = deploy.or_else(|| address("deploy"));
            invoke = invoke.or_else(|| address("invoke"));
        }
        let found = "the loop ends when both are found";
        Service {
            child,
            deploy: deploy.expect(found),
            invoke: invoke.expect(found),
            _stderr: stderr,
        }
    }

    /// Deploys the way curl does. Returns the status and the response, or `None` if the service has
    /// ended.
    fn deploy(&self, what: &str, wasm: &[u8]) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.deploy).ok()?;
        stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("the timeout is not zero");
        let head = format!(
            "POST /deploy/{what} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.deploy,
            wasm.len()
        );
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(wasm))
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some((answer.get(9..12)?.parse().ok()?, answer))
    }

    /// Runs a client command for this service.
    fn ask(&self, dir: &WorkDir, arguments: &[&str]) -> Ended {
        let mut command = dir.command(arguments);
        command
            .env("LUNATIC_DEPLOY", self.deploy.to_string())
            .env("LUNATIC_INVOKE", self.invoke.to_string());
        Ended::from(
            command
                .output()
                .expect("the command was built with this test"),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The service may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a spark that prints a line and answers with the given text. The module is padded to the
/// given size.
fn spark(text: &str, size: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\\0d\\0acontent-length: {}\\0d\\0a\\0d\\0a",
        text.len()
    );
    let length = head.len() - 2 * head.matches('\\').count() + text.len();
    let wat = format!(
        r#"(module
            (import "embly" "_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 16)
            (data (i32.const 8) "\10\00\00\00\07\00\00\00served\0a")
            (data (i32.const 1024) "{head}{text}")
            (data (i32.const 4096) "{padding}")
            (func (export "_start")
                (drop (call $print (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 4)))
                (drop (call $write (i32.const 1) (i32.const 1024) (i32.const {length}) (i32.const 0)))))"#,
        padding = "x".repeat(size)
    );
    wat::parse_str(wat).expect("the text is valid")
}

#[test]
fn a_service_can_be_used_from_the_shell() {
    let dir = WorkDir::new();
    let service = Service::start(&dir, &[]);
    let (status, answer) = service
        .deploy("hello?policy=single", &spark("hello from a function", 0))
        .expect("the service is running");
    assert_eq!(status, 201, "{answer}");
    assert!(
        dir.path()
            .join("module-store/functions/hello.json")
            .exists()
    );

    let invoked = service.ask(&dir, &["invoke", "hello", "some/path?a=b"]);
    invoked.check(0, &[]);
    assert_eq!(invoked.stdout, "hello from a function");
    service.ask(&dir, &["invoke", "nobody"]).check(1, &["404"]);
    service
        .ask(&dir, &["invoke", "hello", "-H", "none"])
        .check(1, &["NAME: VALUE"]);

    let listed = service.ask(&dir, &["functions"]);
    listed.check(0, &[]);
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>()[..3],
        ["NAME", "STATE", "VERSION"]
    );
    assert_eq!(
        lines[1].split_whitespace().collect::<Vec<_>>()[..5],
        ["hello", "serving", "1", "spark", "single"]
    );
    let one = service.ask(&dir, &["functions", "hello"]);
    assert!(one.stdout.contains("SERVING"), "{}", one.stdout);
    let json = service.ask(&dir, &["functions", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("the output is JSON");
    assert_eq!(json["functions"][0]["name"], "hello");
    service
        .ask(&dir, &["functions", "nobody"])
        .check(1, &["no function `nobody`"]);
    service
        .ask(&dir, &["functions", "../escape"])
        .check(1, &["not a valid function name"]);

    let logs = service.ask(&dir, &["logs", "hello"]);
    logs.check(0, &[]);
    assert!(
        logs.stdout
            .lines()
            .any(|line| line.contains(" hello v1 ") && line.ends_with("output: served")),
        "{}",
        logs.stdout
    );
    service
        .ask(&dir, &["logs", "nobody"])
        .check(1, &["no function `nobody`"]);
}

#[test]
fn a_log_can_be_followed_until_the_service_ends() {
    let dir = WorkDir::new();
    let mut service = Service::start(&dir, &[]);
    assert_eq!(
        service
            .deploy("hello", &spark("hello", 0))
            .expect("the service is running")
            .0,
        201
    );
    let mut command = dir.command(&[
        "logs",
        "-f",
        "hello",
        "--deploy",
        &service.deploy.to_string(),
    ]);
    let mut following = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command was built with this test");
    let mut lines = BufReader::new(following.stdout.take().expect("the stream is piped")).lines();
    for _ in 0..2 {
        service.ask(&dir, &["invoke", "hello"]).check(0, &[]);
        let line = lines
            .next()
            .expect("the log continues")
            .expect("the output is text");
        assert!(line.ends_with("output: served"), "{line}");
    }
    rustix::process::kill_process(pid(&service.child), rustix::process::Signal::TERM)
        .expect("the service is running");
    assert!(lines.next().is_none());
    assert_eq!(
        following.wait().expect("the child was started").code(),
        Some(0)
    );
    assert_eq!(
        service.child.wait().expect("the child was started").code(),
        Some(0)
    );
}

fn pid(child: &Child) -> rustix::process::Pid {
    rustix::process::Pid::from_child(child)
}

#[test]
fn a_missing_service_is_reported() {
    let dir = WorkDir::new();
    // A port that was bound and then released is free.
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let free = free.expect("there is a free port").to_string();
    for command in [
        &["functions", "--deploy", &free][..],
        &["logs", "f", "--deploy", &free],
        &["invoke", "f", "--invoke", &free],
    ] {
        dir.run(command)
            .check(2, &["no service at", "lunatic serve --deploy"]);
    }
    let mut command = dir.command(&["functions"]);
    command.env("LUNATIC_DEPLOY", "somewhere");
    Ended::from(
        command
            .output()
            .expect("the command was built with this test"),
    )
    .check(1, &["LUNATIC_DEPLOY", "somewhere"]);
}

#[test]
fn t150_the_token_can_come_from_a_file_or_a_variable() {
    let dir = WorkDir::new();
    dir.write("tokens", format!("{TOKEN}\n"));
    let service = Service::start(&dir, &["--token-file", "tokens"]);
    service
        .ask(&dir, &["functions"])
        .check(1, &["token is needed", "--token-file"]);
    service
        .ask(&dir, &["functions", "--token-file", "tokens"])
        .check(0, &[]);
    let mut command = dir.command(&["functions", "--deploy", &service.deploy.to_string()]);
    command.env("LUNATIC_TOKEN", TOKEN);
    Ended::from(
        command
            .output()
            .expect("the command was built with this test"),
    )
    .check(0, &[]);
    dir.run(&["serve", "--deploy", "0.0.0.0:0"])
        .check(126, &["needs a token"]);
    dir.write("short", "secret");
    dir.run(&["serve", "--deploy", "--token-file", "short"])
        .check(126, &["at least 16"]);
}

#[test]
fn t159_after_a_kill_either_the_old_or_the_new_version_serves() {
    let dir = WorkDir::new();
    // The functions are so large that the kill can happen at different points in a deploy.
    let versions: Vec<_> = (0..4)
        .map(|number| spark(&format!("version {number}"), 200_000))
        .collect();
    let mut known = None;
    for round in 0..12 {
        let service = Service::start(&dir, &[]);
        let mut next = 0;
        if let Some(deployed) = known {
            let served = service.ask(&dir, &["invoke", "f"]);
            served.check(0, &[]);
            let served = served
                .stdout
                .trim_start_matches("version ")
                .parse()
                .expect("a complete version answers");
            // A deploy that was confirmed must have taken effect. One that was not confirmed may
            // have taken effect.
            assert!(
                [deployed, (deployed + 1) % 4].contains(&served),
                "version {served} is serving although version {deployed} was deployed"
            );
            known = Some(served);
            next = (served + 1) % 4;
        }
        std::thread::scope(|scope| {
            let (sender, deployed) = std::sync::mpsc::channel();
            let (service, versions) = (&service, &versions);
            // This thread keeps deploying until it gets no response.
            scope.spawn(move || {
                while let Some((status, answer)) = service.deploy("f", &versions[next]) {
                    assert_eq!(status, 201, "{answer}");
                    sender
                        .send(next)
                        .expect("the receiver exists until this thread ends");
                    next = (next + 1) % 4;
                }
            });
            known = Some(deployed.recv().expect("the first deploy succeeds"));
            // The kill happens at some point during the next two deploys.
            for _ in 0..round * 100_000 {
                std::hint::spin_loop();
            }
            rustix::process::kill_process(pid(&service.child), rustix::process::Signal::KILL)
                .expect("the service is running");
            known = deployed.iter().last().or(known);
        });
    }
}

#[test]
fn t160_the_old_version_keeps_serving_when_the_disk_is_full() {
    let dir = WorkDir::new();
    // A limit of 64 blocks of 512 bytes per file simulates a full disk. The signal raised at this
    // limit is ignored.
    let mut command = Command::new("sh");
    let lunatic = dir.command(&[]);
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 64; exec \"$0\" serve --deploy 127.0.0.1:0 --invoke 127.0.0.1:0",
    ]);
    command
        .arg(lunatic.get_program())
        .current_dir(dir.path())
        .stdin(Stdio::null());
    command.env("LUNATIC_CACHE", dir.path().join("cache"));
    let service = Service::run(command);
    assert_eq!(
        service
            .deploy("f", &spark("old", 0))
            .expect("the service is running")
            .0,
        201
    );
    let (status, answer) = service
        .deploy("f", &spark("new", 100_000))
        .expect("the service is running");
    assert_eq!(status, 507, "{answer}");
    assert!(answer.contains("the storage is full"), "{answer}");
    let left = std::fs::read_dir(dir.path().join("module-store/unfinished"))
        .expect("the directory exists")
        .count();
    assert_eq!(left, 0, "the files of the failed deploy must be removed");
    assert_eq!(service.ask(&dir, &["invoke", "f"]).stdout, "old");
    drop(service);
    let service = Service::start(&dir, &[]);
    assert_eq!(service.ask(&dir, &["invoke", "f"]).stdout, "old");
    assert_eq!(
        service
            .deploy("f", &spark("new", 100_000))
            .expect("the service is running")
            .0,
        201
    );
    assert_eq!(service.ask(&dir, &["invoke", "f"]).stdout, "new");
}
