//! Claims about UDP and TLS. Claims about TCP are in `main.rs`.

use crate::{LONG, SHORT};
use lunatic::net::{TlsListener, TlsStream, UdpSocket};
use lunatic::{Mailbox, ReceiveError, process};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;

/// A self-signed certificate for `localhost` and 127.0.0.1.
const CERTIFICATE: &[u8] = include_bytes!("localhost.pem");
const KEY: &[u8] = include_bytes!("localhost.key.pem");

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let address = socket.local_addr().expect("the socket is bound");
    (socket, address)
}

/// Returns both ends of a connection. The client is another process, because both sides have to
/// wait for the handshake.
fn connection(mailbox: &Mailbox<TlsStream>) -> (TlsStream, TlsStream) {
    let listener = TlsListener::bind("127.0.0.1:0", CERTIFICATE, KEY).expect("a port is free");
    let address = listener.local_addr().expect("the socket is bound");
    process::spawn_with(
        (process::this(mailbox), address),
        |(parent, address): (_, SocketAddr), _: Mailbox<()>| {
            let stream = TlsStream::connect_trusting(
                "127.0.0.1",
                address.port(),
                &[CERTIFICATE],
                Some(LONG),
            )
            .unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            lunatic::Process::<TlsStream>::send(&parent, stream);
        },
    )
    .unwrap();
    let (near, peer) = listener.accept().expect("the client connects");
    assert_eq!(near.peer_addr().expect("the stream is connected"), peer);
    (near, mailbox.receive().expect("the client sends its end"))
}

claims! {
    fn a_datagram_arrives_at_its_address(_mailbox: Mailbox<()>) {
        let ((near, from), (far, to)) = (socket(), socket());
        near.send_to(b"there", to).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(far.recv_from(&mut buffer).unwrap(), (5, from));
        assert_eq!(&buffer[..5], b"there");
        far.send_to(b"truncated to the buffer size", from).unwrap();
        assert_eq!(near.recv(&mut buffer[..3]).unwrap(), 3);

        assert_eq!(near.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(near.send(b"to nobody").unwrap_err().kind(), ErrorKind::NotConnected);
        near.connect(to).unwrap();
        assert_eq!(near.peer_addr().unwrap(), to);
        near.send(b"").unwrap();
        assert_eq!(far.recv(&mut buffer).unwrap(), 0);
        assert_eq!(near.send(&vec![0; 70_000]).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    fn a_receive_without_a_datagram_waits_until_its_timeout(_mailbox: Mailbox<()>) {
        let (socket, address) = socket();
        assert_eq!(socket.read_timeout(), None);
        socket.set_read_timeout(Some(SHORT));
        assert_eq!(socket.clone().read_timeout(), Some(SHORT));
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        socket.set_ttl(9).unwrap();
        assert_eq!(socket.ttl(), 9);
        assert_eq!(socket.set_ttl(256).unwrap_err().kind(), ErrorKind::InvalidInput);
        socket.set_broadcast(true);
        assert!(socket.broadcast());
        assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    fn a_datagram_socket_that_is_sent_can_still_be_used_by_the_sender(mailbox: Mailbox<UdpSocket>) {
        let ((near, from), (far, to)) = (socket(), socket());
        let this = process::this(&mailbox);
        process::spawn_with((this, far.clone()), |(parent, far): (lunatic::Process<UdpSocket>, UdpSocket), _: Mailbox<()>| {
            far.recv(&mut [0; 8]).unwrap();
            parent.send(far);
        })
        .unwrap();
        near.send_to(b"one", to).unwrap();
        let back = mailbox.receive().unwrap();
        back.send_to(b"from the one that came back", from).unwrap();
        drop(back);
        far.send_to(b"from the one that stayed", from).unwrap();
        assert_eq!(near.recv(&mut [0; 64]).unwrap(), 27);
        assert_eq!(near.recv(&mut [0; 64]).unwrap(), 24);
    }

    fn an_encrypted_connection_carries_bytes_in_both_directions(mailbox: Mailbox<TlsStream>) {
        let (mut near, mut far) = connection(&mailbox);
        let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!(near.write_vectored(&slices).unwrap(), 7);
        near.flush().unwrap();
        near.shutdown().unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
        assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);

        // The other direction stays open until the last handle is dropped.
        let large = vec![7; 100_000];
        let other = far.clone();
        process::spawn_with((far, large.clone()), |(mut far, large): (TlsStream, Vec<u8>), _: Mailbox<()>| {
            far.write_all(&large).unwrap();
        })
        .unwrap();
        let mut found = vec![0; large.len()];
        near.read_exact(&mut found).unwrap();
        assert_eq!(found, large);
        drop(other);
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
    }

    fn an_encrypted_read_that_times_out_loses_no_bytes(mailbox: Mailbox<TlsStream>) {
        let (mut near, mut far) = connection(&mailbox);
        assert_eq!((near.read_timeout(), near.write_timeout()), (None, None));
        near.set_read_timeout(Some(SHORT));
        near.set_write_timeout(Some(LONG));
        assert_eq!((near.clone().read_timeout(), near.clone().write_timeout()), (Some(SHORT), Some(LONG)));
        assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        near.set_read_timeout(None);
        far.write_all(b"x").unwrap();
        near.read_exact(&mut [0]).unwrap();
    }

    fn an_untrusted_host_is_an_error_and_the_listener_keeps_working(mailbox: Mailbox<TlsStream>) {
        let listener = TlsListener::bind("127.0.0.1:0", CERTIFICATE, KEY).unwrap();
        let port = listener.local_addr().unwrap().port();
        let this = process::this(&mailbox);
        process::spawn_with((this, port), |(parent, port): (lunatic::Process<TlsStream>, u16), _: Mailbox<()>| {
            let error = TlsStream::connect_timeout("127.0.0.1", port, LONG).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            parent.send(TlsStream::connect_trusting("127.0.0.1", port, &[CERTIFICATE], None).unwrap());
        })
        .unwrap();
        let mut near = listener.incoming().next().unwrap().unwrap();
        let mut far = mailbox.receive().unwrap();
        far.write_all(b"x").unwrap();
        near.read_exact(&mut [0]).unwrap();
    }

    fn invalid_certificates_and_names_are_errors(mailbox: Mailbox<TlsStream>) {
        for (certificate, key) in [(KEY, KEY), (CERTIFICATE, CERTIFICATE), (b"", b"")] {
            let error = TlsListener::bind("127.0.0.1:0", certificate, key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        for (host, authorities) in [("a..b", &[CERTIFICATE][..]), ("127.0.0.1", &[]), ("127.0.0.1", &[CERTIFICATE, b"none"])] {
            let error = TlsStream::connect_trusting(host, 1, authorities, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert!(matches!(mailbox.receive_timeout(SHORT), Err(ReceiveError::Timeout)));
    }
}
