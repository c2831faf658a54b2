//! Instances that serve one request after another.
//!
//! They take requests from a shared queue. A new instance is created when requests are waiting and
//! the limit allows another; one that traps, reaches a limit or is abandoned in the middle of a
//! request is gone, and is replaced if requests are waiting. Instances end when their version is
//! gone and the queue is empty.

use super::grants::Grants;
use super::instance::Instance;
use super::instances::Shared;
use super::job::{Job, failure_of};
use super::spawn::spawn;
use crate::runtime;
use crate::{Failure, Version};
use async_channel::Receiver;
use lunatic_vm::{Component, Exit, LiveComponent};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::time::timeout;

/// Creates instances while they are needed and allowed. They do not depend on the request that
/// needs them: its client may give up.
pub(super) fn recruit(version: &Arc<Version>, component: &Component, shared: &Arc<Shared>) {
    while shared.admit() {
        match runtime::handle() {
            Ok(threads) => drop(threads.spawn(supervise(
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

/// Creates an instance, waits for it to end, and creates another if requests are waiting by then.
///
/// An instance that does not start in time is killed: it would keep a core busy and requests
/// waiting.
fn supervise(
    version: Arc<Version>,
    component: Component,
    shared: Arc<Shared>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let has_begun = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            grants: Grants::of(&version),
            queue: shared.queue.clone(),
            idle: shared.idle.clone(),
            has_begun: has_begun.clone(),
        };
        let spawned = spawn(&version, &component, |live| Box::pin(worker.serve(live))).await;
        // An idle instance must not keep its version alive.
        let version = {
            let weak = Arc::downgrade(&version);
            drop(version);
            weak
        };
        let instance = match spawned {
            Ok(instance) => instance,
            Err(failure) => return shared.left(Some(failure)),
        };
        let start_time = shared.start_time;
        let never_began = match timeout(start_time, instance.exited()).await {
            Ok(_) if has_begun.load(Ordering::SeqCst) => None,
            Ok(exit) => Some(failure_of(exit, start_time)),
            Err(_) if has_begun.load(Ordering::SeqCst) => {
                instance.exited().await;
                None
            }
            Err(_) => {
                instance.kill();
                instance.exited().await;
                Some(Failure::Deadline(start_time))
            }
        };
        shared.left(never_began);
        if let Some(version) = version.upgrade() {
            recruit(&version, &component, &shared);
        }
    })
}

/// What one instance does over its lifetime.
struct Worker {
    grants: Grants,
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

impl Worker {
    async fn serve(self, live: &mut LiveComponent) -> Exit {
        let mut instance = match Instance::begin(live, self.grants) {
            Ok(instance) => instance,
            Err(exit) => return exit,
        };
        self.has_begun.store(true, Ordering::SeqCst);
        // `admit` has already counted it as idle.
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
