//! Tests what the programs in `examples/` print.

use crate::cargo::example;
use crate::lunatic::{Ended, WorkDir};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Arc;

/// Runs an example with arguments and checks its standard output. Standard error is not checked
/// because guests that fail on purpose write to it.
#[track_caller]
fn check(name: &str, arguments: &[&str], printed: &str) {
    let ended = run(name, arguments);
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, printed, "{ended:#?}");
}

fn run(name: &str, arguments: &[&str]) -> Ended {
    let program = example(name);
    let program = program.to_str().expect("the repository has a UTF-8 path");
    WorkDir::new().run(&[&[program], arguments].concat())
}

#[test]
fn hello() {
    check("hello", &[], "Hi! I'm a process.\n");
}

#[test]
fn environments() {
    let ended = run("environments", &[]);
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    // Each of the three failures is also reported once. The first report has the frames that reveal
    // the closure's name, which is not the name of a function that it calls.
    let reports = ended.stderr.lines();
    let names: Vec<&str> = reports
        .filter(|line| line.starts_with("error: process <"))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    let [printing, hoarding, spinning] = names[..] else {
        panic!("{ended:#?}")
    };
    let is_closure = printing.contains("environments::main") || printing.starts_with("a closure");
    assert!(is_closure, "{printing}: {ended:#?}");
    assert_eq!(
        [hoarding, spinning],
        ["a spawned function"; 2],
        "{ended:#?}"
    );
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let [prints, hoards, spins] = lines[..] else {
        panic!("{ended:#?}")
    };
    assert!(
        prints.starts_with("the child that prints trapped: "),
        "{prints}"
    );
    assert!(
        prints.contains("does not grant `wasi_snapshot_preview1::fd_write`"),
        "{prints}"
    );
    // How far the process exceeds the limit depends on the compiler.
    let wanted = "the child that hoards reached a limit: the memory of a process is limited to 1200000 bytes, ";
    assert!(hoards.starts_with(wanted), "{hoards}");
    assert_eq!(
        spins,
        "the child that spins reached a limit: the compute of a process is limited to 1 unit"
    );
}

#[test]
fn ping_pong() {
    check("ping_pong", &[], "1000 rounds, 2000 hits\n");
}

#[test]
fn request_reply() {
    let printed = "\
apples: Some(3)
pears: None
meaning: no reply arrived in time
apples: Some(3)
crash: the other process exited with status 3
apples: the other process does not exist
";
    check("request_reply", &[], printed);
}

#[test]
fn ring() {
    check("ring", &[], "1000 processes, 10 rounds, 10000 hops\n");
    check("ring", &["1", "2"], "1 processes, 2 rounds, 2 hops\n");
    let refused = run("ring", &["none"]);
    refused.check(
        134,
        &["the arguments must be numbers of at least 1", "trapped"],
    );
}

#[test]
fn links() {
    let printed = "\
monitored: ended normally
monitored: exited with status 3
monitored: was killed
monitored: does not exist
linked to a process that was killed: died with a process that it was linked to
linked, with the tag: was killed
linked and monitored: ProcessDied ended normally
";
    check("links", &[], printed);
}

#[test]
fn server() {
    let printed = "\
no store: a name is empty
apples were Some(\"\")
pears are green
milk is forgotten
the store ends with [\"apples\", \"pears\"]
the store ended normally
apples: the other process does not exist
";
    check("server", &[], printed);
}

#[test]
fn supervisor() {
    let printed = "\
50 clients got 500 quotients right
1 of 1 servers is running
the server has forgotten what it did before it failed: true
the supervisor exited with status 1
a server is still registered: false
";
    let ended = run("supervisor", &[]);
    assert_eq!(
        (ended.status, &*ended.stdout),
        (Some(0), printed),
        "{ended:#?}"
    );
    // T057: a hundred of a thousand restarts are reported.
    let lines = ended.stderr.lines();
    let lines: Vec<&str> = lines
        .filter(|line| line.starts_with("supervisor <"))
        .collect();
    let [restarts @ .., silence, end] = &lines[..] else {
        panic!("{ended:#?}")
    };
    assert_eq!(restarts.len(), 100, "{ended:#?}");
    let is_restart = |line: &&str| {
        line.contains("restarts child `divider`, process <") && line.ends_with("which trapped")
    };
    assert!(restarts.iter().all(is_restart), "{ended:#?}");
    assert!(
        silence.ends_with("does not report further restarts"),
        "{silence}"
    );
    assert!(
        end.contains(
            "gives up: child `divider` trapped, and all 1000 restarts in 3600s are used up"
        ),
        "{end}"
    );
}

#[test]
fn tasks() {
    let printed = "\
9592 primes below 100000
100 / 4 = 25
100 / 0: the task has no result: its process trapped
the task took too long
awaited together: the task has no result: its process exited with status 3
";
    check("tasks", &[], printed);
}

#[test]
fn sqlite() {
    let printed = "\
80 transfers
the last process exited with status 3
Ada: 960
Grace: 1040
5000 more: CHECK constraint failed: balance >= 0
";
    check("sqlite", &[], printed);
}

#[test]
fn selective_receive() {
    let printed = "\
first: order 1
first: order 2
nothing with the other tag
then: letter 1
then: letter 2
then: letter 3
";
    check("selective_receive", &[], printed);
}

#[test]
fn module_loading() {
    let printed = "\
add(40, 2): exited with status 42
spin(): reached a limit: the compute of a process, in units
add: BadParameters
divide: NoFunction
half of the module: BadModule
";
    check("module_loading", &[], printed);
}

#[test]
fn module_loading_from_a_file() {
    let dir = WorkDir::new();
    let plugin = r#"(module (func (export "divide") (param i32 i32)
        (drop (i32.div_s (local.get 0) (local.get 1)))))"#;
    dir.write(
        "plugin.wasm",
        wat::parse_str(plugin).expect("the module is valid"),
    );
    let program = example("module_loading");
    let program = program.to_str().expect("the repository has a UTF-8 path");
    let divide =
        |numbers: [&str; 2]| dir.run(&[&[program, "plugin.wasm", "divide"], &numbers[..]].concat());
    let ended = divide(["6", "3"]);
    ended.check(0, &[]);
    assert_eq!(ended.stdout, "divide: ended normally\n");
    let ended = divide(["6", "0"]);
    assert_eq!(ended.status, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, "divide: trapped\n");
    let report = ended.stderr.lines().next().unwrap_or_default();
    assert!(
        report.starts_with("error: process <") && report.contains("`divide`"),
        "{ended:#?}"
    );
}

#[test]
fn hundred_thousand() {
    let printed = "100000 processes, 5000 alive at once, each with 1000 numbers on its heap\n";
    check("hundred_thousand", &[], printed);
}

#[test]
fn hundred_thousand_with_a_low_limit_on_processes() {
    // The program wants more processes at a time than are allowed. Some have to wait, but
    // eventually all of them run.
    let program = example("hundred_thousand");
    let program = program.to_str().expect("the repository has a UTF-8 path");
    let ended = WorkDir::new().run(&["run", "--max-processes", "101", program, "1000", "500"]);
    ended.check(0, &[]);
    assert_eq!(
        ended.stdout,
        "1000 processes, 100 alive at once, each with 1000 numbers on its heap\n"
    );
}

/// A program that runs until the test ends it.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts an example that prints the address it is listening on.
    fn start(dir: &WorkDir, name: &str, arguments: &[&str]) -> Server {
        let program = example(name);
        let program = program.to_str().expect("the repository has a UTF-8 path");
        let mut command = dir.command(&[&[program], arguments].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command was built with this test");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("the stream is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("the output is text");
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok());
        Server {
            child,
            address: address.unwrap_or_else(|| panic!("the first line is `{line}`")),
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("the server is listening")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The program may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tcp_echo() {
    let dir = WorkDir::new();
    let server = Server::start(&dir, "tcp_echo", &["127.0.0.1:0"]);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    // All clients are served at the same time, in any order.
    for (number, client) in clients.iter_mut().enumerate().rev() {
        let line = format!("line {number}\n");
        client
            .write_all(line.as_bytes())
            .expect("the connection is open");
        let mut answer = String::new();
        BufReader::new(&*client)
            .read_line(&mut answer)
            .expect("the server answers");
        assert_eq!(answer, line);
    }
    let mut rest = String::new();
    clients[0]
        .write_all(b"exit\n")
        .expect("the connection is open");
    clients[0]
        .read_to_string(&mut rest)
        .expect("the server closes the connection");
    assert_eq!(rest, "");

    // A client that has closed its sending direction still gets an answer.
    clients[1]
        .write_all(b"last\n")
        .expect("the connection is open");
    clients[1]
        .shutdown(Shutdown::Write)
        .expect("the connection is open");
    clients[1]
        .read_to_string(&mut rest)
        .expect("the server closes the connection");
    assert_eq!(rest, "last\n");

    // Invalid UTF-8 ends only that connection's process.
    clients[2]
        .write_all(b"\xff\n")
        .expect("the connection is open");
    assert_eq!(
        clients[2]
            .read(&mut [0])
            .expect("the server closes the connection"),
        0
    );
    clients[3]
        .write_all(b"still here\n")
        .expect("the connection is open");
    let mut answer = String::new();
    BufReader::new(&clients[3])
        .read_line(&mut answer)
        .expect("the server answers");
    assert_eq!(answer, "still here\n");

    // The address stays in use while the server is alive.
    let address = server.address.to_string();
    let refused = run("tcp_echo", &[&address]);
    refused.check(1, &["cannot listen on", &address]);
}

#[test]
fn udp_echo() {
    let dir = WorkDir::new();
    let mut server = Server::start(&dir, "udp_echo", &["127.0.0.1:0"]);
    let client = UdpSocket::bind("127.0.0.1:0").expect("there is a free port");
    client
        .connect(server.address)
        .expect("the address is local");
    let mut buffer = [0; 64];
    for number in 0..20 {
        let datagram = format!("datagram {number}");
        client
            .send(datagram.as_bytes())
            .expect("the server is alive");
        let length = client.recv(&mut buffer).expect("the server answers");
        assert_eq!(&buffer[..length], datagram.as_bytes());
    }
    for _ in 0..4 {
        client.send(b"exit").expect("a worker is alive");
    }
    assert!(
        server
            .child
            .wait()
            .expect("the child was started")
            .success()
    );
}

#[test]
fn tls_echo() {
    let dir = WorkDir::new();
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is valid");
    dir.write("server.pem", made.cert.pem());
    dir.write("server.key", made.signing_key.serialize_pem());
    let server = Server::start(
        &dir,
        "tls_echo",
        &["server.pem", "server.key", "127.0.0.1:0"],
    );

    // These connections do not delay other clients.
    let silent = server.connect();
    let mut rude = server.connect();
    rude.write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("the connection is open");

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(made.cert.der().clone())
        .expect("the certificate can be a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = Arc::new(
        config
            .expect("the provider supports these TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth(),
    );
    for number in 0..5 {
        let name = "localhost".try_into().expect("the name is valid");
        let connection = rustls::ClientConnection::new(config.clone(), name)
            .expect("the configuration is complete");
        let mut client = rustls::StreamOwned::new(connection, server.connect());
        let line = format!("line {number}\n");
        client
            .write_all(line.as_bytes())
            .expect("the connection is open");
        let mut answer = String::new();
        BufReader::new(&mut client)
            .read_line(&mut answer)
            .expect("the server answers");
        assert_eq!(answer, line);
        client.conn.send_close_notify();
        client.flush().expect("the connection is open");
        assert_eq!(
            client.read(&mut [0]).expect("the server announces the end"),
            0
        );
    }
    drop(silent);

    let refused = run("tls_echo", &[]);
    refused.check(1, &["a certificate file"]);
}
