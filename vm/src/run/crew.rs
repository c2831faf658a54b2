//! The instances that serve one queue: how many there are, and when there should be another.

use crate::machine::Process;
use futures_lite::FutureExt;
use lunatic_process::Exit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the instances that serve one queue. It neither creates instances nor knows their work.
#[derive(Debug)]
pub struct Crew {
    /// The maximum number of live instances.
    limit: usize,
    alive: Mutex<usize>,
    /// The number of instances that wait for work, or are about to.
    idle: AtomicUsize,
}

/// An instance from its creation to its end.
#[derive(Clone, Debug)]
pub struct Member {
    crew: Arc<Crew>,
    has_started: Arc<AtomicBool>,
}

/// Counts an instance as idle until it is dropped.
#[derive(Debug)]
pub struct Idle(Arc<Crew>);

impl Crew {
    /// Creates a crew of at most `limit` instances, without any yet.
    pub fn new(limit: usize) -> Arc<Crew> {
        Arc::new(Crew {
            limit,
            alive: Mutex::default(),
            idle: AtomicUsize::new(0),
        })
    }

    /// Counts one more instance, if more jobs are waiting than instances and the limit allows
    /// another. It counts as idle from now on.
    pub fn admit(self: &Arc<Crew>, waiting: usize) -> Option<Member> {
        let mut alive = self.alive();
        if waiting <= self.idle.load(Ordering::SeqCst) || *alive >= self.limit {
            return None;
        }
        *alive += 1;
        self.idle.fetch_add(1, Ordering::SeqCst);
        Some(Member {
            crew: self.clone(),
            has_started: Arc::default(),
        })
    }

    fn alive(&self) -> MutexGuard<'_, usize> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Records that the instance has started. It waits for work until the guard is dropped.
    pub fn start(&self) -> Idle {
        self.has_started.store(true, Ordering::SeqCst);
        // `admit` has already counted it as idle.
        Idle(self.crew.clone())
    }

    /// Records that the instance waits for more work, until the guard is dropped.
    pub fn idle(&self) -> Idle {
        self.crew.idle.fetch_add(1, Ordering::SeqCst);
        Idle(self.crew.clone())
    }

    /// Waits for the end of the instance. If it has not started when `late` completes, it is
    /// killed: it would keep a core busy and its callers waiting.
    ///
    /// # Errors
    ///
    /// Returns why an instance that never started did not: how it ended, or `None` if it was late.
    pub async fn ended(
        &self,
        instance: &Process,
        late: impl Future<Output = ()>,
    ) -> Result<(), Option<Exit>> {
        let has_ended = async { Some(instance.exited().await) };
        let is_late = async {
            late.await;
            None
        };
        let exit = has_ended.or(is_late).await;
        if exit.is_none() && !self.has_started() {
            instance.kill();
        }
        instance.exited().await;
        if self.has_started() {
            Ok(())
        } else {
            Err(exit)
        }
    }

    /// Records that the instance is gone. Returns true if it never started and there is no other,
    /// so that nothing will serve the jobs that wait.
    pub fn left(&self) -> bool {
        let mut alive = self.crew.alive();
        *alive -= 1;
        let is_last = *alive == 0;
        if !self.has_started() {
            self.crew.idle.fetch_sub(1, Ordering::SeqCst);
        }
        is_last && !self.has_started()
    }

    fn has_started(&self) -> bool {
        self.has_started.load(Ordering::SeqCst)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::SeqCst);
    }
}
