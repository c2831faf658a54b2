//! A socket as rustls uses it: reads and writes never wait.

use crate::tcp::TcpStream;
use rustls::Connection;
use std::io::{self, IoSlice, Read, Write};

pub(super) struct Wire<'a>(pub(super) &'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Hands the connection's pending output to the kernel. Returns `WouldBlock` if the kernel does not
/// have room for all of it.
pub(super) fn send(connection: &mut Connection, socket: &TcpStream) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(&mut Wire(socket))?;
    }
    Ok(())
}
