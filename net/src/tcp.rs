//! TCP: a [`TcpListener`] accepts, a [`TcpStream`] carries bytes both ways.
//!
//! Both are handles: clones share one socket, which is closed, in the same instant, when the last of
//! them is dropped. Nagle's algorithm is off ([`TcpStream::set_nodelay`] turns it on): programs here
//! write whole messages and wait for the answer, and holding back the last segment until the peer's
//! delayed acknowledgement would cost such a program up to 40 ms a turn. Whoever writes byte by byte
//! should collect them first.

mod listener;
mod stream;

pub use listener::TcpListener;
pub use stream::{Operation, TcpStream, Wait};

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// A new socket of the address's family: non-blocking, and closed on `exec`.
fn socket_for(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
