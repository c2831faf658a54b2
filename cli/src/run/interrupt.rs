//! Handles SIGINT and SIGTERM. The first signal ends the program in an orderly way, and the second
//! ends the command immediately.

use crate::signals;
use lunatic_vm::Environment;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Records which signal ended the program.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// Returns the number of the first signal, if one arrived.
    pub(super) fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Starts listening on a dedicated thread, so that the second signal is handled regardless of
    /// what other threads do.
    pub(super) fn listen(environment: &Environment) -> io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let (environment, first) = (environment.clone(), interrupt.clone());
        signals::listen(move |signal| {
            first.0.store(signal, Ordering::SeqCst);
            environment.end();
        })?;
        Ok(interrupt)
    }
}
