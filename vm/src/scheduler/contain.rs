//! Contains panics in code from outside the scheduler.

use std::any::Any;
use std::mem;
use std::panic::{self, UnwindSafe};

/// Calls code from outside the scheduler. If it panics, the panic is logged along with `who` and
/// not propagated.
pub(super) fn contain<T>(who: &str, call: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    match panic::catch_unwind(call) {
        Ok(value) => Some(value),
        Err(payload) => {
            log::error!("{who} panicked: {}", message(&*payload));
            // Dropping a panic payload could itself panic. The payloads of `panic!` cannot, and any
            // others are rare enough to leak.
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
