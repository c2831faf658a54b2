//! A request and its answer, between who asks and the instance that serves.
//!
//! The two ends know of each other: who no longer waits, or no longer reads the answer, ends the instance; and an answer whose
//! instance ended before it did breaks off.

use super::Unclaimed;
use crate::Failure;
use crate::gateway::http::{Body, BodyError};
use crate::ticket::Ticket;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use lunatic_vm::{Exit, Limit, LimitReached};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// The instance's end.
pub(super) struct Job {
    pub(super) request: Request<Body>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) reply: oneshot::Sender<Reply>,
    /// Comes to nothing where nobody waits any longer.
    pub(super) gone: oneshot::Receiver<()>,
    pub(super) progress: watch::Sender<Progress>,
    /// When it has to be done.
    pub(super) end: Instant,
    pub(super) deadline: Duration,
}

/// What is said about a request, once.
pub(super) enum Reply {
    /// The component set its answer, or an error in its place.
    Set(Result<Response<HyperOutgoingBody>, ErrorCode>),
    /// No instance could be had.
    Failed(Failure),
}

/// How far an instance is with a request. Where that is not told to its end, the instance was killed.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    UnderWay,
    Done,
    Failed(Failure),
}

/// The end of who asks.
pub(super) struct Waiting {
    reply: oneshot::Receiver<Reply>,
    gone: oneshot::Sender<()>,
    progress: watch::Receiver<Progress>,
    ticket: Arc<Ticket>,
    is_head: bool,
    end: Instant,
    deadline: Duration,
    /// Where it is for this request alone.
    pub(super) process: Option<Unclaimed>,
}

/// Makes both ends.
pub(super) fn begin(
    request: Request<Body>,
    ticket: &Arc<Ticket>,
    deadline: Duration,
) -> (Job, Waiting) {
    let (reply, replied) = oneshot::channel();
    let (staying, gone) = oneshot::channel();
    let (progress, told) = watch::channel(Progress::UnderWay);
    let end = Instant::now() + deadline;
    let is_head = request.method() == Method::HEAD;
    let job = Job {
        request,
        ticket: ticket.clone(),
        reply,
        gone,
        progress,
        end,
        deadline,
    };
    let waiting = Waiting {
        reply: replied,
        gone: staying,
        progress: told,
        ticket: ticket.clone(),
        is_head,
        end,
        deadline,
        process: None,
    };
    (job, waiting)
}

impl Job {
    /// Whether somebody waits for the answer.
    pub(super) fn is_wanted(&mut self) -> bool {
        matches!(
            self.gone.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        )
    }
}

/// Returns how an instance ends that worked on a request for too long.
pub(super) fn late(deadline: Duration) -> Exit {
    let allowed = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    Exit::Limit(LimitReached {
        limit: Limit::Time,
        allowed,
        wanted: None,
    })
}

/// Returns what the end of an instance means for the request that it was at.
pub(super) fn failure_of(exit: Exit, deadline: Duration) -> Failure {
    match &exit {
        Exit::Limit(LimitReached {
            limit: Limit::Time, ..
        }) => Failure::Deadline(deadline),
        _ => Failure::of_exit(exit),
    }
}

impl Waiting {
    /// Waits for the head of the answer.
    pub(super) async fn answer(mut self) -> Result<Response<Body>, Failure> {
        let late = Failure::Deadline(self.deadline);
        match timeout_at(self.end, &mut self.reply)
            .await
            .map_err(|_| late.clone())?
        {
            Ok(Reply::Set(Ok(answer))) => Ok(self.pass_on(answer)),
            Ok(Reply::Set(Err(error))) => {
                self.stay();
                declared(&error)
            }
            Ok(Reply::Failed(failure)) => Err(failure),
            Err(_) => Err(timeout_at(self.end, self.failure()).await.unwrap_or(late)),
        }
    }

    /// Waits for the reason why there is no answer.
    async fn failure(&mut self) -> Failure {
        let told = self
            .progress
            .wait_for(|progress| !matches!(progress, Progress::UnderWay))
            .await;
        match told.map(|progress| progress.clone()) {
            Ok(Progress::Failed(failure)) => failure,
            Ok(_) => Failure::NoAnswer,
            // It ended before it began with this, or in the middle.
            Err(_) => match self
                .process
                .as_ref()
                .and_then(Unclaimed::process)
                .or(self.ticket.process())
            {
                Some(process) => failure_of(process.exited().await, self.deadline),
                None => Failure::Ended(Exit::Killed),
            },
        }
    }

    /// Lets the instance work on, whatever becomes of this end.
    fn stay(self) {
        // It may have ended already.
        let _ = self.gone.send(());
        if let Some(process) = self.process {
            process.claim();
        }
    }

    fn pass_on(self, answer: Response<HyperOutgoingBody>) -> Response<Body> {
        let (head, body) = answer.into_parts();
        let progress = self.progress.clone();
        let mut body = Checked {
            body,
            progress: Some(progress),
        };
        if self.is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
        {
            // Nobody is sent the body, which the component writes all the same.
            self.stay();
            tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
            return Response::from_parts(head, nothing());
        }
        if body.is_end_stream() {
            self.stay();
            return Response::from_parts(head, nothing());
        }
        let left = length(&head.headers);
        Response::from_parts(
            head,
            Sent {
                body,
                left,
                waiting: Some(self),
            }
            .boxed_unsync(),
        )
    }
}

fn nothing() -> Body {
    Empty::new()
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Returns what a client is told where a component sets an error in place of an answer.
fn declared(error: &ErrorCode) -> Result<Response<Body>, Failure> {
    let status = match error {
        ErrorCode::HttpRequestDenied => StatusCode::FORBIDDEN,
        ErrorCode::HttpRequestLengthRequired => StatusCode::LENGTH_REQUIRED,
        ErrorCode::HttpRequestBodySize(_) => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::HttpRequestMethodInvalid => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::HttpRequestUriInvalid => StatusCode::BAD_REQUEST,
        ErrorCode::HttpRequestUriTooLong => StatusCode::URI_TOO_LONG,
        ErrorCode::HttpRequestHeaderSectionSize(_) | ErrorCode::HttpRequestHeaderSize(_) => {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        }
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::LoopDetected => StatusCode::LOOP_DETECTED,
        error => return Err(Failure::Failed(format!("{error:?}"))),
    };
    let mut answer = Response::new(nothing());
    *answer.status_mut() = status;
    Ok(answer)
}

/// A body that an instance writes. It breaks off where the instance was killed; where the instance ended in any other way,
/// it has itself told so.
pub(super) struct Checked {
    pub(super) body: HyperOutgoingBody,
    pub(super) progress: Option<watch::Receiver<Progress>>,
}

impl Checked {
    fn broken_off(&self) -> Failure {
        let progress = self
            .progress
            .as_ref()
            .map(|progress| progress.borrow().clone());
        match progress {
            Some(Progress::Failed(failure)) => failure,
            _ => Failure::NotHttp("it ended before its body did".to_string()),
        }
    }

    /// Whether the instance was killed: then its end says nothing about the body's.
    fn was_killed(&self) -> bool {
        let Some(progress) = &self.progress else {
            return false;
        };
        // In this order: what is told last is there when the one who tells is gone.
        progress.has_changed().is_err() && matches!(*progress.borrow(), Progress::UnderWay)
    }
}

impl http_body::Body for Checked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(pin!(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(_)) => Poll::Ready(Some(Err(self.broken_off().into()))),
            None if self.was_killed() => {
                Poll::Ready(Some(Err(Failure::Ended(Exit::Killed).into())))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. Dropped before its end, it ends the instance.
struct Sent {
    body: Checked,
    /// Bytes that are still to come, where the head says how many there are. With the last of them it may be dropped.
    left: Option<u64>,
    waiting: Option<Waiting>,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let is_over = match &frame {
            None => true,
            Some(Ok(frame)) => {
                let came = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(came));
                self.left == Some(0) || frame.is_trailers()
            }
            Some(Err(_)) => false,
        };
        if is_over && let Some(waiting) = self.waiting.take() {
            waiting.stay();
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
