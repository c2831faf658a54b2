//! All synchronization primitives of the scheduler's threads, imported in one place so that a model
//! checker can replace them.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
pub(super) use std::thread;

pub(super) use parking::{Parker, Unparker};

/// Locks one of the scheduler's mutexes.
///
/// Such a lock is held for a few lines that touch plain data. No waker, hook or destructor of a
/// task runs under it, so it is never poisoned and never taken twice by one thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing that runs under a scheduler lock panics")
}

/// Adds one to a counter that only the calling thread writes, which is cheaper than a
/// read-modify-write. Other threads may read it at any time.
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
