//! Errors that name the address of the failed operation.

use std::io;
use std::net::SocketAddr;

/// Adds the address of the failed operation to its error message, and keeps the error's kind.
pub(crate) fn failed(action: &str, addr: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {addr}: {error}"))
}
