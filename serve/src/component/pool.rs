//! Instances that serve one request after the other.
//!
//! They take requests from a queue that they share. One is made where requests wait and there may be more instances; one that
//! traps, meets a limit or is given up in the middle is gone, and followed by another where requests wait. They end when the
//! version that they are instances of is gone and the queue is empty.

use super::exchange::{Job, Reply, Waiting, failure_of};
use super::instance::{Instance, Means};
use super::spawn;
use crate::gateway::http::Body;
use crate::{Failure, Version, background};
use async_channel::{Receiver, Sender, TrySendError};
use lunatic_vm::{Component, Exit, LiveComponent};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How many instances [`Policy::Single`](crate::Policy::Single) is.
pub(super) const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// The instances of a version that outlive a request, where its policy has some.
#[derive(Default)]
pub(crate) struct Instances {
    pool: OnceLock<Pool>,
    /// Set when the code is there that its processes run.
    is_compiled: AtomicBool,
}

struct Pool {
    /// The only sender: without it the instances have nothing to wait for.
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Receiver<Job>,
    /// Instances that wait for a request, or are about to.
    idle: Arc<AtomicUsize>,
    /// Instances alive.
    alive: Mutex<usize>,
    /// At most so many of them.
    most: usize,
    /// Each is killed that has not begun after so long.
    patience: Duration,
}

impl Instances {
    pub(super) fn is_compiled(&self) -> bool {
        self.is_compiled.load(Ordering::SeqCst)
    }

    pub(super) fn compiled(&self) {
        self.is_compiled.store(true, Ordering::SeqCst);
    }

    /// Has one of the instances answer a request.
    pub(super) async fn answer(
        &self,
        version: &Arc<Version>,
        component: &Component,
        most: NonZeroUsize,
        job: Job,
        waiting: Waiting,
    ) -> Result<http::Response<Body>, Failure> {
        let pool = self.pool.get_or_init(|| Pool::new(version, most));
        pool.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Closed(_) => Failure::Overload(format!(
                "{} requests wait for an instance",
                pool.queue_size()
            )),
        })?;
        recruit(version, component, &pool.shared);
        waiting.answer().await
    }
}

impl Pool {
    fn new(version: &Version, most: NonZeroUsize) -> Pool {
        let settings = version.settings();
        let (jobs, queue) = async_channel::bounded(settings.requests.get());
        let (idle, alive) = (Arc::default(), Mutex::default());
        let shared = Arc::new(Shared {
            queue,
            idle,
            alive,
            most: most.get(),
            patience: settings.deadline,
        });
        Pool { jobs, shared }
    }

    fn queue_size(&self) -> usize {
        self.shared.queue.len()
    }
}

impl Shared {
    fn alive(&self) -> MutexGuard<'_, usize> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more instance, where more requests wait than instances do and there may be more of them.
    fn admit(&self) -> bool {
        let mut alive = self.alive();
        if self.queue.len() <= self.idle.load(Ordering::SeqCst) || *alive >= self.most {
            return false;
        }
        *alive += 1;
        self.idle.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Counts an instance out. Where it never began and there is no other, those who wait are told why.
    fn left(&self, never_began: Option<Failure>) {
        let is_last = {
            let mut alive = self.alive();
            *alive -= 1;
            *alive == 0
        };
        let Some(failure) = never_began else { return };
        self.idle.fetch_sub(1, Ordering::SeqCst);
        if is_last {
            while let Ok(job) = self.queue.try_recv() {
                // Who has given up does not want to know.
                let _ = job.reply.send(Reply::Failed(failure.clone()));
            }
        }
    }
}

/// Has instances made as long as they are needed and may be. Nobody who waits for an answer makes them: he can stop waiting.
fn recruit(version: &Arc<Version>, component: &Component, shared: &Arc<Shared>) {
    while shared.admit() {
        match background::handle() {
            Ok(threads) => drop(threads.spawn(look_after(
                version.clone(),
                component.clone(),
                shared.clone(),
            ))),
            Err(error) => {
                return shared.left(Some(Failure::Overload(format!(
                    "the system has no room for threads: {error}"
                ))));
            }
        }
    }
}

/// Makes an instance, waits for its end, and has another made where requests wait then.
///
/// An instance that never begins would keep those waiting who want to be served, and a core busy.
fn look_after(
    version: Arc<Version>,
    component: Component,
    shared: Arc<Shared>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let has_begun = Arc::new(AtomicBool::new(false));
        let server = Server {
            means: Means::of(&version),
            queue: shared.queue.clone(),
            idle: shared.idle.clone(),
            has_begun: has_begun.clone(),
        };
        let spawned = spawn(&version, &component, |live| Box::pin(server.serve(live))).await;
        // It is not to stay because of an instance that waits.
        let version = {
            let weak = Arc::downgrade(&version);
            drop(version);
            weak
        };
        let instance = match spawned {
            Ok(instance) => instance,
            Err(failure) => return shared.left(Some(failure)),
        };
        let patience = shared.patience;
        let never_began = match timeout(patience, instance.exited()).await {
            Ok(_) if has_begun.load(Ordering::SeqCst) => None,
            Ok(exit) => Some(failure_of(exit, patience)),
            Err(_) if has_begun.load(Ordering::SeqCst) => {
                instance.exited().await;
                None
            }
            Err(_) => {
                instance.kill();
                instance.exited().await;
                Some(Failure::Deadline(patience))
            }
        };
        shared.left(never_began);
        if let Some(version) = version.upgrade() {
            recruit(&version, &component, &shared);
        }
    })
}

/// What one instance does from its beginning to its end.
struct Server {
    means: Means,
    queue: Receiver<Job>,
    idle: Arc<AtomicUsize>,
    has_begun: Arc<AtomicBool>,
}

/// Counts an instance as idle until it is dropped.
struct Idle(Arc<AtomicUsize>);

impl Idle {
    fn new(idle: &Arc<AtomicUsize>) -> Idle {
        idle.fetch_add(1, Ordering::SeqCst);
        Idle(idle.clone())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    async fn serve(self, live: &mut LiveComponent) -> Exit {
        let mut instance = match Instance::begin(live, self.means) {
            Ok(instance) => instance,
            Err(exit) => return exit,
        };
        self.has_begun.store(true, Ordering::SeqCst);
        // Who made it has counted it as idle already.
        let mut idle = Idle(self.idle.clone());
        loop {
            let received = self.queue.recv().await;
            drop(idle);
            let Ok(mut job) = received else {
                return Exit::Normal;
            };
            if job.is_wanted()
                && let Err(exit) = instance.serve(job).await
            {
                return exit;
            }
            idle = Idle::new(&self.idle);
        }
    }
}
