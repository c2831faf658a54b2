//! A socket that accepts connections and performs their handshakes.

use super::credentials::Identity;
use super::handshake::shake_hands;
use super::stream::TlsStream;
use crate::tcp::{TcpListener, TcpStream};
use async_channel::{Receiver, Sender};
use async_executor::Executor;
use async_lock::{Semaphore, SemaphoreGuardArc};
use futures_lite::future;
use rustls::ServerConnection;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Limits on the resources that a listener spends on clients that have not completed a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// The maximum number of concurrent handshakes, including completed handshakes whose
    /// connections have not been accepted yet. Further connections stay in the kernel's queue.
    pub concurrent: usize,
    /// How long a client may take for each of its flights, of which a handshake has two or three.
    pub flight_timeout: Duration,
}

impl Default for HandshakeLimits {
    /// Returns limits of 64 concurrent handshakes and 10 seconds for each flight.
    fn default() -> HandshakeLimits {
        HandshakeLimits {
            concurrent: 64,
            flight_timeout: Duration::from_secs(10),
        }
    }
}

/// A listening TCP socket that speaks TLS.
///
/// Handshakes proceed concurrently, and only connections whose handshake succeeded are accepted. A
/// client that stalls, sends invalid data or closes the connection does not delay other clients and
/// is not reported. Handshakes make progress only while a task waits in
/// [`accept`](TlsListener::accept), through any handle.
///
/// `P` is the type of a value that each connection holds from the moment it leaves the kernel's
/// queue, for example a quota permit.
///
/// A clone is another handle to the same socket. As soon as the last handle is dropped, the port is
/// free, and connections whose handshakes are not complete are closed.
pub struct TlsListener<P = ()> {
    shared: Arc<Shared<P>>,
}

struct Shared<P> {
    socket: TcpListener,
    identity: Identity,
    limits: HandshakeLimits,
    /// Runs the handshakes on any task that is accepting.
    handshakes: Executor<'static>,
    /// Limits the concurrent handshakes. A permit is taken before a connection is accepted, and is
    /// held until the connection is returned to the caller.
    permits: Arc<Semaphore>,
    sender: Sender<Accepted<P>>,
    receiver: Receiver<Accepted<P>>,
}

/// A connection whose handshake succeeded.
struct Accepted<P> {
    stream: TlsStream,
    peer: SocketAddr,
    guard: P,
    _permit: SemaphoreGuardArc,
}

impl<P: Send + 'static> TlsListener<P> {
    /// Listens on `addr`. If the port is 0, the system chooses one. Never waits.
    ///
    /// # Errors
    ///
    /// The same errors as [`TcpListener::bind`].
    ///
    /// ```
    /// use lunatic_net::dns::Resolver;
    /// use lunatic_net::tls::{HandshakeLimits, Identity, TlsListener, TlsStream, Trust};
    /// use std::io::IoSlice;
    ///
    /// let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("a valid name");
    /// let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    /// let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes())?;
    /// let listener = TlsListener::bind(([127, 0, 0, 1], 0).into(), identity, HandshakeLimits::default())?;
    ///
    /// let port = listener.local_addr()?.port();
    /// let trust = Trust::only([certificate.as_bytes()])?;
    /// let resolver = Resolver::default();
    /// smol::block_on(async {
    ///     let connect = TlsStream::connect(&resolver, "127.0.0.1", port, &trust, None);
    ///     let (client, accepted) = smol::future::zip(connect, listener.accept(|| async {})).await;
    ///     let (server, _peer, ()) = accepted?;
    ///     client?.try_write_vectored(&[IoSlice::new(b"hello")])?;
    ///
    ///     let mut buffer = [0; 16];
    ///     server.readable().await?;
    ///     assert_eq!(server.try_read(&mut buffer)?, 5);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(
        addr: SocketAddr,
        identity: Identity,
        limits: HandshakeLimits,
    ) -> io::Result<TlsListener<P>> {
        let socket = TcpListener::bind(addr)?;
        let permits = Arc::new(Semaphore::new(limits.concurrent));
        let (sender, receiver) = async_channel::unbounded();
        let handshakes = Executor::new();
        Ok(TlsListener {
            shared: Arc::new(Shared {
                socket,
                identity,
                limits,
                handshakes,
                permits,
                sender,
                receiver,
            }),
        })
    }

    /// Returns the address that this socket is bound to, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.socket.local_addr()
    }

    /// Waits for a connection whose handshake succeeds, and returns the connection, the address of
    /// its peer and the value that `admit` returned for it. A connection leaves the kernel's queue
    /// only after `admit` has returned.
    ///
    /// Dropping the future does not lose a connection.
    ///
    /// # Errors
    ///
    /// The same errors as [`TcpListener::accept`]. A failed handshake does not cause an error.
    pub async fn accept<A: Future<Output = P>>(
        &self,
        admit: impl Fn() -> A,
    ) -> io::Result<(TlsStream, SocketAddr, P)> {
        let shared = &self.shared;
        let accepted = async {
            let accepted = shared
                .receiver
                .recv()
                .await
                .expect("the listener holds a sender");
            Ok((accepted.stream, accepted.peer, accepted.guard))
        };
        let handshakes = async {
            loop {
                let permit = shared.permits.acquire_arc().await;
                let guard = admit().await;
                let (socket, peer) = shared.socket.accept().await?;
                shared.begin(socket, peer, guard, permit);
            }
        };
        shared
            .handshakes
            .run(future::or(accepted, handshakes))
            .await
    }
}

impl<P: Send + 'static> Shared<P> {
    /// Starts a handshake.
    fn begin(&self, socket: TcpStream, peer: SocketAddr, guard: P, permit: SemaphoreGuardArc) {
        let Ok(connection) = ServerConnection::new(self.identity.config.clone()) else {
            return;
        };
        let flight_timeout = self.limits.flight_timeout;
        // Only the sender is cloned, because a clone of the listener would keep the listener alive.
        let sender = self.sender.clone();
        let handshake = async move {
            if let Ok(connection) =
                shake_hands(&socket, connection.into(), Some(flight_timeout)).await
            {
                let stream = TlsStream::new(socket, connection);
                // Sending fails if the listener has just been dropped.
                let _ = sender.try_send(Accepted {
                    stream,
                    peer,
                    guard,
                    _permit: permit,
                });
            }
        };
        self.handshakes.spawn(handshake).detach();
    }
}

impl<P> Clone for TlsListener<P> {
    fn clone(&self) -> TlsListener<P> {
        TlsListener {
            shared: self.shared.clone(),
        }
    }
}

impl<P> fmt::Debug for TlsListener<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.socket.fmt(f)
    }
}
