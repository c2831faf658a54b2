//! Components that handle HTTP requests.
//!
//! A component exports `wasi:http/incoming-handler` and is given requests by it: an instance for each, or some instances one
//! request after the other, as the function's [`Policy`](crate::Policy) says. Its answer goes out when it has set the head,
//! while it works on; what it writes afterwards goes out as the client reads.

mod exchange;
mod instance;
mod interfaces;
mod lambda;
mod pool;

pub(crate) use pool::Instances;

use crate::gateway::http::Body;
use crate::ticket::Ticket;
use crate::{Failure, Policy, Version};
use exchange::{Job, Waiting};
use instance::{Instance, Means};
use lunatic_vm::{Component, Exit, Host, LiveComponent, Process};
use std::pin::Pin;
use std::sync::Arc;

/// Adds what components import.
pub(crate) fn add_to_host(host: &mut Host) {
    host.component("wasi:http", interfaces::link);
    host.component("rvm:lambda/host", lambda::link);
}

/// Whether a component exports what requests are given to.
pub(crate) fn handles_requests(component: &Component) -> bool {
    component
        .exports()
        .any(|export| export.starts_with("wasi:http/incoming-handler@0.2."))
}

/// Has a component answer a request.
pub(crate) async fn answer(
    version: &Arc<Version>,
    component: &Component,
    ticket: &Arc<Ticket>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Failure> {
    let (job, waiting) = exchange::begin(request, ticket, version.settings().deadline);
    match version.settings().policy {
        Policy::Fresh => {
            let means = Means::of(version);
            let process = spawn(version, component, |live| {
                Box::pin(serve_one(live, means, job))
            })
            .await?;
            waiting.on_its_own(process).answer().await
        }
        Policy::Pool(most) => {
            version
                .instances()
                .answer(version, component, most, job, waiting)
                .await
        }
        Policy::Single => {
            version
                .instances()
                .answer(version, component, pool::ONE, job, waiting)
                .await
        }
    }
}

/// What an instance does.
type Driven<'a> = Pin<Box<dyn Future<Output = Exit> + Send + 'a>>;

/// What an instance does that is for one request.
async fn serve_one(live: &mut LiveComponent, means: Means, job: Job) -> Exit {
    let served = match Instance::begin(live, means) {
        Ok(mut instance) => instance.serve(job).await,
        Err(exit) => Err(exit),
    };
    served.err().unwrap_or(Exit::Normal)
}

/// Spawns an instance.
///
/// The first of a version may have to be compiled before, which is done where others do not wait for it.
async fn spawn<F>(
    version: &Arc<Version>,
    component: &Component,
    drive: F,
) -> Result<Process, Failure>
where
    F: for<'a> FnOnce(&'a mut LiveComponent) -> Driven<'a> + Send + 'static,
{
    let instances = version.instances();
    let environment = version.environment().clone();
    let (component, name) = (component.clone(), version.name().clone());
    let spawn = move || environment.drive_component(&component, name.as_str(), drive);
    let spawned = if instances.is_compiled() {
        spawn()
    } else {
        let spawned = tokio::task::spawn_blocking(move || spawn().map(Unclaimed::new)).await;
        let spawned = spawned.map_err(|error| Failure::Unusable(error.to_string()))?;
        instances.compiled();
        spawned.map(Unclaimed::claim)
    };
    spawned.map_err(Failure::of_spawn)
}

/// A process that dies if nobody comes for it.
struct Unclaimed(Option<Process>);

impl Unclaimed {
    fn new(process: Process) -> Unclaimed {
        Unclaimed(Some(process))
    }

    fn process(&self) -> Option<&Process> {
        self.0.as_ref()
    }

    fn claim(mut self) -> Process {
        self.0.take().expect("it is claimed once")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}

impl Waiting {
    /// Waits for a process that serves nobody else, and is killed with the request.
    fn on_its_own(mut self, process: Process) -> Waiting {
        self.process = Some(Unclaimed::new(process));
        self
    }
}
