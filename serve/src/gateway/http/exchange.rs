//! One request and its answer: who answers, for how long, and what is said of it afterwards.

use super::body::{Answer, Asked, full};
use super::connection::Connection;
use super::fields::{self, REQUEST_ID, Unfit};
use super::route::{Found, Lost};
use super::turnstile::Pass;
use super::{Answers, Body, BodyError, Handler, Http, Setup, files};
use crate::serving::Serving;
use crate::ticket::Ticket;
use crate::{Failure, Function, Version};
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long a file may be on its way. There is no process that waits for it, only an open file.
const FILE_TIME: Duration = Duration::from_secs(15 * 60);

/// How long the answer that tells of a failure may be on its way.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// A request that is being answered.
pub(super) struct Exchange {
    pub(super) ticket: Arc<Ticket>,
    began: Instant,
    deadline: Duration,
    has_body: bool,
    state: Mutex<State>,
}

struct State {
    /// When its time is over.
    end: Instant,
    /// Why it has failed, which is not undone.
    failure: Option<Failure>,
    /// What is left of the answer, once there is one.
    answer: Option<Body>,
    /// Whether some of the request's body was not read.
    is_unread: bool,
    /// Since when the function waits for the request's body.
    waits_since: Option<Instant>,
    /// Who is to learn of a failure.
    waker: Option<Waker>,
}

/// When an exchange is to be looked at again.
pub(super) enum Look {
    At(Instant),
    /// It failed at some time before, and its client has not heard of it.
    Stuck,
}

impl Exchange {
    fn new(ticket: Arc<Ticket>, began: Instant, deadline: Duration, has_body: bool) -> Exchange {
        let end = began + deadline;
        let state = State {
            end,
            failure: None,
            answer: None,
            is_unread: has_body,
            waits_since: None,
            waker: None,
        };
        Exchange {
            ticket,
            began,
            deadline,
            has_body,
            state: Mutex::new(state),
        }
    }

    /// Ends it, if nothing else has: the function's future or its answer's body is dropped.
    pub(super) fn fail(&self, failure: Failure) {
        let mut state = self.state();
        if state.failure.is_some() {
            return;
        }
        state.failure = Some(failure);
        let (answer, waker) = (state.answer.take(), state.waker.take());
        drop(state);
        drop(answer);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Fails it where its time or its client's is over, and returns when to look again.
    pub(super) fn look(&self, now: Instant, patience: Duration) -> Look {
        let state = self.state();
        if state.failure.is_some() {
            return Look::Stuck;
        }
        let (end, waits_since) = (state.end, state.waits_since);
        drop(state);
        if waits_since.is_some_and(|since| now.duration_since(since) >= patience) {
            self.fail(Failure::Slow(patience));
        } else if now >= end {
            self.fail(Failure::Deadline(self.deadline));
        } else {
            return Look::At(self.next_look(now, end, patience));
        }
        Look::At(now + GRACE)
    }

    /// Returns when it is to be looked at first.
    fn first_look(&self, patience: Duration) -> Instant {
        self.next_look(self.began, self.began + self.deadline, patience)
    }

    /// A body that does not come is noticed within a quarter of the time in which it should.
    fn next_look(&self, now: Instant, end: Instant, patience: Duration) -> Instant {
        if self.has_body {
            end.min(now + patience / 4)
        } else {
            end
        }
    }

    pub(super) fn waits_for_body(&self) {
        self.state().waits_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn body_came(&self, is_whole: bool) {
        let mut state = self.state();
        state.waits_since = None;
        state.is_unread &= !is_whole;
    }

    /// Whether some of the request's body was not read.
    pub(super) fn is_unread(&self) -> bool {
        self.state().is_unread
    }

    fn poll_failure(&self, cx: &Context<'_>) -> Poll<Failure> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Poll::Ready(failure.clone());
        }
        state.wakes(cx);
        Poll::Pending
    }

    /// Reads on in the answer.
    pub(super) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state();
        // It is read without the lock: what it reads may be the request's body, which may fail this.
        let Some(mut answer) = state.answer.take() else {
            return Poll::Ready(state.failure.clone().map(|failure| Err(failure.into())));
        };
        drop(state);
        let polled = Pin::new(&mut answer).poll_frame(cx);
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Poll::Ready(Some(Err(failure.clone().into())));
        }
        match &polled {
            Poll::Pending => state.wakes(cx),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return polled,
        }
        state.answer = Some(answer);
        polled
    }

    pub(super) fn is_answer_over(&self) -> bool {
        let state = self.state();
        state.failure.is_none()
            && state
                .answer
                .as_ref()
                .is_none_or(|answer| answer.is_end_stream())
    }

    pub(super) fn answer_size(&self) -> SizeHint {
        self.state()
            .answer
            .as_ref()
            .map_or_else(SizeHint::default, |answer| answer.size_hint())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wakes(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
    }
}

/// An exchange's account. When it is dropped, the exchange is over, however it ended.
pub(super) struct Served {
    pub(super) exchange: Arc<Exchange>,
    http: Arc<Http>,
    connection: Arc<Connection>,
    version: Option<Arc<Version>>,
    /// The function's account, while there is one.
    serving: Option<Serving>,
    /// The first line of the request, for the log.
    line: Option<String>,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    /// Bytes of the answer's body that were sent, and how many there are to be, where that was said.
    bytes: u64,
    length: Option<u64>,
    passes: Option<(Option<Pass>, Pass)>,
}

impl Served {
    /// Takes note of why there is no answer.
    fn failed(&mut self, failure: &Failure) {
        match self.serving.take() {
            Some(serving) => serving.failed(failure),
            None => log::debug!("request {}: {failure}", self.exchange.ticket.id),
        }
    }

    /// Takes note of how the answer ended.
    fn ended(&mut self, error: Option<&BodyError>) {
        let Some(serving) = self.serving.take() else {
            return;
        };
        match error {
            None => serving.answered(),
            Some(error) => serving.failed(&match error.downcast_ref::<Failure>() {
                Some(failure) => failure.clone(),
                None => Failure::NotHttp(error.to_string()),
            }),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let now = Instant::now();
        self.connection
            .ended(&self.exchange, now, self.status.is_some());
        let Some(line) = &self.line else { return };
        let client = self
            .exchange
            .ticket
            .client
            .map_or_else(|| "-".to_string(), |client| client.ip().to_string());
        let status = self
            .status
            .unwrap_or_else(|| Failure::Gone.status())
            .as_u16();
        let micros = now.duration_since(self.exchange.began).as_micros();
        let (bytes, id) = (self.bytes, self.exchange.ticket.id);
        let who = match &self.version {
            Some(version) => format!("{} {}", version.name(), version.number()),
            None => "- -".to_string(),
        };
        log::info!(target: "access", "{client} \"{line}\" {status} {bytes} {micros}us {id} {who}");
    }
}

/// Who answers, found out before anything is waited for.
enum Aim {
    Function {
        function: Arc<Function>,
        version: Arc<Version>,
    },
    Files {
        directory: PathBuf,
        prefix: String,
        path: String,
    },
    Handler {
        handler: Handler,
        body: u64,
        deadline: Duration,
    },
    Notice(String),
}

impl Aim {
    fn body(&self) -> u64 {
        match self {
            Aim::Function { version, .. } => version.settings().body,
            Aim::Files { .. } | Aim::Notice(_) => 0,
            Aim::Handler { body, .. } => *body,
        }
    }

    fn deadline(&self) -> Duration {
        match self {
            Aim::Function { version, .. } => version.settings().deadline,
            Aim::Files { .. } | Aim::Notice(_) => FILE_TIME,
            Aim::Handler { deadline, .. } => *deadline,
        }
    }
}

/// A short answer of the gateway's own.
type Refusal = (StatusCode, &'static str);

/// Answers a request.
pub(super) fn begin(
    http: &Arc<Http>,
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> + Send + use<> {
    let setup = http.setup();
    let began = Instant::now();
    let ticket = Arc::new(Ticket::new(Some(connection.client), connection.is_secure));
    let line = http.is_logged.then(|| line(&request));
    let aim = aim(http, &setup, &mut request);
    let deadline = aim.as_ref().map_or(FILE_TIME, Aim::deadline);
    let has_body = !request.body().is_end_stream();
    let exchange = Arc::new(Exchange::new(ticket, began, deadline, has_body));
    connection.began(&exchange, exchange.first_look(setup.limits.head_time));
    let version = match &aim {
        Ok(Aim::Function { version, .. }) => Some(version.clone()),
        _ => None,
    };
    let (http, connection) = (http.clone(), connection.clone());
    let is_head = request.method() == Method::HEAD;
    let mut served = Served {
        exchange,
        http,
        connection,
        version,
        serving: None,
        line,
        status: None,
        bytes: 0,
        length: None,
        passes: None,
    };
    async move {
        let answered = match aim {
            Err((status, text)) => Ok(short(status, text)),
            Ok(aim) => {
                let exchange = served.exchange.clone();
                let mut answer = pin!(answer(&mut served, &setup, aim, request));
                std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
                    Poll::Ready(answered) => Poll::Ready(answered),
                    Poll::Pending => exchange.poll_failure(cx).map(Err),
                })
                .await
            }
        };
        let answered =
            answered.and_then(|mut answer| fields::of_answer(&mut answer).map(|()| answer));
        // A body that broke off is why, whatever the function made of it.
        let failure = served.exchange.state().failure.clone();
        let mut answer = match failure.map_or(answered, Err) {
            Ok(answer) => answer,
            Err(failure) => {
                served.failed(&failure);
                told(&failure, &served.exchange.ticket)
            }
        };
        answer
            .headers_mut()
            .insert(REQUEST_ID, id(&served.exchange.ticket));
        if is_head {
            fields::without_body(&mut answer);
        }
        Ok(served.sends(answer))
    }
}

impl Served {
    /// Has an answer sent.
    fn sends(mut self, answer: Response<Body>) -> Response<Answer> {
        self.status = Some(answer.status());
        self.length = fields::length(answer.headers());
        let (head, body) = answer.into_parts();
        self.exchange.sends(body);
        if self.exchange.is_answer_over() {
            self.ended(None);
        }
        Response::from_parts(head, Answer::new(self))
    }

    /// Takes note of what was sent.
    pub(super) fn sent(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |piece| piece.len() as u64),
            Some(Err(error)) => return self.ended(Some(error)),
            None => return self.ended(None),
        }
        // Nobody asks for an end that is known.
        if self.length.is_some_and(|length| self.bytes >= length) || self.exchange.is_answer_over()
        {
            self.ended(None);
        }
    }
}

impl Exchange {
    /// Has an answer sent, of which the rest is taken away where the time is over.
    fn sends(&self, body: Body) {
        let mut state = self.state();
        // The answer that tells of a failure is sent all the same, and has a little time to be.
        if state.failure.take().is_some() {
            state.end = Instant::now() + GRACE;
        }
        state.answer = Some(body);
    }
}

/// Returns the first line of a request as it goes to the log, where nothing in it may pass for another line.
fn line(request: &Request<Incoming>) -> String {
    let path = request
        .uri()
        .path_and_query()
        .map_or("", PathAndQuery::as_str);
    let path = lunatic_vm::printable(path).to_string().replace('"', "%22");
    format!("{} {path} {:?}", request.method(), request.version())
}

/// Finds out who answers, and makes the request what he is to get.
fn aim(http: &Http, setup: &Setup, request: &mut Request<Incoming>) -> Result<Aim, Refusal> {
    if request.method() == Method::CONNECT {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "this is no proxy"));
    }
    fields::of_request(request).map_err(|unfit| match unfit {
        Unfit::Host => (StatusCode::BAD_REQUEST, "a request names one host"),
        Unfit::Upgrade => (StatusCode::BAD_REQUEST, "websockets are not spoken here"),
    })?;
    let routes = match &setup.answers {
        Answers::Routes(routes) => routes,
        Answers::Handler {
            handler,
            body,
            deadline,
        } => {
            return Ok(Aim::Handler {
                handler: handler.clone(),
                body: *body,
                deadline: *deadline,
            });
        }
    };
    let found = routes
        .find(request.uri().path())
        .map_err(|lost| match lost {
            Lost::Nowhere => (StatusCode::NOT_FOUND, "nothing is found here"),
            Lost::Unclear => (
                StatusCode::BAD_REQUEST,
                "the path can be understood in several ways",
            ),
        })?;
    let (function, rest) = match found {
        Found::Function(name) => (http.functions.get(name.as_str()), None),
        Found::Named { name, rest } => (
            http.functions.get(&name),
            Some(rest_of(rest, request.uri().query())),
        ),
        Found::File {
            directory,
            prefix,
            path,
        } => {
            let (directory, prefix, path) =
                (directory.clone(), prefix.to_string(), path.into_owned());
            return Ok(Aim::Files {
                directory,
                prefix,
                path,
            });
        }
        Found::Notice(text) => return Ok(Aim::Notice(text.to_string())),
    };
    let function = function.ok_or((StatusCode::NOT_FOUND, "there is no function of this name"))?;
    if let Some(rest) = rest {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.path_and_query = Some(rest.ok_or((StatusCode::BAD_REQUEST, "the path is none"))?);
        *request.uri_mut() =
            Uri::from_parts(parts).map_err(|_| (StatusCode::BAD_REQUEST, "the path is none"))?;
    }
    let version = function.version();
    Ok(Aim::Function { function, version })
}

fn rest_of(rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let path = if rest.is_empty() { "/" } else { rest };
    match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")).ok(),
        None => PathAndQuery::try_from(path).ok(),
    }
}

/// Has a request answered, once there is room for it.
async fn answer(
    served: &mut Served,
    setup: &Setup,
    aim: Aim,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let limit = aim.body();
    // What is said to be too large is not waited for.
    let is_read = !matches!(aim, Aim::Files { .. } | Aim::Notice(_));
    if request.body().size_hint().lower() > limit && is_read {
        return Err(Failure::TooLarge(limit));
    }
    let exchange = served.exchange.clone();
    if let Aim::Function { version, .. } = &aim {
        served.serving = Some(Serving::begin(version, &exchange.ticket));
    }
    served.passes = Some(enter(&served.http, setup, &aim).await?);
    let mut request = request.map(|incoming| Asked::body(incoming, &exchange, limit));
    let ticket = &exchange.ticket;
    request.headers_mut().insert(REQUEST_ID, id(ticket));
    match aim {
        Aim::Function { version, .. } => super::answer(&version, ticket, request).await,
        Aim::Files {
            directory,
            prefix,
            path,
        } => Ok(files::answer(&directory, &prefix, &path, request).await),
        Aim::Handler { handler, .. } => Ok(handler(request, ticket.clone()).await),
        Aim::Notice(text) => Ok(short(StatusCode::NOT_FOUND, &text)),
    }
}

/// Waits for room: first before the function, whose queue holds up nobody else, then at the gateway, of which one function
/// has three quarters at most.
async fn enter(http: &Http, setup: &Setup, aim: &Aim) -> Result<(Option<Pass>, Pass), Failure> {
    let all = setup.limits.requests;
    let pass = match aim {
        Aim::Function { function, version } => {
            let most = version
                .settings()
                .requests
                .get()
                .min((all - all / 4).max(1));
            let pass = function.requests().enter(most).await;
            Some(pass.ok_or_else(|| {
                Failure::Overload(format!("{most} requests are with the function already"))
            })?)
        }
        Aim::Files { .. } | Aim::Handler { .. } | Aim::Notice(_) => None,
    };
    let place = http.requests.enter(all).await;
    let place = place
        .ok_or_else(|| Failure::Overload(format!("{all} requests are with the gateway already")))?;
    Ok((pass, place))
}

fn id(ticket: &Ticket) -> HeaderValue {
    HeaderValue::try_from(ticket.id.to_string()).expect("it is made of digits")
}

/// What a client is told of a failure: no more than helps him.
fn told(failure: &Failure, ticket: &Ticket) -> Response<Body> {
    let text = match failure {
        Failure::Ended(_) | Failure::Failed(_) => "the function failed",
        Failure::Limit(_) => "the function reached a limit",
        Failure::NoAnswer => "the function did not answer",
        Failure::NotHttp(_) => "the function's answer is not HTTP",
        Failure::Deadline(_) => "the function did not answer in time",
        Failure::TooLarge(_) => "the request's body is too large",
        Failure::Slow(_) | Failure::Idle(_) | Failure::Life(_) => {
            "the request took too long to come"
        }
        Failure::Malformed(_) => "the request's body is malformed",
        Failure::Overload(_) => "there are too many requests, try again later",
        Failure::Unusable(_) => "the function cannot be run",
        Failure::Gone => "the client went away",
    };
    let mut answer = short(failure.status(), &format!("{text} (request {})", ticket.id));
    if failure.status() == StatusCode::SERVICE_UNAVAILABLE {
        answer
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    // The rest of such a request is not read.
    if matches!(
        failure,
        Failure::TooLarge(_) | Failure::Slow(_) | Failure::Malformed(_)
    ) {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Returns an answer of one line.
pub(super) fn short(status: StatusCode, text: &str) -> Response<Body> {
    let mut answer = Response::new(full(format!("{text}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    answer
}
