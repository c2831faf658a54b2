use crate::pair::{LOOPBACK, kind};
use lunatic_net::udp::UdpSocket;
use smol::block_on;
use smol::future::{poll_once, zip};
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOOPBACK).expect("the system chooses a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

async fn receive_from(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let mut wait = socket.wait();
    loop {
        match socket.try_receive_from(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait.ready().await?,
            result => return result,
        }
    }
}

#[test]
fn a_datagram_arrives_complete_and_with_its_senders_address() {
    block_on(async {
        let ((one, from), (other, to)) = (bound(), bound());
        assert_eq!(kind(other.try_receive(&mut [0; 8])), ErrorKind::WouldBlock);
        for datagram in [&b"first"[..], b"", b"third"] {
            assert_eq!(
                one.try_send_to(datagram, to)
                    .expect("the send buffer has room"),
                datagram.len()
            );
        }
        let mut buffer = [0; 16];
        for datagram in [&b"first"[..], b"", b"third"] {
            let (length, sender) = receive_from(&other, &mut buffer)
                .await
                .expect("a datagram was sent");
            assert_eq!((&buffer[..length], sender), (datagram, from));
        }
        assert_eq!(kind(other.try_receive(&mut buffer)), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_connected_socket_sends_to_and_receives_from_only_its_peer() {
    block_on(async {
        let ((one, from), (other, to), (stranger, _)) = (bound(), bound(), bound());
        assert_eq!(kind(one.peer_addr()), ErrorKind::NotConnected);
        assert_eq!(kind(one.try_send(b"to nobody")), ErrorKind::NotConnected);
        one.connect(to).expect("the peer need not exist");
        assert_eq!(one.peer_addr().expect("the socket is connected"), to);

        stranger
            .try_send_to(b"from a stranger", from)
            .expect("the send buffer has room");
        other
            .try_send_to(b"from the peer", from)
            .expect("the send buffer has room");
        let mut buffer = [0; 32];
        let (length, sender) = receive_from(&one, &mut buffer)
            .await
            .expect("a datagram was sent");
        assert_eq!((&buffer[..length], sender), (&b"from the peer"[..], to));
        assert_eq!(kind(one.try_receive(&mut buffer)), ErrorKind::WouldBlock);

        one.try_send(b"back").expect("the send buffer has room");
        assert_eq!(
            receive_from(&other, &mut buffer)
                .await
                .expect("a datagram was sent"),
            (4, from)
        );
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_no_longer_exists_is_reported_once() {
    block_on(async {
        let ((one, _), (other, to)) = (bound(), bound());
        one.connect(to).expect("any address can be the peer");
        drop(other);
        one.try_send(b"anybody?").expect("the send buffer has room");
        assert_eq!(
            kind(receive_from(&one, &mut [0; 8]).await),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(kind(one.try_receive(&mut [0; 8])), ErrorKind::WouldBlock);
    });
}

/// Tests T117.
#[test]
fn a_flood_of_datagrams_is_dropped_and_the_socket_still_works() {
    block_on(async {
        let ((one, _), (other, to)) = (bound(), bound());
        let mut sent = 0u32;
        while sent < 100_000 {
            match one.try_send_to(&sent.to_le_bytes(), to) {
                Ok(_) => sent += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    one.writable().await.expect("the send buffer has room")
                }
                Err(error) => panic!("{error}"),
            }
        }
        // The kernel kept the first datagrams, complete and in order.
        let mut kept = 0u32;
        let mut buffer = [0; 8];
        while let Ok(length) = other.try_receive(&mut buffer) {
            assert_eq!(buffer[..length], kept.to_le_bytes());
            kept += 1;
        }
        assert!(
            kept > 0 && kept < sent,
            "{kept} of {sent} datagrams were kept"
        );
        one.try_send_to(b"after", to)
            .expect("the send buffer has room");
        assert_eq!(
            receive_from(&other, &mut buffer)
                .await
                .expect("a datagram was sent")
                .0,
            5
        );
    });
}

/// Tests T117.
#[test]
fn datagrams_that_are_too_large_are_refused_when_sent_and_truncated_when_received() {
    block_on(async {
        let ((one, _), (other, to)) = (bound(), bound());
        let large = vec![7; 65_507];
        one.try_send_to(&large, to)
            .expect("the datagram has the maximum length");
        let mut buffer = vec![0; 70_000];
        assert_eq!(
            receive_from(&other, &mut buffer)
                .await
                .expect("a datagram was sent")
                .0,
            large.len()
        );
        assert_eq!(buffer[..large.len()], large);

        let error = one
            .try_send_to(&vec![7; 65_508], to)
            .expect_err("the datagram is one byte too long");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("65508 bytes"), "{error}");

        one.try_send_to(b"longer than that", to)
            .expect("the send buffer has room");
        one.try_send_to(b"next", to)
            .expect("the send buffer has room");
        let mut small = [0; 6];
        assert_eq!(
            receive_from(&other, &mut small)
                .await
                .expect("a datagram was sent")
                .0,
            6
        );
        assert_eq!(&small, b"longer");
        assert_eq!(
            receive_from(&other, &mut small)
                .await
                .expect("the second datagram was sent")
                .0,
            4
        );
        one.try_send_to(b"to nowhere", to)
            .expect("the send buffer has room");
        assert_eq!(
            receive_from(&other, &mut [])
                .await
                .expect("a datagram was sent")
                .0,
            0
        );
        assert_eq!(kind(other.try_receive(&mut small)), ErrorKind::WouldBlock);
    });
}

/// Tests T117: IPv6 allows datagrams that are so large that even the loopback interface fragments
/// them.
#[test]
fn a_fragmented_datagram_arrives_complete() {
    let Ok(other) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0).into()) else {
        println!("skipped: this computer does not support IPv6");
        return;
    };
    block_on(async {
        let one = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0).into())
            .expect("the system chooses a free port");
        let large: Vec<u8> = (0..65_527u32).map(|place| place as u8).collect();
        one.try_send_to(
            &large,
            other.local_addr().expect("a bound socket has an address"),
        )
        .expect("the datagram has the maximum length");
        let mut buffer = vec![0; 70_000];
        let (length, _) = receive_from(&other, &mut buffer)
            .await
            .expect("a datagram was sent");
        assert_eq!(buffer[..length], large);
    });
}

#[test]
fn a_receive_times_out_without_losing_data() {
    block_on(async {
        let ((one, _), (other, to)) = (bound(), bound());
        assert_eq!(other.timeout(), None);
        other.set_timeout(Some(Duration::from_millis(5)));
        assert_eq!(other.clone().timeout(), Some(Duration::from_millis(5)));
        let error = receive_from(&other, &mut [0; 8])
            .await
            .expect_err("the peer does not send");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::TimedOut, "no datagram within 5ms")
        );

        other.set_timeout(Some(Duration::ZERO));
        let tried = poll_once(receive_from(&other, &mut [0; 8]))
            .await
            .expect("a timeout of zero does not wait");
        assert_eq!(kind(tried), ErrorKind::TimedOut);

        other.set_timeout(None);
        one.try_send_to(b"late", to)
            .expect("the send buffer has room");
        assert_eq!(
            receive_from(&other, &mut [0; 8])
                .await
                .expect("a datagram was sent")
                .0,
            4
        );
    });
}

/// Tests T115 for datagram sockets.
#[test]
fn two_waiting_receivers_each_get_a_datagram() {
    block_on(async {
        let ((one, _), (other, to)) = (bound(), bound());
        let clone = other.clone();
        let (mut left, mut right) = ([0; 1], [0; 1]);
        let mut receiving = Box::pin(zip(
            receive_from(&other, &mut left),
            receive_from(&clone, &mut right),
        ));
        assert!(poll_once(&mut receiving).await.is_none());
        one.try_send_to(b"a", to).expect("the send buffer has room");
        one.try_send_to(b"b", to).expect("the send buffer has room");
        let (first, second) = receiving.await;
        assert_eq!(
            (
                first.expect("a datagram was sent").0,
                second.expect("a datagram was sent").0
            ),
            (1, 1)
        );
        let mut both = [left[0], right[0]];
        both.sort();
        assert_eq!(&both, b"ab");
    });
}

#[test]
fn a_dropped_receive_loses_no_datagram() {
    block_on(async {
        let ((one, _), (other, to)) = (bound(), bound());
        for byte in 0..100 {
            let mut buffer = [0; 1];
            let mut abandoned = Box::pin(receive_from(&other, &mut buffer));
            assert!(poll_once(&mut abandoned).await.is_none());
            one.try_send_to(&[byte], to)
                .expect("the send buffer has room");
            drop(abandoned);
            assert_eq!(
                receive_from(&other, &mut buffer)
                    .await
                    .expect("a datagram was sent")
                    .0,
                1
            );
            assert_eq!(buffer, [byte]);
        }
    });
}

#[test]
fn options_apply_to_the_socket_and_not_to_the_handle() {
    let (socket, _) = bound();
    let clone = socket.clone();
    assert!(!socket.broadcast().expect("the system supports the option"));
    socket
        .set_broadcast(true)
        .expect("the system supports the option");
    assert!(clone.broadcast().expect("the system supports the option"));
    socket.set_ttl(42).expect("the system supports the option");
    assert_eq!(clone.ttl().expect("the system supports the option"), 42);
    assert_eq!(kind(socket.set_ttl(256)), ErrorKind::InvalidInput);
}

#[test]
fn a_port_is_in_use_until_its_last_handle_is_dropped() {
    let (socket, address) = bound();
    let clone = socket.clone();
    let error = UdpSocket::bind(address).expect_err("the port is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    drop(socket);
    assert_eq!(kind(UdpSocket::bind(address)), ErrorKind::AddrInUse);
    drop(clone);
    UdpSocket::bind(address).expect("the port is free");
}
