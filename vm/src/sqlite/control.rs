//! State shared between a connection and the thread that works with its database.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use rusqlite::ffi;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many SQLite VM instructions run between checks for whether to stop.
pub(super) const CHECK_INTERVAL: u64 = 100;

/// How many steps SQLite's planner takes between checks for whether to stop. A step can compare
/// every condition with an expression of an index, which takes about 15 ms if the expressions fill
/// an SQL string of the maximum length.
pub(super) const PLANNER_CHECK_INTERVAL: u64 = 4;

/// The CPU time that is charged as one instruction, and the minimum CPU time between two checks
/// that leads to a charge. Both are in nanoseconds. A hundred ordinary instructions take far less
/// than this minimum, so their charge is always the same.
const TIME_PER_INSTRUCTION: u64 = 50;
const LONG_TIME: u64 = 500_000;

/// The maximum number of SQL function calls in one statement.
pub(super) const MAX_FUNCTION_CALLS: u32 = 10_000;

/// The maximum number of conditions in one of a statement's clauses, which must be a power of two.
/// SQLite's planner compares every condition with every other one, for up to 11 columns that are
/// equal to each other, and checks only rarely whether to stop. With this number of conditions, the
/// longest time between two checks was 30 ms.
pub(super) const MAX_CONDITIONS: u64 = 2_048;

/// Returns the size of the array in which SQLite's planner keeps this number of conditions, in
/// bytes. It consists of a `WhereMemBlock` followed by `WhereTerm`s, and doubles when it is full.
const fn size_of_conditions(count: u64) -> u64 {
    16 + count * (40 + 2 * size_of::<usize>() as u64)
}

#[derive(Debug)]
pub(super) struct Control {
    /// Set once nothing is waiting for the result any more.
    is_stopped: AtomicBool,
    /// The number of SQLite instructions that the call may still run; the maximum value means no
    /// limit.
    allowed: AtomicU64,
    /// The instructions charged since the thread's CPU time was last read, and the CPU time at that
    /// point.
    charged: AtomicU64,
    read_at: AtomicU64,
    /// How many bytes were allocated after the call should have stopped.
    overdraft: AtomicU64,
    /// Why the rules rejected a statement.
    refusal: Mutex<Option<String>>,
    /// How long to wait for a locked database, in milliseconds.
    busy_timeout: AtomicU64,
    /// Whether `LIKE` distinguishes upper and lower case.
    is_like_case_sensitive: AtomicBool,
    /// The number of function calls in the statement being prepared.
    functions: AtomicU32,
    /// Whether the statement being prepared may have a clause with the maximum number of
    /// conditions.
    has_full_clause: AtomicBool,
    /// Whether the statement being prepared reads `json_tree`.
    reads_json_tree: AtomicBool,
    /// The statement that is being stepped, or null.
    stepped: AtomicPtr<ffi::sqlite3_stmt>,
    /// Whether the step was refused because the statement would have been prepared again.
    is_outdated: AtomicBool,
}

impl Control {
    pub(super) fn new() -> Control {
        Control {
            is_stopped: AtomicBool::new(false),
            allowed: AtomicU64::new(u64::MAX),
            charged: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
            overdraft: AtomicU64::new(0),
            refusal: Mutex::new(None),
            busy_timeout: AtomicU64::new(0),
            is_like_case_sensitive: AtomicBool::new(false),
            functions: AtomicU32::new(0),
            has_full_clause: AtomicBool::new(false),
            reads_json_tree: AtomicBool::new(false),
            stepped: AtomicPtr::new(ptr::null_mut()),
            is_outdated: AtomicBool::new(false),
        }
    }

    // Relaxed, here and below: stopping a call publishes no other data, and only the call itself
    // updates the counts.

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Sets how many more SQLite instructions may run.
    pub(super) fn allow(&self, instructions: u64) {
        self.allowed.store(instructions, Ordering::Relaxed);
    }

    /// Counts bytes allocated even though the call should have stopped, and returns the running
    /// total.
    pub(super) fn overdraw(&self, bytes: u64) -> u64 {
        self.overdraft.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Returns how many SQLite instructions may still run.
    pub(super) fn allowed(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Charges for a number of instructions. Returns true if the call has to stop.
    pub(super) fn charge(&self, instructions: u64) -> bool {
        if self.is_stopped.load(Ordering::Relaxed) {
            return true;
        }
        let left = self.allowed();
        if left == u64::MAX {
            return false;
        }
        let left = left.saturating_sub(instructions);
        self.allow(left);
        self.charged.fetch_add(instructions, Ordering::Relaxed);
        left == 0
    }

    /// Charges for the instructions between two checks. Returns true if the call has to stop.
    pub(super) fn check(&self, interval: u64) -> bool {
        self.charge(interval) || self.charge_time()
    }

    /// Starts measuring the thread's CPU time.
    pub(super) fn start_time(&self) {
        if self.allowed() != u64::MAX {
            self.charged.store(0, Ordering::Relaxed);
            self.read_at.store(thread_time(), Ordering::Relaxed);
        }
    }

    /// Charges for any of the thread's CPU time that the charged instructions do not cover. Returns
    /// true if the call has to stop.
    pub(super) fn charge_time(&self) -> bool {
        if self.allowed() == u64::MAX {
            return false;
        }
        let now = thread_time();
        let time = now.saturating_sub(self.read_at.swap(now, Ordering::Relaxed));
        let charged = self.charged.swap(0, Ordering::Relaxed);
        if time < LONG_TIME {
            return false;
        }
        let is_over = self.charge((time / TIME_PER_INSTRUCTION).saturating_sub(charged));
        self.charged.store(0, Ordering::Relaxed);
        is_over
    }

    pub(super) fn refuse(&self, what: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    pub(super) fn take_refusal(&self) -> Option<String> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(super) fn set_busy_timeout(&self, milliseconds: u64) {
        self.busy_timeout.store(milliseconds, Ordering::Relaxed);
    }

    pub(super) fn busy_timeout(&self) -> u64 {
        self.busy_timeout.load(Ordering::Relaxed)
    }

    pub(super) fn set_like_case_sensitive(&self, is_sensitive: bool) {
        self.is_like_case_sensitive
            .store(is_sensitive, Ordering::Relaxed);
    }

    pub(super) fn is_like_case_sensitive(&self) -> bool {
        self.is_like_case_sensitive.load(Ordering::Relaxed)
    }

    /// Discards what was recorded about the previously prepared statement.
    pub(super) fn begin_statement(&self) {
        self.take_refusal();
        self.functions.store(0, Ordering::Relaxed);
        self.has_full_clause.store(false, Ordering::Relaxed);
        self.reads_json_tree.store(false, Ordering::Relaxed);
    }

    /// Records that a statement is being stepped, until `end_step` is called.
    pub(super) fn begin_step(&self, statement: NonNull<ffi::sqlite3_stmt>) {
        self.is_outdated.store(false, Ordering::Relaxed);
        self.stepped.store(statement.as_ptr(), Ordering::Relaxed);
    }

    /// Returns whether the step was refused because the schema had changed.
    pub(super) fn end_step(&self) -> bool {
        self.stepped.store(ptr::null_mut(), Ordering::Relaxed);
        self.is_outdated.swap(false, Ordering::Relaxed)
    }

    /// Returns whether SQLite is preparing a statement again because the schema has changed since
    /// the statement was prepared. SQLite does this at the beginning of a step. Statements that
    /// SQLite prepares on its own behalf are prepared while another statement is running.
    pub(super) fn is_preparing_again(&self) -> bool {
        let stepped = self.stepped.load(Ordering::Relaxed);
        // SAFETY: between `begin_step` and `end_step`, the statement is not finalized. Only the
        // thread that steps the statement prepares statements of the connection.
        let again = !stepped.is_null() && unsafe { ffi::sqlite3_stmt_busy(stepped) } == 0;
        if again {
            self.is_outdated.store(true, Ordering::Relaxed);
        }
        again
    }

    /// Counts a function call in the statement. Returns false if there are too many.
    pub(super) fn count_function(&self) -> bool {
        self.functions.fetch_add(1, Ordering::Relaxed) < MAX_FUNCTION_CALLS
    }

    /// Checks the size of an allocation that SQLite makes while it prepares a statement. Returns
    /// false if SQLite wants to add more conditions to a clause that has the maximum number.
    ///
    /// Conditions also come from views, joins and row values, so they cannot be counted in the
    /// statement's text, and SQLite reports nothing else about them before it plans the statement.
    /// Another allocation can have the same size, but hardly both sizes in the same statement.
    pub(super) fn allows_conditions(&self, size: u64) -> bool {
        if size == size_of_conditions(MAX_CONDITIONS) {
            self.has_full_clause.store(true, Ordering::Relaxed);
        }
        if size != size_of_conditions(2 * MAX_CONDITIONS)
            || !self.has_full_clause.load(Ordering::Relaxed)
        {
            return true;
        }
        self.refuse(format!(
            "a clause can have at most {MAX_CONDITIONS} conditions, and a comparison of two columns counts twice; use `IN` or split the statement"
        ));
        false
    }

    pub(super) fn note_json_tree(&self) {
        self.reads_json_tree.store(true, Ordering::Relaxed);
    }

    pub(super) fn reads_json_tree(&self) -> bool {
        self.reads_json_tree.load(Ordering::Relaxed)
    }
}

/// Returns the CPU time of this thread, in nanoseconds.
#[cfg(unix)]
fn thread_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes only the structure whose address it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Returns 0: thread CPU time is not available on this system, so only instructions are charged.
#[cfg(not(unix))]
fn thread_time() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_array_that_has_doubled_is_a_clause_with_too_many_conditions() {
        let (full, double) = (
            size_of_conditions(MAX_CONDITIONS),
            size_of_conditions(2 * MAX_CONDITIONS),
        );
        for (sizes, is_allowed) in [
            (&[double][..], true),
            (&[full, full, double + 8], true),
            (&[double, full], true),
            (&[full, 64, double], false),
        ] {
            let control = Control::new();
            control.begin_statement();
            let allowed = sizes.iter().all(|size| control.allows_conditions(*size));
            assert_eq!(allowed, is_allowed, "{sizes:?}");
            assert_eq!(control.take_refusal().is_none(), is_allowed, "{sizes:?}");
        }
        let control = Control::new();
        assert!(control.allows_conditions(full));
        control.begin_statement();
        assert!(
            control.allows_conditions(double),
            "the first array belonged to another statement"
        );
    }
}
