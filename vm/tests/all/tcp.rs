//! Tests for processes' TCP sockets, on the loopback interface.

use crate::support::{Lab, guest, is_alone, resident};
use lunatic_abi::{Errno, FOREVER, TIMED_OUT};
use lunatic_vm::{Environment, Exit, Limit, Process, SendError, Shortage, Val, Vm};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// How long a test waits for a guest's bytes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the source of a guest that has the functions in [`SOCKETS`].
fn program(fields: &str) -> String {
    const IMPORTS: &[&str] = &[
        "lunatic::error::kind",
        "lunatic::message::receive",
        "lunatic::message::send_bytes",
        "lunatic::message::take_tcp_stream",
        "lunatic::networking::clone_tcp_stream",
        "lunatic::networking::drop_dns_iterator",
        "lunatic::networking::drop_tcp_listener",
        "lunatic::networking::drop_tcp_stream",
        "lunatic::networking::resolve_next",
        "lunatic::networking::set_peek_timeout",
        "lunatic::networking::set_read_timeout",
        "lunatic::networking::set_write_timeout",
        "lunatic::networking::tcp_accept",
        "lunatic::networking::tcp_bind",
        "lunatic::networking::tcp_connect",
        "lunatic::networking::tcp_local_addr",
        "lunatic::networking::tcp_peek",
        "lunatic::networking::tcp_read",
        "lunatic::networking::tcp_shutdown",
        "lunatic::networking::tcp_write_vectored",
        "lunatic::process::kill",
        "lunatic::process::monitor",
        "lunatic::process::process_id",
        "lunatic::process::spawn",
    ];
    guest(IMPORTS, &format!("{SOCKETS}{fields}"))
}

/// Functions for guests. Results that the VM writes are stored in the first kilobyte of the memory,
/// and bytes in transit in the second to fifth kilobytes.
const SOCKETS: &str = r#"
    (data (i32.const 0) "\7f\00\00\01")
    ;; Listens, and stores the id of the listener or the error at address 8.
    (func $bind (param $port i32) (result i32)
        (call $tcp_bind (i32.const 4) (i32.const 0) (local.get $port) (i32.const 0) (i32.const 0) (i32.const 8)))
    (func $port (param $listener i64) (result i32)
        (if (call $tcp_local_addr (local.get $listener) (i32.const 16)) (then unreachable))
        (if (call $resolve_next
                (i64.load (i32.const 16)) (i32.const 24) (i32.const 32) (i32.const 48) (i32.const 52) (i32.const 56))
            (then unreachable))
        (call $drop_dns_iterator (i64.load (i32.const 16)))
        (i32.load16_u (i32.const 48)))
    ;; Listens on any free port, and reports the port.
    (func $listen (result i64)
        (if (call $bind (i32.const 0)) (then unreachable))
        (call $say (i64.extend_i32_u (call $port (i64.load (i32.const 8)))))
        (i64.load (i32.const 8)))
    ;; Accepts a connection, and stores the id of the stream or the error at address 64.
    (func $try_accept (param $listener i64) (result i32)
        (local $result i32)
        (local.set $result (call $tcp_accept (local.get $listener) (i32.const 64) (i32.const 72)))
        (if (i32.eqz (local.get $result)) (then (call $drop_dns_iterator (i64.load (i32.const 72)))))
        (local.get $result))
    (func $accept (param $listener i64) (result i64)
        (if (call $try_accept (local.get $listener)) (then unreachable))
        (i64.load (i32.const 64)))
    ;; Reads bytes to address 1024, and stores the byte count or the error's id at address 80.
    (func $read (param $stream i64) (result i32)
        (call $tcp_read (local.get $stream) (i32.const 1024) (i32.const 4096) (i32.const 80)))
    ;; Writes bytes from address 1024, and stores the byte count or the error's id at address 88.
    (func $write (param $stream i64) (param $length i32) (result i32)
        (i32.store (i32.const 96) (i32.const 1024))
        (i32.store (i32.const 100) (local.get $length))
        (call $tcp_write_vectored (local.get $stream) (i32.const 96) (i32.const 1) (i32.const 88)))
    ;; Echoes all bytes until the end of the stream.
    (func $echo (param $stream i64)
        (loop $again
            (if (call $read (local.get $stream)) (then unreachable))
            (if (i64.eqz (i64.load (i32.const 80))) (then return))
            (if (call $write (local.get $stream) (i32.load (i32.const 80))) (then unreachable))
            (br $again)))
    ;; Reports the kind of the error whose id is stored at an address.
    (func $say_error (param $at i32)
        (call $say (i64.extend_i32_u (call $kind (i64.load (local.get $at))))))
    ;; Spawns a process that runs an export with the parameters at address 256, and stores the pid at
    ;; address 104.
    (func $spawn_with (param $name i32) (param $name_length i32) (param $parameters i32) (result i64)
        (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (local.get $name) (local.get $name_length)
                (i32.const 256) (i32.mul (i32.const 17) (local.get $parameters)) (i32.const 104))
            (then unreachable))
        (i64.load (i32.const 104)))
    ;; Sends a copy of a stream to a process.
    (func $hand_over (param $stream i64) (param $process i64)
        (i64.store (i32.const 112) (local.get $stream))
        (if (call $send_bytes (local.get $process) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 112) (i32.const 1))
            (then unreachable)))
    ;; Waits for a message that contains a stream.
    (func $take (result i64)
        (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
        (call $take_tcp_stream (i64.const 0)))
"#;

/// Connects to the guest that reports its port next.
fn connect(lab: &Lab) -> TcpStream {
    connect_to(port(lab))
}

fn port(lab: &Lab) -> u16 {
    u16::try_from(lab.hear()).expect("a guest reports its port first")
}

fn connect_to(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the guest is listening");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("the timeout is not zero");
    stream
}

fn send(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the guest is reading");
}

/// Checks that exactly the given bytes arrive next.
#[track_caller]
fn expect(mut stream: &TcpStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    stream
        .read_exact(&mut found)
        .expect("the guest sends an answer");
    assert_eq!(found, bytes);
}

#[track_caller]
fn expect_end(mut stream: &TcpStream) {
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .expect("the guest closes the connection");
    assert_eq!(rest, b"");
}

/// Spawns `main` in an environment that the test has created.
fn spawn_in(lab: &Lab, environment: &Environment, text: &str) -> Process {
    environment
        .spawn(&lab.module(text), "main", &[])
        .expect("no limit applies")
}

#[test]
fn a_connection_is_accepted_only_once_memory_is_no_longer_scarce() {
    const TEST: &str = "tcp::a_connection_is_accepted_only_once_memory_is_no_longer_scarce";
    if !is_alone(TEST, &[]) {
        return;
    }
    let lab = Lab::with(Vm::builder().memory(resident() + (400 << 20)));
    let environment = lab.environment();
    let text = program(
        r#"(func (export "main")
            (drop (call $listen))
            (loop $again
                (drop (call $accept (i64.load (i32.const 8))))
                (call $say (i64.const -1))
                (br $again)))"#,
    );
    spawn_in(&lab, &environment, &text);
    let port = port(&lab);
    let mut ballast: Vec<Vec<u8>> = Vec::new();
    let _first = connect_to(port);
    assert_eq!(lab.hear(), -1);
    while lab.vm.shortage() < Shortage::Accepts {
        ballast.push(vec![1; 1 << 20]);
    }
    // The guest may already have been granted one more connection.
    let _second = connect_to(port);
    let mut third = connect_to(port);
    for _ in 0..100 {
        assert!(lab.vm.shortage() >= Shortage::Accepts);
        assert!(
            environment.used(Limit::Sockets) <= 3,
            "the listener and two connections"
        );
        thread::yield_now();
    }
    third
        .write_all(b"x")
        .expect("the connection waits in the system's queue");
    ballast.clear();
    assert_eq!([lab.hear(), lab.hear()], [-1, -1], "all are accepted");
}

#[test]
fn t110_the_port_of_a_dead_process_is_free_when_its_exit_is_known() {
    let lab = Lab::new();
    let check = |end: &str, kill: bool| {
        let environment = lab.environment();
        let module = lab.module(&program(&format!(
            r#"(func (export "main") (drop (call $listen)) {end})"#
        )));
        for _ in 0..50 {
            let process = environment
                .spawn(&module, "main", &[])
                .expect("no limit applies");
            let port = port(&lab);
            if kill {
                process.kill();
            }
            lab.exit(&process);
            drop(
                TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                    .unwrap_or_else(|error| panic!("{end}: {error}")),
            );
            assert_eq!(environment.used(Limit::Sockets), 0, "{end}");
        }
    };
    check("", false);
    check("unreachable", false);
    check("(loop (br 0))", true);
    check("(drop (call $accept (i64.load (i32.const 8))))", true);
    check(
        "(drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))",
        true,
    );
}

#[test]
fn t110_the_port_of_a_dead_process_is_free_when_a_monitor_is_notified() {
    const ROUNDS: i64 = 500;
    let lab = Lab::new();
    let text = program(
        r#"
        (data (i32.const 200) "child")
        ;; Listens on the port, sends a message to the parent, and waits for a connection.
        (func (export "child") (param $port i32) (param $parent i64)
            (if (call $bind (local.get $port)) (then unreachable))
            (drop (call $send_bytes
                (local.get $parent) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (drop (call $accept (i64.load (i32.const 8)))))
        (func (export "main") (param $rounds i64)
            (local $port i32) (local $child i64) (local $round i64)
            (if (call $bind (i32.const 0)) (then unreachable))
            (local.set $port (call $port (i64.load (i32.const 8))))
            (call $drop_tcp_listener (i64.load (i32.const 8)))
            (i32.store8 (i32.const 256) (i32.const 0x7f))
            (i32.store (i32.const 257) (local.get $port))
            (i32.store8 (i32.const 273) (i32.const 0x7e))
            (i64.store (i32.const 274) (call $process_id))
            (loop $again
                (local.set $child (call $spawn_with (i32.const 200) (i32.const 5) (i32.const 2)))
                (call $monitor (local.get $child))
                ;; The child is either listening, or dead because its port was taken.
                (if (i32.ne (call $receive (i32.const 0) (i32.const 0) (i64.const -1)) (global.get $data))
                    (then (call $say (i64.const -1)) unreachable))
                (call $kill (local.get $child))
                (if (i32.ne (call $receive (i32.const 0) (i32.const 0) (i64.const -1)) (global.get $down))
                    (then (call $say (i64.const -2)) unreachable))
                (if (call $bind (local.get $port)) (then (call $say_error (i32.const 8)) unreachable))
                (call $drop_tcp_listener (i64.load (i32.const 8)))
                (local.set $round (i64.add (local.get $round) (i64.const 1)))
                (br_if $again (i64.lt_u (local.get $round) (local.get $rounds))))
            (call $say (local.get $round)))
        "#,
    );
    let kinds = [
        ("data", lunatic_abi::MessageKind::Data),
        ("down", lunatic_abi::MessageKind::ProcessDied),
    ];
    let globals = kinds
        .map(|(name, kind)| format!("(global ${name} i32 (i32.const {}))", kind as u32))
        .concat();
    let text = text.replacen(
        "(data (i32.const 200)",
        &format!("{globals}(data (i32.const 200)"),
        1,
    );
    let module = lab.module(&text);
    let process = lab
        .environment()
        .spawn(&module, "main", &[Val::I64(ROUNDS)])
        .expect("no limit applies");
    let exit = lab.exit(&process);
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), ROUNDS);
}

#[test]
fn t111_an_address_that_cannot_be_listened_on_is_an_error() {
    let lab = Lab::new();
    let taken =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    let port = taken
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let check = |address: &str, port: u16, expected: Errno| {
        let text = program(&format!(
            r#"(data (i32.const 512) "{address}")
            (func (export "main")
                (i32.store (i32.const 0) (i32.load (i32.const 512)))
                (if (i32.ne (call $bind (i32.const {port})) (i32.const 1)) (then unreachable))
                (call $say_error (i32.const 8)))"#
        ));
        let exit = lab.run(&text);
        assert!(exit.is_normal(), "{address}: {exit}");
        assert_eq!(lab.hear(), expected as i64, "{address}");
    };
    check(r"\7f\00\00\01", port, Errno::AddrInUse);
    // This address is reserved for documentation.
    check(r"\cb\00\71\01", 0, Errno::AddrNotAvailable);
}

#[test]
fn t111_an_invalid_address_traps() {
    let lab = Lab::new();
    let check = |family: i32, ip: i64, port: i64, why: &str| {
        let exit = lab.run(&program(&format!(
            r#"(func (export "main") (drop (call $tcp_bind
                (i32.const {family}) (i32.const {ip}) (i32.const {port}) (i32.const 0) (i32.const 0) (i32.const 8))))"#
        )));
        assert!(matches!(exit, Exit::Trapped(_)), "{why}: {exit}");
        assert!(
            exit.to_string().contains(why),
            "the reason does not contain `{why}`: {exit}"
        );
    };
    check(4, 0, 65_536, "65536 is not a valid port number");
    check(5, 0, 0, "an address family must be 4 or 6, not 5");
    check(4, 65_533, 0, "memory");
    check(6, 65_521, 0, "memory");
    check(4, 0xffff_ffff, 0, "memory");
}

#[test]
fn t111_a_process_without_a_grant_gets_no_sockets() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.deny("lunatic::networking::tcp_bind");
    });
    let exit = lab.exit(&spawn_in(
        &lab,
        &environment,
        &program(r#"(func (export "main") (drop (call $listen)))"#),
    ));
    assert!(
        exit.to_string()
            .contains("does not grant `lunatic::networking::tcp_bind`"),
        "{exit}"
    );
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t112_a_write_to_a_peer_that_does_not_read_times_out_without_losing_data() {
    let lab = Lab::new();
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(func (export "main")
                (local $stream i64) (local $sum i64) (local $result i32)
                (local.set $stream (call $accept (call $listen)))
                (call $set_write_timeout (local.get $stream) (i64.const 20))
                (loop $again
                    (local.set $result (call $write (local.get $stream) (i32.const 60000)))
                    (if (i32.eqz (local.get $result))
                        (then
                            (local.set $sum (i64.add (local.get $sum) (i64.load (i32.const 88))))
                            (br $again))))
                (call $say (i64.extend_i32_s (local.get $result)))
                (call $say (local.get $sum)))"#,
        ),
    );
    let mut client = connect(&lab);
    assert_eq!(lab.hear(), i64::from(TIMED_OUT));
    let written = lab.hear();
    assert!(lab.exit(&server).is_normal());
    // The peer receives everything that was reported as written, even though the guest has ended.
    let read = io::copy(&mut client, &mut io::sink()).expect("the guest closed the connection");
    assert_eq!(read, u64::try_from(written).expect("the length fits"));
    assert!(read > 0);
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t112_a_read_or_peek_without_data_times_out_without_losing_data() {
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(func (export "main")
            (local $stream i64)
            (local.set $stream (call $accept (call $listen)))
            (call $set_read_timeout (local.get $stream) (i64.const 5))
            (call $set_peek_timeout (local.get $stream) (i64.const 5))
            (call $say (i64.extend_i32_s (call $read (local.get $stream))))
            (call $say (i64.extend_i32_s
                (call $tcp_peek (local.get $stream) (i32.const 1024) (i32.const 10) (i32.const 80))))
            ;; Now the guest waits for bytes.
            (call $set_read_timeout (local.get $stream) (i64.const -1))
            (call $echo (local.get $stream)))"#,
    ));
    let client = connect(&lab);
    let timed_out = i64::from(TIMED_OUT);
    assert_eq!(lab.hear_all(), [timed_out, timed_out]);
    send(&client, b"late");
    expect(&client, b"late");
    client
        .shutdown(Shutdown::Write)
        .expect("the socket is connected");
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn t113_each_direction_of_a_connection_is_closed_separately() {
    let lab = Lab::new();
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(data (i32.const 1024) "I am done.")
            (func (export "main")
                (local $stream i64)
                (local.set $stream (call $accept (call $listen)))
                ;; The guest closes its direction first, and continues to read.
                (if (call $write (local.get $stream) (i32.const 10)) (then unreachable))
                (if (call $tcp_shutdown (local.get $stream) (i32.const 1) (i32.const 120)) (then unreachable))
                (if (call $read (local.get $stream)) (then unreachable))
                (call $say (i64.load (i32.const 80)))
                ;; Then the peer closes its direction.
                (if (call $read (local.get $stream)) (then unreachable))
                (call $say (i64.load (i32.const 80)))
                ;; Writing to a closed direction is an error.
                (if (i32.ne (call $write (local.get $stream) (i32.const 10)) (i32.const 1)) (then unreachable))
                (call $say_error (i32.const 88)))"#,
        ),
    );
    let client = connect(&lab);
    expect(&client, b"I am done.");
    expect_end(&client);
    send(&client, b"hears");
    assert_eq!(lab.hear(), 5);
    client
        .shutdown(Shutdown::Write)
        .expect("the socket is connected");
    assert_eq!(lab.hear_all(), [0, Errno::BrokenPipe as i64]);
    assert!(lab.exit(&server).is_normal());
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t113_a_connection_that_is_reset_is_an_error() {
    let lab = Lab::new();
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(func (export "main")
                (local $listener i64) (local $stream i64) (local $round i32)
                (local.set $listener (call $listen))
                (loop $again
                    (local.set $stream (call $accept (local.get $listener)))
                    (if (call $write (local.get $stream) (i32.const 1)) (then unreachable))
                    (if (i32.ne (call $read (local.get $stream)) (i32.const 1)) (then unreachable))
                    (call $say_error (i32.const 80))
                    (call $drop_tcp_stream (local.get $stream))
                    (local.set $round (i32.add (local.get $round) (i32.const 1)))
                    (br_if $again (i32.lt_u (local.get $round) (i32.const 100)))))"#,
        ),
    );
    let port = port(&lab);
    for _ in 0..100 {
        let client = connect_to(port);
        // Closing a connection with unread bytes resets it.
        client.peek(&mut [0]).expect("the guest is writing");
        drop(client);
        assert_eq!(lab.hear(), Errno::ConnectionReset as i64);
    }
    assert!(lab.exit(&server).is_normal());
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t114_closed_connections_leave_nothing_behind() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Sockets, 2).limit(Limit::Handles, 20);
    });
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(func (export "main")
                (local $listener i64) (local $stream i64)
                (local.set $listener (call $listen))
                (loop $again
                    (local.set $stream (call $accept (local.get $listener)))
                    (call $echo (local.get $stream))
                    (call $drop_tcp_stream (local.get $stream))
                    (br $again)))"#,
        ),
    );
    let port = port(&lab);
    for _ in 0..2_000 {
        let client = connect_to(port);
        send(&client, b"x");
        client
            .shutdown(Shutdown::Write)
            .expect("the socket is connected");
        expect(&client, b"x");
        expect_end(&client);
    }
    assert!(server.is_alive());
    server.kill();
    lab.exit(&server);
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t114_an_accept_beyond_the_quota_waits_for_room_and_loses_no_client() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Sockets, 2);
    });
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(data (i32.const 200) "echoes")
            (func (export "echoes") (call $echo (call $take)))
            (func (export "main")
                (local $listener i64) (local $stream i64)
                (local.set $listener (call $listen))
                (local.set $stream (call $accept (local.get $listener)))
                ;; There is no room for another socket, and trying to create one fails.
                (if (i32.ne (call $bind (i32.const 0)) (i32.const 1)) (then unreachable))
                (call $say_error (i32.const 8))
                ;; A second handle to a connection does not count as another connection.
                (call $drop_tcp_stream (call $clone_tcp_stream (local.get $stream)))
                (call $hand_over (local.get $stream) (call $spawn_with (i32.const 200) (i32.const 6) (i32.const 0)))
                (call $drop_tcp_stream (local.get $stream))
                (call $say (i64.const 1))
                ;; Another process occupies the only free slot until its client disconnects.
                (call $echo (call $accept (local.get $listener))))"#,
        ),
    );
    let port = port(&lab);
    let clients = [connect_to(port), connect_to(port)];
    assert_eq!(lab.hear_all(), [Errno::LimitReached as i64, 1]);
    lab.wait_until_idle();
    assert_eq!(environment.used(Limit::Sockets), 2);
    let turns = server.turns();
    for client in &clients {
        send(client, b"served");
        expect(client, b"served");
        if std::ptr::eq(client, &clients[0]) {
            // The first client was served, and the accepting process did not get a turn in the
            // meantime, so it does not poll.
            assert_eq!(server.turns(), turns);
        }
        client
            .shutdown(Shutdown::Write)
            .expect("the socket is connected");
    }
    assert!(lab.exit(&server).is_normal());
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t114_a_process_that_waits_for_room_for_a_socket_can_be_killed() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Sockets, 2);
    });
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(func (export "main")
                (local $listener i64)
                (local.set $listener (call $listen))
                (drop (call $accept (local.get $listener)))
                (call $say (i64.const 1))
                (drop (call $accept (local.get $listener))))"#,
        ),
    );
    let client = connect(&lab);
    assert_eq!(lab.hear(), 1);
    lab.wait_until_idle();
    server.kill();
    assert!(matches!(lab.exit(&server), Exit::Killed));
    assert_eq!(environment.used(Limit::Sockets), 0);
    expect_end(&client);
}

#[test]
fn t115_each_byte_of_a_stream_goes_to_one_of_two_readers() {
    const BYTES: usize = 1_000_000;
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(data (i32.const 200) "reader")
        ;; Reports how many bytes it has read, and their sum.
        (func (export "reader")
            (local $stream i64) (local $count i64) (local $sum i64) (local $at i32)
            (local.set $stream (call $take))
            (loop $again
                (if (call $read (local.get $stream)) (then unreachable))
                (local.set $at (i32.load (i32.const 80)))
                (local.set $count (i64.add (local.get $count) (i64.load (i32.const 80))))
                (if (local.get $at)
                    (then
                        (loop $byte
                            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
                            (local.set $sum (i64.add (local.get $sum)
                                (i64.load8_u offset=1024 (local.get $at))))
                            (br_if $byte (local.get $at)))
                        (br $again))))
            (call $say (i64.add (i64.mul (local.get $count) (i64.const 1000000000)) (local.get $sum))))
        (func (export "main")
            (local $stream i64)
            (local.set $stream (call $accept (call $listen)))
            (call $hand_over (local.get $stream) (call $spawn_with (i32.const 200) (i32.const 6) (i32.const 0)))
            (call $hand_over (local.get $stream) (call $spawn_with (i32.const 200) (i32.const 6) (i32.const 0))))"#,
    ));
    let client = connect(&lab);
    // Once the connection has been passed on, the process that accepted it may end.
    assert!(lab.exit(&server).is_normal());
    let bytes: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
    send(&client, &bytes);
    client
        .shutdown(Shutdown::Write)
        .expect("the socket is connected");
    let both: i64 = lab.hear_all::<2>().iter().sum();
    let sum: u64 = bytes.iter().copied().map(u64::from).sum();
    assert_eq!(
        u64::try_from(both).expect("a sum of bytes is not negative"),
        BYTES as u64 * 1_000_000_000 + sum
    );
}

#[test]
fn t115_one_process_can_read_while_another_writes() {
    const BYTES: usize = 200 * 4_096;
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(data (i32.const 200) "writer")
        ;; Writes 4096 bytes 200 times, with a different last byte each time.
        (func (export "writer")
            (local $stream i64) (local $round i32) (local $from i32)
            (local.set $stream (call $take))
            (loop $again
                (i32.store8 (i32.const 5119) (local.get $round))
                (local.set $from (i32.const 1024))
                (loop $rest
                    (i32.store (i32.const 96) (local.get $from))
                    (i32.store (i32.const 100) (i32.sub (i32.const 5120) (local.get $from)))
                    (if (call $tcp_write_vectored (local.get $stream) (i32.const 96) (i32.const 1) (i32.const 88))
                        (then unreachable))
                    (local.set $from (i32.add (local.get $from) (i32.load (i32.const 88))))
                    (br_if $rest (i32.lt_u (local.get $from) (i32.const 5120))))
                (local.set $round (i32.add (local.get $round) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $round) (i32.const 200)))))
        (func (export "main")
            (local $stream i64) (local $count i64)
            (local.set $stream (call $accept (call $listen)))
            (call $hand_over (local.get $stream) (call $spawn_with (i32.const 200) (i32.const 6) (i32.const 0)))
            (loop $again
                (if (call $read (local.get $stream)) (then unreachable))
                (local.set $count (i64.add (local.get $count) (i64.load (i32.const 80))))
                (br_if $again (i64.ne (i64.load (i32.const 80)) (i64.const 0))))
            (call $say (local.get $count)))"#,
    ));
    let client = connect(&lab);
    let bytes = vec![1; BYTES];
    let mut found = vec![0; BYTES];
    thread::scope(|scope| {
        scope.spawn(|| {
            send(&client, &bytes);
            client
                .shutdown(Shutdown::Write)
                .expect("the socket is connected");
        });
        (&client)
            .read_exact(&mut found)
            .expect("the guest is writing");
    });
    assert_eq!(lab.hear(), BYTES as i64);
    assert!(lab.exit(&server).is_normal());
    expect_end(&client);
    for (round, block) in found.chunks(4_096).enumerate() {
        assert_eq!(usize::from(block[4_095]), round);
        assert!(block[..4_095].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_stream_is_closed_when_the_last_process_that_has_it_ends() {
    let lab = Lab::new();
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(data (i32.const 200) "echoes")
            (func (export "echoes") (call $echo (call $take)))
            (func (export "main")
                (local $stream i64) (local $child i64)
                (local.set $stream (call $accept (call $listen)))
                (local.set $child (call $spawn_with (i32.const 200) (i32.const 6) (i32.const 0)))
                (call $hand_over (local.get $stream) (local.get $child))
                (call $say (local.get $child))
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))"#,
        ),
    );
    let client = connect(&lab);
    let child = lab.hear();
    send(&client, b"one");
    expect(&client, b"one");
    server.kill();
    lab.exit(&server);
    send(&client, b"two");
    expect(&client, b"two");
    assert_eq!(environment.used(Limit::Sockets), 1);
    let child = lab
        .vm
        .processes()
        .into_iter()
        .find(|process| process.pid().number() == child.cast_unsigned());
    let child = child.expect("the child is still alive");
    child.kill();
    lab.exit(&child);
    expect_end(&client);
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn a_stream_that_is_never_taken_out_of_its_message_is_closed_when_the_receiver_ends() {
    let lab = Lab::new();
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(data (i32.const 200) "ignores")
            (func (export "ignores") (call $set_read_timeout (call $take) (i64.const 0)) (call $say (i64.const 7))
                ;; A second stream stays in the mailbox.
                (loop (br 0)))
            (func (export "main")
                (local $stream i64) (local $child i64)
                (local.set $stream (call $accept (call $listen)))
                (local.set $child (call $spawn_with (i32.const 200) (i32.const 7) (i32.const 0)))
                (call $hand_over (local.get $stream) (local.get $child))
                (call $hand_over (local.get $stream) (local.get $child)))"#,
        ),
    );
    let client = connect(&lab);
    assert!(lab.exit(&server).is_normal());
    assert_eq!(lab.hear(), 7);
    let [child] = &lab.vm.processes()[..] else {
        panic!("exactly one process must be left")
    };
    child.kill();
    lab.exit(child);
    expect_end(&client);
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn a_process_can_be_killed_while_it_waits_for_a_socket() {
    let lab = Lab::new();
    let check = |wait: &str| {
        let environment = lab.environment();
        let server = spawn_in(
            &lab,
            &environment,
            &program(&format!(
                r#"(func (export "main")
                    (local $listener i64) (local $stream i64)
                    (local.set $listener (call $listen))
                    (local.set $stream (call $accept (local.get $listener)))
                    (call $say (i64.const 1))
                    (loop $again (drop {wait}) (br $again)))"#
            )),
        );
        let client = connect(&lab);
        assert_eq!(lab.hear(), 1);
        lab.wait_until_idle();
        server.kill();
        assert!(matches!(lab.exit(&server), Exit::Killed), "{wait}");
        assert_eq!(environment.used(Limit::Sockets), 0, "{wait}");
        io::copy(&mut &client, &mut io::sink()).expect("the connection is closed");
    };
    check("(call $accept (local.get $listener))");
    check("(call $read (local.get $stream))");
    check("(call $tcp_peek (local.get $stream) (i32.const 1024) (i32.const 1) (i32.const 80))");
    check("(call $write (local.get $stream) (i32.const 60000))");
}

/// Checks that some of the interrupted write's bytes have been sent and that the connection is
/// closed.
#[test]
fn t076_a_write_that_is_interrupted_by_a_kill_has_sent_some_of_its_bytes() {
    let lab = Lab::new();
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(func (export "main")
                (local $stream i64)
                (memory.fill (i32.const 1024) (i32.const 120) (i32.const 60000))
                (local.set $stream (call $accept (call $listen)))
                (call $say (i64.const 1))
                (loop $again (drop (call $write (local.get $stream) (i32.const 60000))) (br $again)))"#,
        ),
    );
    let mut client = connect(&lab);
    assert_eq!(lab.hear(), 1);
    lab.wait_until_idle();
    server.kill();
    assert!(matches!(lab.exit(&server), Exit::Killed));
    assert_eq!(environment.used(Limit::Sockets), 0);
    let mut received = Vec::new();
    client
        .read_to_end(&mut received)
        .expect("the connection is closed cleanly");
    assert!(
        !received.is_empty() && received.iter().all(|byte| *byte == b'x'),
        "{} bytes",
        received.len()
    );
}

#[test]
fn guests_can_connect_to_each_other() {
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(func (export "main") (call $echo (call $accept (call $listen))))"#,
    ));
    let port = port(&lab);
    let client = lab.run(&program(&format!(
        r#"(data (i32.const 1024) "there and back")
        (func $connect (param $port i32) (result i32)
            (call $tcp_connect (i32.const 4) (i32.const 0) (local.get $port) (i32.const 0) (i32.const 0)
                (i64.const {FOREVER}) (i32.const 128)))
        (func (export "main")
            (if (call $connect (i32.const {port})) (then unreachable))
            (if (call $write (i64.load (i32.const 128)) (i32.const 14)) (then unreachable))
            (if (call $read (i64.load (i32.const 128))) (then unreachable))
            (call $say (i64.load (i32.const 80)))
            (call $drop_tcp_stream (i64.load (i32.const 128))))"#
    )));
    assert!(client.is_normal(), "{client}");
    assert_eq!(lab.hear(), 14);
    assert!(lab.exit(&server).is_normal());
    // The listener no longer exists.
    let refused = lab.run(&program(&format!(
        r#"(func (export "main")
            (if (i32.ne (i32.const 1) (call $tcp_connect (i32.const 4) (i32.const 0) (i32.const {port}) (i32.const 0)
                    (i32.const 0) (i64.const {FOREVER}) (i32.const 128))) (then unreachable))
            (call $say_error (i32.const 128)))"#
    )));
    assert!(refused.is_normal(), "{refused}");
    assert_eq!(lab.hear(), Errno::ConnectionRefused as i64);
}

#[test]
fn a_client_is_answered_within_a_few_ticks_however_many_processes_are_spinning() {
    const WORKERS: usize = 2;
    const SPINNING: usize = WORKERS + 1_000;
    /// The maximum number of ticks that an answer may take. If the answering process took turns
    /// with the spinning processes, an answer would take as many ticks as there are processes per
    /// worker.
    const FEW: usize = 4;
    let lab = Lab::manual(WORKERS);
    let environment = lab.environment();
    let spins = lab.module(&guest(&[], r#"(func (export "main") (loop (br 0)))"#));
    let spawn = |_| {
        environment
            .spawn(&spins, "main", &[])
            .expect("there are enough slots")
    };
    let spinning: Vec<Process> = (0..SPINNING).map(spawn).collect();
    // New processes have their first turn before other processes run again, so the test waits until
    // all have had theirs.
    while spinning.iter().any(|process| process.turns() == 0) {
        lab.vm.beat();
        thread::yield_now();
    }
    spawn_in(
        &lab,
        &environment,
        &program(r#"(func (export "main") (call $echo (call $accept (call $listen))))"#),
    );
    while lab.heard_nothing_more() {
        lab.vm.beat();
        thread::yield_now();
    }
    let mut client = connect(&lab);
    client
        .set_nodelay(true)
        .expect("the system supports the option");
    // The test drives the clock. Between two ticks there is enough time for the bytes to arrive, so
    // the count does not depend on the computer's speed.
    client
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("the timeout is not zero");
    let mut ticks_until_answered = || {
        send(&client, b"x");
        for ticks in 0..SPINNING {
            match client.read(&mut [0]) {
                Ok(1) => return ticks,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    lab.vm.beat()
                }
                other => panic!("the connection failed: {other:?}"),
            }
        }
        panic!("no answer came within {SPINNING} ticks");
    };
    // The first answer also has to wait for the accept.
    ticks_until_answered();
    let ticks: Vec<usize> = (0..50).map(|_| ticks_until_answered()).collect();
    assert!(ticks.iter().all(|ticks| *ticks <= FEW), "{ticks:?}");
}

/// Returns the two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    let client = connect_to(
        listener
            .local_addr()
            .expect("a bound socket has an address")
            .port(),
    );
    (client, listener.accept().expect("a client connects").0)
}

/// A guest that echoes the bytes of one connection after another. It takes each connection from a
/// message that contains only a stream.
const RECEIVER: &str = r#"(func (export "main")
    (loop $next
        (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
        (call $echo (call $take_tcp_stream (i64.const 0)))
        (call $drop_tcp_stream (i64.const 0))
        (br_if $next (i32.const 0))))"#;

#[test]
fn the_host_can_send_a_connection_to_a_process_in_a_message() {
    let lab = Lab::new();
    let environment = lab.environment();
    let process = spawn_in(&lab, &environment, &program(RECEIVER));
    let (client, server) = pair();
    let (kept, is_closed) = async_channel::bounded::<()>(1);
    process
        .send_stream(0, Process::STREAM, server, kept)
        .expect("the mailbox has room");
    send(&client, b"echo");
    expect(&client, b"echo");
    // The connection counts toward the environment of the process that holds it.
    assert_eq!(environment.used(Limit::Sockets), 1);
    assert!(!is_closed.is_closed());
    client
        .shutdown(Shutdown::Write)
        .expect("the socket is connected");
    expect_end(&client);
    lab.wait_for("the connection to be dropped", is_closed.recv())
        .expect_err("the channel is closed without a message");
    assert!(lab.exit(&process).is_normal());
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn a_connection_from_the_host_is_refused_if_there_is_no_room_or_the_process_may_not_use_it() {
    let lab = Lab::new();
    let module = lab.module(&program(RECEIVER));
    for (change, is_expected) in [
        (
            (|config| {
                config.deny("lunatic::networking::tcp_");
            }) as fn(&mut lunatic_vm::Config),
            (|error| matches!(error, SendError::NotGranted(..))) as fn(&SendError) -> bool,
        ),
        (
            |config| {
                config.limit(Limit::Sockets, 0);
            },
            |error| matches!(error, SendError::Limit(_)),
        ),
        (
            |config| {
                config.limit(Limit::MailboxMessages, 0);
            },
            |error| matches!(error, SendError::MailboxFull(..)),
        ),
    ] {
        let environment = lab.environment_with(change);
        let process = environment
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        lab.wait_until_idle();
        // A process that is waiting for a message gets the first connection immediately. The second
        // connection stays in the mailbox. The client is kept, because the process would end if the
        // client disconnected.
        let (client, server) = pair();
        let first = process.send_stream(0, Process::STREAM, server, ());
        let (other, server) = pair();
        let second = process.send_stream(0, Process::STREAM, server, ());
        expect_end(&other);
        let refused: Vec<SendError> = [first, second]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        assert!(refused.last().is_some_and(is_expected), "{refused:?}");
        drop(client);
        process.kill();
        lab.exit(&process);
        assert_eq!(environment.used(Limit::Sockets), 0);
    }
}
