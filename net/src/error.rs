//! Errors that name the address.

use std::io;
use std::net::SocketAddr;

/// Adds the address that an operation failed for; the kind stays.
pub(crate) fn failed(action: &str, addr: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {addr}: {error}"))
}
