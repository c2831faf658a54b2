//! A socket that accepts connections.

use super::{TcpStream, socket_for};
use crate::failed;
use async_io::{Async, Timer};
use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Connections the kernel keeps for us between two accepts; it may cap the number further.
const BACKLOG: i32 = 4096;

/// How long an accept that failed for want of descriptors or memory waits for some to come back.
const PAUSE: Duration = Duration::from_millis(100);

/// A TCP socket that listens.
///
/// A clone is another handle to the same socket; any number of tasks may accept through any number
/// of handles; a connection wakes all and goes to one. The port is free as soon as the last handle
/// is dropped. A task that waits in [`accept`](TcpListener::accept) borrows its handle, so nothing
/// else keeps the port.
#[derive(Clone, Debug)]
pub struct TcpListener {
    socket: Arc<Async<net::TcpListener>>,
}

impl TcpListener {
    /// Listens on `addr`; port 0 lets the system choose one. Never waits.
    ///
    /// On Unix the port may be bound again while connections of an earlier listener linger
    /// (`SO_REUSEADDR`), but not while that listener lives. `[::]` also takes IPv4 connections where
    /// that is the system's default, as with the standard library.
    ///
    /// # Errors
    ///
    /// The system's, naming the address: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` and others.
    ///
    /// ```
    /// use lunatic_net::tcp::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        listen(addr).map_err(|error| failed("listen on", addr, error))
    }

    /// The address this socket is bound to, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// Waits for a connection, and answers with it and the address of its peer.
    ///
    /// Dropping the future loses no connection. A connection that its peer gave up in the meantime is
    /// passed over.
    ///
    /// # Errors
    ///
    /// When a connection is waiting and the process or the system has no descriptor or memory left for
    /// it, the error comes after 100 ms and a second try, so that a loop around `accept` does not spin.
    /// The connection stays in the queue for the next call.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut has_paused = false;
        loop {
            let error = match self.try_accept() {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::WouldBlock => self.socket.readable().await?,
                kind if concerns_one_connection(kind) => {}
                _ if has_paused => return Err(error),
                _ => {
                    // Linux looks for a descriptor before it looks into the queue, so the failure
                    // alone does not tell that anybody wants to connect.
                    self.socket.readable().await?;
                    Timer::after(PAUSE).await;
                    has_paused = true;
                }
            }
        }
    }

    /// From the kernel's queue to a stream without an await between, where a connection could be lost.
    fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.socket.get_ref().accept()?;
        // Linux and the BSDs hand the listener's choice on.
        #[cfg(not(unix))]
        socket.set_nodelay(true)?;
        Ok((TcpStream::from_connected(socket)?, peer))
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(addr)?;
    // Elsewhere the option would let two listeners share a port.
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

/// Whether an error of `accept` is the end of the connection it was about to return, and of no
/// interest to the next. Rarer ones of this sort, without a kind of their own, end in the second try.
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
