//! A connection whose handshake is complete.

use super::credentials::Trust;
use super::handshake::shake_hands;
use super::wire::{Wire, send};
use crate::deadline::Deadline;
use crate::dns::Resolver;
use crate::tcp::{self, Operation, TcpStream};
use event_listener::Event;
use futures_lite::future;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection};
use std::fmt;
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How many times a single try may read from the socket without getting any data for the caller.
/// After that, the try returns `WouldBlock`, so that a peer that never sends data cannot cause an
/// endless loop.
const MAX_RECORDS_PER_READ: usize = 64;

/// A TLS connection.
///
/// A clone is another handle to the same connection and the same timeouts. The two directions are
/// independent, so one handle may wait to read while another handle writes. Any number of tasks may
/// wait for the same direction. All of them wake when it may be ready, and each byte goes to
/// exactly one reader. The bytes accepted by a single `try_write_vectored` call are contiguous in
/// the stream.
///
/// When the last handle is dropped, the end of the stream is signalled to the peer (`close_notify`)
/// if the kernel accepts these bytes immediately, and the socket is closed.
#[derive(Clone)]
pub struct TlsStream {
    shared: Arc<Shared>,
}

/// The state shared by all handles to a connection.
struct Shared {
    socket: TcpStream,
    state: Mutex<State>,
    /// Notified when bytes have been read from the socket. They no longer wake a task that is
    /// waiting for the socket, but the data in them may be for that task.
    received: Event,
}

struct State {
    connection: Connection,
    /// Set when the writing direction has been closed. Rustls itself would still accept writes.
    is_shut: bool,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, connection: Connection) -> TlsStream {
        let state = Mutex::new(State {
            connection,
            is_shut: false,
        });
        TlsStream {
            shared: Arc::new(Shared {
                socket,
                state,
                received: Event::new(),
            }),
        }
    }

    /// Connects to a host, given by name or address. The server's certificate must be valid for the
    /// host and issued by a trusted authority. The host's addresses are tried one after another
    /// until a connection succeeds. `timeout` covers all of these attempts.
    ///
    /// # Errors
    ///
    /// The same errors as [`Resolver::resolve`] and [`TcpStream::connect`]; `InvalidInput` for a
    /// string that is not a host name or address; `InvalidData` if the server's certificate or
    /// anything else about its handshake is not acceptable, with a message that gives the reason.
    pub async fn connect(
        resolver: &Resolver,
        host: &str,
        port: u16,
        trust: &Trust,
        timeout: Option<Duration>,
    ) -> io::Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let host: String = host.chars().take(MAX_SHOWN).collect();
            io::Error::new(
                ErrorKind::InvalidInput,
                format!("{host:?} is not a host name or address that a certificate can contain"),
            )
        })?;
        let connection =
            ClientConnection::new(trust.config.clone(), name).map_err(io::Error::other)?;
        let connect = async {
            let addresses = match host.parse::<IpAddr>() {
                Ok(address) => vec![SocketAddr::new(address, port)],
                Err(_) => resolver.resolve(&format!("{host}:{port}"), None).await?,
            };
            let socket = connect_to_first(&addresses).await?;
            let connection = shake_hands(&socket, connection.into(), None).await?;
            Ok(TlsStream::new(socket, connection))
        };
        let connected = Deadline::after(timeout).bound("no answer", connect).await;
        connected.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot connect to {host}:{port}: {error}"),
            )
        })
    }

    /// Reads the available bytes into `buffer`, and returns the number of bytes read. 0 means that
    /// the peer has signalled the end of the stream or that the buffer is empty. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is available yet; `UnexpectedEof` if the connection ended without a
    /// `close_notify` from the peer, in which case a third party may have cut the connection;
    /// `InvalidData` for bytes that the peer did not encrypt, which end the connection. Data
    /// received before either of the last two errors is read first.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut state = self.lock();
        let mut has_received = false;
        let read = self.read_records(&mut state.connection, buffer, &mut has_received);
        drop(state);
        if has_received {
            self.shared.received.notify(usize::MAX);
        }
        read
    }

    fn read_records(
        &self,
        connection: &mut Connection,
        buffer: &mut [u8],
        has_received: &mut bool,
    ) -> io::Result<usize> {
        for _ in 0..MAX_RECORDS_PER_READ {
            let processed = process(connection);
            // Replies to received records do not concern the reader. If the kernel does not accept
            // all of them now, the next writer sends the rest.
            let _ = send(connection, &self.shared.socket);
            match connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => processed?,
                read => return read,
            }
            connection.read_tls(&mut Wire(&self.shared.socket))?;
            *has_received = true;
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Encrypts as much of `buffers`, one after another, as there is room for, hands the encrypted
    /// bytes to the kernel, and returns how many bytes were accepted. Encrypted bytes that the
    /// kernel does not take stay in the stream, and no more bytes are accepted until they have been
    /// sent. [`try_flush`](TlsStream::try_flush) continues to send them. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if bytes that were accepted earlier have not been sent yet; `BrokenPipe` or
    /// `ConnectionReset` if the peer no longer reads; `BrokenPipe` also after
    /// [`shutdown`](TlsStream::shutdown).
    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        let mut state = self.lock();
        if state.is_shut {
            return Err(io::Error::new(
                ErrorKind::BrokenPipe,
                "the stream was shut down",
            ));
        }
        send(&mut state.connection, &self.shared.socket)?;
        let accepted = state.connection.writer().write_vectored(buffers)?;
        match send(&mut state.connection, &self.shared.socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(accepted),
        }
    }

    /// Hands accepted but unsent bytes to the kernel. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel has no room for all of them; otherwise the same errors as
    /// [`try_write_vectored`](TlsStream::try_write_vectored).
    pub fn try_flush(&self) -> io::Result<()> {
        send(&mut self.lock().connection, &self.shared.socket)
    }

    /// Closes the writing direction for all handles. The end of the stream is signalled to the peer
    /// (`close_notify`) once all accepted bytes have been sent. [`try_flush`](TlsStream::try_flush)
    /// continues to send them. Reading is still possible.
    pub fn shutdown(&self) {
        let mut state = self.lock();
        state.is_shut = true;
        state.connection.send_close_notify();
    }

    /// Prepares to wait for reading or writing. A TLS stream does not support peeking. This call
    /// costs nothing. The operation's timeout starts with the first [`Wait::ready`] and covers all
    /// later ones.
    pub fn wait(&self, operation: Operation) -> Wait<'_> {
        Wait {
            stream: self,
            operation,
            wait: self.shared.socket.wait(operation),
        }
    }

    /// Waits until reading is worth trying. Same as a single [`Wait::ready`] for
    /// [`Operation::Read`].
    pub async fn readable(&self) -> io::Result<()> {
        self.wait(Operation::Read).ready().await
    }

    /// Waits until writing is worth trying. Same as a single [`Wait::ready`] for
    /// [`Operation::Write`].
    pub async fn writable(&self) -> io::Result<()> {
        self.wait(Operation::Write).ready().await
    }

    /// Returns the peer's address. Fails with `NotConnected` once the connection has been reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared.socket.peer_addr()
    }

    /// Returns how long a wait for `operation` may last. `None`, the default, means forever.
    pub fn timeout(&self, operation: Operation) -> Option<Duration> {
        self.shared.socket.timeout(operation)
    }

    /// Sets how long a wait for `operation` may last, for all handles. Waits already in progress
    /// keep their deadlines.
    pub fn set_timeout(&self, operation: Operation, timeout: Option<Duration>) {
        self.shared.socket.set_timeout(operation, timeout);
    }

    /// Returns whether a read would complete, successfully or not, without using the socket.
    fn is_readable(&self) -> bool {
        let connection = &mut self.lock().connection;
        let processed = process(connection);
        let answer = connection.reader().fill_buf().map(drop);
        processed.is_err() || !answer.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.socket.fmt(f)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Ok(state) = self.state.get_mut() else {
            return;
        };
        state.connection.send_close_notify();
        // Sending does not wait, so the bytes are lost if the peer does not accept them now.
        let _ = send(&mut state.connection, &self.socket);
    }
}

/// A wait on behalf of one operation. It ends when the stream's timeout for the operation expires,
/// no matter how many spurious wakeups there are.
#[derive(Debug)]
#[must_use = "a wait does nothing until `ready` is awaited"]
pub struct Wait<'a> {
    stream: &'a TlsStream,
    operation: Operation,
    wait: tcp::Wait<'a>,
}

impl Wait<'_> {
    /// Waits until the operation is worth another try. Call this method after a try has returned
    /// `WouldBlock`. The next try may return `WouldBlock` again.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the operation's timeout expires. No data is lost, and the stream remains
    /// usable.
    pub async fn ready(&mut self) -> io::Result<()> {
        if self.operation == Operation::Write {
            return self.wait.ready().await;
        }
        let received = self.stream.shared.received.listen();
        // Another reader may have read the bytes from the socket before this task began to listen
        // for the event.
        if self.stream.is_readable() {
            future::yield_now().await;
            return Ok(());
        }
        let is_notified = async {
            received.await;
            Ok(())
        };
        future::or(is_notified, self.wait.ready()).await
    }
}

/// The maximum number of characters that an error message quotes from an invalid host name.
const MAX_SHOWN: usize = 100;

/// Decrypts the bytes that have been read from the socket. An error from an earlier call is
/// returned again.
fn process(connection: &mut Connection) -> io::Result<()> {
    connection
        .process_new_packets()
        .map(drop)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

async fn connect_to_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect(*address, None).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
