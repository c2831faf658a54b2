//! A call on its way: how it is given up, and how its answer gets back.

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

/// How many there are.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Returns how many calls are on their way.
pub(crate) fn alive() -> usize {
    ALIVE.load(Ordering::SeqCst)
}

/// By this a call can be given up. The node has it done when the process that calls ends.
pub(crate) struct Call(Mutex<Option<oneshot::Sender<()>>>);

/// The call's own end of it.
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

    /// Gives the call up.
    pub(crate) fn cancel(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Cancelled {
    /// Waits for an answer until the call is given up.
    pub(crate) async fn unless(
        mut self,
        answered: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let given_up = async {
            // There is nothing to receive: it is given up by being dropped.
            let _ = (&mut self.0).await;
            Err(Failure::new(Kind::Cancelled, "the call was given up"))
        };
        answered.or(given_up).await
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sends a process one message, whatever happens: `{reference, {:ok, result}}` or `{reference, {:error, {kind, message}}}`.
pub(crate) struct Reply {
    to: LocalPid,
    /// The reference lives in it, and then the message.
    env: OwnedEnv,
    reference: Option<SavedTerm>,
}

impl Reply {
    pub(crate) fn new(to: LocalPid, reference: Term) -> Reply {
        let env = OwnedEnv::new();
        let reference = Some(env.save(reference));
        Reply { to, env, reference }
    }

    /// Sends a result. A value that becomes a handle does so here, so that nobody else has it.
    pub(crate) fn send<T: Sendable>(mut self, result: Result<T, Failure>) {
        self.send_term(|env| match result {
            Ok(value) => (ok(), value.into_term(env)).encode(env),
            Err(failure) => (error(), failure).encode(env),
        });
    }

    /// Sends the answer of a function, if its JSON is no longer than so many bytes: bytes as they are, a value to be built.
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
        // Whoever is dead is sent nothing.
        let _ = self
            .env
            .send_and_clear(&self.to, |env| (reference.load(env), result(env)));
        self.reference = None;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // What was to send something has panicked.
        self.send_term(|env| {
            let failure = Failure::new(
                Kind::Internal,
                "a thread of the bridge panicked; this is a bug of the bridge",
            );
            (error(), failure).encode(env)
        });
    }
}

/// What is sent as a result.
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
