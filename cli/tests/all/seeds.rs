//! Tests the three programs that originally specified the VM, verbatim. Each is put into a project
//! created by `lunatic new` and run with `cargo run`.

use crate::cargo::Project;
use crate::lunatic::Ended;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A timeout that expires only if a test hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn spawning_a_process() {
    let ended = Project::new("seed_hello", include_str!("../seeds/hello.rs")).run(&[]);
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, "Hi! I'm a process.\n", "{ended:#?}");
}

/// Checks the second program's log with `RUST_LOG=lunatic=debug`. The children must end in order,
/// each for the reason given in its comment.
#[track_caller]
pub(crate) fn check_ends(ended: &Ended) {
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert_eq!(
        ended.stdout, "",
        "the program must not print anything: {ended:#?}"
    );
    let ends: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("debug: process "))
        .collect();
    let reasons = [
        "trapped: the environment does not grant `wasi_snapshot_preview1::fd_write`",
        "reached a limit: the memory of a process is limited to 1200000 bytes",
        "reached a limit: the compute of a process is limited to 1 unit",
        "`_start` ended normally",
    ];
    assert_eq!(ends.len(), reasons.len(), "{ended:#?}");
    for (end, reason) in ends.iter().zip(reasons) {
        assert!(end.contains(reason), "the reason is not `{reason}`: {end}");
    }
}

#[test]
fn limiting_processes() {
    check_ends(
        &Project::new(
            "seed_environments",
            include_str!("../seeds/environments.rs"),
        )
        .run(&[]),
    );
}

#[test]
fn limiting_processes_in_a_release_build() {
    // A release build would optimize away the unused vector, so the memory would not be used.
    let vector = "vec![0; 150_000]";
    let program = include_str!("../seeds/environments.rs");
    assert_eq!(program.matches(vector).count(), 1);
    let program = program.replace(vector, &format!("std::hint::black_box({vector})"));
    check_ends(&Project::new("seed_environments", &program).run(&["--release"]));
}

/// Ends the program when the test is done.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The program may already have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Retries until an attempt succeeds.
#[track_caller]
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> std::io::Result<T>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if start.elapsed() > TIMEOUT => panic!("{what}: {error}, for {TIMEOUT:?}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}

#[test]
fn a_tcp_echo_server() {
    let project = Project::new("seed_tcp_echo", include_str!("../seeds/tcp_echo.rs"));
    let built = project
        .cargo(&["build", "--quiet"])
        .output()
        .expect("cargo can be run");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    // On Unix, cargo replaces itself with the program, so killing the cargo process kills the
    // program.
    check_echo(project.cargo(&["run", "--quiet"]));
}

/// Runs the third program and checks that it serves several clients at the same time.
pub(crate) fn check_echo(mut program: Command) {
    // The program has a fixed address and does not print anything when it starts listening.
    const ADDRESS: &str = "127.0.0.1:1337";
    static ADDRESS_IN_USE: Mutex<()> = Mutex::new(());
    let _in_use = ADDRESS_IN_USE
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    drop(eventually(
        "another program is already listening on this program's port",
        || TcpListener::bind(ADDRESS),
    ));
    let mut running = Running(program.spawn().expect("the program was built"));
    let connect = || TcpStream::connect(ADDRESS);
    let clients: [TcpStream; 3] = std::array::from_fn(|_| {
        let client = eventually("the server does not listen", || {
            if let Some(status) = running.0.try_wait()? {
                panic!("the server ended: {status}");
            }
            connect()
        });
        client
            .set_read_timeout(Some(TIMEOUT))
            .expect("the timeout is not zero");
        client
    });
    for (number, mut client) in clients.iter().enumerate().rev() {
        let line = format!("hello {number}\n");
        client
            .write_all(line.as_bytes())
            .expect("the connection is open");
        let mut answer = String::new();
        BufReader::new(client)
            .read_line(&mut answer)
            .expect("the server answers");
        assert_eq!(answer, line);
    }
    for mut client in &clients {
        client.write_all(b"exit\n").expect("the connection is open");
        match client.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the connection is not closed: {other:?}"),
        }
    }
}
