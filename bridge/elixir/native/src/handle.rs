//! What a bridge and a worker of Elixir are: a thing that can be called, and its limits.

use crate::failure::Failure;
use crate::options::Options;
use crate::tasks;
use lunatic_bridge::{Answer, Argument, Bridge, Worker};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many there are.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Returns how many handles there are.
pub(crate) fn alive() -> usize {
    ALIVE.load(Ordering::SeqCst)
}

/// What is called.
pub(crate) enum Callee {
    Bridge(Bridge),
    Worker(Worker),
}

impl From<Bridge> for Callee {
    fn from(bridge: Bridge) -> Callee {
        Callee::Bridge(bridge)
    }
}

impl From<Worker> for Callee {
    fn from(worker: Worker) -> Callee {
        Callee::Worker(worker)
    }
}

/// A bridge or a worker, for as long as a term or a call has it.
pub(crate) struct Handle {
    /// Always there until it is dropped.
    callee: Option<Callee>,
    most_argument: usize,
    most_answer: usize,
}

impl Handle {
    pub(crate) fn new(callee: Callee, options: &Options) -> Handle {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Handle {
            callee: Some(callee),
            most_argument: options.most_argument(),
            most_answer: options.most_answer(),
        }
    }

    fn callee(&self) -> &Callee {
        self.callee.as_ref().expect("it is taken by the end alone")
    }

    /// Returns how many bytes of JSON an argument may be.
    pub(crate) fn most_argument(&self) -> usize {
        self.most_argument
    }

    /// Returns how many bytes of JSON an answer may be.
    pub(crate) fn most_answer(&self) -> usize {
        self.most_answer
    }

    /// Calls a function, for so long at most.
    pub(crate) async fn invoke(
        &self,
        time: Option<Duration>,
        function: &str,
        argument: Argument,
    ) -> Result<Answer, Failure> {
        match (self.callee(), time) {
            (Callee::Bridge(bridge), None) => Ok(bridge.invoke_async(function, argument).await?),
            (Callee::Bridge(bridge), Some(time)) => {
                Ok(bridge.invoke_within(time, function, argument).await?)
            }
            (Callee::Worker(worker), None) => Ok(worker.invoke_async(function, argument).await?),
            (Callee::Worker(worker), Some(time)) => {
                Ok(worker.invoke_within(time, function, argument).await?)
            }
        }
    }

    /// Returns the version of a worker. Waits while one takes over from another.
    pub(crate) fn version(&self) -> Option<u64> {
        match self.callee() {
            Callee::Bridge(_) => None,
            Callee::Worker(worker) => Some(worker.version()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // This runs where the node collects garbage; ends of instances, watches and compiled code are none of its business.
        let callee = self.callee.take();
        tasks::unblock(move || {
            drop(callee);
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        });
    }
}
