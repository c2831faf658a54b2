//! A version's pooled instances: a queue of requests and a count of the instances.
//!
//! This file does not spawn instances; see `pool`.

use super::job::{Job, Reply};
use crate::Failure;
use async_channel::{Receiver, Sender};
use lunatic_vm::{Crew, Member};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The number of instances under [`Policy::Single`](crate::Policy::Single).
pub(super) const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// A version's instances that outlive a single request, if the version's policy keeps any.
#[derive(Default)]
pub(crate) struct Instances {
    pool: OnceLock<Pool>,
    /// Set once the code for the version's processes has been compiled.
    is_compiled: AtomicBool,
}

/// A version's instances and their queue.
pub(super) struct Pool {
    /// The only sender. When it is dropped, the instances have nothing left to wait for.
    jobs: Sender<Job>,
    pub(super) shared: Arc<Shared>,
}

/// What a pool's instances share. Does not keep the pool open.
pub(super) struct Shared {
    pub(super) queue: Receiver<Job>,
    pub(super) crew: Arc<Crew>,
    /// How long an instance may take to start before it is killed.
    pub(super) start_time: Duration,
}

impl Instances {
    pub(super) fn is_compiled(&self) -> bool {
        self.is_compiled.load(Ordering::SeqCst)
    }

    pub(super) fn set_compiled(&self) {
        self.is_compiled.store(true, Ordering::SeqCst);
    }

    /// Returns the pool, creating it on the first call, with at most `limit` instances and
    /// `waiting` queued requests.
    pub(super) fn pool(
        &self,
        limit: NonZeroUsize,
        waiting: NonZeroUsize,
        start_time: Duration,
    ) -> &Pool {
        self.pool.get_or_init(|| {
            let (jobs, queue) = async_channel::bounded(waiting.get());
            let shared = Arc::new(Shared {
                queue,
                crew: Crew::new(limit.get()),
                start_time,
            });
            Pool { jobs, shared }
        })
    }
}

impl Pool {
    /// Queues a request for one of the instances.
    ///
    /// # Errors
    ///
    /// Fails if too many requests are already waiting.
    pub(super) fn queue(&self, job: Job) -> Result<(), Failure> {
        self.jobs.try_send(job).map_err(|_| {
            let waiting = self.shared.queue.len();
            Failure::Overload(format!(
                "the maximum number of requests ({waiting}) is already waiting for an instance"
            ))
        })
    }
}

impl Shared {
    /// Records that an instance has ended. If it never started and there are no other instances,
    /// the waiting requests fail with `failure`.
    pub(super) fn left(&self, member: &Member, failure: &Failure) {
        if member.left() {
            while let Ok(job) = self.queue.try_recv() {
                // An error means that the client has given up.
                let _ = job.reply.send(Reply::Failed(failure.clone()));
            }
        }
    }
}
