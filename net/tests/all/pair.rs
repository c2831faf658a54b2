//! Connected streams, and functions that make complete transfers over them.

use lunatic_net::tcp::{Operation, TcpListener, TcpStream};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

/// Any free port on the loopback interface.
pub(crate) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(LOOPBACK).expect("the system chooses a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    (listener, address)
}

/// Returns both ends of a connection.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let client = TcpStream::connect(address, None)
        .await
        .expect("the listener exists");
    let (server, peer) = listener.accept().await.expect("a client has connected");
    assert_eq!(
        peer,
        client
            .local_addr()
            .expect("a connected socket has an address")
    );
    (client, server)
}

/// Returns both ends of a connection: one of this crate's streams, and a standard library stream
/// for operations that only a raw socket offers.
pub(crate) async fn raw_pair() -> (TcpStream, std::net::TcpStream) {
    let (listener, address) = listen();
    let raw = std::net::TcpStream::connect(address).expect("the listener exists");
    let (stream, _) = listener.accept().await.expect("a client has connected");
    (stream, raw)
}

pub(crate) async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut wait = stream.wait(Operation::Read);
    loop {
        match stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait.ready().await?,
            result => return result,
        }
    }
}

/// Reads until the stream ends.
pub(crate) async fn read_all(stream: &TcpStream) -> Vec<u8> {
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

pub(crate) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.try_write_vectored(&[IoSlice::new(bytes)]) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stream.writable().await.expect("the peer is reading");
            }
            Err(error) => panic!("the write failed: {error}"),
        }
    }
}

/// Writes until the kernel accepts no more bytes, and returns how many bytes it accepted.
pub(crate) fn fill(stream: &TcpStream) -> usize {
    let block = vec![7; 1 << 16];
    let mut written = 0;
    loop {
        match stream.try_write_vectored(&[IoSlice::new(&block)]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(error) => panic!("the write failed: {error}"),
        }
    }
}

pub(crate) fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("the operation fails").kind()
}
