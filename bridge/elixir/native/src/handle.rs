//! Elixir's handle to a bridge or worker, with its limits.

use crate::failure::Failure;
use crate::options::Options;
use crate::tasks;
use lunatic_bridge::{Answer, Argument, Bridge, Worker};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The number of live handles.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of live handles.
pub(crate) fn alive() -> usize {
    ALIVE.load(Ordering::SeqCst)
}

/// The bridge or worker being called.
pub(crate) enum Callee {
    Bridge(Bridge),
    Worker(Worker),
}

/// A bridge or worker, kept alive while any term or call refers to it.
pub(crate) struct Handle {
    /// Taken only by `drop`.
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
        self.callee.as_ref().expect("only `drop` takes the callee")
    }

    /// Returns the maximum length of an argument, in bytes of JSON.
    pub(crate) fn most_argument(&self) -> usize {
        self.most_argument
    }

    /// Returns the maximum length of an answer, in bytes of JSON.
    pub(crate) fn most_answer(&self) -> usize {
        self.most_answer
    }

    /// Calls a function, with a time limit if one is given.
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

    /// Returns a worker's version. Blocks while a new version takes over.
    pub(crate) fn version(&self) -> Option<u64> {
        match self.callee() {
            Callee::Bridge(_) => None,
            Callee::Worker(worker) => Some(worker.version()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // This runs during garbage collection, which should not have to wait until instances,
        // watchers and compiled code have been freed.
        let callee = self.callee.take();
        tasks::unblock(move || {
            drop(callee);
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        });
    }
}
