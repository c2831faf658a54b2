//! A request on its way to an instance.

use crate::Failure;
use crate::body::Body;
use crate::request_info::RequestInfo;
use http::{Request, Response};
use lunatic_vm::{Exit, Limit, LimitReached};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What an instance is given for each request.
pub(super) struct Job {
    pub(super) request: Request<Body>,
    pub(super) info: Arc<RequestInfo>,
    pub(super) reply: oneshot::Sender<Reply>,
    /// Fails once nothing is waiting for the response any longer.
    pub(super) gone: oneshot::Receiver<()>,
    pub(super) progress: watch::Sender<Progress>,
    /// When the request must have been answered.
    pub(super) end: Instant,
    pub(super) deadline: Duration,
}

/// The single reply to a request.
pub(super) enum Reply {
    /// The component set its response, or an error instead.
    Set(Result<Response<HyperOutgoingBody>, ErrorCode>),
    /// There is no instance to serve the request.
    Failed(Failure),
}

/// How far an instance has got with a request. If the sender is dropped while the request is under
/// way, the instance was killed.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    UnderWay,
    Done,
    Failed(Failure),
}

impl Job {
    /// Returns whether anything is still waiting for the response.
    pub(super) fn is_wanted(&mut self) -> bool {
        matches!(
            self.gone.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        )
    }
}

/// Returns the exit of an instance that took too long to handle a request.
pub(super) fn late(deadline: Duration) -> Exit {
    let allowed = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    Exit::Limit(LimitReached {
        limit: Limit::Time,
        allowed,
        wanted: None,
    })
}

/// Returns the failure of the request that an instance was serving when it exited.
pub(super) fn failure_of(exit: Exit, deadline: Duration) -> Failure {
    match &exit {
        Exit::Limit(LimitReached {
            limit: Limit::Time, ..
        }) => Failure::Deadline(deadline),
        _ => Failure::of_exit(exit),
    }
}
