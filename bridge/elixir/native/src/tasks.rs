//! The threads that do the long-running work.

use async_executor::Executor;
use futures_lite::FutureExt;
use futures_lite::future::{block_on, pending};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

static EXECUTOR: Executor<'static> = Executor::new();

/// Starts the threads, one per core, on the first call. They run until the node ends.
pub(crate) fn start() -> bool {
    static STARTED: OnceLock<bool> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let thread = || std::thread::Builder::new().name("wasmtube".to_string());
        (0..cores).all(|_| {
            thread()
                .spawn(|| block_on(EXECUTOR.run(pending::<()>())))
                .is_ok()
        })
    })
}

/// Runs a future. If it panics, nothing else is affected.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    let contained = async {
        // Dropping its `Reply` reports the panic.
        let _ = AssertUnwindSafe(work).catch_unwind().await;
    };
    EXECUTOR.spawn(contained).detach();
}

/// Runs work that blocks its thread.
pub(crate) fn unblock(work: impl FnOnce() + Send + 'static) {
    spawn(blocking::unblock(work));
}
