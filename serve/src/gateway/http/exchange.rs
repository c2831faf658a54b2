//! A request in progress and its response: how long they may take and how they fail.

use crate::Failure;
use crate::body::{Body, BodyError};
use crate::request_info::RequestInfo;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long it may take to send the response to a failure.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// A request that is being answered.
pub(super) struct Exchange {
    pub(super) info: Arc<RequestInfo>,
    pub(super) began: Instant,
    deadline: Duration,
    has_body: bool,
    state: Mutex<State>,
}

struct State {
    /// When the exchange runs out of time.
    end: Instant,
    /// Why the exchange failed, if it did. The first failure is kept.
    failure: Option<Failure>,
    /// The rest of the response, once it has begun.
    response: Option<Body>,
    /// The part of the request's body that has not been read.
    rest: Rest,
    /// When the function started waiting for the request's body, if it is waiting.
    waits_since: Option<Instant>,
    /// The task to wake on a failure.
    waker: Option<Waker>,
}

/// The part of a request's body that has not been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// There was no body, or all of it has been read.
    Nothing,
    /// The backend may still read it.
    Wanted,
    /// The backend has not taken the body, or has dropped it.
    Unwanted,
}

/// When to check an exchange again.
pub(super) enum NextCheck {
    At(Instant),
    /// The exchange failed some time ago, and the client has not read the response.
    Stuck,
}

impl Exchange {
    pub(super) fn new(
        info: Arc<RequestInfo>,
        began: Instant,
        deadline: Duration,
        has_body: bool,
    ) -> Exchange {
        let state = State {
            end: began + deadline,
            failure: None,
            response: None,
            rest: if has_body {
                Rest::Unwanted
            } else {
                Rest::Nothing
            },
            waits_since: None,
            waker: None,
        };
        Exchange {
            info,
            began,
            deadline,
            has_body,
            state: Mutex::new(state),
        }
    }

    /// Fails the exchange, unless it has already failed. Drops the function's future or the
    /// response's body.
    pub(super) fn fail(&self, failure: Failure) {
        let mut state = self.state();
        if state.failure.is_some() {
            return;
        }
        state.failure = Some(failure);
        let (response, waker) = (state.response.take(), state.waker.take());
        drop(state);
        drop(response);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns why the exchange failed, if it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    /// Fails the exchange if its deadline has passed or the client has been silent for `body_time`.
    /// Returns when to check again.
    pub(super) fn check(&self, now: Instant, body_time: Duration) -> NextCheck {
        let state = self.state();
        if state.failure.is_some() {
            return NextCheck::Stuck;
        }
        let (end, waits_since) = (state.end, state.waits_since);
        drop(state);
        if waits_since.is_some_and(|since| now.duration_since(since) >= body_time) {
            self.fail(Failure::Slow(body_time));
        } else if now >= end {
            self.fail(Failure::Deadline(self.deadline));
        } else {
            return NextCheck::At(self.next_check(now, end, body_time));
        }
        NextCheck::At(now + GRACE_PERIOD)
    }

    /// Returns when to check the exchange for the first time.
    pub(super) fn first_check(&self, body_time: Duration) -> Instant {
        self.next_check(self.began, self.began + self.deadline, body_time)
    }

    /// Returns when to check next. A missing body is noticed at most a quarter of `body_time` late.
    fn next_check(&self, now: Instant, end: Instant, body_time: Duration) -> Instant {
        if self.has_body {
            end.min(now + body_time / 4)
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
        if is_whole {
            state.rest = Rest::Nothing;
        }
    }

    /// Records that the backend gets the request's body.
    pub(super) fn body_taken(&self) {
        self.state().rest = Rest::Wanted;
    }

    /// Records that the backend no longer reads the request's body. The exchange must not wait for
    /// it any longer.
    pub(super) fn body_dropped(&self) {
        let mut state = self.state();
        state.waits_since = None;
        if state.rest == Rest::Wanted {
            state.rest = Rest::Unwanted;
        }
    }

    /// Returns whether part of the request's body was left unread.
    pub(super) fn is_unread(&self) -> bool {
        self.state().rest != Rest::Nothing
    }

    /// Returns whether part of the request's body was left unread and will not be read.
    pub(super) fn is_rest_unwanted(&self) -> bool {
        self.state().rest == Rest::Unwanted
    }

    pub(super) fn poll_failure(&self, cx: &Context<'_>) -> Poll<Failure> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Poll::Ready(failure.clone());
        }
        state.set_waker(cx);
        Poll::Pending
    }

    /// Sends a response. If time runs out, the rest of it is dropped.
    pub(super) fn send(&self, body: Body) {
        let mut state = self.state();
        // The response to a failure is still sent, and gets a short grace period.
        if state.failure.take().is_some() {
            state.end = Instant::now() + GRACE_PERIOD;
        }
        state.response = Some(body);
    }

    /// Reads more of the response.
    pub(super) fn poll_response(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state();
        // The response is read without holding the lock, because reading it may read the request's
        // body, which may fail this exchange.
        let Some(mut response) = state.response.take() else {
            return Poll::Ready(state.failure.clone().map(|failure| Err(failure.into())));
        };
        drop(state);
        let polled = Pin::new(&mut response).poll_frame(cx);
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Poll::Ready(Some(Err(failure.clone().into())));
        }
        match &polled {
            Poll::Pending => state.set_waker(cx),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return polled,
        }
        state.response = Some(response);
        polled
    }

    pub(super) fn is_response_over(&self) -> bool {
        let state = self.state();
        state.failure.is_none()
            && state
                .response
                .as_ref()
                .is_none_or(|response| response.is_end_stream())
    }

    pub(super) fn response_size(&self) -> SizeHint {
        self.state()
            .response
            .as_ref()
            .map_or_else(SizeHint::default, |response| response.size_hint())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_waker(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
    }
}
