//! State shared between a connection and the thread that works with its database.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use rusqlite::ffi;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many SQLite VM instructions run between checks for whether to stop.
pub(super) const CHECK_INTERVAL: u64 = 100;

/// The CPU time that is charged as one instruction, and the minimum CPU time between two checks
/// that leads to a charge. Both are in nanoseconds. A hundred ordinary instructions take far less
/// than this minimum, so their charge is always the same.
const TIME_PER_INSTRUCTION: u64 = 50;
const LONG_TIME: u64 = 500_000;

/// The maximum number of SQL function calls in one statement.
pub(super) const MAX_FUNCTION_CALLS: u32 = 10_000;

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
    pub(super) fn check(&self) -> bool {
        self.charge(CHECK_INTERVAL) || self.charge_time()
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
