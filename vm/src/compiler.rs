//! Compiling for guests: off the workers, and only so much at a time.

use async_lock::Semaphore;
use std::sync::Arc;

/// So many compilations that guests asked for run at the same time; the others wait for their turn.
const AT_ONCE: usize = 2;

/// The turns of those who compile.
pub(crate) struct Compiler(Arc<Semaphore>);

impl Compiler {
    pub(crate) fn new() -> Compiler {
        Compiler(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Does the work on a thread for what blocks.
    ///
    /// Work that has begun goes to its end and keeps its turn until then, also where nobody waits for it any more: a process
    /// that is killed and begun again does not get more than its turn.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = self.0.acquire_arc().await;
        blocking::unblock(move || {
            let _turn = turn;
            work()
        })
        .await
    }
}
