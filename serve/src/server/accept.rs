//! Accepts connections.

use crate::gateway::http::listener::HttpListener;
use crate::gateway::http::serve;
use crate::gateway::tcp;
use crate::stop::Stop;
use crate::{Functions, TcpGateway};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait before trying again after the system has failed to accept a connection.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What serves a listener's connections.
#[derive(Clone)]
pub(super) enum Acceptor {
    Http(Arc<HttpListener>),
    Tcp(Arc<TcpGateway>),
}

/// Accepts connections until the listener is stopped.
pub(super) async fn accept(
    listener: TcpListener,
    acceptor: Arc<RwLock<Acceptor>>,
    functions: Functions,
    mut stop: Stop,
) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.draining() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !concerns_one_connection(&error) {
                    log::warn!("connections cannot be accepted right now: {error}");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                continue;
            }
        };
        let acceptor = acceptor
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(permit) = ConnectionPermit::take(&connections, acceptor.connections()) else {
            if let Acceptor::Http(http) = &acceptor {
                http.turn_away(&stream);
            }
            continue;
        };
        let (functions, stop) = (functions.clone(), stop.clone());
        tokio::spawn(async move {
            let mut cut = stop.clone();
            tokio::select! {
                biased;
                () = acceptor.serve(functions, stream, client, stop) => {}
                () = cut.cut() => {}
            }
            drop(permit);
        });
    }
}

/// Returns whether an error concerns only a single connection, not later ones.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

impl Acceptor {
    fn connections(&self) -> usize {
        match self {
            Acceptor::Http(http) => http.connections(),
            Acceptor::Tcp(gateway) => gateway.connections,
        }
    }

    async fn serve(self, functions: Functions, stream: TcpStream, client: SocketAddr, stop: Stop) {
        // Bytes are sent as soon as they are written. Waiting for enough to fill a packet would
        // only add a delay.
        let _ = stream.set_nodelay(true);
        match self {
            Acceptor::Http(http) => serve::serve(http, stream, client, stop).await,
            // These connections end on their own or are cut off.
            Acceptor::Tcp(gateway) => tcp::serve(&functions, &gateway, stream, client).await,
        }
    }
}

/// A permit for one of a gateway's connections.
struct ConnectionPermit(Arc<AtomicUsize>);

impl ConnectionPermit {
    fn take(connections: &Arc<AtomicUsize>, limit: usize) -> Option<ConnectionPermit> {
        // Only one task takes permits, so the number of connections can only decrease between these
        // two steps.
        if connections.load(Ordering::SeqCst) >= limit {
            return None;
        }
        connections.fetch_add(1, Ordering::SeqCst);
        Some(ConnectionPermit(connections.clone()))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
