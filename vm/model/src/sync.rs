//! What stands in for `sync.rs` of the scheduler: the same names, for which the model checker decides who comes when.

pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use loom::sync::{Arc, Mutex, MutexGuard};

use loom::sync::Condvar;
use std::time::Instant;

/// Sleeps until it is woken, also where that came first.
pub(super) struct Parker(Unparker);

/// Wakes who sleeps.
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
        let (is_called, called) = &*(self.0).0;
        let mut is_called = lock(is_called);
        while !*is_called {
            is_called = called
                .wait(is_called)
                .expect("nobody panics with this lock");
        }
        *is_called = false;
    }

    /// No time passes in a model: it waits until it is woken.
    pub(super) fn park_deadline(&self, _: Instant) -> bool {
        self.park();
        true
    }
}

impl Unparker {
    pub(super) fn unpark(&self) {
        let (is_called, called) = &*self.0;
        *lock(is_called) = true;
        called.notify_one();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with a lock")
}

pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
