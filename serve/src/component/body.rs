//! Bodies written by instances.

use super::job::Progress;
use crate::Failure;
use crate::body::BodyError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use lunatic_vm::Exit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::sync::watch;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// A body that an instance writes. It is cut short if the instance was killed. If the instance
/// ended in any other way, the body detects that on its own.
pub(super) struct InstanceBody {
    pub(super) body: HyperOutgoingBody,
    /// The instance's progress with its request, if it is serving one.
    pub(super) progress: Option<watch::Receiver<Progress>>,
}

impl InstanceBody {
    fn broken_off(&self) -> Failure {
        let progress = self
            .progress
            .as_ref()
            .map(|progress| progress.borrow().clone());
        match progress {
            Some(Progress::Failed(failure)) => failure,
            _ => Failure::NotHttp("the function ended before its body did".to_string()),
        }
    }

    /// Returns whether the instance was killed, in which case the bytes it wrote are not the
    /// complete body.
    fn was_killed(&self) -> bool {
        let Some(progress) = &self.progress else {
            return false;
        };
        // The order matters: the last value is final only once the sender has been dropped.
        progress.has_changed().is_err() && matches!(*progress.borrow(), Progress::UnderWay)
    }
}

impl http_body::Body for InstanceBody {
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
