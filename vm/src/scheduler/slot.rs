//! A place for one task, beside a worker's queue.
//!
//! A task that was woken by its worker's running task is put here instead of into the queue, so
//! that handing the worker over takes no lock. Only the worker's own thread puts tasks here. Any
//! thread may take the task, and exactly one does.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use std::marker::PhantomData;
use std::ptr;

use super::sync::{AtomicPtr, Ordering};

/// A value that can be kept as a pointer.
///
/// # Safety
///
/// `from_raw` must be sound for a pointer that `into_raw` returned, on any thread, if it is called
/// once for each time that `into_raw` returned that pointer. The pointer must not be null.
pub(super) unsafe trait Raw: Send {
    /// Returns a pointer that owns the value.
    fn into_raw(self) -> *mut ();

    /// Returns the value.
    ///
    /// # Safety
    ///
    /// The pointer must come from [`Raw::into_raw`], and must not be used again.
    unsafe fn from_raw(raw: *mut ()) -> Self;
}

/// A place for one task.
pub(super) struct Slot<T: Raw> {
    /// Null if the slot is empty.
    task: AtomicPtr<()>,
    owns: PhantomData<T>,
}

impl<T: Raw> Slot<T> {
    pub(super) fn new() -> Self {
        Self {
            task: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        }
    }

    /// Returns whether there is a task in the slot. On the worker's own thread, the answer "no"
    /// holds until that thread puts a task here.
    pub(super) fn is_full(&self) -> bool {
        !self.task.load(Ordering::Relaxed).is_null()
    }

    /// Puts a task into the slot. If there is one already, returns the new task as an error.
    ///
    /// Only the worker's own thread may call this method, because a task that another thread put
    /// here at the same time would never run.
    pub(super) fn put(&self, task: T) -> Result<(), T> {
        if self.is_full() {
            return Err(task);
        }
        // Other threads only empty the slot, so it is still empty. Release pairs with the Acquire
        // in `take`.
        self.task.store(task.into_raw(), Ordering::Release);
        Ok(())
    }

    /// Takes the task out of the slot.
    pub(super) fn take(&self) -> Option<T> {
        let mut present = self.task.load(Ordering::Relaxed);
        while !present.is_null() {
            let exchange = self.task.compare_exchange_weak(
                present,
                ptr::null_mut(),
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match exchange {
                // SAFETY: Pointers in the slot come from `into_raw`, and each leaves the slot once.
                Ok(task) => return Some(unsafe { T::from_raw(task) }),
                Err(other) => present = other,
            }
        }
        None
    }
}

impl<T: Raw> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
