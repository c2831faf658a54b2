//! Tests that descriptors are closed, whatever happens to a connection. The test counts the
//! descriptors of the whole process, so it is the only test in its binary.
#![cfg(target_os = "linux")]

use lunatic_net::tcp::{Operation, TcpListener, TcpStream};
use smol::future::poll_once;
use std::net::SocketAddr;
use std::time::Duration;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("Linux lists open descriptors")
        .count()
}

/// Opens a connection and closes it cleanly.
async fn come_and_go(listener: &TcpListener, address: SocketAddr) {
    let client = TcpStream::connect(address, None)
        .await
        .expect("the listener exists");
    let (server, _) = listener.accept().await.expect("a client has connected");
    drop((client.clone(), client, server.clone(), server));
}

/// Opens a connection that the peer resets, as in T113.
async fn reset(listener: &TcpListener, address: SocketAddr) {
    let raw = std::net::TcpStream::connect(address).expect("the listener exists");
    let (server, _) = listener.accept().await.expect("a client has connected");
    socket2::SockRef::from(&raw)
        .set_linger(Some(Duration::ZERO))
        .expect("the system supports the option");
    drop(raw);
    server
        .readable()
        .await
        .expect("a stream that was reset is readable");
    assert!(server.try_read(&mut [0]).is_err());
}

/// Lets a read time out, and drops an accept and a connect while they are waiting.
async fn give_up(listener: &TcpListener, address: SocketAddr) {
    assert!(
        poll_once(listener.accept()).await.is_none(),
        "no client has connected"
    );
    drop(poll_once(TcpStream::connect(address, None)).await);
    let client = TcpStream::connect(address, None)
        .await
        .expect("the listener exists");
    client.set_timeout(Operation::Read, Some(Duration::ZERO));
    assert!(client.readable().await.is_err());
    let mut wait = client.wait(Operation::Read);
    assert!(poll_once(wait.ready()).await.is_some());
    let own = client.local_addr().expect("a bound socket has an address");
    // The connect that was dropped may nevertheless have succeeded.
    while listener.accept().await.expect("a client has connected").1 != own {}
}

#[test]
fn no_descriptor_is_left_open() {
    smol::block_on(async {
        let listener =
            TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("the system chooses a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        // The reactor opens its own descriptors on first use.
        come_and_go(&listener, address).await;
        let before = open_descriptors();
        for _ in 0..200 {
            come_and_go(&listener, address).await;
            reset(&listener, address).await;
            give_up(&listener, address).await;
            assert!(TcpListener::bind(address).is_err(), "the port is taken");
        }
        assert_eq!(open_descriptors(), before);
        drop(listener);
        assert_eq!(open_descriptors(), before - 1);
    });
}
