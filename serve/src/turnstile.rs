//! Limits the number of concurrent requests, with a short queue for excess requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a request waits for its turn. A longer queue would make every response late and would
/// serve clients that have already given up. It is better to tell the client to retry.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Admits a limited number of requests at a time, and lets the same number of requests wait. Clones
/// refer to the same turnstile.
///
/// The limit is passed with each call, because settings can change while requests are running.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turnstile(Arc<Inside>);

#[derive(Debug, Default)]
struct Inside {
    count: AtomicUsize,
    waiting: AtomicUsize,
    /// Notified when a permit is dropped. A waiter that gives up after being notified passes the
    /// notification on.
    left: Notify,
}

/// The right to be served, released on drop.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Inside>);

impl Turnstile {
    /// Enters if there is room and nothing is waiting.
    pub(crate) fn try_enter(&self, limit: usize) -> Option<Permit> {
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            None
        } else {
            self.permit(limit)
        }
    }

    /// Enters, waiting if there is no room. Returns `None` if too many requests are already waiting
    /// or the wait takes too long.
    pub(crate) async fn enter(&self, limit: usize) -> Option<Permit> {
        if let Some(permit) = self.try_enter(limit) {
            return Some(permit);
        }
        let _waiting = Waiting::begin(&self.0, limit)?;
        let entered = async {
            loop {
                // The notification is created before the check, so that a permit dropped in between
                // is not missed.
                let left = self.0.left.notified();
                if let Some(permit) = self.permit(limit) {
                    return permit;
                }
                left.await;
            }
        };
        tokio::time::timeout(QUEUE_TIMEOUT, entered).await.ok()
    }

    fn permit(&self, limit: usize) -> Option<Permit> {
        let more = |count: usize| (count < limit).then_some(count + 1);
        self.0
            .count
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        Some(Permit(self.0.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        // A waiter that starts after this check will see the free slot on its own.
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.left.notify_one();
        }
    }
}

/// Counts as waiting until dropped.
struct Waiting<'a>(&'a Inside);

impl Waiting<'_> {
    fn begin(inside: &Inside, limit: usize) -> Option<Waiting<'_>> {
        let more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        inside
            .waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        Some(Waiting(inside))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    fn in_runtime<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime can be started");
        runtime.block_on(future)
    }

    #[test]
    fn t139_at_most_as_many_requests_wait_as_are_served() {
        in_runtime(async {
            let turnstile = Turnstile::default();
            let first = turnstile.enter(1).await.expect("the turnstile is empty");
            let mut second = pin!(turnstile.enter(1));
            assert!(
                poll_once(&mut second).await.is_none(),
                "the second request waits"
            );
            assert!(
                turnstile.enter(1).await.is_none(),
                "one request is already waiting"
            );
            drop(first);
            assert!(second.await.is_some());
            assert_eq!(turnstile.0.count.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_its_turn_to_the_next() {
        in_runtime(async {
            let turnstile = Turnstile::default();
            let (one, two) = (turnstile.enter(2).await, turnstile.enter(2).await);
            let mut gone = Box::pin(turnstile.enter(2));
            let mut next = pin!(turnstile.enter(2));
            assert!(poll_once(&mut gone).await.is_none() && poll_once(&mut next).await.is_none());
            drop(one);
            drop(gone);
            assert!(next.await.is_some());
            drop(two);
            assert_eq!(turnstile.0.count.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn a_limit_that_shrinks_applies_to_later_requests() {
        let turnstile = Turnstile::default();
        let permits: Vec<_> = (0..3)
            .map(|_| block_on(turnstile.enter(3)).expect("the limit is not reached"))
            .collect();
        assert!(turnstile.try_enter(2).is_none());
        drop(permits);
        assert!(turnstile.try_enter(2).is_some());
    }
}
