//! The crate's one runtime: its threads read and write for gateways, calls and the service, and
//! look after pooled instances.

use std::io;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that read and write, by default.
pub(crate) const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// The largest number of threads for work that blocks: files, certificates, compiling and looking
/// up names.
const BLOCKING_THREADS: usize = 48;

/// Returns the runtime, which the first call starts.
///
/// # Errors
///
/// If the system has no room for its threads.
pub(crate) fn handle() -> io::Result<&'static Handle> {
    start(THREADS)
}

/// Returns the runtime. The first call of this or of [`handle`] starts it, with a number of
/// threads.
///
/// # Errors
///
/// If the system has no room for its threads.
pub(crate) fn start(threads: NonZeroUsize) -> io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.get())
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("lunatic-serve")
            .enable_all()
            .build()?;
        // If two threads come here at once, the second runtime is given up. Nothing runs on it, so
        // there is nothing to wait for.
        if let Err(second) = RUNTIME.set(runtime) {
            second.shutdown_background();
        }
    }
    Ok(RUNTIME.get().expect("it was set above").handle())
}
