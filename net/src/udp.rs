//! UDP. A [`UdpSocket`] sends and receives datagrams.
//!
//! As always with UDP, datagrams may be lost, duplicated or reordered. Datagrams that have not been
//! received yet wait in the kernel's buffer, whose size is set by the system (about 200 KiB on
//! Linux). Datagrams that do not fit in the buffer are dropped and not counted.

use crate::error::failed;
use crate::wait::{self, Operation, Timed};
use async_io::Async;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A UDP socket.
///
/// A clone is another handle to the same socket, and shares its peer and options. When the last
/// handle is dropped, the socket is closed and its port is freed. Any number of tasks may receive,
/// through any number of handles. A datagram wakes all of these tasks, but only one gets it.
#[derive(Clone)]
pub struct UdpSocket {
    /// Only receives have a timeout.
    shared: Arc<Timed<net::UdpSocket>>,
}

/// A wait on behalf of one receive.
pub type Wait<'a> = wait::Wait<'a, net::UdpSocket>;

impl UdpSocket {
    /// Binds to `addr`. If the port is 0, the system chooses one. Never waits.
    ///
    /// # Errors
    ///
    /// The system's errors, with the address in the message: `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied` and others.
    ///
    /// ```
    /// use lunatic_net::udp::UdpSocket;
    ///
    /// let one = UdpSocket::bind("127.0.0.1:0".parse()?)?;
    /// let other = UdpSocket::bind("127.0.0.1:0".parse()?)?;
    /// one.try_send_to(b"datagram", other.local_addr()?)?;
    ///
    /// # smol::block_on(async {
    /// other.readable().await?;
    /// let mut buffer = [0; 32];
    /// let (length, from) = other.try_receive_from(&mut buffer)?;
    /// assert_eq!((&buffer[..length], from), (&b"datagram"[..], one.local_addr()?));
    /// # std::io::Result::Ok(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
        let socket = bind(addr).map_err(|error| failed("bind to", addr, error))?;
        Ok(UdpSocket {
            shared: Arc::new(Timed::new(socket)),
        })
    }

    /// Sets the peer, replacing any earlier one. [`try_send`](UdpSocket::try_send) sends to the
    /// peer, and only the peer's datagrams are received. This method sends nothing and never waits.
    ///
    /// # Errors
    ///
    /// The system's errors, with the address in the message, for example if the address's family
    /// differs from the socket's or the address cannot be reached.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<()> {
        self.socket()
            .connect(addr)
            .map_err(|error| failed("connect to", addr, error))
    }

    /// Sends one datagram to the peer set by [`connect`](UdpSocket::connect), and returns its
    /// length. A datagram may be empty. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel has no room; `NotConnected` if there is no peer; `InvalidInput`
    /// for a datagram that is larger than the network accepts (65,507 bytes for IPv4);
    /// `ConnectionRefused` if the peer's machine has reported, in reply to an earlier datagram,
    /// that the port is closed.
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.socket()
            .send(datagram)
            .map_err(|error| refused(datagram, error))
    }

    /// Like [`try_send`](UdpSocket::try_send), but sends to the given address.
    pub fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.socket()
            .send_to(datagram, to)
            .map_err(|error| refused(datagram, error))
    }

    /// Receives one datagram, and returns how many of its bytes are in `buffer`. Bytes that do not
    /// fit are lost. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if no datagram is available; `ConnectionRefused` for the same reason as in
    /// [`try_send`](UdpSocket::try_send).
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket().recv(buffer)
    }

    /// Like [`try_receive`](UdpSocket::try_receive), but also returns the datagram's sender.
    pub fn try_receive_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket().recv_from(buffer)
    }

    /// Prepares to wait for a datagram. This call costs nothing. The timeout starts with the first
    /// `Wait::ready` and covers all later ones.
    pub fn wait(&self) -> Wait<'_> {
        self.shared.wait(Operation::Read, "no datagram", None)
    }

    /// Waits until receiving is worth trying. Same as a single `Wait::ready`.
    pub async fn readable(&self) -> io::Result<()> {
        self.wait().ready().await
    }

    /// Waits until sending is worth trying, without a timeout.
    pub async fn writable(&self) -> io::Result<()> {
        self.shared.socket.writable().await
    }

    /// Returns the address that this socket is bound to, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// Returns the address of the peer. Fails with `NotConnected` if no peer was set.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Returns how long a receive may wait. `None`, the default, means forever.
    pub fn timeout(&self) -> Option<Duration> {
        self.shared.timeout(Operation::Read)
    }

    /// Sets how long a receive may wait, for all handles. Waits already in progress keep their
    /// deadlines. With a timeout of zero, a receive makes only one attempt.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        self.shared.set_timeout(Operation::Read, timeout);
    }

    /// Returns how many hops a datagram may take.
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket().ttl()
    }

    /// Sets how many hops a datagram may take, from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket().set_ttl(ttl)
    }

    /// Returns whether datagrams may be sent to a broadcast address. By default, they may not.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket().broadcast()
    }

    /// Sets whether datagrams may be sent to a broadcast address.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket().set_broadcast(broadcast)
    }

    /// Returns the socket. Sending and receiving through it do not require exclusive access.
    fn socket(&self) -> &net::UdpSocket {
        self.shared.socket.get_ref()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

fn bind(addr: SocketAddr) -> io::Result<Async<net::UdpSocket>> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Async::new_nonblocking(socket.into())
}

/// Maps send failures that have no `ErrorKind` in std to a kind that callers can act on.
fn refused(datagram: &[u8], error: io::Error) -> io::Error {
    #[cfg(unix)]
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => {
            let what = format!(
                "a datagram of {} bytes is larger than the network accepts",
                datagram.len()
            );
            return io::Error::new(ErrorKind::InvalidInput, what);
        }
        Some(libc::EDESTADDRREQ) => {
            return io::Error::new(
                ErrorKind::NotConnected,
                "the socket has no peer: connect it, or specify an address",
            );
        }
        _ => {}
    }
    error
}
