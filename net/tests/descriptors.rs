//! Descriptors come back, whatever happens to a connection. It counts those of the whole process, and
//! so is the only test of its binary.
#![cfg(target_os = "linux")]

use lunatic_net::tcp::{Operation, TcpListener, TcpStream};
use smol::future::poll_once;
use std::net::SocketAddr;
use std::time::Duration;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("Linux lists them")
        .count()
}

/// Connections in order, in which both ends only come and go.
async fn come_and_go(listener: &TcpListener, address: SocketAddr) {
    let client = TcpStream::connect(address, None)
        .await
        .expect("somebody listens");
    let (server, _) = listener.accept().await.expect("somebody connected");
    drop((client.clone(), client, server.clone(), server));
}

/// T113: the peer resets the connection.
async fn reset(listener: &TcpListener, address: SocketAddr) {
    let raw = std::net::TcpStream::connect(address).expect("somebody listens");
    let (server, _) = listener.accept().await.expect("somebody connected");
    socket2::SockRef::from(&raw)
        .set_linger(Some(Duration::ZERO))
        .expect("an option");
    drop(raw);
    server
        .readable()
        .await
        .expect("a reset is something to read");
    assert!(server.try_read(&mut [0]).is_err());
}

/// Waits that are over or dropped: a read that times out, an accept and a connect that nobody finishes.
async fn give_up(listener: &TcpListener, address: SocketAddr) {
    assert!(
        poll_once(listener.accept()).await.is_none(),
        "nobody has connected"
    );
    drop(poll_once(TcpStream::connect(address, None)).await);
    let client = TcpStream::connect(address, None)
        .await
        .expect("somebody listens");
    client.set_timeout(Operation::Read, Some(Duration::ZERO));
    assert!(client.readable().await.is_err());
    let mut wait = client.wait(Operation::Read);
    assert!(poll_once(wait.ready()).await.is_some());
    let own = client.local_addr().expect("an address");
    // The connect that was given up may have come through.
    while listener.accept().await.expect("somebody connected").1 != own {}
}

#[test]
fn no_descriptor_is_left_behind() {
    smol::block_on(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        // The reactor opens its own on first use.
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
