//! Errors that name the address of the failed operation.

use std::io;
use std::net::SocketAddr;

/// Adds the address for which an operation failed to the message of its error. The error's kind is
/// unchanged.
pub(crate) fn failed(action: &str, addr: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {addr}: {error}"))
}
