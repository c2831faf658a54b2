//! SIGINT and SIGTERM: the first ends the program in order, the second ends the command at once.

use lunatic_vm::Environment;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Tells which signal ended the program, if one did.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// Returns the number of the signal that came first; `None` where none came.
    pub(super) fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Begins to listen, on a thread of its own: whatever the other threads do, the second signal is obeyed.
    #[cfg(unix)]
    pub(super) fn listen(environment: &Environment) -> io::Result<Interrupt> {
        use signal_hook::consts::{SIGINT, SIGTERM};

        let interrupt = Interrupt::default();
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let (environment, first) = (environment.clone(), interrupt.clone());
        std::thread::Builder::new()
            .name("lunatic-signals".into())
            .spawn(move || {
                for signal in &mut signals.forever() {
                    if first.signal().is_some() {
                        std::process::exit(super::status::SIGNAL + signal);
                    }
                    first.0.store(signal, Ordering::SeqCst);
                    environment.end();
                }
            })?;
        Ok(interrupt)
    }

    /// Elsewhere the operating system ends the command at the first.
    #[cfg(not(unix))]
    pub(super) fn listen(_environment: &Environment) -> io::Result<Interrupt> {
        Ok(Interrupt::default())
    }
}
