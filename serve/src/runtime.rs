//! The crate's only runtime, whose threads handle I/O for gateways, outbound calls and the service,
//! and manage pooled instances.

use std::io;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Handle, Runtime};

/// The default number of I/O threads.
pub(crate) const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// The maximum number of threads for blocking work: file access, certificates, compilation and name
/// lookups.
const BLOCKING_THREADS: usize = 48;

/// Returns the runtime, starting it on the first call.
///
/// # Errors
///
/// Fails if the system cannot start the threads.
pub(crate) fn handle() -> io::Result<&'static Handle> {
    start(THREADS)
}

/// Returns the runtime. If neither this function nor [`handle`] has been called before, starts it
/// with the given number of threads.
///
/// # Errors
///
/// Fails if the system cannot start the threads.
pub(crate) fn start(threads: NonZeroUsize) -> io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.get())
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("lunatic-serve")
            .enable_all()
            .build()?;
        // If two threads get here concurrently, the second runtime is discarded. Nothing is running
        // on it, so there is nothing to wait for.
        if let Err(second) = RUNTIME.set(runtime) {
            second.shutdown_background();
        }
    }
    Ok(RUNTIME.get().expect("the runtime was set above").handle())
}
