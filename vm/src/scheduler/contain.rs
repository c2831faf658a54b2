//! The line that panics of what is not ours do not cross.

use std::any::Any;
use std::mem;
use std::panic::{self, UnwindSafe};

/// Calls what is not ours; a panic of it is logged, with `who` it was, and goes no further.
pub(super) fn contain<T>(who: &str, call: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    match panic::catch_unwind(call) {
        Ok(value) => Some(value),
        Err(payload) => {
            log::error!("{who} panicked: {}", message(&*payload));
            // Dropping it could panic in turn; what `panic!` makes cannot, and all else is rare
            // enough to be left.
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
