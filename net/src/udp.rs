//! UDP: a [`UdpSocket`] sends and receives datagrams.
//!
//! What is true of datagrams anywhere is true here: they may be lost, doubled or overtaken. Those that
//! nobody receives wait in the kernel's buffer, whose size is the system's (about 200 KiB on Linux);
//! what finds no room there is dropped, uncounted.

use crate::deadline::Deadline;
use crate::failed;
use async_io::Async;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A UDP socket.
///
/// A clone is another handle to the same socket, its peer and its options; the socket is closed and
/// its port free when the last is dropped. Any number of tasks may receive through any number of
/// handles: a datagram wakes all and goes to one, whole.
#[derive(Clone)]
pub struct UdpSocket {
    shared: Arc<Shared>,
}

/// What all handles of a socket share.
struct Shared {
    socket: Async<net::UdpSocket>,
    /// How long a receive may wait; `None` for ever.
    timeout: Mutex<Option<Duration>>,
}

impl UdpSocket {
    /// Binds to `addr`; port 0 lets the system choose one. Never waits.
    ///
    /// # Errors
    ///
    /// The system's, naming the address: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` and others.
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
            shared: Arc::new(Shared {
                socket,
                timeout: Mutex::default(),
            }),
        })
    }

    /// Chooses the peer that [`try_send`](UdpSocket::try_send) sends to, and the only one that is
    /// received from. Another call chooses another. Nothing is sent by it, and it never waits.
    ///
    /// # Errors
    ///
    /// The system's, naming the address: it is of another family than the socket's, or cannot be reached.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<()> {
        self.socket()
            .connect(addr)
            .map_err(|error| failed("connect to", addr, error))
    }

    /// Sends one datagram to the peer that [`connect`](UdpSocket::connect) chose, and answers with its
    /// length. An empty one is a datagram too. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the kernel has no room; `NotConnected` without a peer; `InvalidInput` for a
    /// datagram that is larger than the network takes (65,507 bytes for version 4); `ConnectionRefused`
    /// when the peer's machine has said of an earlier one that nobody listens there.
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.socket()
            .send(datagram)
            .map_err(|error| refused(datagram, error))
    }

    /// Sends one datagram to an address; otherwise as [`try_send`](UdpSocket::try_send).
    pub fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.socket()
            .send_to(datagram, to)
            .map_err(|error| refused(datagram, error))
    }

    /// Receives one datagram, and answers how much of it is in `buffer`. What does not fit is lost.
    /// Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when none is there, `ConnectionRefused` as with [`try_send`](UdpSocket::try_send).
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket().recv(buffer)
    }

    /// Receives one datagram and says whose it is; otherwise as [`try_receive`](UdpSocket::try_receive).
    pub fn try_receive_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket().recv_from(buffer)
    }

    /// Prepares to wait for a datagram. Costs nothing yet: the timeout starts to run with the first
    /// [`Wait::ready`], and covers all that follow.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            socket: self,
            deadline: None,
        }
    }

    /// Waits until receiving is worth a try; the same as one [`Wait::ready`].
    pub async fn readable(&self) -> io::Result<()> {
        self.wait().ready().await
    }

    /// Waits until sending is worth a try, for as long as that takes.
    pub async fn writable(&self) -> io::Result<()> {
        self.shared.socket.writable().await
    }

    /// The address this socket is bound to, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// The address of the peer. Fails with `NotConnected` where none was chosen.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// How long a receive may wait; `None` is for ever, as it is at first.
    pub fn timeout(&self) -> Option<Duration> {
        *self.lock_timeout()
    }

    /// Sets how long a receive may wait, through any handle. Waits that have begun keep their own end.
    /// A zero timeout makes a receive a single try.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        *self.lock_timeout() = timeout;
    }

    /// How many routers a datagram may pass.
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket().ttl()
    }

    /// Sets how many routers a datagram may pass: 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket().set_ttl(ttl)
    }

    /// Whether datagrams may be sent to a broadcast address. They may not at first.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket().broadcast()
    }

    /// Sets whether datagrams may be sent to a broadcast address.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket().set_broadcast(broadcast)
    }

    fn lock_timeout(&self) -> MutexGuard<'_, Option<Duration>> {
        self.shared
            .timeout
            .lock()
            .expect("nothing panics while it holds the timeout")
    }

    /// The socket, whose sending and receiving need no exclusive access.
    fn socket(&self) -> &net::UdpSocket {
        self.shared.socket.get_ref()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

/// One receive's waiting: however often it is woken for nothing, because another receiver was quicker,
/// it ends when the socket's timeout is over.
#[derive(Debug)]
#[must_use = "a wait does nothing until `ready` is awaited"]
pub struct Wait<'a> {
    socket: &'a UdpSocket,
    /// Unset until the first wait, so that a receive which succeeds at once reads no clock.
    deadline: Option<Deadline>,
}

impl Wait<'_> {
    /// Waits until a receive is worth another try. To be called when a try said `WouldBlock`. Being
    /// ready is no promise: the next try may still answer `WouldBlock`.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the socket's timeout is over; nothing is lost by that.
    pub async fn ready(&mut self) -> io::Result<()> {
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Deadline::after(self.socket.timeout()));
        deadline
            .bound("no datagram", self.socket.shared.socket.readable())
            .await
    }
}

fn bind(addr: SocketAddr) -> io::Result<Async<net::UdpSocket>> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Async::new_nonblocking(socket.into())
}

/// Gives the failures of a send that have no kind of their own one by which a caller can decide.
fn refused(datagram: &[u8], error: io::Error) -> io::Error {
    #[cfg(unix)]
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => {
            let what = format!(
                "a datagram of {} bytes is larger than the network takes",
                datagram.len()
            );
            return io::Error::new(ErrorKind::InvalidInput, what);
        }
        Some(libc::EDESTADDRREQ) => {
            return io::Error::new(
                ErrorKind::NotConnected,
                "the socket has no peer: connect it, or name an address",
            );
        }
        _ => {}
    }
    error
}
