//! TCP: listeners and streams.

use crate::error::LunaticError;
use crate::host::{self, Vector};
use crate::net::dns::{ToSocketAddrs, address, first, only_address};
use crate::net::socket::{handle, read_and_write};
use lunatic_abi::ResourceKind;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// Listens for TCP connections. The port is freed when the listener is dropped or its process
/// exits.
///
/// # Example
///
/// ```no_run
/// use lunatic::{net, process, Mailbox};
/// use std::io::Write;
///
/// fn main() {
///     let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
///     println!("listening on {}", listener.local_addr().unwrap());
///     for stream in listener.incoming().flatten() {
///         // If the process cannot be spawned, this client is dropped, and the server continues.
///         let _ = process::spawn_with(stream, |mut stream, _: Mailbox<()>| {
///             stream.write_all(b"Hello!\n").unwrap();
///         });
///     }
/// }
/// ```
#[derive(Debug)]
pub struct TcpListener {
    id: u64,
}

impl TcpListener {
    /// Listens on the first address that works. Port 0 means any free port.
    ///
    /// # Errors
    ///
    /// Returns the error for the last address, or [`io::ErrorKind::InvalidInput`] if there are no
    /// addresses.
    pub fn bind<A: ToSocketAddrs>(addresses: A) -> io::Result<Self> {
        first(addresses, |address| {
            LunaticError::or_value(|id| host::tcp::tcp_bind(address, id)).map(|id| Self { id })
        })
    }

    /// Waits for a connection, and returns the stream and the peer's address.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut peer = 0;
        let id = LunaticError::or_value(|id| host::tcp::tcp_accept(self.id, id, &mut peer))?;
        let stream = TcpStream { id };
        Ok((stream, only_address(peer)?))
    }

    /// Returns an iterator over incoming connections. The iterator waits for each connection and
    /// never ends.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::net::TcpListener;
    ///
    /// let listener = TcpListener::bind(("localhost", 8080)).unwrap();
    /// for stream in listener.incoming() {
    ///     println!("from {}", stream.unwrap().peer_addr().unwrap());
    /// }
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Returns the listener's address, with the actual port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address(|address| host::tcp::tcp_local_addr(self.id, address))
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        host::tcp::drop_tcp_listener(self.id);
    }
}

/// An iterator over incoming connections, from [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// A handle to a TCP connection. The connection is closed when the last handle in any process is
/// dropped.
///
/// Cloning a handle creates another handle to the same connection. So does sending one in a
/// message: the receiver gets its own handle, and the sender keeps its handle. A handle can only be
/// serialized while a message is being sent, and deserialized while a message is being received.
#[derive(Debug)]
pub struct TcpStream {
    id: u64,
}

impl TcpStream {
    /// Connects to the first address that answers.
    ///
    /// # Errors
    ///
    /// Returns the error for the last address, or [`io::ErrorKind::InvalidInput`] if there are no
    /// addresses.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::net::TcpStream;
    /// use std::io::{Read, Write};
    ///
    /// let mut stream = TcpStream::connect(("localhost", 1337)).unwrap();
    /// stream.write_all(b"Hello!\n").unwrap();
    /// stream.shutdown(std::net::Shutdown::Write).unwrap();
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer).unwrap();
    /// ```
    pub fn connect<A: ToSocketAddrs>(addresses: A) -> io::Result<Self> {
        Self::connect_within(addresses, lunatic_abi::FOREVER)
    }

    /// Like [`connect`](Self::connect), but tries each address for at most `timeout`, which is
    /// rounded up to whole milliseconds.
    ///
    /// # Errors
    ///
    /// Fails like [`connect`](Self::connect), and with [`io::ErrorKind::TimedOut`].
    pub fn connect_timeout<A: ToSocketAddrs>(addresses: A, timeout: Duration) -> io::Result<Self> {
        Self::connect_within(addresses, host::milliseconds(timeout))
    }

    fn connect_within<A: ToSocketAddrs>(addresses: A, timeout: u64) -> io::Result<Self> {
        first(addresses, |address| {
            LunaticError::or_value(|id| host::tcp::tcp_connect(address, timeout, id))
                .map(|id| Self { id })
        })
    }

    /// Returns the peer's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address(|address| host::tcp::tcp_peer_addr(self.id, address))
    }

    /// Returns the connection's local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address(|address| host::tcp::tcp_stream_local_addr(self.id, address))
    }

    /// Reads data that has already arrived, without consuming it. Waits for data for at most the
    /// [peek timeout](Self::set_peek_timeout).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let peek = |length: &mut u64| host::tcp::tcp_peek(self.id, buffer, length);
        Ok(LunaticError::or_value(peek)? as usize)
    }

    /// Closes one or both directions of the connection, for all of its handles.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => 0,
            Shutdown::Write => 1,
            Shutdown::Both => 2,
        };
        LunaticError::or_value(|error| host::tcp::tcp_shutdown(self.id, how, error))?;
        Ok(())
    }

    /// Sets whether small writes are sent immediately instead of being coalesced. The default is
    /// false.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        let on = i32::from(nodelay);
        LunaticError::or_value(|error| host::tcp::tcp_set_nodelay(self.id, on, error))?;
        Ok(())
    }

    /// Sets how long a read may wait. `None`, the default, means indefinitely. A read that times
    /// out fails with [`io::ErrorKind::TimedOut`]; no data is lost. The timeout is rounded up to
    /// whole milliseconds; a timeout of zero does not wait. All handles to a connection share the
    /// timeout.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::net::TcpStream;
    /// use std::io::{ErrorKind, Read};
    /// use std::time::Duration;
    ///
    /// fn read_soon(mut stream: TcpStream) -> Option<u8> {
    ///     stream.set_read_timeout(Some(Duration::from_secs(5)));
    ///     let mut byte = [0];
    ///     match stream.read_exact(&mut byte) {
    ///         Ok(()) => Some(byte[0]),
    ///         Err(error) if error.kind() == ErrorKind::TimedOut => None,
    ///         Err(error) => panic!("{error}"),
    ///     }
    /// }
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        host::tcp::set_read_timeout(self.id, host::milliseconds_or_forever(timeout));
    }

    /// Returns how long a read may wait.
    pub fn read_timeout(&self) -> Option<Duration> {
        host::duration(host::tcp::get_read_timeout(self.id))
    }

    /// Sets how long a write may wait. Works like [`set_read_timeout`](Self::set_read_timeout).
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        host::tcp::set_write_timeout(self.id, host::milliseconds_or_forever(timeout));
    }

    /// Returns how long a write may wait.
    pub fn write_timeout(&self) -> Option<Duration> {
        host::duration(host::tcp::get_write_timeout(self.id))
    }

    /// Sets how long a [`peek`](Self::peek) may wait. Works like
    /// [`set_read_timeout`](Self::set_read_timeout).
    pub fn set_peek_timeout(&self, timeout: Option<Duration>) {
        host::tcp::set_peek_timeout(self.id, host::milliseconds_or_forever(timeout));
    }

    /// Returns how long a [`peek`](Self::peek) may wait.
    pub fn peek_timeout(&self) -> Option<Duration> {
        host::duration(host::tcp::get_peek_timeout(self.id))
    }
}

read_and_write!(
    TcpStream,
    host::tcp::tcp_read,
    host::tcp::tcp_write_vectored,
    host::tcp::tcp_flush
);

handle!(
    TcpStream,
    ResourceKind::TcpStream,
    host::tcp::clone_tcp_stream,
    host::tcp::drop_tcp_stream
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;
    use std::mem::ManuallyDrop;

    #[test]
    fn a_stream_can_be_written_only_into_a_message() {
        // The stream is not dropped, because no machine is running that could release the id.
        let stream = ManuallyDrop::new(TcpStream { id: 40 });
        let sealed = envelope::seal(&(7u8, &*stream, &*stream), |bytes, streams| {
            (bytes.to_vec(), streams.to_vec())
        });
        let (bytes, streams) = sealed.expect("a message is being sent");
        assert_eq!(bytes, [0x93, 7, 0, 1]);
        assert_eq!(streams, [ResourceKind::TcpStream.word(40); 2]);

        let error = rmp_serde::to_vec(&*stream).expect_err("no message is being sent");
        assert_eq!(
            error.to_string(),
            "a socket can only be serialized as part of a message that is being sent"
        );
        let error =
            rmp_serde::from_slice::<TcpStream>(&[0]).expect_err("no message is being received");
        assert_eq!(
            error.to_string(),
            "a socket can only be deserialized from a message that is being received"
        );
    }
}
