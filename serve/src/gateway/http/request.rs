//! Answers a request: chooses the backend and limits how long the response may take.

use super::ahead;
use super::body::{RequestBody, ResponseBody};
use super::check::{self, Rejection};
use super::connection::Connection;
use super::exchange::Exchange;
use super::files;
use super::guard::ExchangeGuard;
use super::listener::HttpListener;
use super::reply::{failure_response, short_response};
use super::route::{NoRoute, RouteMatch};
use super::setup::{Dispatch, Handler, Setup};
use crate::answer;
use crate::body::Body;
use crate::in_flight::InFlight;
use crate::request_id::{REQUEST_ID, RequestId};
use crate::request_info::RequestInfo;
use crate::turnstile::Permit;
use crate::{Failure, Function, Version};
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use lunatic_vm::Shortage;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long it may take to send a file. Sending one occupies only an open file, not a process.
const FILE_TIME: Duration = Duration::from_secs(15 * 60);

/// What will answer a request. This is decided before waiting for anything.
enum Backend {
    Function {
        function: Arc<Function>,
        version: Arc<Version>,
    },
    Files {
        directory: PathBuf,
        prefix: String,
        path: String,
    },
    Handler(Handler),
    Notice(String),
}

impl Backend {
    /// Returns the maximum size of a request's body, in bytes.
    fn body(&self) -> u64 {
        match self {
            Backend::Function { version, .. } => version.settings().body,
            Backend::Files { .. } | Backend::Notice(_) => 0,
            Backend::Handler(handler) => handler.body,
        }
    }

    fn deadline(&self) -> Duration {
        match self {
            Backend::Function { version, .. } => version.settings().deadline,
            Backend::Files { .. } | Backend::Notice(_) => FILE_TIME,
            Backend::Handler(handler) => handler.deadline,
        }
    }
}

/// A short response to a request that is not passed on to a backend.
type Refusal = (StatusCode, &'static str);

/// Answers a request.
pub(super) fn serve(
    listener: &Arc<HttpListener>,
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + Send + use<> {
    let setup = listener.setup();
    let began = Instant::now();
    let info = RequestInfo::new(Some(connection.client), connection.is_secure);
    let line = listener.is_logged.then(|| line(&request));
    let backend = backend(listener, &setup, &mut request);
    let deadline = backend.as_ref().map_or(FILE_TIME, Backend::deadline);
    let has_body = !request.body().is_end_stream();
    let exchange = Arc::new(Exchange::new(Arc::new(info), began, deadline, has_body));
    connection.began(&exchange, exchange.first_check(setup.limits.head_time));
    let version = match &backend {
        Ok(Backend::Function { version, .. }) => Some(version.clone()),
        _ => None,
    };
    let is_head = request.method() == Method::HEAD;
    let listener = listener.clone();
    let mut guard = ExchangeGuard::new(exchange.clone(), connection.clone(), version, line);
    async move {
        let answered = match backend {
            Err((status, text)) => {
                drop(request);
                Ok(short_response(status, text))
            }
            Ok(backend) => {
                let mut answer = pin!(answer(&listener, &setup, &mut guard, backend, request));
                std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
                    Poll::Ready(answered) => Poll::Ready(answered),
                    Poll::Pending => exchange.poll_failure(cx).map(Err),
                })
                .await
            }
        };
        // hyper does not notice until its next turn that nothing reads the rest of the request. It
        // then skips the rest if it has arrived. Otherwise, it closes the connection after the
        // response, whose head must say so. If the request failed, its body may be malformed, and
        // the response must be sent before hyper reads more of it.
        if answered.is_ok() && exchange.is_rest_unwanted() {
            tokio::task::yield_now().await;
        }
        let answered = answered
            .and_then(|mut response| check::response(&mut response, is_head).map(|()| response));
        // If the request's body was cut short, that is the reason for the failure, no matter what
        // the function did with the body.
        let mut response = match exchange.failure().map_or(answered, Err) {
            Ok(response) => response,
            Err(failure) => {
                guard.failed(&failure);
                failure_response(&failure, exchange.info.id)
            }
        };
        response
            .headers_mut()
            .insert(REQUEST_ID, id_value(exchange.info.id));
        if is_head {
            check::remove_body(&mut response);
        }
        let (head, body) = response.into_parts();
        exchange.send(body);
        guard.sends(&head);
        Ok(Response::from_parts(head, ResponseBody::new(guard)))
    }
}

/// Returns a request's first line for the log, escaped so that it cannot be mistaken for more than
/// one line.
fn line(request: &Request<Incoming>) -> String {
    let path = request
        .uri()
        .path_and_query()
        .map_or("", PathAndQuery::as_str);
    let path = lunatic_vm::printable(path).to_string().replace('"', "%22");
    format!("{} {path} {:?}", request.method(), request.version())
}

/// Chooses the backend, and converts the request to the form that the backend gets.
fn backend(
    listener: &HttpListener,
    setup: &Setup,
    request: &mut Request<Incoming>,
) -> Result<Backend, Refusal> {
    const BAD_PATH: Refusal = (StatusCode::BAD_REQUEST, "the path is invalid");
    if request.method() == Method::CONNECT {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "this is not a proxy"));
    }
    check::request(request).map_err(|rejection| match rejection {
        Rejection::Host => (
            StatusCode::BAD_REQUEST,
            "a request must name exactly one host",
        ),
        Rejection::HostName => (
            StatusCode::BAD_REQUEST,
            "the request's host must be a name or an address, with an optional port",
        ),
        Rejection::Upgrade => (StatusCode::BAD_REQUEST, "websockets are not supported"),
    })?;
    let routes = match &setup.dispatch {
        Dispatch::Routes(routes) => routes,
        Dispatch::Handler(handler) => return Ok(Backend::Handler(handler.clone())),
    };
    let found = routes
        .find(request.uri().path())
        .map_err(|error| match error {
            NoRoute::NotFound => (StatusCode::NOT_FOUND, "there is nothing here"),
            NoRoute::Ambiguous => (StatusCode::BAD_REQUEST, "the path is ambiguous"),
        })?;
    let (function, rest) = match found {
        RouteMatch::Function(name) => (listener.functions.get(name.as_str()), None),
        RouteMatch::Named { name, rest } => (
            listener.functions.get(&name),
            Some(path_and_query(rest, request.uri().query())),
        ),
        RouteMatch::File {
            directory,
            prefix,
            path,
        } => {
            return Ok(Backend::Files {
                directory: directory.clone(),
                prefix: prefix.to_string(),
                path: path.into_owned(),
            });
        }
        RouteMatch::Notice(text) => return Ok(Backend::Notice(text.to_string())),
    };
    let function =
        function.ok_or((StatusCode::NOT_FOUND, "there is no function with this name"))?;
    if let Some(rest) = rest {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.path_and_query = Some(rest.ok_or(BAD_PATH)?);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| BAD_PATH)?;
    }
    let version = function.version();
    Ok(Backend::Function { function, version })
}

fn path_and_query(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let path = if path.is_empty() { "/" } else { path };
    match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")).ok(),
        None => PathAndQuery::try_from(path).ok(),
    }
}

/// Answers a request once there is capacity for it.
async fn answer(
    listener: &HttpListener,
    setup: &Setup,
    guard: &mut ExchangeGuard,
    backend: Backend,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let limit = backend.body();
    // A body whose declared length is too large is refused before it arrives.
    let is_read = !matches!(backend, Backend::Files { .. } | Backend::Notice(_));
    if request.body().size_hint().lower() > limit && is_read {
        return Err(Failure::TooLarge(limit));
    }
    let exchange = guard.exchange.clone();
    let info = &exchange.info;
    if let Backend::Function { version, .. } = &backend {
        guard.in_flight = Some(InFlight::begin(version, info));
    }
    guard.permits = Some(enter(listener, setup, &backend).await?);
    let mut request = request.map(|incoming| RequestBody::bounded(incoming, &exchange, limit));
    request.headers_mut().insert(REQUEST_ID, id_value(info.id));
    match backend {
        Backend::Function { version, .. } => {
            let is_head = request.method() == Method::HEAD;
            let response = answer::answer(&listener.functions, &version, info, request).await?;
            if is_head {
                Ok(response)
            } else {
                ahead::read(response).await
            }
        }
        Backend::Files {
            directory,
            prefix,
            path,
        } => Ok(files::serve(directory, &prefix, path, request).await),
        Backend::Handler(handler) => Ok((handler.responder)(request).await),
        Backend::Notice(text) => Ok(short_response(StatusCode::NOT_FOUND, &text)),
    }
}

/// Waits for capacity: first the function's, because waiting for that does not delay other
/// functions, and then the gateway's, of which a single function can occupy at most three quarters.
async fn enter(
    listener: &HttpListener,
    setup: &Setup,
    backend: &Backend,
) -> Result<(Option<Permit>, Permit), Failure> {
    let all = setup.limits.requests;
    let of_function = match backend {
        Backend::Function { function, version } => {
            if version.environment().shortage() == Shortage::Requests {
                return Err(Failure::Overload("the machine is short of memory".into()));
            }
            let limit = version
                .settings()
                .requests
                .get()
                .min((all - all / 4).max(1));
            let permit = function.requests().enter(limit).await;
            Some(permit.ok_or_else(|| {
                Failure::Overload(format!("the function already has {limit} requests"))
            })?)
        }
        Backend::Files { .. } | Backend::Handler(_) | Backend::Notice(_) => None,
    };
    let of_gateway = listener.requests.enter(all).await;
    let of_gateway = of_gateway
        .ok_or_else(|| Failure::Overload(format!("the gateway already has {all} requests")))?;
    Ok((of_function, of_gateway))
}

fn id_value(id: RequestId) -> HeaderValue {
    HeaderValue::try_from(id.to_string()).expect("an id consists of hexadecimal digits")
}
