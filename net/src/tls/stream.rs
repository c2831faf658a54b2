//! A connection whose handshake is over.

use super::Trust;
use super::handshake::shake_hands;
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

/// How often one try takes bytes off the socket that turn out to be nothing to read: records are taken in pieces.
/// Then it lets others run, and a peer that sends only nonsense is no endless loop.
const ROUNDS: usize = 64;

/// A TLS connection.
///
/// A clone is another handle to the same connection and the same timeouts. The two directions are independent: one
/// handle may wait to read while another writes. Any number of tasks may wait for the same direction: all wake when
/// there is news, and each byte goes to exactly one reader. The bytes that one `try_write_vectored` accepts are
/// contiguous in the stream.
///
/// When the last handle is dropped, the peer is told that this is the end (`close_notify`), as far as the kernel takes
/// it at once, and the socket is closed.
#[derive(Clone)]
pub struct TlsStream {
    shared: Arc<Shared>,
}

/// What all handles of a connection share.
struct Shared {
    socket: TcpStream,
    state: Mutex<State>,
    /// Told when bytes were taken off the socket: those who wait for it see none of them there, but what was in them
    /// may be theirs.
    news: Event,
}

struct State {
    connection: Connection,
    /// Set when the writing direction was ended, which rustls would let be written on.
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
                news: Event::new(),
            }),
        }
    }

    /// Connects to a host, by its name or address, whose certificate is valid for it and issued by somebody who is
    /// trusted. Its addresses are tried one after the other until one answers, all within `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Resolver::resolve`] and [`TcpStream::connect`]; `InvalidInput` for what names no host; `InvalidData` where
    /// the server's certificate or anything else about its handshake is not acceptable, saying what.
    pub async fn connect(
        resolver: &Resolver,
        host: &str,
        port: u16,
        trust: &Trust,
        timeout: Option<Duration>,
    ) -> io::Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let host: String = host.chars().take(LONGEST_SHOWN).collect();
            io::Error::new(
                ErrorKind::InvalidInput,
                format!("{host:?} names no host that could have a certificate"),
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
            shake_hands(socket, connection.into(), None).await
        };
        let connected = Deadline::after(timeout).bound("no answer", connect).await;
        connected.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot connect to {host}:{port}: {error}"),
            )
        })
    }

    /// Reads what is there into `buffer`, and answers how much; 0 is the end of the stream as the peer announced it,
    /// or a buffer without room. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there yet; `UnexpectedEof` where the connection ended without the peer's saying so
    /// (`close_notify`): then it may have been cut by somebody else. `InvalidData` for what the peer did not encrypt,
    /// which ends the connection. What came before either is read first.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut state = self.lock();
        let mut has_news = false;
        let read = self.read_on(&mut state.connection, buffer, &mut has_news);
        drop(state);
        if has_news {
            self.shared.news.notify(usize::MAX);
        }
        read
    }

    fn read_on(
        &self,
        connection: &mut Connection,
        buffer: &mut [u8],
        has_news: &mut bool,
    ) -> io::Result<usize> {
        for _ in 0..ROUNDS {
            let processed = process(connection);
            // Answers to what was received are no concern of the reader: who writes next sends what is left of them.
            let _ = send(connection, &self.shared.socket);
            match connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => processed?,
                read => return read,
            }
            connection.read_tls(&mut Wire(&self.shared.socket))?;
            *has_news = true;
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Encrypts what there is room for, buffer after buffer, hands it to the kernel, and answers how much it was: any
    /// part of the whole. What the kernel does not take at once is kept here, and nothing further accepted before it
    /// is gone; [`try_flush`](TlsStream::try_flush) helps it. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when what was accepted earlier is still here; `BrokenPipe` or `ConnectionReset` when nobody reads
    /// any more, `BrokenPipe` also after [`shutdown`](TlsStream::shutdown).
    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        let mut state = self.lock();
        if state.is_shut {
            return Err(io::Error::new(
                ErrorKind::BrokenPipe,
                "the stream was ended",
            ));
        }
        send(&mut state.connection, &self.shared.socket)?;
        let accepted = state.connection.writer().write_vectored(buffers)?;
        match send(&mut state.connection, &self.shared.socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(accepted),
        }
    }

    /// Hands what was accepted and is still here to the kernel. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the kernel has no room for all of it; otherwise as
    /// [`try_write_vectored`](TlsStream::try_write_vectored).
    pub fn try_flush(&self) -> io::Result<()> {
        send(&mut self.lock().connection, &self.shared.socket)
    }

    /// Ends the writing direction, for all handles: the peer is told that this is the end (`close_notify`) when what was
    /// accepted is gone, which [`try_flush`](TlsStream::try_flush) helps. Reading goes on.
    pub fn shutdown(&self) {
        let mut state = self.lock();
        state.is_shut = true;
        state.connection.send_close_notify();
    }

    /// Prepares to wait for reading or writing; a connection has no peeking. Costs nothing yet: the operation's timeout
    /// starts to run with the first [`Wait::ready`], and covers all that follow.
    pub fn wait(&self, operation: Operation) -> Wait<'_> {
        Wait {
            stream: self,
            operation,
            wait: self.shared.socket.wait(operation),
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

    /// The address of the other end. Fails with `NotConnected` once the connection was reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared.socket.peer_addr()
    }

    /// How long a wait for `operation` may last; `None` is for ever, as it is at first.
    pub fn timeout(&self, operation: Operation) -> Option<Duration> {
        self.shared.socket.timeout(operation)
    }

    /// Sets how long a wait for `operation` may last, through any handle. Waits that have begun keep their own end.
    pub fn set_timeout(&self, operation: Operation, timeout: Option<Duration>) {
        self.shared.socket.set_timeout(operation, timeout);
    }

    /// Whether a read has an answer without the socket.
    fn has_answer(&self) -> bool {
        let connection = &mut self.lock().connection;
        let processed = process(connection);
        let answer = connection.reader().fill_buf().map(drop);
        processed.is_err() || !answer.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .expect("nothing panics while it holds a connection")
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
        // A peer that takes nothing now is not waited for.
        let _ = send(&mut state.connection, &self.socket);
    }
}

/// One operation's waiting: however often it is woken for nothing, it ends when the stream's timeout for that operation
/// is over.
#[derive(Debug)]
#[must_use = "a wait does nothing until `ready` is awaited"]
pub struct Wait<'a> {
    stream: &'a TlsStream,
    operation: Operation,
    wait: tcp::Wait<'a>,
}

impl Wait<'_> {
    /// Waits until the operation is worth another try. To be called when a try said `WouldBlock`. Being ready is no
    /// promise: the next try may still answer `WouldBlock`.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the operation's timeout is over; nothing is lost by that, and the stream works on.
    pub async fn ready(&mut self) -> io::Result<()> {
        if self.operation == Operation::Write {
            return self.wait.ready().await;
        }
        let news = self.stream.shared.news.listen();
        // Another reader may have taken the bytes off the socket before this one listened.
        if self.stream.has_answer() {
            future::yield_now().await;
            return Ok(());
        }
        let is_told = async {
            news.await;
            Ok(())
        };
        future::or(is_told, self.wait.ready()).await
    }
}

/// The socket as rustls reads and writes it: without waiting.
pub(super) struct Wire<'a>(pub(super) &'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// How much of a host's name an error repeats, in characters: what is no name may be of any length.
const LONGEST_SHOWN: usize = 100;

/// Hands what the connection has to send to the kernel; `WouldBlock` where not all of it fits.
pub(super) fn send(connection: &mut Connection, socket: &TcpStream) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(&mut Wire(socket))?;
    }
    Ok(())
}

/// Decrypts what was taken off the socket. The error of an earlier call comes again.
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
