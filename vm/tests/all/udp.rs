//! Tests for processes' UDP sockets, on the loopback interface.

use crate::support::{Lab, guest};
use lunatic_abi::{Errno, ResourceKind, TIMED_OUT};
use lunatic_vm::{Environment, Exit, Limit, Process};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long a test waits for a guest's datagram.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the source of a guest that has the functions in [`SOCKETS`].
fn program(fields: &str) -> String {
    const IMPORTS: &[&str] = &[
        "lunatic::error::kind",
        "lunatic::message::create_data",
        "lunatic::message::push_udp_socket",
        "lunatic::message::receive",
        "lunatic::message::resource_kind",
        "lunatic::message::send",
        "lunatic::message::send_bytes",
        "lunatic::message::take_tcp_stream",
        "lunatic::message::take_udp_socket",
        "lunatic::networking::clone_udp_socket",
        "lunatic::networking::drop_dns_iterator",
        "lunatic::networking::drop_udp_socket",
        "lunatic::networking::get_udp_receive_timeout",
        "lunatic::networking::get_udp_socket_broadcast",
        "lunatic::networking::get_udp_socket_ttl",
        "lunatic::networking::resolve_next",
        "lunatic::networking::set_udp_receive_timeout",
        "lunatic::networking::set_udp_socket_broadcast",
        "lunatic::networking::set_udp_socket_ttl",
        "lunatic::networking::udp_bind",
        "lunatic::networking::udp_connect",
        "lunatic::networking::udp_local_addr",
        "lunatic::networking::udp_peer_addr",
        "lunatic::networking::udp_receive",
        "lunatic::networking::udp_receive_from",
        "lunatic::networking::udp_send",
        "lunatic::networking::udp_send_to",
        "lunatic::process::process_id",
        "lunatic::process::spawn",
    ];
    guest(IMPORTS, &format!("{SOCKETS}{fields}"))
}

/// Functions for guests. Results that the VM writes are stored in the first kilobyte of the memory,
/// and datagrams are stored starting at address 1024.
const SOCKETS: &str = r#"
    (data (i32.const 0) "\7f\00\00\01")
    ;; Binds a socket, and stores the id of the socket or the error at address 8.
    (func $bind (param $port i32) (result i32)
        (call $udp_bind (i32.const 4) (i32.const 0) (local.get $port) (i32.const 0) (i32.const 0) (i32.const 8)))
    ;; Returns the port of the address in the result at address 16.
    (func $port_of_result (result i32)
        (if (call $resolve_next
                (i64.load (i32.const 16)) (i32.const 24) (i32.const 32) (i32.const 48) (i32.const 52) (i32.const 56))
            (then unreachable))
        (call $drop_dns_iterator (i64.load (i32.const 16)))
        (i32.load16_u (i32.const 48)))
    ;; Binds to any free port, and reports the port.
    (func $open (result i64)
        (if (call $bind (i32.const 0)) (then unreachable))
        (if (call $udp_local_addr (i64.load (i32.const 8)) (i32.const 16)) (then unreachable))
        (call $say (i64.extend_i32_u (call $port_of_result)))
        (i64.load (i32.const 8)))
    (func $connect (param $socket i64) (param $port i32) (result i32)
        (call $udp_connect (local.get $socket) (i32.const 4) (i32.const 0) (local.get $port) (i32.const 0) (i32.const 0)
            (i64.const 0) (i32.const 64)))
    ;; Receives a datagram to address 1024, and stores its length or the error's id at address 80.
    (func $receive_some (param $socket i64) (result i32)
        (call $udp_receive (local.get $socket) (i32.const 1024) (i32.const 4096) (i32.const 80)))
    ;; Receives one datagram and sends it back.
    (func $echo (param $socket i64)
        (if (call $udp_receive_from
                (local.get $socket) (i32.const 1024) (i32.const 4096) (i32.const 80) (i32.const 16))
            (then unreachable))
        (if (call $udp_send_to (local.get $socket) (i32.const 1024) (i32.load (i32.const 80))
                (i32.const 4) (i32.const 0) (call $port_of_result) (i32.const 0) (i32.const 0) (i32.const 88))
            (then unreachable)))
    ;; Reports the kind of the error whose id is stored at an address.
    (func $say_error (param $at i32)
        (call $say (i64.extend_i32_u (call $kind (i64.load (local.get $at))))))
    ;; Spawns a process that runs an export without parameters.
    (func $spawn_one (param $name i32) (param $name_length i32) (result i64)
        (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (local.get $name) (local.get $name_length)
                (i32.const 0) (i32.const 0) (i32.const 104))
            (then unreachable))
        (i64.load (i32.const 104)))
    ;; Waits for a message.
    (func $wait (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))
"#;

/// Creates a socket that is connected to the guest that reports its port next.
fn peer(lab: &Lab) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    socket
        .set_read_timeout(Some(TIMEOUT))
        .expect("the timeout is not zero");
    socket
        .connect(address(lab))
        .expect("the guest's address is local");
    socket
}

/// Returns the address of the guest that reports its port next.
fn address(lab: &Lab) -> SocketAddr {
    (
        Ipv4Addr::LOCALHOST,
        u16::try_from(lab.hear()).expect("a guest reports its port first"),
    )
        .into()
}

#[track_caller]
fn expect(socket: &UdpSocket, datagram: &[u8]) {
    let mut buffer = vec![0; 1 << 16];
    let length = socket
        .recv(&mut buffer)
        .expect("the guest sends a datagram");
    assert_eq!(buffer[..length], *datagram);
}

fn spawn_in(lab: &Lab, environment: &Environment, text: &str) -> Process {
    environment
        .spawn(&lab.module(text), "main", &[])
        .expect("no limit applies")
}

#[test]
fn datagrams_pass_in_both_directions() {
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(func (export "main")
            (local $socket i64)
            (local.set $socket (call $open))
            (call $echo (local.get $socket))
            (call $echo (local.get $socket))
            (call $echo (local.get $socket)))"#,
    ));
    let client = peer(&lab);
    for datagram in [&b"one"[..], b"", &[7; 4096]] {
        client.send(datagram).expect("the socket is connected");
        expect(&client, datagram);
    }
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn a_socket_has_no_peer_until_it_is_connected() {
    let lab = Lab::new();
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    other
        .set_read_timeout(Some(TIMEOUT))
        .expect("the timeout is not zero");
    let port = other
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let exit = lab.run(&program(&format!(
        r#"(data (i32.const 1024) "to the peer")
        (func (export "main")
            (local $socket i64)
            (local.set $socket (call $open))
            (call $say (i64.extend_i32_s (call $udp_peer_addr (local.get $socket) (i32.const 16))))
            (call $say_error (i32.const 16))
            (call $say (i64.extend_i32_s
                (call $udp_send (local.get $socket) (i32.const 1024) (i32.const 11) (i32.const 88))))
            (call $say_error (i32.const 88))
            (if (call $connect (local.get $socket) (i32.const {port})) (then unreachable))
            (if (call $udp_peer_addr (local.get $socket) (i32.const 16)) (then unreachable))
            (call $say (i64.extend_i32_u (call $port_of_result)))
            (if (call $udp_send (local.get $socket) (i32.const 1024) (i32.const 11) (i32.const 88)) (then unreachable))
            (call $say (i64.load (i32.const 88))))"#
    )));
    assert!(exit.is_normal(), "{exit}");
    lab.hear();
    let none = Errno::NotConnected as i64;
    assert_eq!(lab.hear_all(), [1, none, 1, none, i64::from(port), 11]);
    expect(&other, b"to the peer");
}

#[test]
fn a_receive_times_out_if_a_timeout_is_set() {
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(func (export "main")
            (local $socket i64)
            (local.set $socket (call $open))
            (call $say (call $get_udp_receive_timeout (local.get $socket)))
            (call $set_udp_receive_timeout (local.get $socket) (i64.const 5))
            (call $say (call $get_udp_receive_timeout (call $clone_udp_socket (local.get $socket))))
            (call $say (i64.extend_i32_s (call $receive_some (local.get $socket))))
            (call $say (i64.extend_i32_s (call $udp_receive_from
                (local.get $socket) (i32.const 1024) (i32.const 10) (i32.const 80) (i32.const 16))))
            (call $set_udp_receive_timeout (local.get $socket) (i64.const -1))
            (call $echo (local.get $socket)))"#,
    ));
    let client = peer(&lab);
    let late = i64::from(TIMED_OUT);
    assert_eq!(lab.hear_all(), [-1, 5, late, late]);
    client.send(b"late").expect("the socket is connected");
    expect(&client, b"late");
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn options_can_be_set_and_a_value_that_the_system_refuses_traps() {
    let lab = Lab::new();
    let exit = lab.run(&program(
        r#"(func (export "main")
            (local $socket i64)
            (local.set $socket (call $open))
            (call $set_udp_socket_ttl (local.get $socket) (i32.const 42))
            (call $say (i64.extend_i32_u (call $get_udp_socket_ttl (local.get $socket))))
            (call $say (i64.extend_i32_s (call $get_udp_socket_broadcast (local.get $socket))))
            (call $set_udp_socket_broadcast (local.get $socket) (i32.const 7))
            (call $say (i64.extend_i32_s (call $get_udp_socket_broadcast (local.get $socket))))
            (call $set_udp_socket_ttl (local.get $socket) (i32.const 256)))"#,
    ));
    lab.hear();
    assert_eq!(lab.hear_all(), [42, 0, 1]);
    let reason = exit.to_string();
    assert!(
        reason.contains("TTL of the socket cannot be set to 256")
            && reason.contains("set_udp_socket_ttl"),
        "{exit}"
    );
}

#[test]
fn t111_binding_to_a_udp_port_that_is_taken_is_an_error() {
    let lab = Lab::new();
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    let port = taken
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let environment = lab.environment();
    let process = spawn_in(
        &lab,
        &environment,
        &program(&format!(
            r#"(func (export "main")
                (if (i32.ne (call $bind (i32.const {port})) (i32.const 1)) (then unreachable))
                (call $say_error (i32.const 8)))"#
        )),
    );
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear(), Errno::AddrInUse as i64);
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t111_udp_sockets_count_toward_the_quota_and_are_refused_beyond_it() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Sockets, 1);
    });
    let process = spawn_in(
        &lab,
        &environment,
        &program(
            r#"(func (export "main")
                (local $socket i64)
                (local.set $socket (call $open))
                (if (i32.ne (call $bind (i32.const 0)) (i32.const 1)) (then unreachable))
                (call $say_error (i32.const 8))
                ;; A second handle to a socket does not count as another socket.
                (call $drop_udp_socket (call $clone_udp_socket (local.get $socket)))
                (call $drop_udp_socket (local.get $socket))
                (drop (call $open)))"#,
        ),
    );
    assert!(lab.exit(&process).is_normal());
    lab.hear();
    assert_eq!(lab.hear(), Errno::LimitReached as i64);
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t117_datagrams_that_are_too_large_are_refused_or_truncated() {
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(func (export "main")
            (local $socket i64)
            (local.set $socket (call $open))
            (if (i32.ne (i32.const 1) (call $udp_send_to (local.get $socket) (i32.const 0) (i32.const 65508)
                    (i32.const 4) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 88)))
                (then unreachable))
            (call $say_error (i32.const 88))
            ;; Only the bytes that do not fit into the buffer are lost.
            (if (call $udp_receive (local.get $socket) (i32.const 1024) (i32.const 3) (i32.const 80)) (then unreachable))
            (call $say (i64.load (i32.const 80)))
            (if (i32.load8_u (i32.const 1027)) (then unreachable))
            (call $echo (local.get $socket)))"#,
    ));
    let client = peer(&lab);
    assert_eq!(lab.hear(), Errno::InvalidInput as i64);
    client.send(b"too long").expect("the socket is connected");
    client.send(b"whole").expect("the socket is connected");
    assert_eq!(lab.hear(), 3);
    expect(&client, b"whole");
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn t117_a_flood_makes_no_process_wait_and_the_system_limits_it() {
    let lab = Lab::new();
    let server = lab.spawn(&program(
        r#"(func (export "main")
            (local $socket i64) (local $count i64)
            (local.set $socket (call $open))
            (call $wait)
            ;; Counts the datagrams that have arrived, and then echoes one more.
            (call $set_udp_receive_timeout (local.get $socket) (i64.const 0))
            (loop $again
                (if (i32.eqz (call $receive_some (local.get $socket)))
                    (then (local.set $count (i64.add (local.get $count) (i64.const 1))) (br $again))))
            (call $say (local.get $count))
            (call $set_udp_receive_timeout (local.get $socket) (i64.const -1))
            (call $echo (local.get $socket)))"#,
    ));
    let client = peer(&lab);
    const SENT: i64 = 20_000;
    for _ in 0..SENT {
        client.send(&[7; 512]).expect("the socket is connected");
    }
    server.send(0, b"count").expect("the mailbox has room");
    let kept = lab.hear();
    assert!(
        kept > 0 && kept < SENT,
        "{kept} of {SENT} datagrams were kept"
    );
    client.send(b"after").expect("the socket is connected");
    expect(&client, b"after");
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn t070_a_process_can_be_killed_while_it_waits_for_a_datagram() {
    let lab = Lab::new();
    for receive in [
        "(drop (call $receive_some (local.get $socket)))",
        "(drop (call $udp_receive_from (local.get $socket) (i32.const 1024) (i32.const 8) (i32.const 80) (i32.const 16)))",
    ] {
        let environment = lab.environment();
        let text = format!(
            r#"(func (export "main") (local $socket i64) (local.set $socket (call $open)) {receive})"#
        );
        let process = spawn_in(&lab, &environment, &program(&text));
        let address = address(&lab);
        lab.wait_until_idle();
        process.kill();
        assert!(matches!(lab.exit(&process), Exit::Killed));
        assert_eq!(environment.used(Limit::Sockets), 0);
        UdpSocket::bind(address).expect("the port is free");
    }
}

/// A guest whose `main` binds a socket and passes it to `child` with the given code.
fn hands_over(how: &str) -> String {
    program(&format!(
        r#"(data (i32.const 200) "child")
        (func (export "child")
            (local $socket i64)
            (call $wait)
            (call $say (i64.extend_i32_u (call $resource_kind (i64.const 0))))
            (local.set $socket (call $take_udp_socket (i64.const 0)))
            (call $say (i64.extend_i32_u (call $resource_kind (i64.const 0))))
            (call $echo (local.get $socket)))
        (func (export "main")
            (local $socket i64) (local $child i64)
            (local.set $socket (call $open))
            (local.set $child (call $spawn_one (i32.const 200) (i32.const 5)))
            {how})"#
    ))
}

const MOVED: &str = r#"
    (call $create_data (i64.const 0) (i64.const 0))
    (drop (call $push_udp_socket (local.get $socket)))
    (if (call $send (local.get $child)) (then unreachable))"#;

/// Returns code that sends a copy of the socket. The highest byte of the word says that the
/// resource is a UDP socket.
fn copied() -> String {
    let kind = ResourceKind::UdpSocket.word(0);
    format!(
        r#"(i64.store (i32.const 112) (i64.or (i64.const {kind}) (local.get $socket)))
        (if (call $send_bytes (local.get $child) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 112) (i32.const 1))
            (then unreachable))"#
    )
}

#[test]
fn a_socket_can_be_sent_in_a_message() {
    let lab = Lab::new();
    for how in [MOVED, &copied()] {
        let environment = lab.environment();
        let process = spawn_in(&lab, &environment, &hands_over(how));
        let client = peer(&lab);
        assert_eq!(
            lab.hear_all(),
            [ResourceKind::UdpSocket as i64, ResourceKind::None as i64]
        );
        assert!(lab.exit(&process).is_normal());
        // Once the socket has been passed on, the process that bound it may end.
        client
            .send(b"to the child")
            .expect("the socket is connected");
        expect(&client, b"to the child");
        lab.wait_for("the child to end", environment.ended());
        assert_eq!(environment.used(Limit::Sockets), 0);
    }
}

#[test]
fn t083_a_socket_that_was_moved_into_a_message_no_longer_belongs_to_the_sender() {
    let lab = Lab::new();
    let exit = lab.run(&hands_over(&format!(
        "{MOVED} (call $drop_udp_socket (local.get $socket))"
    )));
    assert!(
        exit.to_string().contains("there is no UDP socket 0"),
        "{exit}"
    );
}

#[test]
fn t082_a_socket_cannot_be_taken_as_a_resource_of_another_kind() {
    let lab = Lab::new();
    let text = program(
        r#"(func (export "main")
            (local $socket i64)
            (local.set $socket (call $open))
            (call $create_data (i64.const 0) (i64.const 0))
            (drop (call $push_udp_socket (local.get $socket)))
            (drop (call $take_tcp_stream (i64.const 0))))"#,
    );
    let exit = lab.run(&text);
    assert!(exit.to_string().contains("is not a stream"), "{exit}");
    lab.hear();
    // An id by itself refers to a stream. The highest byte must be a kind of socket.
    for word in [
        0,
        ResourceKind::Module.word(0),
        ResourceKind::Foreign.word(0),
        u64::MAX,
    ] {
        let word = word.cast_signed();
        let exit = lab.run(&program(&format!(
            r#"(func (export "main")
                (drop (call $open))
                (i64.store (i32.const 112) (i64.const {word}))
                (drop (call $send_bytes (call $process_id)
                    (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 112) (i32.const 1))))"#
        )));
        assert!(
            exit.to_string().contains("there is no s"),
            "{word:#x}: {exit}"
        );
        lab.hear();
    }
}

#[test]
fn t062_a_socket_cannot_be_sent_to_a_process_without_the_right_to_sockets() {
    let lab = Lab::new();
    let without = lab.environment_with(|config| {
        config.deny("lunatic::networking::udp_");
    });
    let receiver = spawn_in(
        &lab,
        &without,
        &program(r#"(func (export "main") (call $wait))"#),
    );
    let environment = lab.environment();
    let text = program(&format!(
        r#"(func (export "main") (param $child i64)
            (local $socket i64)
            (local.set $socket (call $open))
            (i64.store (i32.const 112) (i64.or (i64.const {}) (local.get $socket)))
            (call $say (i64.extend_i32_s (call $send_bytes (local.get $child)
                (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 112) (i32.const 1)))))"#,
        ResourceKind::UdpSocket.word(0)
    ));
    let pid = lunatic_vm::Val::I64(receiver.pid().number().cast_signed());
    let sender = environment
        .spawn(&lab.module(&text), "main", &[pid])
        .expect("no limit applies");
    lab.hear();
    assert_eq!(lab.hear(), Errno::NotGranted as i64);
    assert!(lab.exit(&sender).is_normal());
    assert_eq!(without.used(Limit::Sockets), 0);
    receiver.kill();
    lab.exit(&receiver);
}
