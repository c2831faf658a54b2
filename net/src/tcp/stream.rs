//! A connection.

use super::socket_for;
use crate::deadline::Deadline;
use crate::failed;
use async_io::Async;
use socket2::{SockRef, Socket};
use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The most buffers that one system call takes (`IOV_MAX` on Linux and the BSDs).
const MAX_BUFFERS: usize = 1024;

/// A peer that is gone must be an error of the write, not a signal that ends the machine. Apple's
/// systems have a socket option for it, which `socket2` sets.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: i32 = 0;

/// What somebody waits for on a stream; each has a timeout of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Taking bytes out of the stream.
    Read,
    /// Putting bytes into the stream.
    Write,
    /// Looking at the next bytes without taking them.
    Peek,
}

/// A TCP connection.
///
/// A clone is another handle to the same socket and the same timeouts; the socket is closed when the
/// last is dropped. The two directions are independent: one handle may wait to read while another
/// writes. Any number of tasks may wait for the same direction: all wake when it is ready, and each
/// byte goes to exactly one reader. The bytes that one `try_write_vectored` accepts are contiguous in
/// the stream; those of two calls may have another writer's between them.
///
/// A peer that vanishes without a word is noticed only by a timeout, or by writing to it.
#[derive(Clone)]
pub struct TcpStream {
    shared: Arc<Shared>,
}

/// What all handles of a connection share.
struct Shared {
    socket: Async<net::TcpStream>,
    timeouts: Mutex<Timeouts>,
    /// Dropped when the socket is closed.
    _kept: Option<Box<dyn Any + Send + Sync>>,
}

#[derive(Clone, Copy, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
    peek: Option<Duration>,
}

impl Timeouts {
    fn of(&mut self, operation: Operation) -> &mut Option<Duration> {
        match operation {
            Operation::Read => &mut self.read,
            Operation::Write => &mut self.write,
            Operation::Peek => &mut self.peek,
        }
    }
}

impl TcpStream {
    /// Connects to `addr`, for at most `timeout`; without one, for as long as the system tries (about
    /// two minutes on Linux). Dropping the future closes the half-made connection.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the timeout is over, otherwise the system's (`ConnectionRefused` and others);
    /// each names the address. An address that leads back to the connecting socket itself, which can
    /// happen on a free local port, is refused.
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
        Deadline::after(timeout)
            .bound("no answer", connect(addr))
            .await
            .map_err(|error| failed("connect to", addr, error))
    }

    /// Takes over a connected socket, whichever mode it is in. What is kept with it is dropped when
    /// the socket is closed, which is when the last handle is gone.
    ///
    /// # Errors
    ///
    /// Where the system does not let the socket be waited for.
    pub fn adopt(
        socket: net::TcpStream,
        kept: impl Send + Sync + 'static,
    ) -> io::Result<TcpStream> {
        TcpStream::made_of(socket, Some(Box::new(kept)))
    }

    /// Takes over a connected socket, whichever mode it is in.
    pub(super) fn from_connected(socket: net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::made_of(socket, None)
    }

    fn made_of(
        socket: net::TcpStream,
        kept: Option<Box<dyn Any + Send + Sync>>,
    ) -> io::Result<TcpStream> {
        let socket = Async::new(socket)?;
        let timeouts = Mutex::default();
        Ok(TcpStream {
            shared: Arc::new(Shared {
                socket,
                timeouts,
                _kept: kept,
            }),
        })
    }

    /// Reads what is there into `buffer`, and answers how much; 0 is the end of the stream, or a
    /// buffer without room. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there yet. A connection that the peer reset says so once
    /// (`ConnectionReset`); after that it reads as ended.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // The kernel would make an empty read wait for a first byte.
        if buffer.is_empty() {
            return Ok(0);
        }
        uninterrupted(|| self.socket().read(buffer))
    }

    /// Reads what is there into `buffers`, each filled before the next; otherwise as
    /// [`try_read`](TcpStream::try_read). Only the first 1024 buffers with room are used.
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Some(first) = buffers.iter().position(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let end = buffers.len().min(first + MAX_BUFFERS);
        uninterrupted(|| self.socket().read_vectored(&mut buffers[first..end]))
    }

    /// Copies what is there into `buffer` and leaves it in the stream; otherwise as
    /// [`try_read`](TcpStream::try_read).
    pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        uninterrupted(|| self.socket().peek(buffer))
    }

    /// Writes what the kernel has room for, buffer after buffer, and answers how much that was: any
    /// part of the whole. Only the first 1024 buffers that are not empty are looked at; 0 means that
    /// there was nothing to write. Never waits, and raises no `SIGPIPE`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is no room, `BrokenPipe` or `ConnectionReset` when nobody reads any more.
    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(first) = buffers.iter().position(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let end = buffers.len().min(first + MAX_BUFFERS);
        let socket = SockRef::from(self.socket());
        uninterrupted(|| socket.send_vectored_with_flags(&buffers[first..end], SEND_FLAGS))
    }

    /// Prepares to wait for `operation`. Costs nothing yet: the operation's timeout starts to run
    /// with the first [`Wait::ready`], and covers all that follow.
    pub fn wait(&self, operation: Operation) -> Wait<'_> {
        Wait {
            stream: self,
            operation,
            timeout: Timeout::OfStream,
            deadline: None,
        }
    }

    /// Prepares to wait for `operation` with a timeout of its own, in place of the stream's; `None` is for ever.
    pub fn wait_within(&self, operation: Operation, timeout: Option<Duration>) -> Wait<'_> {
        Wait {
            stream: self,
            operation,
            timeout: Timeout::Own(timeout),
            deadline: None,
        }
    }

    /// Waits until reading is worth a try; the same as one [`Wait::ready`] for [`Operation::Read`].
    pub async fn readable(&self) -> io::Result<()> {
        self.wait(Operation::Read).ready().await
    }

    /// Waits until writing is worth a try; the same as one [`Wait::ready`] for [`Operation::Write`].
    pub async fn writable(&self) -> io::Result<()> {
        self.wait(Operation::Write).ready().await
    }

    /// Does nothing: what a write accepted is the kernel's, and on its way.
    pub fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Closes one direction or both, for all handles, and wakes those that wait in it. The peer of a
    /// closed writing side reads to the end of what was written, then reads the end.
    ///
    /// # Errors
    ///
    /// The system's; `NotConnected` when the peer has already reset the connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket().shutdown(how)
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// The address of the other end. Fails with `NotConnected` once the connection was reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Whether small writes leave at once. On (true) unless changed.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket().nodelay()
    }

    /// Sets whether small writes leave at once, rather than wait for the acknowledgement of earlier
    /// ones (Nagle's algorithm).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().set_nodelay(nodelay)
    }

    /// How long a wait for `operation` may last; `None` is for ever, as it is at first.
    pub fn timeout(&self, operation: Operation) -> Option<Duration> {
        *self.timeouts().of(operation)
    }

    /// Sets how long a wait for `operation` may last, through any handle. Waits that have begun keep
    /// their own end. A zero timeout makes an operation a single try.
    pub fn set_timeout(&self, operation: Operation, timeout: Option<Duration>) {
        *self.timeouts().of(operation) = timeout;
    }

    fn timeouts(&self) -> MutexGuard<'_, Timeouts> {
        self.shared
            .timeouts
            .lock()
            .expect("nothing panics while it holds the timeouts")
    }

    /// The socket, whose reading and writing need no exclusive access.
    fn socket(&self) -> &net::TcpStream {
        self.shared.socket.get_ref()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

/// One operation's waiting: however often it is woken for nothing, because another reader was
/// quicker, it ends when the stream's timeout for that operation is over.
#[derive(Debug)]
#[must_use = "a wait does nothing until `ready` is awaited"]
pub struct Wait<'a> {
    stream: &'a TcpStream,
    operation: Operation,
    timeout: Timeout,
    /// Unset until the first wait, so that an operation which succeeds at once reads no clock.
    deadline: Option<Deadline>,
}

/// How long a wait may last.
#[derive(Clone, Copy, Debug)]
enum Timeout {
    /// As is set for the stream when the wait begins.
    OfStream,
    /// As this wait was told; `None` is for ever.
    Own(Option<Duration>),
}

impl Wait<'_> {
    /// Waits until the operation is worth another try. To be called when a try said `WouldBlock`:
    /// it waits for news, and with a zero timeout it fails without looking.
    ///
    /// A stream that has ended, was reset or shut down is ready, and the next try says so. Being
    /// ready is no promise: the next try may still answer `WouldBlock`.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the operation's timeout is over; nothing is lost by that, and the stream works on.
    pub async fn ready(&mut self) -> io::Result<()> {
        let timeout = || match self.timeout {
            Timeout::OfStream => self.stream.timeout(self.operation),
            Timeout::Own(timeout) => timeout,
        };
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Deadline::after(timeout()));
        let socket = &self.stream.shared.socket;
        match self.operation {
            Operation::Read | Operation::Peek => {
                deadline.bound("nothing to read", socket.readable()).await
            }
            Operation::Write => deadline.bound("no room to write", socket.writable()).await,
        }
    }
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_for(addr)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&addr.into()) {
        Err(error) if !goes_on(&error) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_connected(socket.into())?;
    loop {
        stream.shared.socket.writable().await?;
        if let Some(error) = stream.socket().take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) if is_own_peer(&SockRef::from(stream.socket())) => {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(_) => return Ok(stream),
            // Woken for nothing: neither connected nor failed yet.
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a non-blocking connect has begun, and is still under way.
fn goes_on(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR));
    #[cfg(not(unix))]
    return error.kind() == ErrorKind::WouldBlock;
}

/// Whether the socket is connected to itself. TCP allows two ends to call each other at once, so a
/// connect to a free local port finds itself when the system picks that very port for its own end;
/// the caller would hold an echo, and the port that some server is about to bind.
fn is_own_peer(socket: &Socket) -> bool {
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => local.as_socket() == peer.as_socket(),
        _ => false,
    }
}

/// Tries again when a signal came between.
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
    fn a_socket_connected_to_itself_is_found_out() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = socket_for(local).expect("a socket");
        socket.bind(&local.into()).expect("a free port");
        let own = socket.local_addr().expect("an address");
        // Both ends are this socket, so the connect is over when it returns, or soon after.
        let connected = socket.connect(&own);
        assert!(connected.is_ok() || goes_on(&connected.expect_err("not ok")));
        assert!(is_own_peer(&socket));
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
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
