use crate::pair::{LOOPBACK, kind, listen, read, write_all};
use lunatic_net::tcp::{TcpListener, TcpStream};
use smol::future::{poll_once, zip};
use smol::{block_on, spawn};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;

/// Returns an address that no other test binds to or connects from, so that a port that is freed
/// here is not taken by chance before the test binds to it again. Only Linux provides all of
/// 127.0.0.0/8 without configuration.
fn own_loopback(last: u8) -> SocketAddr {
    let ip = if cfg!(target_os = "linux") {
        [127, 83, 11, last]
    } else {
        [127, 0, 0, 1]
    };
    SocketAddr::from((ip, 0))
}

#[test]
fn port_0_binds_to_a_free_port() {
    let (_listener, address) = listen();
    assert_ne!(address.port(), 0);
}

#[test]
fn a_port_in_use_is_refused_and_the_error_names_it() {
    let (_listener, address) = listen();
    let error = TcpListener::bind(address).expect_err("the port is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {address}: ")),
        "{error}"
    );
}

#[test]
fn an_address_of_another_host_is_refused() {
    // Addresses in TEST-NET-1 are not assigned to any host.
    let error = TcpListener::bind(([192, 0, 2, 1], 0).into());
    assert_eq!(kind(error), ErrorKind::AddrNotAvailable);
}

#[test]
fn listening_and_connecting_work_with_ipv6() {
    let loopback: SocketAddr = "[::1]:0".parse().expect("the text is an address");
    if std::net::TcpListener::bind(loopback).is_err() {
        eprintln!("skipped: this computer does not support IPv6");
        return;
    }
    block_on(async {
        let listener =
            TcpListener::bind(loopback).expect("the standard library can bind to this address");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let client = TcpStream::connect(address, None)
            .await
            .expect("the listener exists");
        let (server, peer) = listener.accept().await.expect("a client has connected");
        assert!(peer.is_ipv6());
        write_all(&client, b"six").await;
        let mut buffer = [0; 8];
        assert_eq!(
            read(&server, &mut buffer)
                .await
                .expect("bytes are available"),
            3
        );
    });
}

#[test]
fn listening_on_the_unspecified_ipv6_address_works_as_in_the_standard_library() {
    let unspecified: SocketAddr = "[::]:0".parse().expect("the text is an address");
    let Ok(standard) = std::net::TcpListener::bind(unspecified) else {
        eprintln!("skipped: this computer does not support IPv6");
        return;
    };
    let ours =
        TcpListener::bind(unspecified).expect("the standard library can bind to this address");
    let reaches_v4 = |listener: SocketAddr| {
        let address = SocketAddr::from(([127, 0, 0, 1], listener.port()));
        std::net::TcpStream::connect(address).is_ok()
    };
    assert_eq!(
        reaches_v4(ours.local_addr().expect("a bound socket has an address")),
        reaches_v4(
            standard
                .local_addr()
                .expect("a bound socket has an address")
        ),
    );
}

#[test]
fn an_accept_that_was_dropped_loses_no_connection() {
    let (listener, address) = listen();
    block_on(async {
        for _ in 0..100 {
            let mut abandoned = Box::pin(listener.accept());
            assert!(
                poll_once(&mut abandoned).await.is_none(),
                "no client has connected"
            );
            let client = TcpStream::connect(address, None)
                .await
                .expect("the listener exists");
            drop(abandoned);
            let (_server, peer) = listener.accept().await.expect("a client has connected");
            assert_eq!(
                peer,
                client.local_addr().expect("a bound socket has an address")
            );
        }
    });
}

#[test]
fn a_waiting_accept_is_woken() {
    let (listener, address) = listen();
    block_on(async {
        let mut accept = pin!(listener.accept());
        assert!(poll_once(&mut accept).await.is_none());
        let (accepted, connected) = zip(accept, TcpStream::connect(address, None)).await;
        let (_, peer) = accepted.expect("a client has connected");
        let client = connected.expect("the listener exists");
        assert_eq!(
            peer,
            client.local_addr().expect("a bound socket has an address")
        );
    });
}

#[test]
fn tasks_that_share_a_listener_each_get_one_connection() {
    const TASKS: usize = 8;
    let (listener, address) = listen();
    block_on(async {
        let accepting: Vec<_> = (0..TASKS)
            .map(|_| {
                let listener = listener.clone();
                spawn(async move { listener.accept().await.expect("a client has connected") })
            })
            .collect();
        let mut connected = Vec::new();
        for _ in 0..TASKS {
            connected.push(
                TcpStream::connect(address, None)
                    .await
                    .expect("the listener exists"),
            );
        }
        let mut peers = Vec::new();
        for task in accepting {
            peers.push(task.await.1);
        }
        let mut clients: Vec<SocketAddr> = connected
            .iter()
            .map(|client| client.local_addr().expect("a bound socket has an address"))
            .collect();
        peers.sort();
        clients.sort();
        assert_eq!(peers, clients);
    });
}

#[test]
fn the_port_is_free_once_the_listener_is_dropped() {
    let mut address = own_loopback(1);
    for _ in 0..1000 {
        let listener = TcpListener::bind(address).expect("the port is free");
        address = listener
            .local_addr()
            .expect("a bound socket has an address");
        // A task is waiting in `accept`, and is dropped along with the listener.
        let mut accept = Box::pin(listener.accept());
        assert!(block_on(poll_once(&mut accept)).is_none());
    }
}

#[test]
fn the_port_is_free_while_old_connections_are_open_or_lingering() {
    block_on(async {
        let mut address = own_loopback(2);
        let mut kept = Vec::new();
        for _ in 0..20 {
            let listener = TcpListener::bind(address).expect("the port is free");
            address = listener
                .local_addr()
                .expect("a bound socket has an address");
            let lives = TcpStream::connect(address, None)
                .await
                .expect("the listener exists");
            kept.push((
                lives,
                listener.accept().await.expect("a client has connected"),
            ));
            // The server closes the connection first, so the server's system has to remember the
            // connection for a minute.
            let lingers = TcpStream::connect(address, None)
                .await
                .expect("the listener exists");
            let (server, _) = listener.accept().await.expect("a client has connected");
            drop(server);
            assert_eq!(
                read(&lingers, &mut [0])
                    .await
                    .expect("the peer has closed the stream"),
                0
            );
        }
    });
}

#[test]
fn the_port_is_in_use_until_the_last_handle_is_dropped() {
    let listener = TcpListener::bind(own_loopback(3)).expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let handle = listener.clone();
    drop(listener);
    assert_eq!(kind(TcpListener::bind(address)), ErrorKind::AddrInUse);
    drop(handle);
    TcpListener::bind(address).expect("the port is free");
}

#[test]
fn a_connection_that_was_reset_in_the_queue_does_not_break_the_listener() {
    let (listener, address) = listen();
    block_on(async {
        let reset = std::net::TcpStream::connect(address).expect("the listener exists");
        socket2::SockRef::from(&reset)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("the system supports the option");
        drop(reset);
        let client = TcpStream::connect(address, None)
            .await
            .expect("the listener exists");
        let own = client.local_addr().expect("a bound socket has an address");
        // Linux returns the connection that was reset. Other systems drop it.
        while listener.accept().await.expect("a client has connected").1 != own {}
    });
}

#[test]
fn both_ends_of_a_new_connection_send_without_delay() {
    let (listener, address) = listen();
    block_on(async {
        let client = TcpStream::connect(address, None)
            .await
            .expect("the listener exists");
        let (server, _) = listener.accept().await.expect("a client has connected");
        for stream in [client, server] {
            assert!(stream.nodelay().expect("the system supports the option"));
            stream
                .set_nodelay(false)
                .expect("the system supports the option");
            assert!(!stream.nodelay().expect("the system supports the option"));
        }
    });
}

#[test]
fn connecting_to_a_port_that_was_freed_fails() {
    let listener = TcpListener::bind(own_loopback(4)).expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    drop(listener);
    let error = block_on(TcpStream::connect(address, None)).expect_err("no socket is listening");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot connect to {address}: ")),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_connect_without_an_answer_times_out() {
    use socket2::{Domain, Socket, Type};
    // The queue has room for one connection, and no task accepts connections. The kernel ignores
    // all further connection attempts.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be created");
    socket
        .bind(&LOOPBACK.into())
        .expect("the system chooses a free port");
    socket.listen(0).expect("a bound socket can listen");
    let address = socket
        .local_addr()
        .expect("a bound socket has an address")
        .as_socket()
        .expect("the socket is an IP socket");

    let timeout = Some(std::time::Duration::from_millis(20));
    let mut connected = Vec::new();
    let error = loop {
        match block_on(TcpStream::connect(address, timeout)) {
            Ok(stream) => connected.push(stream),
            Err(error) => break error,
        }
        assert!(connected.len() < 16, "the queue has no limit");
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        format!("cannot connect to {address}: no answer within 20ms")
    );
}
