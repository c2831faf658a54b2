//! Counts the instances that serve a queue, and decides when to create another.

use crate::machine::Process;
use futures_lite::FutureExt;
use lunatic_process::Exit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the instances that serve a queue. A crew does not create instances and does not depend on
/// what they do.
#[derive(Debug)]
pub struct Crew {
    /// The maximum number of live instances.
    limit: usize,
    alive: Mutex<usize>,
    /// The number of instances that are waiting for work or about to wait.
    idle: AtomicUsize,
}

/// An instance in a crew, from its creation to its end.
#[derive(Clone, Debug)]
pub struct Member {
    crew: Arc<Crew>,
    has_started: Arc<AtomicBool>,
}

/// Counts an instance as idle until this guard is dropped.
#[derive(Debug)]
pub struct Idle(Arc<Crew>);

impl Crew {
    /// Creates an empty crew of at most `limit` instances.
    pub fn new(limit: usize) -> Arc<Crew> {
        Arc::new(Crew {
            limit,
            alive: Mutex::default(),
            idle: AtomicUsize::new(0),
        })
    }

    /// Admits another instance if there are more waiting jobs than idle instances and the limit
    /// allows it. The new instance is then counted as idle.
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

    /// Returns whether the limit allows no more instances.
    pub fn is_full(&self) -> bool {
        *self.alive() >= self.limit
    }

    fn alive(&self) -> MutexGuard<'_, usize> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Records that the instance has started. It is counted as idle until the guard is dropped.
    pub fn start(&self) -> Idle {
        self.has_started.store(true, Ordering::SeqCst);
        // `admit` has already counted the instance as idle.
        Idle(self.crew.clone())
    }

    /// Counts the instance as idle until the guard is dropped.
    pub fn idle(&self) -> Idle {
        self.crew.idle.fetch_add(1, Ordering::SeqCst);
        Idle(self.crew.clone())
    }

    /// Waits for the instance to end. If it has not started when `late` completes, it is killed,
    /// because it would keep a core busy and its callers waiting.
    ///
    /// # Errors
    ///
    /// Fails if the instance never started. The error says how the instance ended; `None` means
    /// that it was late.
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

    /// Records that the instance has ended. Returns true if it never started and there are no other
    /// instances, in which case nothing will serve the waiting jobs.
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
