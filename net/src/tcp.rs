//! TCP. A [`TcpListener`] accepts connections, and a [`TcpStream`] carries bytes in both
//! directions.
//!
//! Both are handles. Clones share a single socket, which is closed as soon as the last clone is
//! dropped. Nagle's algorithm is off ([`TcpStream::set_nodelay`] turns it on), because programs
//! typically write whole messages and wait for a reply. If the last segment were held back until
//! the peer's delayed acknowledgement arrived, each message would be delayed by up to 40 ms. A
//! program that writes byte by byte should use a buffer.

mod listener;
mod stream;

pub use crate::wait::Operation;
pub use listener::TcpListener;
pub use stream::{TcpStream, Wait};
