//! A socket that accepts connections and goes through their handshakes.

use super::handshake::shake_hands;
use super::{Identity, TlsStream};
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

/// How much a listener does for those who have not proven to be worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshakes {
    /// How many go on at once, together with those that are over and wait to be accepted. Further connections stay
    /// in the kernel's queue.
    pub at_once: usize,
    /// How long a client may take for each of its flights, of which a handshake has two or three.
    pub patience: Duration,
}

impl Default for Handshakes {
    /// 64 at once, 10 seconds for each flight.
    fn default() -> Handshakes {
        Handshakes {
            at_once: 64,
            patience: Duration::from_secs(10),
        }
    }
}

/// A TCP socket that listens, and speaks TLS.
///
/// Handshakes go on side by side, and only those that succeeded are accepted: a client that stalls, talks nonsense
/// or leaves holds up nobody and is told to nobody. They go on while somebody waits in
/// [`accept`](TlsListener::accept), through any handle, and stand still otherwise.
///
/// `P` is what each connection carries from the moment it is taken off the kernel's queue: a place in a quota, say.
///
/// A clone is another handle to the same socket. The port is free, and connections whose handshake is not over are
/// closed, in the instant in which the last is dropped.
pub struct TlsListener<P = ()> {
    shared: Arc<Shared<P>>,
}

struct Shared<P> {
    socket: TcpListener,
    identity: Identity,
    limits: Handshakes,
    /// Runs the handshakes, in whoever accepts.
    handshakes: Executor<'static>,
    /// Taken from before a connection is accepted until it is handed out.
    places: Arc<Semaphore>,
    finish: Sender<Accepted<P>>,
    finished: Receiver<Accepted<P>>,
}

/// A connection whose handshake succeeded.
struct Accepted<P> {
    stream: TlsStream,
    peer: SocketAddr,
    carried: P,
    _place: SemaphoreGuardArc,
}

impl<P: Send + 'static> TlsListener<P> {
    /// Listens on `addr`; port 0 lets the system choose one. Never waits.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::bind`].
    ///
    /// ```
    /// use lunatic_net::dns::Resolver;
    /// use lunatic_net::tls::{Handshakes, Identity, TlsListener, TlsStream, Trust};
    /// use std::io::IoSlice;
    ///
    /// let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("a certificate");
    /// let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    /// let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes())?;
    /// let listener = TlsListener::bind(([127, 0, 0, 1], 0).into(), identity, Handshakes::default())?;
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
        limits: Handshakes,
    ) -> io::Result<TlsListener<P>> {
        let socket = TcpListener::bind(addr)?;
        let places = Arc::new(Semaphore::new(limits.at_once));
        let (finish, finished) = async_channel::unbounded();
        let handshakes = Executor::new();
        Ok(TlsListener {
            shared: Arc::new(Shared {
                socket,
                identity,
                limits,
                handshakes,
                places,
                finish,
                finished,
            }),
        })
    }

    /// The address this socket is bound to, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.socket.local_addr()
    }

    /// Waits for a connection whose handshake succeeds, and answers with it, the address of its peer, and what it
    /// carries. A connection is taken off the kernel's queue only when `admit` has come up with what that is.
    ///
    /// Dropping the future loses no connection.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::accept`]. What is wrong with one connection is no error here.
    pub async fn accept<A: Future<Output = P>>(
        &self,
        admit: impl Fn() -> A,
    ) -> io::Result<(TlsStream, SocketAddr, P)> {
        let shared = &self.shared;
        let is_accepted = async {
            let accepted = shared
                .finished
                .recv()
                .await
                .expect("the listener keeps the other end");
            Ok((accepted.stream, accepted.peer, accepted.carried))
        };
        let takes_in = async {
            loop {
                let place = shared.places.acquire_arc().await;
                let carried = admit().await;
                let (socket, peer) = shared.socket.accept().await?;
                shared.begin(socket, peer, carried, place);
            }
        };
        shared
            .handshakes
            .run(future::or(is_accepted, takes_in))
            .await
    }
}

impl<P: Send + 'static> Shared<P> {
    /// Starts a handshake.
    fn begin(&self, socket: TcpStream, peer: SocketAddr, carried: P, place: SemaphoreGuardArc) {
        let Ok(connection) = ServerConnection::new(self.identity.config.clone()) else {
            return;
        };
        let patience = self.limits.patience;
        // Not the whole listener: it would keep itself alive by this.
        let finish = self.finish.clone();
        let handshake = async move {
            if let Ok(stream) = shake_hands(socket, connection.into(), Some(patience)).await {
                // Nobody is there to take it where the listener was just dropped.
                let _ = finish.try_send(Accepted {
                    stream,
                    peer,
                    carried,
                    _place: place,
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
