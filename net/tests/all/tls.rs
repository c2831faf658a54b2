use crate::pair::{LOOPBACK, kind};
use lunatic_net::dns::Resolver;
use lunatic_net::tcp::{Operation, TcpListener};
use lunatic_net::tls::{HandshakeLimits, Identity, MAX_PEM_SIZE, TlsListener, TlsStream, Trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use smol::future::{or, poll_once, zip};
use smol::{block_on, spawn, unblock};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream as RawStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Short, because the timeout itself is being tested. Nothing happens before it expires.
const SHORT: Duration = Duration::from_millis(20);

/// A self-signed certificate and its key.
struct Pem {
    certificate: String,
    key: String,
}

impl Pem {
    fn identity(&self) -> Identity {
        Identity::from_pem(self.certificate.as_bytes(), self.key.as_bytes())
            .expect("the key matches the certificate")
    }

    fn trust(&self) -> Trust {
        Trust::only([self.certificate.as_bytes()]).expect("the PEM contains a certificate")
    }
}

/// Generates a certificate for a name or an address.
fn pem(name: &str) -> Pem {
    let made = rcgen::generate_simple_self_signed([name.to_owned()])
        .expect("a certificate can be generated");
    Pem {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

fn listen(pem: &Pem, limits: HandshakeLimits) -> (TlsListener, SocketAddr) {
    let listener = TlsListener::bind(LOOPBACK, pem.identity(), limits)
        .expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    (listener, address)
}

async fn accept(listener: &TlsListener) -> TlsStream {
    listener
        .accept(|| async {})
        .await
        .expect("a client has connected")
        .0
}

async fn connect(address: SocketAddr, trust: &Trust) -> io::Result<TlsStream> {
    TlsStream::connect(
        &Resolver::default(),
        "127.0.0.1",
        address.port(),
        trust,
        None,
    )
    .await
}

/// Returns both ends of a connection.
async fn pair() -> (TlsStream, TlsStream) {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(&pem, HandshakeLimits::default());
    let (client, server) = zip(connect(address, &pem.trust()), accept(&listener)).await;
    (client.expect("the server is trusted"), server)
}

async fn read(stream: &TlsStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut wait = stream.wait(Operation::Read);
    loop {
        match stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait.ready().await?,
            result => return result,
        }
    }
}

async fn read_all(stream: &TlsStream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match read(stream, &mut buffer)
            .await
            .expect("the stream ends cleanly")
        {
            0 => return all,
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
}

async fn flush(stream: &TlsStream) {
    while let Err(error) = stream.try_flush() {
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        stream.writable().await.expect("the peer is reading");
    }
}

async fn write_all(stream: &TlsStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.try_write_vectored(&[IoSlice::new(bytes)]) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stream.writable().await.expect("the peer is reading")
            }
            Err(error) => panic!("the write failed: {error}"),
        }
    }
    flush(stream).await;
}

/// Peers that do not use this crate: rustls on standard library sockets.
mod raw {
    use super::*;

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    pub(super) fn client(
        address: SocketAddr,
        pem: &Pem,
    ) -> StreamOwned<ClientConnection, RawStream> {
        let mut roots = RootCertStore::empty();
        let certificate =
            rustls::pki_types::CertificateDer::from_pem_slice(pem.certificate.as_bytes());
        roots
            .add(certificate.expect("the PEM contains a certificate"))
            .expect("the certificate can be used as an authority");
        let config =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config
            .expect("the provider supports the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").expect("the text is an IP address");
        let connection =
            ClientConnection::new(Arc::new(config), name).expect("the configuration is valid");
        StreamOwned::new(
            connection,
            RawStream::connect(address).expect("the listener exists"),
        )
    }

    pub(super) fn server(socket: RawStream, pem: &Pem) -> StreamOwned<ServerConnection, RawStream> {
        let certificate =
            rustls::pki_types::CertificateDer::from_pem_slice(pem.certificate.as_bytes());
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
            .expect("the PEM contains a key");
        let config =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config
            .expect("the provider supports the default versions")
            .with_no_client_auth();
        let config = config
            .with_single_cert(
                vec![certificate.expect("the PEM contains a certificate")],
                key,
            )
            .expect("the key matches the certificate");
        StreamOwned::new(
            ServerConnection::new(Arc::new(config)).expect("the configuration is valid"),
            socket,
        )
    }
}

#[test]
fn bytes_pass_in_both_directions_in_order_until_the_end() {
    block_on(async {
        let (client, server) = pair().await;
        assert_eq!(kind(client.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
        let parts: [&[u8]; 3] = [b"there ", b"", b"and"];
        assert_eq!(
            client
                .try_write_vectored(&parts.map(IoSlice::new))
                .expect("the send buffer has room"),
            9
        );
        let mut buffer = [0; 32];
        let length = read(&server, &mut buffer)
            .await
            .expect("bytes are available");
        assert_eq!(&buffer[..length], b"there and");
        write_all(&server, b"back").await;
        drop(server);
        assert_eq!(read_all(&client).await, b"back");
        assert_eq!(
            client
                .try_read(&mut buffer)
                .expect("the stream stays at its end"),
            0
        );
        assert_eq!(
            (
                client
                    .try_read(&mut [])
                    .expect("no bytes have to be transferred"),
                client
                    .try_write_vectored(&[])
                    .expect("no bytes have to be transferred")
            ),
            (0, 0)
        );
    });
}

#[test]
fn other_implementations_of_clients_and_servers_are_supported() {
    let pem = Arc::new(pem("127.0.0.1"));
    let (listener, address) = listen(&pem, HandshakeLimits::default());
    let client = thread::spawn({
        let pem = pem.clone();
        move || {
            let mut client = raw::client(address, &pem);
            client
                .write_all(b"question")
                .expect("the server is reading");
            client.conn.send_close_notify();
            client.flush().expect("the server is reading");
            let mut answer = String::new();
            client
                .read_to_string(&mut answer)
                .expect("the server ends the stream cleanly");
            answer
        }
    });
    block_on(async {
        let server = accept(&listener).await;
        assert_eq!(read_all(&server).await, b"question");
        write_all(&server, b"answer").await;
    });
    assert_eq!(client.join().expect("the thread does not panic"), "answer");

    let listener = std::net::TcpListener::bind(LOOPBACK).expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let trust = pem.trust();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client connects");
        let mut server = raw::server(socket, &pem);
        let mut question = [0; 8];
        server
            .read_exact(&mut question)
            .expect("the client is writing");
        server.write_all(&question).expect("the client is reading");
        server.conn.send_close_notify();
        server.flush().expect("the client is reading");
    });
    block_on(async {
        let client = connect(address, &trust)
            .await
            .expect("the server is trusted");
        write_all(&client, b"question").await;
        assert_eq!(read_all(&client).await, b"question");
    });
    server.join().expect("the thread does not panic");
}

/// Tests T118.
#[test]
fn a_client_that_stalls_does_not_delay_other_clients() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(&pem, HandshakeLimits::default());
    block_on(async {
        let stalled: Vec<RawStream> = (0..10)
            .map(|_| RawStream::connect(address).expect("the kernel queues the connection"))
            .collect();
        for _ in 0..3 {
            let (client, server) = zip(connect(address, &pem.trust()), accept(&listener)).await;
            write_all(&client.expect("the server is trusted"), b"served").await;
            assert_eq!(read_all(&server).await, b"served");
        }
        drop(stalled);
    });
}

/// Tests T118: the number of concurrent handshakes is limited, so stalled handshakes have to be
/// aborted.
#[test]
fn the_handshake_of_a_client_that_stalls_is_aborted_to_make_room() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(
        &pem,
        HandshakeLimits {
            concurrent: 2,
            flight_timeout: SHORT,
        },
    );
    block_on(async {
        let stalled: Vec<RawStream> = (0..5)
            .map(|_| RawStream::connect(address).expect("the kernel queues the connection"))
            .collect();
        let trust = pem.trust();
        // On a busy computer, this client may also be too slow for the short timeout, so it tries
        // repeatedly.
        let persists = async { while connect(address, &trust).await.is_err() {} };
        let accepts = async { drop(accept(&listener).await) };
        zip(persists, accepts).await;
        // At a minimum, the handshakes that had to be aborted to make room have ended.
        for mut client in &stalled[..4] {
            assert_eq!(
                client
                    .read(&mut [0; 8])
                    .expect("the peer closes the stream cleanly"),
                0
            );
        }
    });
}

/// Tests T118: a client that sends bytes very slowly gets no more time than a silent client.
#[test]
fn the_handshake_of_a_client_that_sends_very_slowly_is_aborted() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(
        &pem,
        HandshakeLimits {
            concurrent: 1,
            flight_timeout: SHORT,
        },
    );
    let trickle = thread::spawn(move || {
        let mut client = RawStream::connect(address).expect("the kernel queues the connection");
        // This is the beginning of a 16 KiB record that is never completed.
        let mut written = client.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]);
        client
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("the timeout is not zero");
        while written.is_ok() {
            if !matches!(client.read(&mut [0]), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
            {
                return;
            }
            written = client.write_all(&[3]);
        }
    });
    block_on(async {
        let accepts = async {
            accept(&listener).await;
            panic!("a stream was accepted although no handshake was completed");
        };
        or(
            accepts,
            unblock(move || trickle.join().expect("the thread does not panic")),
        )
        .await;
    });
}

/// Tests T118.
#[test]
fn a_failed_handshake_does_not_make_the_accept_fail() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(&pem, HandshakeLimits::default());
    block_on(async {
        let send = |bytes: &[u8]| {
            let mut client = RawStream::connect(address).expect("the kernel queues the connection");
            client.write_all(bytes).expect("the send buffer has room");
            client
        };
        let talkers = [
            send(b"GET / HTTP/1.1\r\n\r\n"),
            send(&[0x16, 3, 1, 0xff, 0xff]),
            send(&[0; 1000]),
            send(b"\x15\x03\x01\0\x02\x02\x28"),
        ];
        // These clients disconnect immediately, cleanly or with a reset.
        drop(RawStream::connect(address).expect("the kernel queues the connection"));
        let reset = RawStream::connect(address).expect("the kernel queues the connection");
        socket2::SockRef::from(&reset)
            .set_linger(Some(Duration::ZERO))
            .expect("the system supports the option");
        drop(reset);
        // This client does not trust the server.
        let web = Trust::web();
        let doubtful = connect(address, &web);
        // Handshakes make progress only during an accept. None of these clients makes the accept
        // return.
        let nobody = async {
            accept(&listener).await;
            panic!("no client has completed a handshake")
        };
        assert_eq!(kind(or(doubtful, nobody).await), ErrorKind::InvalidData);
        let (client, _server) = zip(connect(address, &pem.trust()), accept(&listener)).await;
        client.expect("the server is trusted");
        drop(talkers);
    });
}

#[test]
fn finished_handshakes_wait_for_an_accept_and_a_dropped_accept_loses_none() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(
        &pem,
        HandshakeLimits {
            concurrent: 3,
            ..HandshakeLimits::default()
        },
    );
    block_on(async {
        let trust = pem.trust();
        let clients: Vec<_> = (0..10)
            .map(|_| {
                let trust = trust.clone();
                spawn(async move {
                    let client = connect(address, &trust)
                        .await
                        .expect("the server is trusted");
                    write_all(&client, b"x").await;
                    client
                })
            })
            .collect();
        let mut accepted = Vec::new();
        while accepted.len() < clients.len() {
            // Most of these accepts are dropped in the middle of a handshake.
            if let Some(stream) = poll_once(accept(&listener)).await {
                accepted.push(stream);
            }
            smol::future::yield_now().await;
        }
        for stream in &accepted {
            assert_eq!(
                read(stream, &mut [0; 8])
                    .await
                    .expect("the peer wrote a byte"),
                1
            );
        }
        for client in clients {
            client.await;
        }
    });
}

/// Tests T110 for the port and for handshakes that are in progress.
#[test]
fn a_port_is_free_and_handshakes_end_when_the_last_handle_is_dropped() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(&pem, HandshakeLimits::default());
    block_on(async {
        let mut stalled = RawStream::connect(address).expect("the kernel queues the connection");
        let (client, _server) = zip(connect(address, &pem.trust()), accept(&listener)).await;
        client.expect("the server is trusted");
        let other = listener.clone();
        drop(listener);
        assert_eq!(kind(TcpListener::bind(address)), ErrorKind::AddrInUse);
        drop(other);
        TcpListener::bind(address).expect("the port is free");
        let mut rest = Vec::new();
        stalled
            .read_to_end(&mut rest)
            .expect("the peer closes the stream cleanly");
        assert!(rest.is_empty());
    });
}

/// Returns the result of connecting a client to a server with the given certificates.
fn verdict(certificates: &str, key: &KeyPair, trust: &Trust) -> String {
    let identity = Identity::from_pem(certificates.as_bytes(), key.serialize_pem().as_bytes())
        .expect("the key matches the certificate");
    let listener: TlsListener = TlsListener::bind(LOOPBACK, identity, HandshakeLimits::default())
        .expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    block_on(async {
        let accepts = async {
            loop {
                accept(&listener).await;
            }
        };
        match or(connect(address, trust), accepts).await {
            Ok(_) => "trusted".into(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
                error.to_string()
            }
        }
    })
}

/// Tests T118.
#[test]
fn a_certificate_is_trusted_only_if_it_is_valid() {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params
    };
    let key = || KeyPair::generate().expect("a key can be generated");
    let root = CertifiedIssuer::self_signed(authority("root"), key())
        .expect("an authority can be generated");
    let middle = CertifiedIssuer::signed_by(authority("middle"), key(), &root)
        .expect("an authority can be generated");
    let trust = Trust::only([root.pem().as_bytes()]).expect("the PEM contains a certificate");

    let leaf = |name: &str, change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new([name.to_owned()]).expect("the name is valid");
        change(&mut params);
        let key = key();
        (
            params
                .signed_by(&key, &middle)
                .expect("the issuer can sign")
                .pem(),
            key,
        )
    };
    let check = |(leaf, key): (String, KeyPair), expected: &str| {
        let verdict = verdict(&format!("{leaf}{}", middle.pem()), &key, &trust);
        assert!(
            verdict.contains(expected),
            "{verdict} does not contain {expected}"
        );
    };
    check(leaf("127.0.0.1", |_| {}), "trusted");
    check(leaf("127.0.0.2", |_| {}), "not valid for name");
    check(leaf("localhost", |_| {}), "not valid for name");
    check(
        leaf("127.0.0.1", |params| {
            params.not_after = date_time_ymd(1999, 1, 1)
        }),
        "expired",
    );
    check(
        leaf("127.0.0.1", |params| {
            params.not_before = date_time_ymd(4000, 1, 1)
        }),
        "not valid yet",
    );

    // The chain lacks the intermediate authority, or the client trusts a different root.
    let (alone, key) = leaf("127.0.0.1", |_| {});
    assert!(verdict(&alone, &key, &trust).contains("UnknownIssuer"));
    assert!(
        verdict(&format!("{alone}{}", middle.pem()), &key, &Trust::web()).contains("UnknownIssuer")
    );

    // No peer reads this many certificates: the certificates in a handshake may total at most 64
    // KiB.
    let (leaf, key) = leaf("127.0.0.1", |_| {});
    let refused = verdict(&format!("{leaf}{}", middle.pem().repeat(250)), &key, &trust);
    assert!(
        refused.contains("HandshakePayloadTooLarge") || refused.contains("TooLarge"),
        "{refused}"
    );
}

#[test]
fn errors_report_what_is_wrong_with_an_identity_or_authority() {
    let (one, other) = (pem("127.0.0.1"), pem("127.0.0.1"));
    let check = |certificate: &str, key: &str, why: &str| {
        let error = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).expect_err(why);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains(why),
            "{error} does not contain {why}"
        );
    };
    let broken = |text: &str| text.replace("-----END", "-----");
    let (certificate, key) = (one.certificate.as_str(), one.key.as_str());
    check("", key, "contains no certificate");
    check(certificate, "", "contains no private key");
    check(key, certificate, "contains no certificate");
    check(certificate, certificate, "contains no private key");
    check(
        &broken(certificate),
        key,
        "the PEM text of a certificate is malformed",
    );
    check(
        certificate,
        &broken(key),
        "the PEM text of a private key is malformed",
    );
    check(certificate, &other.key, "cannot be used");
    check(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        key,
        "cannot be used",
    );
    check(&"x".repeat(MAX_PEM_SIZE + 1), key, "at most");
    check(certificate, &"x".repeat(MAX_PEM_SIZE + 1), "at most");

    for (text, why) in [
        ("", "contains no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cannot be used as an authority",
        ),
    ] {
        let error = Trust::only([one.certificate.as_bytes(), text.as_bytes()]).expect_err(why);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains(why),
            "{error} does not contain {why}"
        );
    }
    assert!(
        !format!("{:?}", one.identity()).contains("key"),
        "a key must not appear in a log"
    );
}

#[test]
fn keys_can_be_in_any_of_three_formats() {
    let sec1 = (
        include_str!("tls/sec1.pem"),
        include_str!("tls/sec1.key.pem"),
    );
    let pkcs1 = (
        include_str!("tls/pkcs1.pem"),
        include_str!("tls/pkcs1.key.pem"),
    );
    let pkcs8 = pem("127.0.0.1");
    for (certificate, key) in [sec1, pkcs1, (&pkcs8.certificate, &pkcs8.key)] {
        // Text before and after the PEM data does not matter.
        let pem = Pem {
            certificate: format!("issued to: me\n{certificate}\n"),
            key: format!("\n{key}{key}"),
        };
        let (listener, address) = listen(&pem, HandshakeLimits::default());
        block_on(async {
            let (client, _server) = zip(connect(address, &pem.trust()), accept(&listener)).await;
            client.expect("the server is trusted");
        });
    }
}

#[test]
fn a_connect_times_out_whatever_it_is_waiting_for() {
    let silent = std::net::TcpListener::bind(LOOPBACK).expect("the system chooses a free port");
    let port = silent
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let connect = |host, port| {
        let resolver = Resolver::with_look_up(Default::default(), move |host, _| match host {
            "silent.test" => Ok(vec![([127, 0, 0, 1], port).into()]),
            _ => Ok(vec![]),
        });
        block_on(TlsStream::connect(
            &resolver,
            host,
            port,
            &Trust::web(),
            Some(SHORT),
        ))
    };
    // The kernel accepts the connection, but no server responds.
    for host in ["127.0.0.1", "silent.test"] {
        let error = connect(host, port).expect_err("the server does not respond");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains(host), "{error}");
    }
    assert_eq!(kind(connect("nowhere.test", port)), ErrorKind::NotFound);
    let endless = "x".repeat(1_000_000);
    for host in [
        "",
        "no host",
        "-",
        "a..b",
        "[::1]",
        "127.0.0.1:80",
        &endless,
    ] {
        let error = connect(host, port).expect_err(host);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().len() < 200, "{error}");
    }
    drop(silent);
    assert_eq!(
        kind(connect("127.0.0.1", port)),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn a_server_that_does_not_use_tls_is_an_error() {
    let listener = std::net::TcpListener::bind(LOOPBACK).expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client connects");
        socket
            .write_all(b"220 mail.test ESMTP\r\n")
            .expect("the client is reading");
        let (socket, _) = listener.accept().expect("a client connects");
        drop(socket);
    });
    let talks = block_on(connect(address, &Trust::web())).expect_err("the peer does not use TLS");
    assert_eq!(talks.kind(), ErrorKind::InvalidData, "{talks}");
    let leaves =
        block_on(connect(address, &Trust::web())).expect_err("the peer closes the connection");
    assert!(
        matches!(
            leaves.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{leaves}"
    );
    server.join().expect("the thread does not panic");
}

#[test]
fn a_stream_that_is_cut_off_differs_from_a_stream_that_ended() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(&pem, HandshakeLimits::default());
    for is_cut in [true, false] {
        let client = thread::spawn({
            let mut client = raw::client(address, &pem);
            move || {
                client
                    .write_all(b"all there is")
                    .expect("the server is reading");
                if !is_cut {
                    client.conn.send_close_notify();
                }
                client.flush().expect("the server is reading");
            }
        });
        block_on(async {
            let server = accept(&listener).await;
            let mut buffer = [0; 32];
            // The client has disconnected, but the bytes that it wrote are read first.
            client.join().expect("the thread does not panic");
            assert_eq!(
                read(&server, &mut buffer)
                    .await
                    .expect("bytes are available"),
                12
            );
            match read(&server, &mut buffer).await {
                Ok(0) => assert!(!is_cut),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => assert!(is_cut),
                other => panic!("{other:?}"),
            }
        });
    }
}

#[test]
fn unencrypted_bytes_end_the_connection_for_every_reader() {
    let pem = pem("127.0.0.1");
    let (listener, address) = listen(&pem, HandshakeLimits::default());
    let client = thread::spawn({
        let mut client = raw::client(address, &pem);
        move || {
            client.write_all(b"good").expect("the server is reading");
            client.flush().expect("the server is reading");
            client
                .sock
                .write_all(b"\x17\x03\x03\x00\x20injected by somebody on the way..")
                .expect("the send buffer has room");
            client
        }
    });
    block_on(async {
        let server = accept(&listener).await;
        let other = server.clone();
        let client = unblock(move || client.join().expect("the thread does not panic")).await;
        assert_eq!(
            read(&server, &mut [0; 32])
                .await
                .expect("bytes are available"),
            4
        );
        assert_eq!(
            kind(read(&server, &mut [0; 32]).await),
            ErrorKind::InvalidData
        );
        assert_eq!(
            kind(read(&other, &mut [0; 32]).await),
            ErrorKind::InvalidData
        );
        assert_eq!(
            kind(other.try_write_vectored(&[IoSlice::new(b"x")])),
            ErrorKind::InvalidData
        );
        drop(client);
    });
}

/// Tests T113.
#[test]
fn either_end_can_close_its_direction_and_continue_to_read() {
    block_on(async {
        for client_first in [true, false] {
            let (client, server) = pair().await;
            let (first, second) = if client_first {
                (client, server)
            } else {
                (server, client)
            };
            write_all(&first, b"question").await;
            first.shutdown();
            flush(&first).await;
            assert_eq!(read_all(&second).await, b"question");
            assert_eq!(
                kind(first.try_write_vectored(&[IoSlice::new(b"x")])),
                ErrorKind::BrokenPipe
            );
            write_all(&second, b"answer").await;
            drop(second);
            assert_eq!(read_all(&first).await, b"answer");
        }
    });
}

/// Tests T112: a peer that does not read makes its writer wait, and only a few of the writer's
/// bytes are buffered on this side.
#[test]
fn a_slow_reader_makes_its_writer_wait_and_loses_nothing() {
    block_on(async {
        let (client, server) = pair().await;
        let block = vec![7; 1 << 16];
        let mut written = 0;
        loop {
            match client.try_write_vectored(&[IoSlice::new(&block)]) {
                Ok(length) => {
                    assert!(
                        length > 0 && length <= 64 << 10,
                        "a single write accepted {length} bytes"
                    );
                    written += length;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(kind(client.try_flush()), ErrorKind::WouldBlock);
        client.set_timeout(Operation::Write, Some(SHORT));
        let error = client.writable().await.expect_err("the peer does not read");
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        client.set_timeout(Operation::Write, None);
        let reader = spawn(async move { read_all(&server).await.len() });
        flush(&client).await;
        write_all(&client, b"more").await;
        drop(client);
        assert_eq!(reader.await, written + 4);
    });
}

#[test]
fn a_read_times_out_without_losing_data_and_clones_share_the_timeout() {
    block_on(async {
        let (client, server) = pair().await;
        assert_eq!(client.timeout(Operation::Read), None);
        client.clone().set_timeout(Operation::Read, Some(SHORT));
        assert_eq!(client.timeout(Operation::Read), Some(SHORT));
        assert_eq!(kind(read(&client, &mut [0]).await), ErrorKind::TimedOut);
        write_all(&server, b"late").await;
        client.set_timeout(Operation::Read, None);
        assert_eq!(
            read(&client, &mut [0; 8])
                .await
                .expect("bytes are available"),
            4
        );
    });
}

/// Tests T115.
#[test]
fn a_waiting_reader_does_not_delay_a_writer() {
    block_on(async {
        let (client, server) = pair().await;
        let echo = spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            loop {
                match read(&server, &mut buffer)
                    .await
                    .expect("the stream does not fail")
                {
                    0 => return,
                    length => write_all(&server, &buffer[..length]).await,
                }
            }
        });
        let sent: Vec<u8> = (0..4 << 20)
            .map(|position: u32| (position % 251) as u8)
            .collect();
        let reader = client.clone();
        let writing = async {
            write_all(&client, &sent).await;
            client.shutdown();
            flush(&client).await;
        };
        let (received, ()) = zip(read_all(&reader), writing).await;
        assert!(
            received == sent,
            "{} of {} bytes came back",
            received.len(),
            sent.len()
        );
        echo.await;
    });
}

/// Tests T115: one record contains the data for two readers, but the socket wakes only one of them.
#[test]
fn bytes_that_one_reader_leaves_behind_wake_another_reader() {
    block_on(async {
        let (client, server) = pair().await;
        for _ in 0..100 {
            let other = server.clone();
            let (mut one, mut two) = ([0; 1], [0; 1]);
            let mut second = Box::pin(read(&other, &mut two));
            assert!(poll_once(&mut second).await.is_none());
            write_all(&client, b"ab").await;
            assert_eq!(
                read(&server, &mut one)
                    .await
                    .expect("the peer wrote a byte"),
                1
            );
            assert_eq!(second.await.expect("the peer wrote a byte"), 1);
            let mut both = [one[0], two[0]];
            both.sort();
            assert_eq!(&both, b"ab");
        }
    });
}

/// Tests T115.
#[test]
fn each_byte_of_a_stream_goes_to_exactly_one_reader() {
    let (client, server) = block_on(pair());
    let count = |server: TlsStream| async move {
        let (mut got, mut buffer) = ([0u64; 256], [0; 100]);
        loop {
            match read(&server, &mut buffer)
                .await
                .expect("the stream does not fail")
            {
                0 => return got,
                length => buffer[..length]
                    .iter()
                    .for_each(|&byte| got[byte as usize] += 1),
            }
        }
    };
    let readers = [(); 4].map(|()| {
        let server = server.clone();
        thread::spawn(move || block_on(count(server)))
    });
    let block: Vec<u8> = (0..=255).collect();
    block_on(async {
        for _ in 0..1000 {
            write_all(&client, &block).await;
        }
        drop(client);
    });
    let mut got = [0; 256];
    for reader in readers {
        for (sum, count) in got
            .iter_mut()
            .zip(reader.join().expect("the thread does not panic"))
        {
            *sum += count;
        }
    }
    assert_eq!(got, [1000; 256]);
}

#[test]
fn a_dropped_wait_loses_no_bytes() {
    block_on(async {
        let (client, server) = pair().await;
        for byte in 0..100 {
            let mut buffer = [0; 1];
            let mut abandoned = Box::pin(read(&server, &mut buffer));
            assert!(poll_once(&mut abandoned).await.is_none());
            write_all(&client, &[byte]).await;
            drop(abandoned);
            assert_eq!(
                read(&server, &mut buffer)
                    .await
                    .expect("the peer wrote a byte"),
                1
            );
            assert_eq!(buffer, [byte]);
        }
    });
}
