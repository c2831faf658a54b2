//! TLS: encrypted connections with authenticated servers.

use crate::error::LunaticError;
use crate::host::{self, Vector};
use crate::net::dns::{ToSocketAddrs, address, first, only_address};
use crate::net::socket::{handle, read_and_write};
use lunatic_abi::ResourceKind;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Listens for TLS connections. The port is freed when the listener is dropped or its process
/// exits.
///
/// # Example
///
/// ```no_run
/// use lunatic::net::{TlsListener, TlsStream};
/// use lunatic::{process, Mailbox};
/// use std::io::Write;
///
/// fn main() {
///     let certificates = std::fs::read("server.pem").unwrap();
///     let private_key = std::fs::read("server.key").unwrap();
///     let listener = TlsListener::bind("0.0.0.0:8443", &certificates, &private_key).unwrap();
///     for stream in listener.incoming().flatten() {
///         // If the process cannot be spawned, this client is dropped, and the server continues.
///         let _ = process::spawn_with(stream, |mut stream, _: Mailbox<()>| {
///             stream.write_all(b"Hello!\n").unwrap();
///         });
///     }
/// }
/// ```
#[derive(Debug)]
pub struct TlsListener {
    id: u64,
}

impl TlsListener {
    /// Listens on the first address that works. Port 0 means any free port.
    ///
    /// The certificates and the key are PEM-encoded. The server's own certificate comes first,
    /// followed by its issuers' certificates. The key is in PKCS #8, PKCS #1 or SEC 1 format.
    ///
    /// # Errors
    ///
    /// Returns the error for the last address, or [`io::ErrorKind::InvalidInput`] if there are no
    /// addresses or if the certificates or the key cannot be used.
    pub fn bind<A: ToSocketAddrs>(
        addresses: A,
        certificates: &[u8],
        private_key: &[u8],
    ) -> io::Result<Self> {
        first(addresses, |address| {
            let bind = |id: &mut u64| host::tls::tls_bind(address, id, certificates, private_key);
            LunaticError::or_value(bind).map(|id| Self { id })
        })
    }

    /// Waits for a connection, completes the handshake, and returns the stream and the peer's
    /// address. Clients whose handshake fails or stalls are not reported, and do not delay other
    /// clients.
    pub fn accept(&self) -> io::Result<(TlsStream, SocketAddr)> {
        let mut peer = 0;
        let id = LunaticError::or_value(|id| host::tls::tls_accept(self.id, id, &mut peer))?;
        let stream = TlsStream { id };
        Ok((stream, only_address(peer)?))
    }

    /// Returns an iterator over incoming connections. The iterator waits for each connection and
    /// never ends.
    pub fn incoming(&self) -> TlsIncoming<'_> {
        TlsIncoming { listener: self }
    }

    /// Returns the listener's address, with the actual port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address(|address| host::tls::tls_local_addr(self.id, address))
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        host::tls::drop_tls_listener(self.id);
    }
}

/// An iterator over incoming connections, from [`TlsListener::incoming`].
#[derive(Debug)]
pub struct TlsIncoming<'a> {
    listener: &'a TlsListener,
}

impl Iterator for TlsIncoming<'_> {
    type Item = io::Result<TlsStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// A handle to a TLS connection. When the last handle in any process is dropped, the peer is
/// notified and the connection is closed.
///
/// A read returns 0 only if the peer has signalled the end of its data. If the connection ends in
/// any other way, a third party may have cut it, so the read fails with
/// [`io::ErrorKind::ConnectionAborted`].
///
/// As with a [`TcpStream`](crate::net::TcpStream), cloning a handle or sending it in a message
/// creates another handle to the same connection. One process can write while another is waiting to
/// read.
#[derive(Debug)]
pub struct TlsStream {
    id: u64,
}

impl TlsStream {
    /// Connects to a host, given by name or address. The host's certificate must have been issued
    /// by a publicly trusted authority.
    ///
    /// # Errors
    ///
    /// Returns the error from the lookup or for the host's last address,
    /// [`io::ErrorKind::InvalidInput`] if `host` is not a name or address, and
    /// [`io::ErrorKind::InvalidData`] if the host's certificate, or anything else in its handshake,
    /// is unacceptable.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::net::TlsStream;
    /// use std::io::{Read, Write};
    ///
    /// let mut stream = TlsStream::connect("example.org", 443).unwrap();
    /// stream.write_all(b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n").unwrap();
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer).unwrap();
    /// ```
    pub fn connect(host: &str, port: u16) -> io::Result<Self> {
        Self::connect_within(host, port, &[], lunatic_abi::FOREVER)
    }

    /// Like [`connect`](Self::connect), but the lookup, the connection and the handshake may take
    /// at most `timeout` in total, which is rounded up to whole milliseconds.
    ///
    /// # Errors
    ///
    /// Fails like [`connect`](Self::connect), and with [`io::ErrorKind::TimedOut`].
    pub fn connect_timeout(host: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        Self::connect_within(host, port, &[], host::milliseconds(timeout))
    }

    /// Like [`connect`](Self::connect), but trusts only these authorities. Each authority is a PEM
    /// string with at least one certificate. The host's own certificate may be given instead of its
    /// authority's. The `timeout` covers the lookup, the connection and the handshake.
    ///
    /// # Errors
    ///
    /// Fails like [`connect`](Self::connect), with [`io::ErrorKind::TimedOut`], and with
    /// [`io::ErrorKind::InvalidInput`] if an authority is not a certificate or the list is empty.
    pub fn connect_trusting(
        host: &str,
        port: u16,
        authorities: &[&[u8]],
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        // For the machine, an empty list would mean the publicly trusted authorities.
        let none: &[&[u8]] = &[&[]];
        let authorities = if authorities.is_empty() {
            none
        } else {
            authorities
        };
        Self::connect_within(
            host,
            port,
            authorities,
            host::milliseconds_or_forever(timeout),
        )
    }

    fn connect_within(
        host: &str,
        port: u16,
        authorities: &[&[u8]],
        timeout: u64,
    ) -> io::Result<Self> {
        let trusted: Vec<Vector<'_>> = authorities.iter().map(|text| Vector::new(text)).collect();
        let connect =
            |id: &mut u64| host::tls::tls_connect(host, u32::from(port), timeout, id, &trusted);
        let id = LunaticError::or_value(connect)?;
        Ok(Self { id })
    }

    /// Returns the peer's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address(|address| host::tls::tls_peer_addr(self.id, address))
    }

    /// Closes the writing direction for all handles. The peer reads everything that was written,
    /// followed by the end of the stream. The connection can still be read from.
    pub fn shutdown(&self) -> io::Result<()> {
        LunaticError::or_value(|error| host::tls::tls_shutdown(self.id, error))?;
        Ok(())
    }

    /// Sets how long a read may wait. `None`, the default, means indefinitely. A read that times
    /// out fails with [`io::ErrorKind::TimedOut`]; no data is lost. The timeout is rounded up to
    /// whole milliseconds; a timeout of zero does not wait. All handles to a connection share the
    /// timeout.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        host::tls::set_tls_read_timeout(self.id, host::milliseconds_or_forever(timeout));
    }

    /// Returns how long a read may wait.
    pub fn read_timeout(&self) -> Option<Duration> {
        host::duration(host::tls::get_tls_read_timeout(self.id))
    }

    /// Sets how long a write may wait. Works like [`set_read_timeout`](Self::set_read_timeout).
    /// Data is considered written once it is encrypted, even if the timeout expires before the peer
    /// accepts it. The next write first waits until that data has been sent. The data is lost if
    /// the last handle is dropped before it has been sent.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        host::tls::set_tls_write_timeout(self.id, host::milliseconds_or_forever(timeout));
    }

    /// Returns how long a write may wait.
    pub fn write_timeout(&self) -> Option<Duration> {
        host::duration(host::tls::get_tls_write_timeout(self.id))
    }
}

read_and_write!(
    TlsStream,
    host::tls::tls_read,
    host::tls::tls_write_vectored,
    host::tls::tls_flush
);

handle!(
    TlsStream,
    ResourceKind::TlsStream,
    host::tls::clone_tls_stream,
    host::tls::drop_tls_stream
);
