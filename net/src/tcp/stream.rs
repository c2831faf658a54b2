//! TCP connections.

use crate::deadline::Deadline;
use crate::error::failed;
use crate::reserved;
use crate::wait::{self, Operation, Timed};
use async_io::Async;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of buffers in a system call (`IOV_MAX` on Linux and the BSDs).
const MAX_BUFFERS: usize = 1024;

/// A write to a closed connection must fail rather than raise a signal that kills this process. On
/// Apple systems, a socket option that `socket2` sets has this effect.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: i32 = 0;

/// A TCP connection.
///
/// A clone is another handle to the same socket and the same timeouts. The socket is closed when
/// the last handle is dropped. The two directions are independent, so one handle may wait to read
/// while another handle writes. Any number of tasks may wait for the same direction. All of them
/// wake when it is ready, and each byte goes to exactly one reader. The bytes accepted by a single
/// `try_write_vectored` call are contiguous in the stream. Between the bytes of two calls, another
/// writer's bytes may appear.
///
/// Only a timeout or a write reveals that a peer has vanished silently.
#[derive(Clone)]
pub struct TcpStream {
    shared: Arc<Shared>,
}

/// The state shared by all handles to a connection.
struct Shared {
    timed: Timed<net::TcpStream>,
    /// Dropped when the socket is closed.
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

/// A wait on behalf of one operation on a stream.
pub type Wait<'a> = wait::Wait<'a, net::TcpStream>;

impl TcpStream {
    /// Connects to `addr` within `timeout`. Without a timeout, the call waits for as long as the
    /// system keeps trying, which is about two minutes on Linux. Dropping the future aborts the
    /// attempt.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the timeout expires; `PermissionDenied` for [`reserved`] addresses;
    /// otherwise the system's errors (`ConnectionRefused` and others). Each error names the
    /// address. If a socket connects to itself, which can happen on a free local port, the
    /// connection is refused.
    ///
    /// ```
    /// use lunatic_net::tcp::{TcpListener, TcpStream};
    /// use std::time::Duration;
    ///
    /// # smol::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    /// let address = listener.local_addr()?;
    /// let stream = TcpStream::connect(address, Some(Duration::from_secs(5))).await?;
    /// assert_eq!(stream.peer_addr()?, address);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn connect(addr: SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
        let connected = async {
            reserved::check(addr)?;
            connect(addr).await
        };
        Deadline::after(timeout)
            .bound("no answer", connected)
            .await
            .map_err(|error| failed("connect to", addr, error))
    }

    /// Takes over a connected socket, whether or not it is in blocking mode. `guard` is dropped
    /// when the last handle is dropped and the socket is closed.
    ///
    /// # Errors
    ///
    /// If the system does not support waiting for the socket.
    pub fn adopt(
        socket: net::TcpStream,
        guard: impl Send + Sync + 'static,
    ) -> io::Result<TcpStream> {
        TcpStream::with_guard(socket, Some(Box::new(guard)))
    }

    /// Takes over a connected socket, whether or not it is in blocking mode.
    pub(super) fn from_connected(socket: net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::with_guard(socket, None)
    }

    fn with_guard(
        socket: net::TcpStream,
        guard: Option<Box<dyn Any + Send + Sync>>,
    ) -> io::Result<TcpStream> {
        let timed = Timed::new(Async::new(socket)?);
        Ok(TcpStream {
            shared: Arc::new(Shared {
                timed,
                _guard: guard,
            }),
        })
    }

    /// Reads the available bytes into `buffer`, and returns the number of bytes read. 0 means that
    /// the stream has ended or that the buffer is empty. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is available yet. If the peer has reset the connection, the first
    /// read returns `ConnectionReset`, and later reads return the end of the stream.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // With an empty buffer, the kernel would still wait for a first byte.
        if buffer.is_empty() {
            return Ok(0);
        }
        uninterrupted(|| self.socket().read(buffer))
    }

    /// Like [`try_read`](TcpStream::try_read), but reads into several buffers, one after another.
    /// At most 1024 buffers are used, starting with the first nonempty one.
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Some(first) = buffers.iter().position(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let end = buffers.len().min(first + MAX_BUFFERS);
        uninterrupted(|| self.socket().read_vectored(&mut buffers[first..end]))
    }

    /// Like [`try_read`](TcpStream::try_read), but leaves the bytes in the stream.
    pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        uninterrupted(|| self.socket().peek(buffer))
    }

    /// Writes as much of `buffers`, one after another, as the kernel has room for. Returns the
    /// number of bytes written, which is 0 if there was nothing to write. At most 1024 buffers are
    /// used, starting with the first nonempty one. Never waits, and never raises `SIGPIPE`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room; `BrokenPipe` or `ConnectionReset` if the peer no longer
    /// reads.
    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(first) = buffers.iter().position(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let end = buffers.len().min(first + MAX_BUFFERS);
        let socket = SockRef::from(self.socket());
        uninterrupted(|| socket.send_vectored_with_flags(&buffers[first..end], SEND_FLAGS))
    }

    /// Prepares to wait for `operation`. This call costs nothing. The operation's timeout starts
    /// with the first `Wait::ready` and covers all later ones.
    pub fn wait(&self, operation: Operation) -> Wait<'_> {
        self.wait_for(operation, None)
    }

    /// Prepares to wait for `operation` with a timeout that replaces the stream's own. `None` means
    /// forever.
    pub fn wait_within(&self, operation: Operation, timeout: Option<Duration>) -> Wait<'_> {
        self.wait_for(operation, Some(timeout))
    }

    fn wait_for(&self, operation: Operation, timeout: Option<Option<Duration>>) -> Wait<'_> {
        let what = match operation {
            Operation::Read | Operation::Peek => "nothing to read",
            Operation::Write => "no room to write",
        };
        self.shared.timed.wait(operation, what, timeout)
    }

    /// Waits until reading is worth trying. Same as a single `Wait::ready` for [`Operation::Read`].
    pub async fn readable(&self) -> io::Result<()> {
        self.wait(Operation::Read).ready().await
    }

    /// Waits until writing is worth trying. Same as a single `Wait::ready` for
    /// [`Operation::Write`].
    pub async fn writable(&self) -> io::Result<()> {
        self.wait(Operation::Write).ready().await
    }

    /// Does nothing, because all accepted bytes have already been handed to the kernel.
    pub fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Closes one direction or both, for all handles, and wakes all tasks that are waiting for a
    /// closed direction. When the writing direction is closed, the peer reads the bytes that were
    /// written and then the end of the stream.
    ///
    /// # Errors
    ///
    /// The system's errors; `NotConnected` if the peer has already reset the connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket().shutdown(how)
    }

    /// Returns the local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// Returns the peer's address. Fails with `NotConnected` once the connection has been reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Returns whether small writes are sent immediately, which is the default.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket().nodelay()
    }

    /// Sets whether small writes are sent immediately rather than held back until earlier data has
    /// been acknowledged (Nagle's algorithm).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().set_nodelay(nodelay)
    }

    /// Returns how long a wait for `operation` may last. `None`, the default, means forever.
    pub fn timeout(&self, operation: Operation) -> Option<Duration> {
        self.shared.timed.timeout(operation)
    }

    /// Sets how long a wait for `operation` may last, for all handles. Waits already in progress
    /// keep their deadlines. With a timeout of zero, an operation is a single try.
    pub fn set_timeout(&self, operation: Operation, timeout: Option<Duration>) {
        self.shared.timed.set_timeout(operation, timeout);
    }

    /// Returns the socket. Reading and writing through it do not require exclusive access.
    fn socket(&self) -> &net::TcpStream {
        self.shared.timed.socket.get_ref()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

/// Returns a new socket for the address's family, non-blocking and close-on-exec.
pub(super) fn socket_for(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_for(addr)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&addr.into()) {
        Err(error) if !is_in_progress(&error) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_connected(socket.into())?;
    loop {
        stream.shared.timed.socket.writable().await?;
        if let Some(error) = stream.socket().take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) if is_connected_to_itself(&SockRef::from(stream.socket())) => {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(_) => return Ok(stream),
            // This is a spurious wakeup: the socket has neither connected nor failed yet.
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether a non-blocking connect has begun and is still in progress.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR));
    #[cfg(not(unix))]
    return error.kind() == ErrorKind::WouldBlock;
}

/// Returns whether the socket is connected to itself. TCP allows a simultaneous open from both
/// ends, so connecting to a free local port succeeds if the system happens to choose the same port
/// for this end. The caller would then communicate with itself, and occupy a port that a server may
/// be about to bind.
fn is_connected_to_itself(socket: &Socket) -> bool {
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => local.as_socket() == peer.as_socket(),
        _ => false,
    }
}

/// Retries the call if a signal interrupted it.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_connected_to_itself_is_detected() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = socket_for(local).expect("a socket can be created");
        socket
            .bind(&local.into())
            .expect("the system chooses a free port");
        let own = socket.local_addr().expect("a bound socket has an address");
        // Both ends are this socket, so the connection is established when the call returns or soon
        // after.
        let connected = socket.connect(&own);
        assert!(
            connected.is_ok()
                || is_in_progress(&connected.expect_err("the connect has not succeeded"))
        );
        assert!(is_connected_to_itself(&socket));
    }

    #[test]
    fn an_interrupted_call_is_retried() {
        let mut calls = 0;
        let answer = uninterrupted(|| {
            calls += 1;
            if calls < 3 {
                Err(ErrorKind::Interrupted.into())
            } else {
                Ok(calls)
            }
        });
        assert_eq!(answer.expect("the third call succeeds"), 3);
    }
}
