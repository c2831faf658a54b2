//! Runs futures on a background thread.

use async_executor::Executor;
use futures_lite::future::{block_on, pending};
use std::sync::Once;
use std::thread;

/// Runs a future in the background until it completes or this command exits.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    static EXECUTOR: Executor<'static> = Executor::new();
    static THREAD: Once = Once::new();
    THREAD.call_once(|| {
        thread::Builder::new()
            .name("background".into())
            .spawn(|| block_on(EXECUTOR.run(pending::<()>())))
            .expect("the system can start one more thread");
    });
    EXECUTOR.spawn(future).detach();
}
