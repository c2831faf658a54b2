//! Instances that serve one request after another.
//!
//! The instances take requests from a shared queue. If requests are waiting and the limit permits,
//! another instance is created. An instance ends if it traps, reaches a limit or is abandoned in
//! the middle of a request, and is then replaced if requests are waiting. All instances end once
//! their version has been dropped and the queue is empty.

use super::grants::Grants;
use super::instance::Instance;
use super::instances::Shared;
use super::job::{Job, failure_of};
use super::spawn::spawn;
use crate::runtime;
use crate::{Failure, Version};
use async_channel::Receiver;
use lunatic_vm::{Component, Exit, LiveComponent, Member};
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::sleep;

/// Creates instances for as long as they are needed and permitted. This does not depend on the
/// request that needs an instance, because its client may give up.
pub(super) fn recruit(version: &Arc<Version>, component: &Component, shared: &Arc<Shared>) {
    while let Some(member) = shared.crew.admit(shared.queue.len()) {
        match runtime::handle() {
            Ok(threads) => drop(threads.spawn(supervise(
                version.clone(),
                component.clone(),
                shared.clone(),
                member,
            ))),
            Err(error) => {
                let why = format!("the system cannot start a thread: {error}");
                return shared.left(&member, &Failure::Overload(why));
            }
        }
    }
}

/// Creates an instance, waits for it to end, and creates another one if requests are waiting.
fn supervise(
    version: Arc<Version>,
    component: Component,
    shared: Arc<Shared>,
    member: Member,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let worker = Worker {
            grants: Grants::of(&version),
            queue: shared.queue.clone(),
            member: member.clone(),
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
            Err(failure) => return shared.left(&member, &failure),
        };
        let start_time = shared.start_time;
        let failure = match member.ended(&instance, sleep(start_time)).await {
            Err(None) => Failure::Deadline(start_time),
            Err(Some(exit)) => failure_of(exit, start_time),
            // The instance did start, so no request fails with this error.
            Ok(()) => Failure::NoAnswer,
        };
        shared.left(&member, &failure);
        if let Some(version) = version.upgrade() {
            recruit(&version, &component, &shared);
        }
    })
}

/// What a single instance does over its lifetime.
struct Worker {
    grants: Grants,
    queue: Receiver<Job>,
    member: Member,
}

impl Worker {
    async fn serve(self, live: &mut LiveComponent) -> Exit {
        let mut instance = match Instance::begin(live, self.grants) {
            Ok(instance) => instance,
            Err(exit) => return exit,
        };
        let mut idle = self.member.start();
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
            idle = self.member.idle();
        }
    }
}
