//! TCP: a [`TcpListener`] accepts, a [`TcpStream`] carries bytes both ways.
//!
//! Both are handles: clones share one socket, which is closed the moment the last of them is
//! dropped. Nagle's algorithm is off ([`TcpStream::set_nodelay`] turns it on): programs here write
//! whole messages and wait for the answer, and holding back the last segment until the peer's
//! delayed acknowledgement would cost such a program up to 40 ms each time. A program that writes
//! byte by byte should buffer.

mod listener;
mod stream;

pub use crate::wait::Operation;
pub use listener::TcpListener;
pub use stream::{TcpStream, Wait};
