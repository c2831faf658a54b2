//! TLS: encrypted connections, with peers that prove who they are.

use crate::error::LunaticError;
use crate::host::{self, Vector};
use crate::net::dns::{ToSocketAddrs, first, only_address};
use crate::net::socket::{handle, read_and_write};
use lunatic_abi::ResourceKind;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Listens for TLS connections. Its port is free again when it is dropped, or when its process ends
/// in any way.
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
///     while let Ok((stream, _peer)) = listener.accept() {
///         process::spawn_with(stream, |mut stream, _: Mailbox<()>| {
///             stream.write_all(b"Hello!\n").unwrap();
///         })
///         .unwrap();
///     }
/// }
/// ```
#[derive(Debug)]
pub struct TlsListener {
    id: u64,
}

impl TlsListener {
    /// Listens on the first of the addresses that can be listened on. Port 0 is any that is free.
    ///
    /// Certificates and key are PEM texts: the server's own certificate first, then those by which
    /// it was issued; the key in PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    ///
    /// That of the last address; [`io::ErrorKind::InvalidInput`] where there is none, and for
    /// certificates or a key that cannot be used.
    pub fn bind<A: ToSocketAddrs>(
        addresses: A,
        certificates: &[u8],
        private_key: &[u8],
    ) -> io::Result<Self> {
        first(addresses, |address| {
            let mut id = 0;
            // SAFETY: the addresses are those of the bytes, of which there are as many as the
            // family says, of a variable, and of texts with their lengths.
            let result = unsafe {
                host::tls::tls_bind(
                    address.family,
                    address.ip.as_ptr(),
                    u32::from(address.port),
                    address.flow,
                    address.scope,
                    &mut id,
                    certificates.as_ptr(),
                    certificates.len(),
                    private_key.as_ptr(),
                    private_key.len(),
                )
            };
            LunaticError::check(result, id).map(|id| Self { id })
        })
    }

    /// Waits for a connection whose handshake succeeded, and returns it with the peer's address. A
    /// client that fails or stalls is not told here, and holds up no other.
    pub fn accept(&self) -> io::Result<(TlsStream, SocketAddr)> {
        let (mut stream, mut peer) = (0, 0);
        // SAFETY: the addresses are those of variables.
        let result = unsafe { host::tls::tls_accept(self.id, &mut stream, &mut peer) };
        let id = LunaticError::check(result, stream)?;
        let stream = TlsStream { id };
        Ok((stream, only_address(peer)?))
    }

    /// Returns the connections, waiting for each; it never ends.
    pub fn incoming(&self) -> TlsIncoming<'_> {
        TlsIncoming { listener: self }
    }

    /// Returns the address that it listens on, with the port that was chosen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let mut address = 0;
        // SAFETY: the address is that of a variable.
        let result = unsafe { host::tls::tls_local_addr(self.id, &mut address) };
        only_address(LunaticError::check(result, address)?)
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        // SAFETY: the id was given by the machine, and nobody else has it.
        unsafe { host::tls::drop_tls_listener(self.id) };
    }
}

/// The connections to a listener, from [`TlsListener::incoming`].
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

/// A TLS connection. With its last handle, in whichever process that is, the peer is told that this
/// is the end, and the connection is closed.
///
/// A read returns 0 only for an end that the peer announced. Where the connection ends without
/// that, it may have been cut by somebody else, and the read fails with
/// [`io::ErrorKind::ConnectionAborted`].
///
/// [`Clone`] makes another handle to the same connection, and so does sending it in a message, as
/// with a [`TcpStream`](crate::net::TcpStream): one process may wait to read while another writes.
#[derive(Debug)]
pub struct TlsStream {
    id: u64,
}

impl TlsStream {
    /// Connects to a host, by its name or address, whose certificate is one that the web trusts.
    ///
    /// # Errors
    ///
    /// That of the look-up or of the host's last address; [`io::ErrorKind::InvalidInput`] for what
    /// names no host; [`io::ErrorKind::InvalidData`] where the host's certificate or anything else
    /// about its handshake is not acceptable.
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

    /// Connects as [`connect`](Self::connect) does, within a time for everything: the look-up, the
    /// connection and the handshake. Time counts in milliseconds, rounded up.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`io::ErrorKind::TimedOut`].
    pub fn connect_timeout(host: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        Self::connect_within(host, port, &[], host::milliseconds(timeout))
    }

    /// Connects as [`connect`](Self::connect) does to a host whose certificate was issued by one of
    /// these authorities, and by nobody else. Each is a PEM text of at least one certificate; the
    /// host's own may stand for its authority. A `timeout` is for everything.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), [`io::ErrorKind::TimedOut`], and
    /// [`io::ErrorKind::InvalidInput`] for what is no certificate, or where there is none at all.
    pub fn connect_trusting(
        host: &str,
        port: u16,
        authorities: &[&[u8]],
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        // To the machine, none would be those of the web.
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
        let authorities: Vec<Vector> = authorities
            .iter()
            .map(|text| Vector {
                address: text.as_ptr(),
                length: text.len(),
            })
            .collect();
        let mut id = 0;
        // SAFETY: each address comes with the length of what it points to, or is that of a
        // variable.
        let result = unsafe {
            host::tls::tls_connect(
                host.as_ptr(),
                host.len(),
                u32::from(port),
                timeout,
                &mut id,
                authorities.as_ptr(),
                authorities.len(),
            )
        };
        Ok(Self {
            id: LunaticError::check(result, id)?,
        })
    }

    /// Returns the peer's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let mut address = 0;
        // SAFETY: the address is that of a variable.
        let result = unsafe { host::tls::tls_peer_addr(self.id, &mut address) };
        only_address(LunaticError::check(result, address)?)
    }

    /// Ends the writing direction, for all handles: the peer reads to the end of what was written,
    /// then the end. Reading goes on.
    pub fn shutdown(&self) -> io::Result<()> {
        let mut error = 0;
        // SAFETY: the address is that of a variable.
        let result = unsafe { host::tls::tls_shutdown(self.id, &mut error) };
        LunaticError::check(result, error)?;
        Ok(())
    }

    /// Sets how long a read may wait; `None` for as long as it takes, as at first. A read that
    /// waited for so long fails with [`io::ErrorKind::TimedOut`], and loses nothing. Time counts in
    /// milliseconds, rounded up; zero only takes what is there. All handles of a connection share
    /// it.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        // SAFETY: the call takes numbers.
        unsafe { host::tls::set_tls_read_timeout(self.id, host::milliseconds_or_forever(timeout)) };
    }

    /// Returns how long a read may wait.
    pub fn read_timeout(&self) -> Option<Duration> {
        // SAFETY: the call takes a number and returns one.
        host::duration(unsafe { host::tls::get_tls_read_timeout(self.id) })
    }

    /// Sets how long a write may wait, as [`set_read_timeout`](Self::set_read_timeout) does for a
    /// read. What a write has encrypted counts as written even where the time runs out before the
    /// peer takes it: the next write has to wait for it, and dropping the last handle before then
    /// loses it.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        // SAFETY: the call takes numbers.
        unsafe {
            host::tls::set_tls_write_timeout(self.id, host::milliseconds_or_forever(timeout))
        };
    }

    /// Returns how long a write may wait.
    pub fn write_timeout(&self) -> Option<Duration> {
        // SAFETY: the call takes a number and returns one.
        host::duration(unsafe { host::tls::get_tls_write_timeout(self.id) })
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
