//! Tests the TCP gateway, over real sockets.

use lunatic_serve::{
    Code, Function, Functions, Gateway, HttpGateway, Name, Protocol, Route, Server, Settings,
    StartError, Target, TcpGateway, TlsFiles,
};
use lunatic_vm::{Host, Vm};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A timeout longer than any test should ever need to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns a spark that has a buffer and the functions for its comm, and runs `body`.
fn spark(body: &str) -> String {
    format!(
        r#"(module
            (import "lunatic::spark" "read" (func $read_from (param i64 i32 i32) (result i64)))
            (import "lunatic::spark" "write" (func $write_to (param i64 i32 i32) (result i64)))
            (import "lunatic::spark" "finish" (func $finish (param i64)))
            (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (data (i32.const 65536) "hello")
            (func $read (result i32) (i32.wrap_i64 (call $read_from (i64.const 0) (i32.const 1024) (i32.const 60000))))
            (func $write (param $length i32)
                (drop (call $write_to (i64.const 0) (i32.const 1024) (local.get $length))))
            (func (export "_start") (local $count i32) {body}))"#
    )
}

/// The body of a spark that echoes everything it reads.
const ECHO: &str = "(loop $again
    (local.set $count (call $read))
    (if (i32.gt_s (local.get $count) (i32.const 0)) (then (call $write (local.get $count)) (br $again))))";

const SPIN: &str = "(loop $again (br $again))";

/// A function behind a gateway.
struct House {
    functions: Functions,
    server: Server,
}

fn name() -> Name {
    Name::new("served").expect("the name is valid")
}

fn functions(text: &str, settings: Settings) -> Functions {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    let vm = Vm::builder()
        .host(host)
        .build()
        .expect("the VM can be built");
    let functions = Functions::new(&vm);
    put(&functions, 1, text, settings);
    functions
}

fn put(functions: &Functions, number: u64, text: &str, settings: Settings) {
    let code = Code::new(functions.vm(), "served", text.as_bytes())
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let hash = blake3::hash(text.as_bytes());
    functions
        .put(&name(), number, hash, code, settings)
        .expect("the settings can be granted");
}

fn gateway() -> TcpGateway {
    TcpGateway {
        function: name(),
        connections: 100,
        idle: PATIENCE,
        life: None,
    }
}

fn start(functions: Functions, protocol: Protocol) -> Result<House, StartError> {
    let address = "127.0.0.1:0".parse().expect("the address is valid");
    let gateway = Gateway {
        name: "test".into(),
        address,
        protocol,
    };
    let server = Server::builder(&functions).gateway(gateway).start()?;
    Ok(House { functions, server })
}

fn house(body: &str, gateway: TcpGateway) -> House {
    start(
        functions(&spark(body), Settings::default()),
        Protocol::Tcp(gateway),
    )
    .expect("the server starts")
}

impl House {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.listening()[0].address)
            .expect("the server is listening");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("the timeout is not zero");
        stream
    }

    fn function(&self) -> Arc<Function> {
        self.functions
            .get("served")
            .expect("the function was added")
    }

    /// Waits until all processes of the function have ended.
    fn wait_for_the_end(&self) {
        wait_until("the processes have ended", || {
            self.function()
                .version()
                .environment()
                .processes()
                .is_empty()
        });
    }

    /// Waits until a line in the function's log contains the text.
    fn wait_for_line(&self, text: &str) {
        wait_until(text, || {
            self.function()
                .log()
                .lines()
                .iter()
                .any(|line| line.text.contains(text))
        });
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} until {what}");
        std::thread::yield_now();
    }
}

fn send(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the server is reading");
}

#[track_caller]
fn expect(mut stream: &TcpStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    stream.read_exact(&mut found).expect("the server answers");
    assert_eq!(
        String::from_utf8_lossy(&found),
        String::from_utf8_lossy(bytes)
    );
}

/// Reads until the connection ends, possibly with a reset.
fn rest(mut stream: &TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut rest = Vec::new();
    let error = stream
        .read_to_end(&mut rest)
        .err()
        .map(|error| error.kind());
    (rest, error)
}

/// Resets a connection, so that the other side immediately notices that the client has
/// disconnected.
fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket
        .set_linger(Some(Duration::ZERO))
        .expect("the socket is open");
}

#[test]
fn t113_each_direction_is_closed_separately() {
    let house = house(ECHO, gateway());
    let client = house.connect();
    send(&client, b"one");
    expect(&client, b"one");
    send(&client, b"two");
    client
        .shutdown(Shutdown::Write)
        .expect("the socket is connected");
    assert_eq!(rest(&client), (b"two".to_vec(), None));
    house.wait_for_the_end();
}

#[test]
fn t113_a_function_that_has_closed_its_direction_can_still_read() {
    // The function prints what it reads next, because that is the only way left to report it.
    let body = r#"
        (i32.store (i32.const 1024) (i32.const 0x216968))
        (call $write (i32.const 3))
        (call $finish (i64.const 0))
        (local.set $count (call $read))
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (local.get $count))
        (drop (call $print (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"#;
    let house = house(body, gateway());
    let client = house.connect();
    assert_eq!(rest(&client), (b"hi!".to_vec(), None));
    send(&client, b"still here\n");
    house.wait_for_line("still here");
    house.wait_for_the_end();
}

#[test]
fn t112_a_client_that_does_not_read_is_disconnected_after_the_idle_time() {
    let idle = Duration::from_millis(200);
    let house = house(
        "(loop $again (call $write (i32.const 60000)) (br $again))",
        TcpGateway { idle, ..gateway() },
    );
    let client = house.connect();
    house.wait_for_line("no data was sent or received on the connection for 200ms");
    house.wait_for_the_end();
    // The bytes that fit in the system's buffers arrive. They are followed by a reset, not a proper
    // end.
    assert_eq!(rest(&client).1, Some(ErrorKind::ConnectionReset));
}

#[test]
fn t113_the_process_of_a_client_that_has_disconnected_is_killed() {
    for body in [SPIN, "(drop (call $read)) (loop $again (br $again))"] {
        let house = house(body, gateway());
        let clients: Vec<TcpStream> = (0..20).map(|_| house.connect()).collect();
        clients.iter().for_each(|client| send(client, b"bytes"));
        let environment = house.function().version().environment().clone();
        wait_until("all clients are served", || {
            environment.processes().len() == 20
        });
        clients.into_iter().for_each(reset);
        house.wait_for_the_end();
    }
}

#[test]
fn t135_a_connection_whose_process_traps_is_reset_and_the_next_connection_is_served() {
    let body = format!(
        "(local.set $count (call $read))
         (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 33)) (then unreachable))
         (call $write (local.get $count)) {ECHO}"
    );
    let house = house(&body, gateway());
    let client = house.connect();
    send(&client, b"!");
    assert_eq!(
        rest(&client),
        (Vec::new(), Some(ErrorKind::ConnectionReset))
    );
    house.wait_for_line("unreachable");
    let lines = house.function().log().lines();
    let line = lines
        .iter()
        .find(|line| line.text.contains("unreachable"))
        .expect("the log contains the trap");
    assert!(
        line.process.is_some() && line.request.is_some() && line.version == 1,
        "{line:?}"
    );
    let client = house.connect();
    send(&client, b"well");
    client
        .shutdown(Shutdown::Write)
        .expect("the socket is connected");
    assert_eq!(rest(&client), (b"well".to_vec(), None));
}

#[test]
fn a_connection_is_closed_when_it_exceeds_its_lifetime() {
    let life = Some(Duration::from_millis(100));
    let house = house(SPIN, TcpGateway { life, ..gateway() });
    let client = house.connect();
    assert_eq!(
        rest(&client),
        (Vec::new(), Some(ErrorKind::ConnectionReset))
    );
    house.wait_for_line("the connection was open for 100ms, which is the maximum");
    house.wait_for_the_end();
}

#[test]
fn t114_closed_connections_leave_nothing_behind() {
    let house = house(
        ECHO,
        TcpGateway {
            connections: 1,
            ..gateway()
        },
    );
    let files = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let first = house.connect();
    send(&first, b"first");
    expect(&first, b"first");
    // Only one connection fits.
    assert_eq!(rest(&house.connect()).0, b"");
    drop(first);
    let before = files();
    for _ in 0..200 {
        // There is room again once the previous connection's process has ended. That connection's
        // client may notice the end of the connection a little earlier.
        wait_until("a connection is served", || {
            let client = house.connect();
            let is_served =
                (&client).write_all(b"echo").is_ok() && client.shutdown(Shutdown::Write).is_ok();
            is_served && rest(&client).0 == b"echo"
        });
    }
    house.wait_for_the_end();
    wait_until("the sockets are closed", || files() <= before + 20);
}

#[test]
fn t142_a_server_that_stops_lets_connections_finish_and_cuts_off_the_others() {
    let house = house(ECHO, gateway());
    let client = house.connect();
    send(&client, b"one");
    expect(&client, b"one");
    let House { functions, server } = house;
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop(PATIENCE));
        send(&client, b"two");
        client
            .shutdown(Shutdown::Write)
            .expect("the socket is connected");
        assert_eq!(rest(&client), (b"two".to_vec(), None));
        assert!(
            stopping
                .join()
                .expect("the thread that stops the server does not panic"),
            "no connection had to be cut off"
        );
    });
    let house = start(functions, Protocol::Tcp(gateway())).expect("the server starts");
    let client = house.connect();
    send(&client, b"one");
    expect(&client, b"one");
    assert!(
        !house.server.stop(Duration::ZERO),
        "the connection had to be cut off"
    );
    assert_eq!(rest(&client).0, b"");
    house.wait_for_the_end();
}

/// A program with a `Mailbox<TcpStream>`. One process serves all connections, and sends each client
/// the number of its connection.
fn program(first: u8) -> String {
    format!(
        r#"(module
            (import "lunatic::message" "receive" (func $receive (param i32 i32 i64) (result i32)))
            (import "lunatic::message" "read_data" (func $read_data (param i32 i32) (result i32)))
            (import "lunatic::message" "take_tcp_stream" (func $take (param i64) (result i64)))
            (import "lunatic::networking" "tcp_read" (func $read (param i64 i32 i32 i32) (result i32)))
            (import "lunatic::networking" "tcp_write_vectored" (func $write (param i64 i32 i32 i32) (result i32)))
            (import "lunatic::networking" "drop_tcp_stream" (func $drop (param i64)))
            (memory (export "memory") 1)
            (func (export "_start") (local $stream i64) (local $number i32)
                (local.set $number (i32.const {first}))
                (loop $next
                    (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
                    ;; The stream is identified by the number 0, in eight bytes.
                    (i64.store (i32.const 64) (i64.const -1))
                    (if (i32.ne (call $read_data (i32.const 64) (i32.const 8)) (i32.const 8)) (then unreachable))
                    (local.set $stream (call $take (i64.load (i32.const 64))))
                    (if (call $read (local.get $stream) (i32.const 1024) (i32.const 100) (i32.const 80)) (then unreachable))
                    (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 33)) (then unreachable))
                    (i32.store8 (i32.const 128) (local.get $number))
                    (i32.store (i32.const 0) (i32.const 128))
                    (i32.store (i32.const 4) (i32.const 1))
                    (drop (call $write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 88)))
                    (call $drop (local.get $stream))
                    (local.set $number (i32.add (local.get $number) (i32.const 1)))
                    (br $next))))"#
    )
}

fn granted() -> Settings {
    let namespaces = ["lunatic::message::", "lunatic::networking::"]
        .map(String::from)
        .to_vec();
    Settings {
        namespaces,
        ..Settings::default()
    }
}

fn ask(house: &House, bytes: &[u8]) -> Vec<u8> {
    let client = house.connect();
    send(&client, bytes);
    rest(&client).0
}

#[test]
fn one_process_of_a_program_gets_all_connections() {
    let house = start(
        functions(&program(b'a'), granted()),
        Protocol::Tcp(gateway()),
    )
    .expect("the server starts");
    assert_eq!(
        house.function().version().environment().processes().len(),
        1,
        "the program starts together with the gateway"
    );
    for answer in [b"a", b"b", b"c"] {
        assert_eq!(ask(&house, b"?"), answer);
    }
    // The program traps, and its connections are closed. The next connection gets a new process.
    assert_eq!(ask(&house, b"!"), b"");
    wait_until("the program has restarted", || ask(&house, b"?") == b"a");
    house.wait_for_line("unreachable");
}

#[test]
fn t157_a_new_version_of_a_program_gets_the_new_connections_and_the_old_version_finishes() {
    let house = start(
        functions(&program(b'a'), granted()),
        Protocol::Tcp(gateway()),
    )
    .expect("the server starts");
    let client = house.connect();
    let before = house.function().version().environment().clone();
    wait_until("the program has the connection", || {
        before.used(lunatic_vm::Limit::Sockets) == 1
    });
    put(&house.functions, 2, &program(b'A'), granted());
    assert_eq!(ask(&house, b"?"), b"A");
    send(&client, b"?");
    assert_eq!(rest(&client), (b"a".to_vec(), None));
    wait_until("the old version has ended", || {
        before.processes().is_empty()
    });
}

#[test]
fn a_program_behind_an_http_gateway_handles_http_itself() {
    let route = Route {
        path: "/".into(),
        target: Target::Function(name()),
    };
    let http = HttpGateway {
        routes: vec![route],
        tls: None,
        limits: Default::default(),
    };
    let house = start(
        functions(&program(b'h'), granted()),
        Protocol::Http(http.clone()),
    )
    .expect("the server starts");
    assert_eq!(ask(&house, b"GET / HTTP/1.1\r\n\r\n"), b"h");
    assert!(house.server.stop(PATIENCE));
    let files = TlsFiles {
        certificates: "certificate.pem".into(),
        key: "key.pem".into(),
    };
    let secure = HttpGateway {
        tls: Some(files),
        ..http
    };
    let Err(error) = start(house.functions, Protocol::Http(secure)) else {
        panic!("TLS must be refused")
    };
    assert!(error.to_string().contains("remove `tls`"), "{error}");
}

#[test]
fn the_log_reports_a_program_without_the_right_to_use_connections() {
    let house = start(
        functions(&program(b'a'), Settings::default()),
        Protocol::Tcp(gateway()),
    )
    .expect("the server starts");
    let namespaces = vec!["lunatic::message::".to_string()];
    put(
        &house.functions,
        2,
        &program(b'a'),
        Settings {
            namespaces,
            ..Settings::default()
        },
    );
    let client = house.connect();
    assert_eq!(rest(&client).0, b"");
    house.wait_for_line(
        "add the namespaces `lunatic::message::` and `lunatic::networking::tcp_` to its settings",
    );
}

#[test]
fn t142_a_connection_that_a_program_keeps_open_is_cut_off() {
    let house = start(
        functions(&program(b'a'), granted()),
        Protocol::Tcp(gateway()),
    )
    .expect("the server starts");
    let client = house.connect();
    let environment = house.function().version().environment().clone();
    wait_until("the program has the connection", || {
        environment.used(lunatic_vm::Limit::Sockets) == 1
    });
    assert!(
        !house.server.stop(Duration::ZERO),
        "the connection had to be cut off"
    );
    assert_eq!(rest(&client).0, b"");
}
