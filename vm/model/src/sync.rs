//! Replaces the scheduler's `sync.rs` with primitives of the same names, controlled by the model
//! checker.

pub(super) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(super) use loom::sync::{Arc, Mutex, MutexGuard};

use loom::sync::Condvar;

/// Puts a thread to sleep until it is unparked. If `unpark` has already been called, the thread
/// does not sleep.
pub(super) struct Parker(Unparker);

/// Wakes a sleeping thread.
#[derive(Clone)]
pub(super) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

impl Parker {
    pub(super) fn new() -> Parker {
        Parker(Unparker(Arc::new((Mutex::new(false), Condvar::new()))))
    }

    pub(super) fn unparker(&self) -> Unparker {
        self.0.clone()
    }

    pub(super) fn park(&self) {
        let (is_unparked, unparked) = &*(self.0).0;
        let mut is_unparked = lock(is_unparked);
        while !*is_unparked {
            is_unparked = unparked
                .wait(is_unparked)
                .expect("no code panics while it holds this lock");
        }
        *is_unparked = false;
    }
}

impl Unparker {
    pub(super) fn unpark(&self) {
        let (is_unparked, unparked) = &*self.0;
        *lock(is_unparked) = true;
        unparked.notify_one();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds this lock")
}

pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
