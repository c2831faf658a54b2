//! Compiling for guests: off the workers, and only so much at a time.

use async_lock::Semaphore;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

/// So many compilations that guests asked for run at the same time; the others wait for their turn.
const AT_ONCE: usize = 2;

/// The turns of those who compile.
pub(crate) struct Compiler(Arc<Semaphore>);

impl Compiler {
    pub(crate) fn new() -> Compiler {
        Compiler(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Does the work on a thread of its own, which ends with it: nobody wakes later to see whether there is more.
    ///
    /// Work that has begun goes to its end and keeps its turn until then, also where nobody waits for it any more: a process
    /// that is killed and begun again does not get more than its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let turn = self.0.acquire_arc().await;
        let (done, result) = async_channel::bounded(1);
        let work = move || {
            let _turn = turn;
            // Who asked may be gone.
            let _ = done.try_send(work());
        };
        let work = Arc::new(Mutex::new(Some(work)));
        let taken = work.clone();
        let take =
            |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = Builder::new()
            .name("lunatic-compiler".into())
            .spawn(move || take(&taken).map(|work| work()));
        if thread.is_err()
            && let Some(work) = take(&work)
        {
            // There is no thread to be had. Then it takes this one, which is better than not to be done.
            work();
        }
        result
            .recv()
            .await
            .expect("the thread says what came of it, unless the work panicked")
    }
}
