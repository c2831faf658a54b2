//! All synchronization primitives that the scheduler's threads use. They are imported in one place
//! so that a model checker can replace them.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
pub(super) use std::thread;

pub(super) use parking::{Parker, Unparker};

/// Locks one of the scheduler's mutexes.
///
/// Such a lock is held only for a few lines of code, which touch plain data. No waker, hook or task
/// destructor runs in the meantime, so the lock is never poisoned and no thread takes it twice.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds one of the scheduler's locks")
}

/// Adds one to a counter that only the calling thread writes. This is cheaper than an atomic
/// read-modify-write operation. Other threads may read the counter at any time.
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
