//! Whom functions call over HTTP, and how.
//!
//! A function may call the hosts that its rules name, and without a rule nobody. What a host's name means is looked up for
//! each connection, and addresses of private networks and of this computer are refused unless the function may have them.
//! Redirects are not followed: a function that follows one makes another call, which is looked at as the first was.
//!
//! Connections are kept for a function's next calls, and for no other function's. They live on threads of their own, so that
//! neither processes nor gateways wait for the arithmetic of TLS, and whoever asks can stop waiting at any time.

mod address;
mod connector;
pub(crate) mod error;
pub(crate) mod rule;

use crate::body::{Body, BodyError};
use crate::runtime;
use bytes::Bytes;
use connector::{Connector, LookUp};
use error::{CALLS, OutboundError};
use http::header::{self, HeaderMap, HeaderName};
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
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep, timeout};

/// So many connections to one host are kept for later, and for so long.
const IDLE: usize = 16;
const IDLE_TIME: Duration = Duration::from_secs(15);

/// The largest head of an answer, in bytes.
const LARGEST_HEAD: usize = 128 << 10;

/// What a function may call, and the connections that are kept to it.
pub struct Outbound {
    rules: Vec<OutboundRule>,
    connector: Connector,
    client: Mutex<Client<Connector, Body>>,
    calls: Arc<Semaphore>,
}

/// How long the parts of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Until there is a connection.
    pub(crate) connect: Duration,
    /// From then until the head of the answer is there.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the answer's body.
    pub(crate) between_bytes: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            connect: connector::LONGEST,
            first_byte: LONGEST_SILENCE,
            between_bytes: LONGEST_SILENCE,
        }
    }
}

/// The longest time for which the other side may say nothing. The request that calls has a deadline, which is shorter.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

impl Times {
    fn bounded(self) -> Times {
        Times {
            connect: self.connect.min(connector::LONGEST),
            first_byte: self.first_byte.min(LONGEST_SILENCE),
            between_bytes: self.between_bytes.min(LONGEST_SILENCE),
        }
    }
}

impl Outbound {
    /// Allows what the rules allow; without a rule, nothing.
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

    /// Sends a request to where its address says, and returns the answer when its head is there. Its body is read from the
    /// connection as it is wanted.
    ///
    /// Can be awaited anywhere. Dropping the future or the answer's body ends the call.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Body>, OutboundError> {
        self.send_within(request, Times::default()).await
    }

    /// Sends a request as [`Outbound::send`] does, with times of its own, which are no longer than those.
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
                "`CONNECT` asks for a tunnel, and there are none".to_string(),
            ));
        }
        prepare(&mut request, &destination)?;
        let call = Call {
            client: self.client(),
            calls: self.calls.clone(),
            times: times.bounded(),
        };
        Task(runtime()?.spawn(call.run(request))).await
    }

    /// Returns what makes the calls. Where it holds as many connections as it may, those that lie idle are given up: what a
    /// rule allows may be more hosts than there are connections.
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
        .pool_max_idle_per_host(IDLE)
        .pool_idle_timeout(IDLE_TIME)
        .http1_max_buf_size(LARGEST_HEAD)
        .build(connector.clone())
}

/// Returns the threads that calls run on.
fn runtime() -> Result<&'static Handle, OutboundError> {
    runtime::handle().map_err(|error| {
        OutboundError::Connect(format!(
            "anybody: the system has no room for threads: {error}"
        ))
    })
}

/// Gives a request the address in its plain form, and takes off what is only for the one connection that it came on.
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
    remove_hop_by_hop(request.headers_mut());
    // Another host than the one that was allowed might be behind the same address.
    request.headers_mut().remove(header::HOST);
    Ok(())
}

/// Takes off the fields that are for one connection.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("http2-settings"),
    ];
    for name in always.iter().chain(&named) {
        headers.remove(name);
    }
}

/// One call.
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
        let turn = timeout(connect, self.calls.acquire_owned())
            .await
            .map_err(|_| OutboundError::Busy(connect))?;
        let turn = turn.expect("it is never closed");
        let mut connection = capture_connection(&mut request);
        let mut answer = pin!(self.client.request(request));
        let connected = async { drop(connection.wait_for_connection_metadata().await) };
        let answered = tokio::select! {
            // Where there is no connection it says why, and the other one nothing.
            answered = &mut answer => answered,
            connected = timeout(connect, connected) => {
                connected.map_err(|_| OutboundError::ConnectTime(connect))?;
                let late = |_| OutboundError::Time("the answer did not begin", first_byte);
                timeout(first_byte, answer).await.map_err(late)?
            }
        };
        let mut answer = answered.map_err(|error| cause(&error))?;
        remove_hop_by_hop(answer.headers_mut());
        answer.extensions_mut().clear();
        Ok(answer.map(|body| {
            Received {
                body,
                between_bytes,
                silence: None,
                _turn: turn,
            }
            .boxed_unsync()
        }))
    }
}

/// Returns what our connector said, or else what hyper did.
fn cause(error: &(dyn Error + 'static)) -> OutboundError {
    let mut innermost = error;
    loop {
        if let Some(ours) = innermost.downcast_ref::<OutboundError>() {
            return ours.clone();
        }
        match innermost.source() {
            Some(source) => innermost = source,
            // It says most: "connection reset" rather than "client error".
            None => return OutboundError::Protocol(innermost.to_string()),
        }
    }
}

/// What runs until it is done or dropped.
struct Task(JoinHandle<Result<Response<Body>, OutboundError>>);

impl Future for Task {
    type Output = Result<Response<Body>, OutboundError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = std::task::ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(ended.unwrap_or_else(|error| Err(OutboundError::Protocol(error.to_string()))))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of an answer on its way.
struct Received {
    body: Incoming,
    between_bytes: Duration,
    /// Runs while the next piece is waited for.
    silence: Option<Pin<Box<Sleep>>>,
    _turn: OwnedSemaphorePermit,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| cause(&error).into())));
        }
        let between_bytes = self.between_bytes;
        if self.silence.is_none() {
            // The clock is the calls' own: who reads this may have none.
            let _entered = runtime()?.enter();
            self.silence = Some(Box::pin(sleep(between_bytes)));
        }
        let silence = self.silence.as_mut().expect("it was just set");
        std::task::ready!(silence.as_mut().poll(context));
        Poll::Ready(Some(Err(OutboundError::Time(
            "the answer did not go on",
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
