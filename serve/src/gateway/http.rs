//! The HTTP gateway: HTTP/1.1 and HTTP/2, in clear or over TLS, and from each request to who answers it.
//!
//! It speaks HTTP and knows no guest: a request goes to [`answer`] and comes back as a response or as a
//! [`Failure`], which has a status. What clients may do is bounded here; what functions may do, by their environment.

mod body;
mod connection;
mod exchange;
mod fields;
mod files;
mod framing;
mod route;
mod tls;
mod turnstile;
mod wire;

pub(crate) use turnstile::Turnstile;

use crate::server::Stop;
use crate::ticket::Ticket;
use crate::{Code, Failure, Functions, HttpGateway, HttpLimits, Name, Target, TlsFiles, Version};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use route::Routes;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tls::Tls;
use tokio::net::TcpStream;

/// The body of a request or an answer. It is read as its reader wishes: nothing runs ahead by more than a piece.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Answers the requests of a listener that leads to no function. Dropping the future, or the answer's body, ends its work.
pub(crate) type Handler =
    Arc<dyn Fn(http::Request<Body>, Arc<Ticket>) -> HandlerFuture + Send + Sync>;

/// An answer that is on its way.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// Has a function answer a request, in a process of its own or in one of its pool.
///
/// The answer comes as soon as its head is there. Dropping the future, or the answer's body before its end, kills the
/// process: nobody waits for what it does.
pub(crate) async fn answer(
    version: &Arc<Version>,
    ticket: &Arc<Ticket>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Failure> {
    match version.code() {
        Code::Spark(spark) => crate::spark::answer(version, spark, ticket, request).await,
        Code::Component(component) => {
            crate::component::answer(version, component, ticket, request).await
        }
        Code::Program(_) => Err(Failure::Unusable(
            "it is a program, which takes connections and no requests".into(),
        )),
    }
}

/// A listener that speaks HTTP.
pub(crate) struct Http {
    name: String,
    functions: Functions,
    is_logged: bool,
    /// Requests of all functions.
    requests: Turnstile,
    setup: RwLock<Arc<Setup>>,
}

/// What a listener does with requests; replaced as a whole.
pub(crate) struct Setup {
    answers: Answers,
    limits: HttpLimits,
    tls: Option<Tls>,
}

/// Who answers.
enum Answers {
    Routes(Routes),
    Handler {
        handler: Handler,
        body: u64,
        deadline: Duration,
    },
}

/// A listener cannot do what it is told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("the path `{}` of a route is none: it begins with `/`, ends without one, and has no empty part, `.`, `..`, `?` or `#`", lunatic_vm::printable(.0))]
    Path(String),
    #[error("two routes have the path `{}`", lunatic_vm::printable(.0))]
    Twice(String),
    #[error(transparent)]
    Tls(#[from] std::io::Error),
    #[error("the limit `{0}` is zero, with which nothing is ever answered")]
    Limit(&'static str),
}

impl HttpGateway {
    /// Returns the functions that its routes name.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &Name> {
        self.routes.iter().filter_map(|route| match &route.target {
            Target::Function(name) => Some(name),
            Target::Files(_) | Target::Named | Target::Notice(_) => None,
        })
    }
}

impl Setup {
    pub(crate) fn of_gateway(gateway: &HttpGateway) -> Result<Setup, SetupError> {
        let answers = Answers::Routes(Routes::new(&gateway.routes)?);
        Setup::new(answers, gateway.tls.as_ref(), gateway.limits.clone())
    }

    pub(crate) fn of_handler(
        handler: Handler,
        body: u64,
        deadline: Duration,
        tls: Option<&TlsFiles>,
        limits: HttpLimits,
    ) -> Result<Setup, SetupError> {
        Setup::new(
            Answers::Handler {
                handler,
                body,
                deadline,
            },
            tls,
            limits,
        )
    }

    fn new(
        answers: Answers,
        tls: Option<&TlsFiles>,
        limits: HttpLimits,
    ) -> Result<Setup, SetupError> {
        let HttpLimits {
            connections,
            requests,
            head_time,
            head_size,
            fields,
            idle,
        } = &limits;
        let numbers = [
            ("connections", *connections),
            ("requests", *requests),
            ("head_size", *head_size),
            ("fields", *fields),
        ];
        let times = [("head_time", *head_time), ("idle", *idle)];
        let times = times
            .iter()
            .filter(|(_, time)| time.is_zero())
            .map(|(name, _)| *name);
        let mut zero = numbers
            .iter()
            .filter(|(_, number)| *number == 0)
            .map(|(name, _)| *name)
            .chain(times);
        match zero.next() {
            Some(name) => Err(SetupError::Limit(name)),
            None => Ok(Setup {
                answers,
                limits,
                tls: tls.map(Tls::new).transpose()?,
            }),
        }
    }
}

impl Answers {
    /// Returns the function that answers all requests, where it is one.
    fn only_function(&self) -> Option<&Name> {
        match self {
            Answers::Routes(routes) => routes.only_function(),
            Answers::Handler { .. } => None,
        }
    }
}

impl Http {
    pub(crate) fn new(name: &str, setup: Setup, functions: &Functions, is_logged: bool) -> Http {
        let setup = RwLock::new(Arc::new(setup));
        Http {
            name: name.to_string(),
            functions: functions.clone(),
            is_logged,
            requests: Turnstile::default(),
            setup,
        }
    }

    /// Has the next requests answered otherwise.
    pub(crate) fn set_up(&self, setup: Setup) {
        *self.setup.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
    }

    /// Returns how many connections there may be.
    pub(crate) fn connections(&self) -> usize {
        self.setup().limits.connections
    }

    /// Tells a client for which there is no place that there is none, if that can be said without waiting.
    pub(crate) fn turn_away(&self, stream: &TcpStream) {
        // Under TLS this is nothing that a client understands, and as short.
        log::debug!(
            "gateway `{}` has as many connections as it may have",
            self.name
        );
        let answer =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.try_write(answer);
    }

    /// Has the function begin that all connections are given to, where there is one and it is a program.
    pub(crate) fn begin(&self) {
        if let Some(function) = self.setup().answers.only_function() {
            super::tcp::begin(&self.functions, function);
        }
    }

    /// Serves a connection until its end. Where all requests go to one function and that is a program, it is given the
    /// connection, and speaks HTTP itself.
    pub(crate) async fn serve(self: Arc<Http>, stream: TcpStream, client: SocketAddr, stop: Stop) {
        if let Some(version) = self.only_version()
            && let Code::Program(module) = version.code()
        {
            return super::tcp::hand_over(&version, module, stream, client, None).await;
        }
        connection::serve(self, stream, client, stop).await;
    }

    /// Returns what serves all requests, where that is one function.
    fn only_version(&self) -> Option<Arc<Version>> {
        let setup = self.setup();
        let function = setup
            .answers
            .only_function()
            .filter(|_| setup.tls.is_none())?;
        Some(self.functions.get(function.as_str())?.version())
    }

    fn setup(&self) -> Arc<Setup> {
        self.setup
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
