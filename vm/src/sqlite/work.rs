//! The work that a thread is currently doing for a process. Every call to SQLite is made inside
//! [`Work::enter`].
//!
//! SQLite checks for interruption only where its programs jump. Operations that can take a long
//! time between two jumps are therefore charged here too: allocations, page reads, and the
//! functions in `functions`. Each of these operations fails once the call has to stop.

use super::control::Control;
use super::heap::Heap;
use crate::environment::Permit;
use std::cell::RefCell;
use std::ffi::CString;
use std::sync::Arc;

/// How many bytes SQLite allocates, reads or searches in about the time that one of its
/// instructions takes.
const BYTES_PER_INSTRUCTION: u64 = 16;

/// How many bytes a statement may still allocate to roll back once it has to stop. The first limit
/// is for a single allocation, which can be a page of the maximum size, and the second is the
/// total.
const MAX_ESSENTIAL: u64 = (64 << 10) + 1024;
const MAX_OVERDRAFT: u64 = 8 << 20;

/// Determines what may be refused if the call has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has been changed, so any allocation can be refused.
    Preparing,
    /// A refusal must leave enough memory for rolling back.
    Running,
    /// The work, such as closing a database or rolling it back, is needed even if nothing is
    /// waiting for its result.
    Closing,
}

/// The process that a connection works for, and what the connection may access.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) heap: Arc<Heap>,
    pub(super) control: Arc<Control>,
    /// The name of the database's file, which is a prefix of the names of its other files. `None`
    /// for an in-memory database.
    pub(super) file: Option<CString>,
    /// The permit for the descriptor of the database's file. SQLite can keep the descriptor open
    /// for longer than the connection.
    pub(super) permit: Option<Arc<Permit>>,
}

thread_local! {
    static CURRENT: RefCell<Option<(Arc<Work>, Phase)>> = const { RefCell::new(None) };
}

impl Work {
    /// Runs `work`, during which SQLite acts on behalf of this process.
    pub(super) fn enter<T>(self: &Arc<Work>, phase: Phase, work: impl FnOnce() -> T) -> T {
        /// Restores the thread's previous work, even if `work` panics.
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

    /// Charges the call for processing `bytes` bytes. Returns false if the call has to stop.
    fn spend(&self, phase: Phase, bytes: u64) -> bool {
        phase == Phase::Closing || !self.control.charge(1 + bytes / BYTES_PER_INSTRUCTION)
    }
}

fn with_current<T>(look: impl FnOnce(Option<&(Arc<Work>, Phase)>) -> T) -> Option<T> {
    CURRENT
        .try_with(|current| look(current.borrow().as_ref()))
        .ok()
}

/// Charges the current call for processing `bytes` bytes. Returns false if the call has to stop.
pub(super) fn spend(bytes: u64) -> bool {
    with_current(|current| current.is_none_or(|(work, phase)| work.spend(*phase, bytes)))
        .unwrap_or(true)
}

/// Counts `growth` more bytes allocated by SQLite, for an allocation that then has `size` bytes.
/// Returns false if they must not be allocated.
pub(super) fn allocate(size: u64, growth: u64) -> bool {
    with_current(|current| {
        current.is_none_or(|(work, phase)| {
            let is_essential = || {
                *phase != Phase::Preparing
                    && size <= MAX_ESSENTIAL
                    && work.control.overdraw(size) <= MAX_OVERDRAFT
            };
            (work.spend(*phase, size) || is_essential())
                && (*phase != Phase::Preparing || work.control.allows_conditions(size))
                && work.heap.take(growth)
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

/// Returns whether the thread is working for a process.
pub(super) fn is_current() -> bool {
    with_current(|current| current.is_some()).unwrap_or(false)
}

/// Returns the permit for the descriptor of the current database's file.
pub(super) fn permit() -> Option<Arc<Permit>> {
    with_current(|current| current.and_then(|(work, _)| work.permit.clone())).flatten()
}

/// Returns whether the current call may access the file `name`, which must be the database's own
/// file, its journal or its write-ahead log.
pub(super) fn may_reach(name: &[u8]) -> bool {
    with_current(|current| {
        let file = current.and_then(|(work, _)| work.file.as_ref());
        file.and_then(|file| name.strip_prefix(file.to_bytes()))
            .is_some_and(|rest| matches!(rest, b"" | b"-journal" | b"-wal"))
    })
    .unwrap_or(false)
}

/// Returns whether `LIKE` distinguishes upper and lower case on the current connection.
pub(super) fn is_like_case_sensitive() -> bool {
    with_current(|current| current.is_some_and(|(work, _)| work.control.is_like_case_sensitive()))
        .unwrap_or(false)
}
