//! How many requests are inside at the same time, and a short queue before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a request waits for its turn at most. Whoever waits longer than a moment is better told to come back: a long
/// queue makes everybody's answer late, and those who gave up are served too.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lets so many in at a time, and as many wait. Clones are the same turnstile.
///
/// The limit is told by who enters, since settings change while requests run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turnstile(Arc<Inside>);

#[derive(Debug, Default)]
struct Inside {
    count: AtomicUsize,
    waiting: AtomicUsize,
    /// Somebody left, or gave up waiting after he was told so.
    left: Notify,
}

/// A place inside. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Inside>);

impl Turnstile {
    /// Enters if there is room and nobody waits.
    pub(crate) fn try_enter(&self, limit: usize) -> Option<Pass> {
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            None
        } else {
            self.pass(limit)
        }
    }

    /// Enters, after a wait where there is no room; `None` where too many wait already, or the wait was too long.
    pub(crate) async fn enter(&self, limit: usize) -> Option<Pass> {
        if let Some(pass) = self.try_enter(limit) {
            return Some(pass);
        }
        let _waiting = Waiting::begin(&self.0, limit)?;
        let entered = async {
            loop {
                // Begun before the look, so that no leaving between the two is missed.
                let left = self.0.left.notified();
                if let Some(pass) = self.pass(limit) {
                    return pass;
                }
                left.await;
            }
        };
        tokio::time::timeout(PATIENCE, entered).await.ok()
    }

    fn pass(&self, limit: usize) -> Option<Pass> {
        let more = |count: usize| (count < limit).then_some(count + 1);
        self.0
            .count
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        Some(Pass(self.0.clone()))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        // Who begins to wait after this look sees the room itself.
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.left.notify_one();
        }
    }
}

/// One of those who wait.
struct Waiting<'a>(&'a Inside);

impl Waiting<'_> {
    fn begin(inside: &Inside, most: usize) -> Option<Waiting<'_>> {
        let more = |waiting: usize| (waiting < most).then_some(waiting + 1);
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
            .expect("a runtime");
        runtime.block_on(future)
    }

    #[test]
    fn t139_those_who_wait_are_as_many_as_those_inside_and_no_more() {
        in_runtime(async {
            let turnstile = Turnstile::default();
            let first = turnstile.enter(1).await.expect("it is empty");
            let mut second = pin!(turnstile.enter(1));
            assert!(poll_once(&mut second).await.is_none(), "it waits");
            assert!(turnstile.enter(1).await.is_none(), "there is one who waits");
            drop(first);
            assert!(second.await.is_some());
            assert_eq!(turnstile.0.count.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn who_gives_up_waiting_leaves_the_turn_to_the_next() {
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
    fn a_limit_that_shrinks_holds_for_who_comes_then() {
        let turnstile = Turnstile::default();
        let passes: Vec<_> = (0..3)
            .map(|_| block_on(turnstile.enter(3)).expect("there is room"))
            .collect();
        assert!(turnstile.try_enter(2).is_none());
        drop(passes);
        assert!(turnstile.try_enter(2).is_some());
    }
}
