//! A call in progress: how it is cancelled, and how its answer is sent back.

use crate::answer::{self, Waiting};
use crate::failure::{Failure, Kind};
use crate::handle::Handle;
use crate::names::{error, ok};
use futures_channel::oneshot;
use futures_lite::FutureExt;
use lunatic_bridge::Answer;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, ResourceArc, Term};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The number of calls in progress.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of calls in progress.
pub(crate) fn alive() -> usize {
    ALIVE.load(Ordering::SeqCst)
}

/// Cancels a call. The node also cancels the call if the calling process ends.
pub(crate) struct Call(Mutex<Option<oneshot::Sender<()>>>);

/// Held by the call itself, to detect that it has been cancelled.
pub(crate) struct Cancelled(oneshot::Receiver<()>);

impl Call {
    pub(crate) fn new() -> (ResourceArc<Call>, Cancelled) {
        let (cancel, cancelled) = oneshot::channel();
        ALIVE.fetch_add(1, Ordering::SeqCst);
        (
            ResourceArc::new(Call(Mutex::new(Some(cancel)))),
            Cancelled(cancelled),
        )
    }

    /// Cancels the call.
    pub(crate) fn cancel(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Cancelled {
    /// Waits for an answer, unless the call is cancelled first.
    pub(crate) async fn unless(
        mut self,
        answered: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let cancelled = async {
            // Nothing is ever sent through this channel. Dropping the sender cancels the call.
            let _ = (&mut self.0).await;
            Err(Failure::new(Kind::Cancelled, "the call was cancelled"))
        };
        answered.or(cancelled).await
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sends a process exactly one message, either `{reference, {:ok, result}}` or `{reference,
/// {:error, {kind, message}}}`.
pub(crate) struct Reply {
    to: LocalPid,
    /// Holds the reference, then the message.
    env: OwnedEnv,
    reference: Option<SavedTerm>,
}

impl Reply {
    pub(crate) fn new(to: LocalPid, reference: Term) -> Reply {
        let env = OwnedEnv::new();
        let reference = Some(env.save(reference));
        Reply { to, env, reference }
    }

    /// Sends a result. A value that becomes a resource is converted only here, so that there are no
    /// other references to the resource.
    pub(crate) fn send<T: Sendable>(mut self, result: Result<T, Failure>) {
        self.send_term(|env| match result {
            Ok(value) => (ok(), value.into_term(env)).encode(env),
            Err(failure) => (error(), failure).encode(env),
        });
    }

    /// Sends a function's answer. Bytes are sent unchanged. JSON is sent as a value that has yet to
    /// be turned into a term, or as an error if it is longer than `most` bytes.
    pub(crate) fn send_answer(self, answer: Result<Answer, Failure>, most: usize) {
        match answer {
            Ok(Answer::Json(json)) => self.send(answer::read(&json, most).map(Waiting::new)),
            Ok(Answer::Bytes(bytes)) => self.send(Ok(bytes)),
            Err(failure) => self.send::<Vec<u8>>(Err(failure)),
        }
    }

    fn send_term(&mut self, result: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        let Some(reference) = &self.reference else {
            return;
        };
        // The process may have ended.
        let _ = self
            .env
            .send_and_clear(&self.to, |env| (reference.load(env), result(env)));
        self.reference = None;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // If nothing was sent, the code that should have sent it panicked.
        self.send_term(|env| {
            let failure = Failure::new(
                Kind::Internal,
                "a thread of the bridge panicked; this is a bug in the bridge",
            );
            (error(), failure).encode(env)
        });
    }
}

/// A value that can be sent as a result.
pub(crate) trait Sendable {
    fn into_term(self, env: Env<'_>) -> Term<'_>;
}

impl Sendable for u64 {
    fn into_term(self, env: Env<'_>) -> Term<'_> {
        self.encode(env)
    }
}

impl Sendable for Vec<u8> {
    fn into_term(self, env: Env<'_>) -> Term<'_> {
        answer::binary(env, &self)
    }
}

impl Sendable for Waiting {
    fn into_term(self, env: Env<'_>) -> Term<'_> {
        ResourceArc::new(self).encode(env)
    }
}

impl Sendable for Handle {
    fn into_term(self, env: Env<'_>) -> Term<'_> {
        ResourceArc::new(self).encode(env)
    }
}
