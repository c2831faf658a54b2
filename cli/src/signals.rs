//! Handles SIGINT and SIGTERM. The first signal ends the command gracefully, the second
//! immediately.

use std::io;

/// Calls `first` on another thread when the first signal arrives. A second signal ends the command
/// immediately.
#[cfg(unix)]
pub(crate) fn listen(first: impl FnOnce(i32) + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let listen = move || {
        let mut signals = signals.forever();
        if let Some(signal) = signals.next() {
            first(signal);
        }
        if let Some(signal) = signals.next() {
            std::process::exit(crate::status::SIGNAL + signal);
        }
    };
    std::thread::Builder::new()
        .name("lunatic-signals".into())
        .spawn(listen)
        .map(|_| ())
}

/// On other systems, signals end the command without calling `first`.
#[cfg(not(unix))]
pub(crate) fn listen(first: impl FnOnce(i32) + Send + 'static) -> io::Result<()> {
    std::mem::forget(first);
    Ok(())
}

/// Blocks until the first signal arrives.
pub(crate) fn wait() -> io::Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    // The receiver is waiting for this message, so it cannot have been dropped.
    listen(move |_| _ = sender.send(()))?;
    receiver.recv().map_err(io::Error::other)
}
