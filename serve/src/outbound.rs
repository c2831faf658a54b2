//! HTTP calls from functions to other hosts.
//!
//! A function may call only the hosts listed in its rules; without rules, it may not call any.
//! Names are resolved for each connection. Addresses in private networks or on this computer are
//! refused unless the function may call them. Redirects are not followed. If a function follows
//! one itself, that is another call, which is checked like the first.
//!
//! Connections are kept for reuse by the same function. Each connection is driven by its own task,
//! so callers can stop waiting at any time.

mod address;
mod connector;
pub(crate) mod error;
pub(crate) mod rule;

use crate::body::{Body, BodyError};
use crate::{fields, runtime};
use bytes::Bytes;
use connector::{Connector, LookUp};
use error::{CALLS, OutboundError};
use http::header;
use http::{Method, Request, Response, Uri, Version};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rule::{Destination, OutboundRule};
use rustls::ClientConfig;
use std::error::Error;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

/// The maximum number of idle connections to keep per host, and how long to keep them.
const MAX_IDLE: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The maximum size of a response's head, in bytes.
pub(crate) const MAX_HEAD: usize = 128 << 10;

/// The hosts that a function may call, and its connections to them.
pub struct Outbound {
    rules: Vec<OutboundRule>,
    connector: Connector,
    client: Mutex<Client<Connector, Body>>,
    calls: Arc<Semaphore>,
}

/// How long each part of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// The maximum time to establish a connection.
    pub(crate) connect: Duration,
    /// The maximum time from connecting until the response's head arrives.
    pub(crate) first_byte: Duration,
    /// The maximum time between two chunks of the response's body.
    pub(crate) between_bytes: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            connect: connector::CONNECT_TIMEOUT,
            first_byte: READ_TIMEOUT,
            between_bytes: READ_TIMEOUT,
        }
    }
}

/// How long the peer may be silent. The request on whose behalf the function makes the call has its
/// own deadline, which is usually earlier.
const READ_TIMEOUT: Duration = Duration::from_secs(600);

impl Times {
    fn bounded(self) -> Times {
        Times {
            connect: self.connect.min(connector::CONNECT_TIMEOUT),
            first_byte: self.first_byte.min(READ_TIMEOUT),
            between_bytes: self.between_bytes.min(READ_TIMEOUT),
        }
    }
}

impl Outbound {
    /// Creates an `Outbound` that permits only calls that match a rule. Without rules, no calls are
    /// permitted.
    pub fn new(rules: &[OutboundRule], private_addresses: bool) -> Outbound {
        Outbound::with(rules, private_addresses, LookUp::of_system(), None)
    }

    fn with(
        rules: &[OutboundRule],
        private_addresses: bool,
        look_up: LookUp,
        trust: Option<Arc<ClientConfig>>,
    ) -> Outbound {
        let connector = Connector::new(private_addresses, look_up, trust);
        let client = Mutex::new(client(&connector));
        Outbound {
            rules: rules.to_vec(),
            connector,
            client,
            calls: Arc::new(Semaphore::new(CALLS)),
        }
    }

    /// Sends a request to the host in its URI, and returns the response once its head has arrived.
    /// The body is received as it is read.
    ///
    /// The future can be awaited on any thread. Dropping the future or the response's body ends
    /// the call.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Body>, OutboundError> {
        self.send_within(request, Times::default()).await
    }

    /// Like [`Outbound::send`], but with shorter timeouts.
    pub(crate) async fn send_within(
        &self,
        mut request: Request<Body>,
        times: Times,
    ) -> Result<Response<Body>, OutboundError> {
        let destination = Destination::of(request.uri()).map_err(OutboundError::Address)?;
        if !self.rules.iter().any(|rule| rule.allows(&destination)) {
            return Err(OutboundError::NotAllowed(destination.to_string()));
        }
        if request.method() == Method::CONNECT {
            return Err(OutboundError::Address(
                "`CONNECT` requests a tunnel, which is not supported".to_string(),
            ));
        }
        prepare(&mut request, &destination)?;
        let call = Call {
            client: self.client(),
            calls: self.calls.clone(),
            times: times.bounded(),
        };
        // Dropping the set aborts the task.
        let mut task = JoinSet::new();
        task.spawn_on(call.run(request), runtime()?);
        let ended = task.join_next().await.expect("one task was spawned");
        ended.unwrap_or_else(|error| Err(OutboundError::Protocol(error.to_string())))
    }

    /// Returns the client that makes the calls. If the connection limit has been reached, idle
    /// connections are closed, because a rule may permit calls to more hosts than there can be
    /// connections.
    fn client(&self) -> Client<Connector, Body> {
        let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if self.connector.is_full() {
            *current = client(&self.connector);
        }
        current.clone()
    }
}

fn client(connector: &Connector) -> Client<Connector, Body> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(MAX_IDLE)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector.clone())
}

/// Returns the runtime that drives outbound calls.
fn runtime() -> Result<&'static Handle, OutboundError> {
    runtime::handle().map_err(|error| {
        OutboundError::Connect(format!(
            "any host: the system cannot start a thread: {error}"
        ))
    })
}

/// Normalizes a request's URI, and removes fields that concern only the connection it arrived on.
fn prepare(request: &mut Request<Body>, destination: &Destination) -> Result<(), OutboundError> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let path = if path.is_empty() { "/" } else { path }.to_string();
    let uri = Uri::builder()
        .scheme(destination.scheme())
        .authority(destination.authority())
        .path_and_query(path);
    *request.uri_mut() = uri
        .build()
        .map_err(|error| OutboundError::Address(error.to_string()))?;
    *request.version_mut() = Version::HTTP_11;
    request.extensions_mut().clear();
    fields::remove_hop_by_hop(request.headers_mut());
    // hyper sets `Host` again from the URI. The function's own `Host` could name a host that the
    // function may not call but that is served at the same address.
    request.headers_mut().remove(header::HOST);
    Ok(())
}

/// A single outbound call.
struct Call {
    client: Client<Connector, Body>,
    calls: Arc<Semaphore>,
    times: Times,
}

impl Call {
    async fn run(self, mut request: Request<Body>) -> Result<Response<Body>, OutboundError> {
        let Times {
            connect,
            first_byte,
            between_bytes,
        } = self.times;
        let permit = timeout(connect, self.calls.acquire_owned())
            .await
            .map_err(|_| OutboundError::Busy(connect))?
            .expect("the semaphore is never closed");
        let mut connection = capture_connection(&mut request);
        let mut response = pin!(self.client.request(request));
        let connected = async { drop(connection.wait_for_connection_metadata().await) };
        let received = tokio::select! {
            // If no connection is made, this branch returns the reason.
            received = &mut response => received,
            connected = timeout(connect, connected) => {
                connected.map_err(|_| OutboundError::ConnectTime(connect))?;
                let late = |_| OutboundError::Time("the response did not begin", first_byte);
                timeout(first_byte, response).await.map_err(late)?
            }
        };
        let mut response = received.map_err(|error| cause(&error))?;
        fields::remove_hop_by_hop(response.headers_mut());
        response.extensions_mut().clear();
        Ok(response.map(|body| {
            ReceivedBody {
                body,
                between_bytes,
                timer: None,
                _permit: permit,
            }
            .boxed_unsync()
        }))
    }
}

/// Returns our connector's error if that is the cause, and otherwise hyper's.
fn cause(error: &(dyn Error + 'static)) -> OutboundError {
    let mut innermost = error;
    loop {
        if let Some(ours) = innermost.downcast_ref::<OutboundError>() {
            return ours.clone();
        }
        match innermost.source() {
            Some(source) => innermost = source,
            // The innermost error is the most specific, such as "connection reset" instead of
            // "client error".
            None => return OutboundError::Protocol(innermost.to_string()),
        }
    }
}

/// A response's body that is still being received.
struct ReceivedBody {
    body: Incoming,
    between_bytes: Duration,
    /// Set while waiting for the next chunk.
    timer: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for ReceivedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| cause(&error).into())));
        }
        let between_bytes = self.between_bytes;
        if self.timer.is_none() {
            // The timer needs a runtime, but the reader may not be running on one.
            let _entered = runtime()?.enter();
            self.timer = Some(Box::pin(sleep(between_bytes)));
        }
        let timer = self.timer.as_mut().expect("the timer was set above");
        std::task::ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(OutboundError::Time(
            "no more of the response arrived",
            between_bytes,
        )
        .into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
