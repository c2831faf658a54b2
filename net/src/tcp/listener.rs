//! A socket that accepts connections.

use super::stream::{TcpStream, socket_for};
use crate::error::failed;
use crate::reserved;
use async_io::{Async, Timer};
use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How many connections the kernel queues between accepts. The kernel may lower this number.
const BACKLOG: i32 = 4096;

/// How long an accept that failed for lack of descriptors or memory waits before retrying.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A listening TCP socket.
///
/// A clone is another handle to the same socket. Any number of tasks may accept, through any number
/// of handles. A connection wakes all of these tasks and goes to one of them. The port is free as
/// soon as the last handle is dropped. A task that waits in [`accept`](TcpListener::accept) only
/// borrows its handle.
#[derive(Clone, Debug)]
pub struct TcpListener {
    socket: Arc<Async<net::TcpListener>>,
}

impl TcpListener {
    /// Listens on `addr`. If the port is 0, the system chooses one. Never waits.
    ///
    /// On Unix, the port may be bound again while connections of an earlier listener linger
    /// (`SO_REUSEADDR`), but not while that listener exists. `[::]` also accepts IPv4 connections
    /// if that is the system's default, as in the standard library.
    ///
    /// # Errors
    ///
    /// The system's errors, with the address in the message: `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied` and others.
    ///
    /// ```
    /// use lunatic_net::tcp::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        let listening = reserved::check(addr).and_then(|()| listen(addr));
        listening.map_err(|error| failed("listen on", addr, error))
    }

    /// Returns the address that this socket is bound to, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// Waits for a connection, and returns it with the address of its peer.
    ///
    /// Dropping the future does not lose a connection. Connections that the peer has closed in the
    /// meantime are skipped.
    ///
    /// # Errors
    ///
    /// If a connection is waiting but the process or the system has no descriptor or memory left
    /// for it, `accept` retries once after 100 ms before it returns the error, so that a loop
    /// around `accept` does not spin. The connection stays in the queue for the next call.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut has_retried = false;
        loop {
            let error = match self.try_accept() {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::WouldBlock => self.socket.readable().await?,
                kind if concerns_one_connection(kind) => {}
                _ if has_retried => return Err(error),
                _ => {
                    // Linux allocates a descriptor before it checks the queue, so the failure does
                    // not mean that a connection is waiting.
                    self.socket.readable().await?;
                    Timer::after(RETRY_DELAY).await;
                    has_retried = true;
                }
            }
        }
    }

    /// Turns a connection from the kernel's queue into a stream, without an await at which it could
    /// be lost.
    fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.socket.get_ref().accept()?;
        // On Linux and the BSDs, connections inherit this option from the listener.
        #[cfg(not(unix))]
        socket.set_nodelay(true)?;
        Ok((TcpStream::from_connected(socket)?, peer))
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(addr)?;
    // On other systems, this option would let two listeners share a port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let socket = Async::new_nonblocking(net::TcpListener::from(socket))?;
    Ok(TcpListener {
        socket: Arc::new(socket),
    })
}

/// Returns whether an error from `accept` concerns only the connection that `accept` was about to
/// return. Rarer errors of this sort have no `ErrorKind` of their own. They are handled by the
/// retry.
fn concerns_one_connection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
    )
}
