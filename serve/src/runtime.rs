//! Threads of this crate's own, for what belongs to no server: connections that functions made, and looking after instances.

use std::io;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Handle, Runtime};

/// How many threads wait for what blocks, of which there is only looking up names; more look-ups wait for those.
const MAX_BLOCKING_THREADS: usize = 16;

/// Returns the threads, which are made when they are needed first.
///
/// # Errors
///
/// Where the system has no room for them.
pub(crate) fn handle() -> io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_name("lunatic-serve")
            .enable_all()
            .build()?;
        // Where two threads come here at once, the second runtime is given up, and there is nothing on it to wait for.
        if let Err(second) = RUNTIME.set(runtime) {
            second.shutdown_background();
        }
    }
    Ok(RUNTIME.get().expect("it was just set").handle())
}
