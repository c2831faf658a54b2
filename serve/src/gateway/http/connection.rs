//! State shared by the parts of a connection: its requests, and when to check it next.

use super::exchange::{Exchange, NextCheck};
use crate::HttpLimits;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many more requests a client may abandon than it has waited for.
const ABANDONED: u64 = 256;

/// How long an HTTP/1 client that has closed its sending side may wait for the first part of its
/// response. Until that part is sent, the client looks the same as a disconnected client, whose
/// request need not be answered. A disconnected client refuses the first part, so writing more
/// fails.
const HALF_CLOSED_TIME: Duration = Duration::from_secs(5);

/// State shared by the parts of a connection.
pub(super) struct Connection {
    pub(super) client: SocketAddr,
    pub(super) is_secure: bool,
    pub(super) opened: Instant,
    /// When to check the connection next, in milliseconds since it was opened. Never later than the
    /// earliest deadline.
    pub(super) due: AtomicU64,
    /// Set when a request's head did not arrive in time.
    pub(super) is_late: AtomicBool,
    /// Set when hyper has been given all of an HTTP/1 client's requests, and no more will follow.
    have_requests_ended: AtomicBool,
    state: Mutex<State>,
}

struct State {
    exchanges: Vec<Arc<Exchange>>,
    /// When the last request ended.
    quiet_since: Instant,
    /// When the head that is currently incomplete began to arrive.
    head_since: Option<Instant>,
    /// When the client closed its sending side, if it has received nothing since then.
    half_closed_since: Option<Instant>,
    /// Set when a request was answered before its body had been read.
    is_unread: bool,
    /// How many requests were answered and how many the client abandoned.
    answered: u64,
    abandoned: u64,
}

/// What to do with a connection.
pub(super) enum Action {
    CheckAt(Instant),
    /// Tell the client that its request's head took too long.
    Timeout,
    /// Let the connection finish because it has been idle for too long.
    Finish,
    Cut,
}

/// A connection's HTTP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Connection {
    pub(super) fn new(client: SocketAddr, is_secure: bool) -> Connection {
        let now = Instant::now();
        let state = State {
            exchanges: Vec::new(),
            quiet_since: now,
            head_since: None,
            half_closed_since: None,
            is_unread: false,
            answered: 0,
            abandoned: 0,
        };
        Connection {
            client,
            is_secure,
            opened: now,
            due: AtomicU64::new(0),
            is_late: AtomicBool::new(false),
            have_requests_ended: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Records that a request began.
    pub(super) fn began(&self, exchange: &Arc<Exchange>, first_check: Instant) {
        self.state().exchanges.push(exchange.clone());
        self.check_by(first_check);
    }

    /// Records that a request ended.
    pub(super) fn ended(&self, exchange: &Arc<Exchange>, now: Instant, is_answered: bool) {
        let mut state = self.state();
        if let Some(index) = state
            .exchanges
            .iter()
            .position(|one| Arc::ptr_eq(one, exchange))
        {
            state.exchanges.swap_remove(index);
        }
        state.quiet_since = now;
        state.is_unread |= exchange.is_unread();
        if is_answered {
            state.answered += 1;
        } else {
            state.abandoned += 1;
        }
        if state.is_abusive() {
            self.check_now();
        }
    }

    /// Records whether a head has begun and is still incomplete.
    pub(super) fn reads_head(&self, is_in_head: bool) {
        let mut state = self.state();
        match (state.head_since, is_in_head) {
            (Some(_), false) => state.head_since = None,
            (None, true) => {
                state.head_since = Some(Instant::now());
                // `check` works out how long the head may take.
                self.check_now();
            }
            _ => {}
        }
    }

    /// Records that the client has just closed its sending side.
    pub(super) fn half_closed(&self) {
        let now = Instant::now();
        self.state().half_closed_since = Some(now);
        self.check_by(now + HALF_CLOSED_TIME);
    }

    /// Records that a part of the response was sent after the client closed its sending side. Once
    /// that has happened, only the response's own deadline applies.
    pub(super) fn sent_after_half_close(&self) {
        self.state().half_closed_since = None;
    }

    /// Returns whether a request's head took too long to arrive.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::SeqCst)
    }

    /// Records that hyper wants to read another request, but that none will follow.
    pub(super) fn requests_ended(&self) {
        self.have_requests_ended.store(true, Ordering::SeqCst);
    }

    /// Returns whether no request will follow and none is being answered. Part of the last response
    /// may still have to be sent.
    pub(super) fn is_over(&self) -> bool {
        self.have_requests_ended.load(Ordering::SeqCst) && self.state().exchanges.is_empty()
    }

    /// Returns whether a request was answered before its body had been read.
    pub(super) fn is_unread(&self) -> bool {
        self.state().is_unread
    }

    /// Schedules the connection's next check for the given time or earlier.
    pub(super) fn check_by(&self, at: Instant) {
        self.due.fetch_min(self.millis(at), Ordering::SeqCst);
    }

    fn check_now(&self) {
        self.due.store(0, Ordering::SeqCst);
    }

    /// Converts a time to milliseconds, rounding up so that nothing is checked before it is due.
    fn millis(&self, at: Instant) -> u64 {
        let nanos = at.duration_since(self.opened).as_nanos();
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// Decides what to do with the connection, and fails the requests that have run out of time.
    pub(super) fn check(&self, now: Instant, limits: &HttpLimits, version: Version) -> Action {
        let state = self.state();
        if state.is_abusive() {
            log::debug!(
                "{} abandons too many of its requests before they are answered",
                self.client
            );
            return Action::Cut;
        }
        if state.exchanges.is_empty() {
            let (end, action) = match state.head_since {
                Some(since) => (since + limits.head_time, Action::Timeout),
                None => (state.quiet_since + limits.idle, Action::Finish),
            };
            return if now >= end {
                action
            } else {
                Action::CheckAt(end)
            };
        }
        let mut next = now + limits.idle;
        if let Some(since) = state.half_closed_since {
            let end = since + HALF_CLOSED_TIME;
            if now >= end {
                return Action::Cut;
            }
            next = next.min(end);
        }
        let exchanges = state.exchanges.clone();
        drop(state);
        for exchange in exchanges {
            match exchange.check(now, limits.head_time) {
                NextCheck::At(at) => next = next.min(at),
                // In HTTP/1, a response that the client does not read blocks all later ones.
                NextCheck::Stuck if version == Version::One => return Action::Cut,
                NextCheck::Stuck => self.ended(&exchange, now, false),
            }
        }
        Action::CheckAt(next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether the client abandons too many of its requests.
    fn is_abusive(&self) -> bool {
        self.abandoned > ABANDONED + self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_info::RequestInfo;

    #[test]
    fn a_half_closed_client_waits_as_long_as_others_once_its_answer_has_begun() {
        const DEADLINE: Duration = Duration::from_secs(600);
        let client = "127.0.0.1:1".parse().expect("the address is valid");
        let connection = Connection::new(client, false);
        let is_cut = |seconds| {
            let at = connection.opened + Duration::from_secs(seconds);
            matches!(
                connection.check(at, &HttpLimits::default(), Version::One),
                Action::Cut
            )
        };
        let info = Arc::new(RequestInfo::new(Some(client), false));
        let exchange = Arc::new(Exchange::new(info, connection.opened, DEADLINE, false));
        connection.began(&exchange, connection.opened);
        assert!(!is_cut(120), "only the deadline applies");
        connection.half_closed();
        assert!(
            !is_cut(4) && is_cut(120),
            "the client may have disconnected"
        );
        connection.sent_after_half_close();
        assert!(!is_cut(120), "only the deadline applies");
    }

    #[test]
    fn a_connection_is_over_when_the_last_request_has_ended() {
        let client = "127.0.0.1:1".parse().expect("the address is valid");
        let connection = Connection::new(client, false);
        let begin = || {
            let info = Arc::new(RequestInfo::new(Some(client), false));
            let deadline = Duration::from_secs(1);
            let exchange = Arc::new(Exchange::new(info, connection.opened, deadline, false));
            connection.began(&exchange, connection.opened);
            exchange
        };
        let exchange = begin();
        connection.ended(&exchange, connection.opened, true);
        assert!(!connection.is_over(), "another request may follow");
        let exchange = begin();
        connection.requests_ended();
        assert!(!connection.is_over(), "a request is being answered");
        connection.ended(&exchange, connection.opened, true);
        assert!(connection.is_over());
    }
}
