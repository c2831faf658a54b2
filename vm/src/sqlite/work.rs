//! What a thread does for a process at the moment: every call to SQLite is made inside
//! [`Work::enter`].
//!
//! SQLite's own interruption is checked only where its programs jump. What takes long between two
//! jumps comes through here too: memory that it allocates, pages that it reads, and the functions
//! of `functions`. Each of these is charged, and refused once the call is to stop.

use super::control::Control;
use super::heap::Heap;
use std::cell::RefCell;
use std::ffi::CString;
use std::sync::Arc;

/// How many bytes SQLite allocates, reads or searches in about the time of one of its instructions.
const BYTES_PER_INSTRUCTION: u64 = 16;

/// What a statement that has to stop may still allocate to roll back, in bytes: at a time, which is
/// a page of the largest size, and in total.
const MAX_ESSENTIAL: u64 = (64 << 10) + 1024;
const MAX_OVERDRAFT: u64 = 8 << 20;

/// What may happen to the work if the call is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has been changed, so any allocation can be refused.
    Preparing,
    /// A refusal must leave enough for rolling back.
    Running,
    /// The work is needed although nothing waits for it: databases are closed and rolled back.
    Closing,
}

/// The process that a connection works for, and what the connection may reach.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) heap: Arc<Heap>,
    pub(super) control: Arc<Control>,
    /// The name of the database's file, which its other files' names begin with; `None` for a
    /// database in memory.
    pub(super) file: Option<CString>,
}

thread_local! {
    static CURRENT: RefCell<Option<(Arc<Work>, Phase)>> = const { RefCell::new(None) };
}

impl Work {
    /// Does work in which SQLite acts on behalf of this process.
    pub(super) fn enter<T>(self: &Arc<Work>, phase: Phase, work: impl FnOnce() -> T) -> T {
        /// Restores what the thread did before, even if the work panics.
        struct Restore(Option<(Arc<Work>, Phase)>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| *current = self.0.take());
            }
        }
        super::heap::install();
        let entered = (self.clone(), phase);
        let before = CURRENT.with_borrow_mut(|current| current.replace(entered));
        let is_outermost = before.is_none();
        let _restore = Restore(before);
        if !is_outermost {
            return work();
        }
        self.control.start_time();
        let result = work();
        self.control.charge_time();
        result
    }

    /// Charges the call for work on some bytes. Returns false if the call has to stop.
    fn spend(&self, phase: Phase, bytes: u64) -> bool {
        phase == Phase::Closing || !self.control.charge(1 + bytes / BYTES_PER_INSTRUCTION)
    }
}

fn with_current<T>(look: impl FnOnce(Option<&(Arc<Work>, Phase)>) -> T) -> Option<T> {
    CURRENT
        .try_with(|current| look(current.borrow().as_ref()))
        .ok()
}

/// Charges the current call for work on some bytes. Returns false if it has to stop.
pub(super) fn spend(bytes: u64) -> bool {
    with_current(|current| current.is_none_or(|(work, phase)| work.spend(*phase, bytes)))
        .unwrap_or(true)
}

/// Counts memory that SQLite allocates, as `growth` more bytes for an allocation of `size`. Returns
/// false if it must not be allocated.
pub(super) fn allocate(size: u64, growth: u64) -> bool {
    with_current(|current| {
        current.is_none_or(|(work, phase)| {
            let is_essential = || {
                *phase != Phase::Preparing
                    && size <= MAX_ESSENTIAL
                    && work.control.overdraw(size) <= MAX_OVERDRAFT
            };
            (work.spend(*phase, size) || is_essential()) && work.heap.take(growth)
        })
    })
    .unwrap_or(true)
}

/// Counts memory that SQLite has released.
pub(super) fn release(size: u64) {
    with_current(|current| {
        if let Some((work, _)) = current {
            work.heap.release(size);
        }
    });
}

/// Whether the thread works for a process.
pub(super) fn is_current() -> bool {
    with_current(|current| current.is_some()).unwrap_or(false)
}

/// Whether the current call may reach a file with this name: the database's own, or its journal.
pub(super) fn may_reach(name: &[u8]) -> bool {
    with_current(|current| {
        let file = current.and_then(|(work, _)| work.file.as_ref());
        file.and_then(|file| name.strip_prefix(file.to_bytes()))
            .is_some_and(|rest| matches!(rest, b"" | b"-journal" | b"-wal"))
    })
    .unwrap_or(false)
}

/// Whether `LIKE` distinguishes upper and lower case on the current connection.
pub(super) fn is_like_case_sensitive() -> bool {
    with_current(|current| current.is_some_and(|(work, _)| work.control.is_like_case_sensitive()))
        .unwrap_or(false)
}
