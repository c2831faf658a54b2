//! Tests for processes' TLS streams and listeners, on the loopback interface. The other side is
//! rustls on standard library sockets.

use crate::support::{Lab, guest};
use lunatic_abi::{Errno, FOREVER, ResourceKind, TIMED_OUT};
use lunatic_vm::{Environment, Exit, Limit, Process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a test waits for bytes from a guest.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A server's self-signed certificate and its key.
struct Pem {
    certificate: String,
    key: String,
}

impl Pem {
    fn new() -> Pem {
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])
            .expect("a certificate can be generated");
        Pem {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .expect("the PEM contains a certificate")
    }
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Connects to the guest that reports its port next. The handshake takes place during the first
/// read or write.
fn client(lab: &Lab, pem: &Pem) -> Client {
    client_at(port(lab), pem)
}

fn port(lab: &Lab) -> u16 {
    u16::try_from(lab.hear()).expect("a guest reports its port first")
}

fn client_at(port: u16, pem: &Pem) -> Client {
    let mut roots = RootCertStore::empty();
    roots
        .add(pem.der())
        .expect("the certificate can be used as an authority");
    let config =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config
        .expect("the provider supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).expect("the configuration is valid"),
        socket(port),
    )
}

fn socket(port: u16) -> TcpStream {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the guest is listening");
    socket
        .set_read_timeout(Some(TIMEOUT))
        .expect("the timeout is not zero");
    socket
}

/// Serves one client on a separate thread. Returns the port.
fn serve(
    pem: &Pem,
    serve: impl FnOnce(&mut StreamOwned<ServerConnection, TcpStream>) + Send + 'static,
) -> u16 {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    let port = listener
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).expect("the PEM contains a key");
    let config =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config
        .expect("the provider supports the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![pem.der()], key);
    let connection =
        ServerConnection::new(Arc::new(config.expect("the key matches the certificate")))
            .expect("the configuration is valid");
    thread::spawn(move || {
        let (socket, _) = listener.accept().expect("the guest connects");
        serve(&mut StreamOwned::new(connection, socket));
    });
    port
}

fn send(client: &mut Client, bytes: &[u8]) {
    client
        .write_all(bytes)
        .and_then(|()| client.flush())
        .expect("the guest is reading");
}

#[track_caller]
fn expect(client: &mut Client, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    client
        .read_exact(&mut found)
        .expect("the guest sends an answer");
    assert_eq!(found, bytes);
}

/// Closes the client's direction of the connection.
fn end(client: &mut Client) {
    client.conn.send_close_notify();
    client.flush().expect("the guest is reading");
}

#[track_caller]
fn expect_end(client: &mut Client) {
    let mut rest = Vec::new();
    client
        .read_to_end(&mut rest)
        .expect("the guest announces the end of its direction");
    assert_eq!(rest, b"");
}

/// Returns the source of a guest that has the functions in [`SOCKETS`], the certificate and the
/// key.
fn program(pem: &Pem, fields: &str) -> String {
    const IMPORTS: &[&str] = &[
        "lunatic::error::kind",
        "lunatic::message::create_data",
        "lunatic::message::push_tls_stream",
        "lunatic::message::receive",
        "lunatic::message::resource_kind",
        "lunatic::message::send",
        "lunatic::message::send_bytes",
        "lunatic::message::take_tcp_stream",
        "lunatic::message::take_tls_stream",
        "lunatic::networking::clone_tls_stream",
        "lunatic::networking::drop_dns_iterator",
        "lunatic::networking::drop_tls_stream",
        "lunatic::networking::get_tls_read_timeout",
        "lunatic::networking::resolve_next",
        "lunatic::networking::set_tls_read_timeout",
        "lunatic::networking::set_tls_write_timeout",
        "lunatic::networking::tls_accept",
        "lunatic::networking::tls_bind",
        "lunatic::networking::tls_connect",
        "lunatic::networking::tls_flush",
        "lunatic::networking::tls_local_addr",
        "lunatic::networking::tls_peer_addr",
        "lunatic::networking::tls_read",
        "lunatic::networking::tls_shutdown",
        "lunatic::networking::tls_write_vectored",
        "lunatic::process::spawn",
    ];
    let data = |at: usize, text: &str| {
        format!(
            "(data (i32.const {at}) \"{}\")\n",
            text.replace('\n', "\\n")
        )
    };
    let lengths = format!(
        "(global $certificate i32 (i32.const {})) (global $key i32 (i32.const {}))\n",
        pem.certificate.len(),
        pem.key.len()
    );
    let pem = data(40_000, &pem.certificate) + &data(50_000, &pem.key);
    guest(IMPORTS, &format!("{lengths}{pem}{SOCKETS}{fields}"))
}

/// Functions for guests. Results that the VM writes are stored in the first kilobyte of the memory,
/// and bytes in transit are stored starting at address 1024.
const SOCKETS: &str = r#"
    (data (i32.const 0) "\7f\00\00\01")
    (data (i32.const 600) "127.0.0.1")
    ;; Listens on any free port with a prefix of the certificate, and stores the id of the listener
    ;; or the error at address 8.
    (func $bind (param $certificate i32) (result i32)
        (call $tls_bind (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)
            (i32.const 40000) (local.get $certificate) (i32.const 50000) (global.get $key)))
    ;; Returns the port of the address in the result at address 16.
    (func $port_of_result (result i64)
        (if (call $resolve_next
                (i64.load (i32.const 16)) (i32.const 24) (i32.const 32) (i32.const 48) (i32.const 52) (i32.const 56))
            (then unreachable))
        (call $drop_dns_iterator (i64.load (i32.const 16)))
        (i64.load16_u (i32.const 48)))
    ;; Listens on any free port, and reports the port.
    (func $listen (result i64)
        (if (call $bind (global.get $certificate)) (then unreachable))
        (if (call $tls_local_addr (i64.load (i32.const 8)) (i32.const 16)) (then unreachable))
        (call $say (call $port_of_result))
        (i64.load (i32.const 8)))
    (func $accept (param $listener i64) (result i64)
        (if (call $tls_accept (local.get $listener) (i32.const 64) (i32.const 72)) (then unreachable))
        (call $drop_dns_iterator (i64.load (i32.const 72)))
        (i64.load (i32.const 64)))
    ;; Connects, trusting the certificate, and stores the id of the stream or the error at address
    ;; 64.
    (func $connect (param $port i32) (param $timeout i64) (result i32)
        (i32.store (i32.const 120) (i32.const 40000))
        (i32.store (i32.const 124) (global.get $certificate))
        (call $tls_connect (i32.const 600) (i32.const 9) (local.get $port) (local.get $timeout) (i32.const 64)
            (i32.const 120) (i32.const 1)))
    ;; Reads bytes to address 1024, and stores the byte count or the error's id at address 80.
    (func $read (param $stream i64) (result i32)
        (call $tls_read (local.get $stream) (i32.const 1024) (i32.const 4096) (i32.const 80)))
    ;; Writes bytes from address 1024, and stores the byte count or the error's id at address 88.
    (func $write (param $stream i64) (param $length i32) (result i32)
        (i32.store (i32.const 96) (i32.const 1024))
        (i32.store (i32.const 100) (local.get $length))
        (call $tls_write_vectored (local.get $stream) (i32.const 96) (i32.const 1) (i32.const 88)))
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
    ;; Spawns a process that runs an export without parameters.
    (func $spawn_one (param $name i32) (param $name_length i32) (result i64)
        (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (local.get $name) (local.get $name_length)
                (i32.const 0) (i32.const 0) (i32.const 104))
            (then unreachable))
        (i64.load (i32.const 104)))
    ;; Sends a copy of a stream, together with a word that contains the stream's kind.
    (func $hand_over (param $stream i64) (param $process i64) (result i32)
        (i64.store (i32.const 112) (i64.or (i64.shl (i64.const 4) (i64.const 56)) (local.get $stream)))
        (call $send_bytes (local.get $process) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 112) (i32.const 1)))
    ;; Waits for a message that contains a stream.
    (func $take (result i64)
        (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
        (call $take_tls_stream (i64.const 0)))
"#;

fn spawn_in(lab: &Lab, environment: &Environment, text: &str) -> Process {
    environment
        .spawn(&lab.module(text), "main", &[])
        .expect("no limit applies")
}

#[test]
fn bytes_pass_in_both_directions_and_both_ends_are_announced() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            &pem,
            r#"(func (export "main")
                (local $stream i64)
                (local.set $stream (call $accept (call $listen)))
                (if (call $tls_peer_addr (local.get $stream) (i32.const 16)) (then unreachable))
                (call $say (call $port_of_result))
                (call $echo (local.get $stream))
                (if (call $tls_flush (local.get $stream) (i32.const 88)) (then unreachable)))"#,
        ),
    );
    let mut client = client(&lab, &pem);
    send(&mut client, b"first");
    expect(&mut client, b"first");
    assert_eq!(
        lab.hear(),
        i64::from(
            client
                .sock
                .local_addr()
                .expect("the socket is connected")
                .port()
        )
    );
    let large = vec![7; 100_000];
    for block in large.chunks(20_000) {
        send(&mut client, block);
        expect(&mut client, block);
    }
    end(&mut client);
    expect_end(&mut client);
    assert!(lab.exit(&server).is_normal());
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn a_guest_can_close_its_direction_and_continue_to_read() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let server = lab.spawn(&program(
        &pem,
        r#"(data (i32.const 1024) "I am done.")
        (func (export "main")
            (local $stream i64)
            (local.set $stream (call $accept (call $listen)))
            (if (call $write (local.get $stream) (i32.const 10)) (then unreachable))
            (if (call $tls_shutdown (local.get $stream) (i32.const 88)) (then unreachable))
            (if (i32.ne (call $write (local.get $stream) (i32.const 10)) (i32.const 1)) (then unreachable))
            (call $say_error (i32.const 88))
            (if (call $read (local.get $stream)) (then unreachable))
            (call $say (i64.load (i32.const 80))))"#,
    ));
    let mut client = client(&lab, &pem);
    expect(&mut client, b"I am done.");
    expect_end(&mut client);
    assert_eq!(lab.hear(), Errno::BrokenPipe as i64);
    send(&mut client, b"hears");
    assert_eq!(lab.hear(), 5);
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn a_stream_that_ends_without_a_notice_is_an_error() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let server = lab.spawn(&program(
        &pem,
        r#"(func (export "main")
            (local $stream i64)
            (local.set $stream (call $accept (call $listen)))
            (if (call $read (local.get $stream)) (then unreachable))
            (call $say (i64.load (i32.const 80)))
            (if (i32.ne (call $read (local.get $stream)) (i32.const 1)) (then unreachable))
            (call $say_error (i32.const 80)))"#,
    ));
    let mut client = client(&lab, &pem);
    send(&mut client, b"cut");
    drop(client);
    assert_eq!(lab.hear_all(), [3, Errno::ConnectionAborted as i64]);
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn t118_clients_that_fail_or_stall_neither_end_nor_delay_the_accepting_process() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let environment = lab.environment();
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            &pem,
            r#"(func (export "main")
                (local $listener i64) (local $stream i64)
                (local.set $listener (call $listen))
                (loop $again
                    (local.set $stream (call $accept (local.get $listener)))
                    (call $echo (local.get $stream))
                    (call $drop_tls_stream (local.get $stream))
                    (br $again)))"#,
        ),
    );
    let port = port(&lab);
    let stalled: Vec<TcpStream> = (0..10).map(|_| socket(port)).collect();
    for round in 0..5 {
        let mut rude = socket(port);
        rude.write_all(b"GET / HTTP/1.1\r\n\r\n")
            .expect("the kernel's buffer has room");
        drop(socket(port));
        // This client does not trust the server.
        let refused = client_at(port, &Pem::new())
            .write_all(b"x")
            .expect_err("the certificate belongs to another server");
        assert_eq!(refused.kind(), ErrorKind::InvalidData, "{refused}");
        let mut client = client_at(port, &pem);
        send(&mut client, b"served");
        expect(&mut client, b"served");
        end(&mut client);
        expect_end(&mut client);
        assert!(server.is_alive(), "round {round}");
    }
    server.kill();
    lab.exit(&server);
    assert_eq!(environment.used(Limit::Sockets), 0);
    for mut client in stalled {
        assert_eq!(
            client
                .read(&mut [0])
                .expect("the connection is closed cleanly"),
            0
        );
    }
}

#[test]
fn t118_handshakes_count_as_sockets_and_those_beyond_the_limit_wait() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Sockets, 3);
    });
    let server = spawn_in(
        &lab,
        &environment,
        &program(
            &pem,
            r#"(func (export "main") (call $echo (call $accept (call $listen))))"#,
        ),
    );
    let port = port(&lab);
    let stalled: Vec<TcpStream> = (0..5).map(|_| socket(port)).collect();
    lab.wait_for("the stalled clients to be accepted", async {
        while environment.used(Limit::Sockets) < 3 {
            futures_lite::future::yield_now().await;
        }
    });
    lab.wait_until_idle();
    assert_eq!(environment.used(Limit::Sockets), 3);
    // Once those clients disconnect, there is room.
    drop(stalled);
    let mut client = client_at(port, &pem);
    send(&mut client, b"served");
    expect(&mut client, b"served");
    end(&mut client);
    assert!(lab.exit(&server).is_normal());
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t118_an_unusable_certificate_is_an_error() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let environment = lab.environment();
    let check = |certificate: &str, key: &str, length: u32| {
        let pem = Pem {
            certificate: certificate.into(),
            key: key.into(),
        };
        let text = program(
            &pem,
            &format!(
                r#"(func (export "main")
                    (drop (memory.grow (i32.const 10)))
                    (if (i32.ne (call $bind (i32.const {length})) (i32.const 1)) (then unreachable))
                    (call $say_error (i32.const 8)))"#
            ),
        );
        let process = spawn_in(&lab, &environment, &text);
        let exit = lab.exit(&process);
        assert!(exit.is_normal(), "{exit}");
        assert_eq!(lab.hear(), Errno::InvalidInput as i64);
        assert_eq!(environment.used(Limit::Sockets), 0);
    };
    let whole = pem.certificate.len() as u32;
    check(&pem.certificate, &pem.key, whole - 30);
    check(&pem.certificate, &pem.key, 0);
    check(&pem.certificate, &pem.key, 300_000);
    check(&pem.certificate, &Pem::new().key, whole);
    check(&pem.certificate, "no key", whole);
}

#[test]
fn a_guest_can_connect_to_servers_that_it_trusts() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let port = serve(&pem, |stream| {
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes).expect("the guest is writing");
        stream.write_all(&bytes).expect("the guest is reading");
        stream.conn.send_close_notify();
        stream.flush().expect("the guest is reading");
    });
    let exit = lab.run(&program(
        &pem,
        &format!(
            r#"(data (i32.const 1024) "question")
            (func (export "main")
                (if (call $connect (i32.const {port}) (i64.const {FOREVER})) (then unreachable))
                (if (call $write (i64.load (i32.const 64)) (i32.const 8)) (then unreachable))
                (if (call $read (i64.load (i32.const 64))) (then unreachable))
                (call $say (i64.load (i32.const 80)))
                (if (call $read (i64.load (i32.const 64))) (then unreachable))
                (call $say (i64.load (i32.const 80))))"#
        ),
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [8, 0]);
}

/// The published guest crate passes the length of each pair first. Its addresses are large, because
/// its stack comes first in memory.
#[test]
fn authorities_are_read_in_the_form_in_which_the_published_guest_crate_passes_them() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let port = serve(&pem, |stream| {
        stream.write_all(b"x").expect("the guest is reading");
        stream.flush().expect("the guest is reading");
    });
    let exit = lab.run(&program(
        &pem,
        &format!(
            r#"(func (export "main")
                (drop (memory.grow (i32.const 20)))
                (memory.copy (i32.const 0x110000) (i32.const 40000) (global.get $certificate))
                (i32.store (i32.const 120) (global.get $certificate))
                (i32.store (i32.const 124) (i32.const 0x110000))
                (if (call $tls_connect (i32.const 600) (i32.const 9) (i32.const {port}) (i64.const -1) (i32.const 64)
                        (i32.const 120) (i32.const 1))
                    (then unreachable))
                (if (call $read (i64.load (i32.const 64))) (then unreachable))
                (call $say (i64.load (i32.const 80))))"#
        ),
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 1);
}

#[test]
fn t118_an_untrusted_or_unreachable_server_is_an_error() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let environment = lab.environment();
    let check = |connect: &str, code: i32, errno: Option<Errno>| {
        let text = format!(
            r#"(data (i32.const 620) "a..b")
            (func (export "main")
                (call $say (i64.extend_i32_s {connect}))
                (if (i64.ne (i64.load (i32.const 64)) (i64.const 77)) (then (call $say_error (i32.const 64)))))"#
        );
        let text = text.replace(
            "(func (export \"main\")",
            "(func (export \"main\") (i64.store (i32.const 64) (i64.const 77))",
        );
        let process = spawn_in(&lab, &environment, &program(&pem, &text));
        let exit = lab.exit(&process);
        assert!(exit.is_normal(), "{exit}");
        assert_eq!(lab.hear(), i64::from(code), "{connect}");
        if let Some(errno) = errno {
            assert_eq!(lab.hear(), errno as i64, "{connect}");
        }
        assert_eq!(environment.used(Limit::Sockets), 0);
    };
    // The certificate belongs to another server. The guest closes the connection, which is an error
    // on the server's side.
    let port = serve(&Pem::new(), |stream| drop(stream.flush()));
    check(
        &format!("(call $connect (i32.const {port}) (i64.const -1))"),
        1,
        Some(Errno::BadTls),
    );
    // The web's authorities do not certify the server either.
    let port = serve(&pem, |stream| drop(stream.flush()));
    let with = |name: &str, port: u16, authorities: &str| {
        format!(
            "(call $tls_connect {name} (i32.const {port}) (i64.const -1) (i32.const 64) {authorities})"
        )
    };
    let (here, nobody) = (
        "(i32.const 600) (i32.const 9)",
        "(i32.const 0) (i32.const 0)",
    );
    check(&with(here, port, nobody), 1, Some(Errno::BadTls));
    // Here, the PEM data for the authorities contains no certificate.
    check(
        &with(here, port, "(i32.const 120) (i32.const 1)"),
        1,
        Some(Errno::InvalidInput),
    );
    check(
        &with("(i32.const 620) (i32.const 4)", port, nobody),
        1,
        Some(Errno::InvalidInput),
    );
    check(
        &with("(i32.const 620) (i32.const 0)", port, nobody),
        1,
        Some(Errno::InvalidInput),
    );
    check(
        &with("(i32.const 1024) (i32.const 301)", port, nobody),
        1,
        Some(Errno::InvalidInput),
    );
    // At first the server does not respond, and then there is no listener.
    let silent =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    let port = silent
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    check(
        &format!("(call $connect (i32.const {port}) (i64.const 20))"),
        TIMED_OUT,
        None,
    );
    drop(silent);
    check(
        &format!("(call $connect (i32.const {port}) (i64.const -1))"),
        1,
        Some(Errno::ConnectionRefused),
    );
}

#[test]
fn t112_reads_and_writes_time_out_without_losing_data() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let server = lab.spawn(&program(
        &pem,
        r#"(func (export "main")
            (local $stream i64) (local $sum i64) (local $result i32)
            (local.set $stream (call $accept (call $listen)))
            (call $set_tls_read_timeout (local.get $stream) (i64.const 5))
            (call $say (call $get_tls_read_timeout (call $clone_tls_stream (local.get $stream))))
            (call $say (i64.extend_i32_s (call $read (local.get $stream))))
            (call $set_tls_write_timeout (local.get $stream) (i64.const 20))
            (loop $again
                (local.set $result (call $write (local.get $stream) (i32.const 30000)))
                (if (i32.eqz (local.get $result))
                    (then
                        (local.set $sum (i64.add (local.get $sum) (i64.load (i32.const 88))))
                        (br $again))))
            (call $say (i64.extend_i32_s (local.get $result)))
            (call $say (local.get $sum))
            ;; Now the guest waits until the bytes that were accepted have been sent.
            (call $set_tls_write_timeout (local.get $stream) (i64.const -1))
            (if (call $tls_flush (local.get $stream) (i32.const 88)) (then unreachable)))"#,
    ));
    let mut client = client(&lab, &pem);
    // Both sides have now completed the handshake.
    client
        .conn
        .complete_io(&mut client.sock)
        .expect("the guest completes the handshake");
    let late = i64::from(TIMED_OUT);
    assert_eq!(lab.hear_all(), [5, late, late]);
    let written = lab.hear();
    let mut rest = Vec::new();
    client
        .read_to_end(&mut rest)
        .expect("the guest announces the end of its direction");
    assert_eq!(rest.len() as i64, written);
    assert!(lab.exit(&server).is_normal());
}

#[test]
fn t115_one_process_can_read_while_another_writes() {
    const BYTES: usize = 100 * 4_096;
    let (lab, pem) = (Lab::new(), Pem::new());
    let server = lab.spawn(&program(
        &pem,
        r#"(data (i32.const 200) "writer")
        (func (export "writer")
            (local $stream i64) (local $round i32)
            (local.set $stream (call $take))
            (call $say (i64.extend_i32_u (call $resource_kind (i64.const 0))))
            (loop $again
                (i32.store8 (i32.const 5119) (local.get $round))
                (if (call $write (local.get $stream) (i32.const 4096)) (then unreachable))
                (if (i64.ne (i64.load (i32.const 88)) (i64.const 4096)) (then unreachable))
                (local.set $round (i32.add (local.get $round) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $round) (i32.const 100)))))
        (func (export "main")
            (local $stream i64) (local $count i64)
            (local.set $stream (call $accept (call $listen)))
            (if (call $hand_over (local.get $stream) (call $spawn_one (i32.const 200) (i32.const 6))) (then unreachable))
            (loop $again
                (if (call $read (local.get $stream)) (then unreachable))
                (local.set $count (i64.add (local.get $count) (i64.load (i32.const 80))))
                (br_if $again (i64.ne (i64.load (i32.const 80)) (i64.const 0))))
            (call $say (local.get $count)))"#,
    ));
    let mut client = client(&lab, &pem);
    // The guest is waiting to read, but the bytes that it writes still arrive.
    let mut found = vec![0; BYTES];
    client.read_exact(&mut found).expect("the guest is writing");
    assert_eq!(lab.hear(), ResourceKind::None as i64);
    for (round, block) in found.chunks(4_096).enumerate() {
        assert_eq!(usize::from(block[4_095]), round);
        assert!(block[..4_095].iter().all(|byte| *byte == 0));
    }
    send(&mut client, &[1; 1000]);
    end(&mut client);
    assert_eq!(lab.hear(), 1000);
    assert!(lab.exit(&server).is_normal());
    expect_end(&mut client);
}

#[test]
fn t061_a_stream_in_a_message_is_closed_once_when_the_last_process_that_has_it_ends() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let environment = lab.environment();
    let text = program(
        &pem,
        r#"(data (i32.const 200) "child")
        (func (export "child") (call $say (i64.const 7)) (loop (br 0)))
        (func (export "main")
            (local $stream i64) (local $child i64)
            (local.set $stream (call $accept (call $listen)))
            (local.set $child (call $spawn_one (i32.const 200) (i32.const 5)))
            ;; The stream is moved into the message and never taken out.
            (call $create_data (i64.const 0) (i64.const 0))
            (drop (call $push_tls_stream (local.get $stream)))
            (if (call $send (local.get $child)) (then unreachable)))"#,
    );
    let server = spawn_in(&lab, &environment, &text);
    let mut client = client(&lab, &pem);
    send(&mut client, b"x");
    assert!(lab.exit(&server).is_normal());
    assert_eq!(lab.hear(), 7);
    assert_eq!(environment.used(Limit::Sockets), 1);
    let [child] = &lab.vm.processes()[..] else {
        panic!("exactly one process must be left")
    };
    child.kill();
    lab.exit(child);
    assert_eq!(environment.used(Limit::Sockets), 0);
    expect_end(&mut client);
}

#[test]
fn t062_a_stream_cannot_be_sent_to_a_process_without_the_right_to_streams() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let without = lab.environment_with(|config| {
        config.deny("lunatic::networking::tls_");
    });
    let waits = program(
        &pem,
        r#"(func (export "main") (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))"#,
    );
    let receiver = spawn_in(&lab, &without, &waits);
    let pid = receiver.pid().number().cast_signed();
    let sender = lab.spawn(&program(
        &pem,
        &format!(
            r#"(func (export "main")
                (call $say (i64.extend_i32_s (call $hand_over (call $accept (call $listen)) (i64.const {pid})))))"#
        ),
    ));
    let mut client = client(&lab, &pem);
    send(&mut client, b"x");
    assert_eq!(lab.hear(), Errno::NotGranted as i64);
    assert!(lab.exit(&sender).is_normal());
    assert_eq!(without.used(Limit::Sockets), 0);
    expect_end(&mut client);
    receiver.kill();
    lab.exit(&receiver);
}

#[test]
fn t082_a_stream_cannot_be_taken_as_a_resource_of_another_kind() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let server = lab.spawn(&program(
        &pem,
        r#"(func (export "main")
            (call $create_data (i64.const 0) (i64.const 0))
            (drop (call $push_tls_stream (call $accept (call $listen))))
            (call $say (i64.extend_i32_u (call $resource_kind (i64.const 0))))
            (drop (call $take_tcp_stream (i64.const 0))))"#,
    ));
    let mut client = client(&lab, &pem);
    send(&mut client, b"x");
    assert_eq!(lab.hear(), ResourceKind::TlsStream as i64);
    let exit = lab.exit(&server);
    assert!(exit.to_string().contains("is not a stream"), "{exit}");
}

#[test]
fn t070_a_process_can_be_killed_while_it_waits_for_tls() {
    let (lab, pem) = (Lab::new(), Pem::new());
    let silent =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system chooses a free port");
    let silent_port = silent
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let check = |wait: &str| {
        let environment = lab.environment();
        let text = format!(
            r#"(func (export "main")
                (local $listener i64) (local $stream i64)
                (local.set $listener (call $listen))
                (local.set $stream (call $accept (local.get $listener)))
                (call $say (i64.const 1))
                (loop $again (drop {wait}) (br $again)))"#
        );
        let server = spawn_in(&lab, &environment, &program(&pem, &text));
        let mut client = client(&lab, &pem);
        client
            .conn
            .complete_io(&mut client.sock)
            .expect("the guest completes the handshake");
        assert_eq!(lab.hear(), 1);
        lab.wait_until_idle();
        server.kill();
        assert!(matches!(lab.exit(&server), Exit::Killed), "{wait}");
        assert_eq!(environment.used(Limit::Sockets), 0, "{wait}");
    };
    check("(call $accept (local.get $listener))");
    check("(call $read (local.get $stream))");
    check("(call $write (local.get $stream) (i32.const 30000))");
    check(&format!(
        "(call $connect (i32.const {silent_port}) (i64.const -1))"
    ));
}
