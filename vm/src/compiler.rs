//! Compiles modules and components, using the engines and the cache. Compilations for guests run on
//! a few dedicated threads.

use crate::cache::Cache;
use crate::engine::Engines;
use crate::scheduler::Spawner;
use async_lock::Semaphore;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

/// The maximum number of concurrent compilations for guests; further ones wait.
const MAX_CONCURRENT: usize = 2;

/// Compiles modules and components.
pub(crate) struct Compiler {
    pub(crate) engines: Arc<Engines>,
    pub(crate) cache: Cache,
    spawner: Spawner,
    permits: Arc<Semaphore>,
}

impl Compiler {
    pub(crate) fn new(engines: Arc<Engines>, cache: Cache, spawner: Spawner) -> Compiler {
        Compiler {
            engines,
            cache,
            spawner,
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
        }
    }

    /// Starts work in the background.
    pub(crate) fn run_detached(self: &Arc<Compiler>, work: impl FnOnce() + Send + 'static) {
        let compiler = self.clone();
        self.spawner.spawn(async move { compiler.run(work).await });
    }

    /// Does the work on a dedicated thread that exits afterwards, leaving no idle thread behind.
    ///
    /// Work that has begun runs to completion and keeps its permit until then, even if nothing is
    /// waiting for it any more. So killing and restarting a process does not get it more than its
    /// share.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let permit = self.permits.acquire_arc().await;
        let (done, result) = async_channel::bounded(1);
        let work = move || {
            let _permit = permit;
            // The receiver may already be gone.
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
            // No thread could be started, so the work is done on the current one.
            work();
        }
        result
            .recv()
            .await
            .expect("the thread sends a result unless the work panicked")
    }
}
