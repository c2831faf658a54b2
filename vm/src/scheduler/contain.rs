//! The boundary at which panics in foreign code stop.

use std::any::Any;
use std::mem;
use std::panic::{self, UnwindSafe};

/// Calls foreign code. If it panics, the panic is logged together with `who`, and goes no further.
pub(super) fn contain<T>(who: &str, call: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    match panic::catch_unwind(call) {
        Ok(value) => Some(value),
        Err(payload) => {
            log::error!("{who} panicked: {}", message(&*payload));
            // Dropping a payload could panic in turn. Payloads from `panic!` cannot, and all others
            // are rare enough to leak.
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
