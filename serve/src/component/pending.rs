//! A response that an instance has yet to produce.
//!
//! Once nothing is waiting for the response or reading it any longer, the instance is terminated.
//! If the instance ends too early, the response is cut short.

use super::body::InstanceBody;
use super::job::{Job, Progress, Reply, failure_of};
use crate::Failure;
use crate::body::{Body, BodyError, empty};
use crate::fields;
use crate::kill_on_drop::KillOnDrop;
use crate::request_info::RequestInfo;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use lunatic_vm::{Exit, Process};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// Waits for the response to a [`Job`].
pub(super) struct PendingResponse {
    reply: oneshot::Receiver<Reply>,
    gone: oneshot::Sender<()>,
    progress: watch::Receiver<Progress>,
    info: Arc<RequestInfo>,
    is_head: bool,
    end: Instant,
    deadline: Duration,
    /// The process, if it serves only this request.
    process: Option<KillOnDrop>,
}

/// Creates a job and a value that waits for its response.
pub(super) fn begin(
    request: Request<Body>,
    info: &Arc<RequestInfo>,
    deadline: Duration,
) -> (Job, PendingResponse) {
    let (reply_sender, reply) = oneshot::channel();
    let (gone, gone_receiver) = oneshot::channel();
    let (progress_sender, progress) = watch::channel(Progress::UnderWay);
    let end = Instant::now() + deadline;
    let pending = PendingResponse {
        reply,
        gone,
        progress,
        info: info.clone(),
        is_head: request.method() == Method::HEAD,
        end,
        deadline,
        process: None,
    };
    let job = Job {
        request,
        info: info.clone(),
        reply: reply_sender,
        gone: gone_receiver,
        progress: progress_sender,
        end,
        deadline,
    };
    (job, pending)
}

impl PendingResponse {
    /// Ties a process to the request. The process must not serve any other request, and is killed
    /// when this one ends.
    pub(super) fn owning(mut self, process: Process) -> PendingResponse {
        self.process = Some(KillOnDrop::new(process));
        self
    }

    /// Waits for the response's head.
    pub(super) async fn response(mut self) -> Result<Response<Body>, Failure> {
        let late = Failure::Deadline(self.deadline);
        match timeout_at(self.end, &mut self.reply)
            .await
            .map_err(|_| late.clone())?
        {
            Ok(Reply::Set(Ok(response))) => Ok(self.pass_on(response)),
            Ok(Reply::Set(Err(error))) => {
                self.release();
                declared(&error)
            }
            Ok(Reply::Failed(failure)) => Err(failure),
            Err(_) => Err(timeout_at(self.end, self.failure()).await.unwrap_or(late)),
        }
    }

    /// Waits for the reason why there is no response.
    async fn failure(&mut self) -> Failure {
        let progress = self
            .progress
            .wait_for(|progress| !matches!(progress, Progress::UnderWay))
            .await;
        match progress.map(|progress| progress.clone()) {
            Ok(Progress::Failed(failure)) => failure,
            Ok(_) => Failure::NoAnswer,
            // The instance ended before or while it served this request.
            Err(_) => match self
                .process
                .as_ref()
                .map(KillOnDrop::process)
                .or(self.info.process())
            {
                Some(process) => failure_of(process.exited().await, self.deadline),
                None => Failure::Ended(Exit::Killed),
            },
        }
    }

    /// Lets the instance continue, no matter what happens to the response.
    fn release(self) {
        // The instance may have ended already.
        let _ = self.gone.send(());
        if let Some(process) = self.process {
            process.release();
        }
    }

    fn pass_on(self, response: Response<HyperOutgoingBody>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let progress = Some(self.progress.clone());
        let mut body = InstanceBody { body, progress };
        if self.is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
        {
            // The component is still writing the body, but the body is not sent.
            self.release();
            tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
            return Response::from_parts(head, empty());
        }
        if body.is_end_stream() {
            self.release();
            return Response::from_parts(head, empty());
        }
        let left = fields::length(&head.headers).ok().flatten();
        Response::from_parts(
            head,
            ResponseBody {
                body,
                left,
                pending: Some(self),
            }
            .boxed_unsync(),
        )
    }
}

/// Returns the response for a client when a component sets an error instead of a response.
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
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    Ok(response)
}

/// A response's body. If it is dropped before its end, the instance is terminated.
struct ResponseBody {
    body: InstanceBody,
    /// The number of bytes still to come, if the head states the length. hyper may drop the body
    /// right after the last byte, so the instance is released when this reaches 0.
    left: Option<u64>,
    pending: Option<PendingResponse>,
}

impl http_body::Body for ResponseBody {
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
        if is_over && let Some(pending) = self.pending.take() {
            pending.release();
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
