//! The boundary at which panics in code from outside the scheduler stop.

use std::any::Any;
use std::mem;
use std::panic::{self, UnwindSafe};

/// Calls code from outside the scheduler. If that code panics, the panic is logged along with `who`
/// and not propagated.
pub(super) fn contain<T>(who: &str, call: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    match panic::catch_unwind(call) {
        Ok(value) => Some(value),
        Err(payload) => {
            log::error!("{who} panicked: {}", message(&*payload));
            // Dropping a panic payload could itself panic. The payloads of `panic!` cannot do so,
            // and all other payloads are rare enough to be leaked.
            if !payload.is::<&'static str>() && !payload.is::<String>() {
                mem::forget(payload);
            }
            None
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(message) = payload.downcast_ref::<&'static str>() {
        return message;
    }
    if let Some(message) = payload.downcast_ref::<String>() {
        return message;
    }
    "no message"
}
