//! All synchronization primitives that the scheduler's threads use, imported in one place so that a
//! model checker can replace them.

pub(super) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
pub(super) use std::thread;

pub(super) use parking::{Parker, Unparker};

/// Locks one of the scheduler's mutexes.
///
/// These locks are held only for a few lines of code that touch plain data. Wakers, hooks and task
/// destructors never run while they are held, so the locks are never poisoned or taken twice by the
/// same thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds one of the scheduler's locks")
}

/// Increments a counter that only the calling thread writes. This is cheaper than an atomic
/// read-modify-write operation. Other threads may read the counter at any time.
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
