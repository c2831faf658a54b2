//! The memory that SQLite allocates for a process, counted and limited.
//!
//! SQLite has one allocator for all databases, and a limit on that allocator would let one process
//! use up memory that others need. Therefore each call to SQLite is made on behalf of a process
//! ([`Work::enter`](work::Work::enter)), and memory allocated on the thread during the call is
//! charged to that process's host memory. An allocation that would exceed a limit is refused, and
//! SQLite fails the statement with "out of memory".

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::work;
use crate::environment::{Charge, HostMemory};
use rusqlite::ffi;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// How many bytes SQLite may allocate for one process, unless the process's memory is limited to
/// less.
const MAX_SIZE: u64 = 64 << 20;

/// How many bytes are charged to the process at a time.
const PORTION: u64 = 1 << 18;

/// The memory that SQLite has allocated for one process.
#[derive(Debug)]
pub(super) struct Heap {
    limit: u64,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    used: u64,
    /// At least the amount used.
    charge: Charge,
}

impl Heap {
    pub(super) fn new(memory: u64, account: &HostMemory) -> Arc<Heap> {
        Arc::new(Heap {
            limit: memory.min(MAX_SIZE),
            book: Mutex::new(Book {
                used: 0,
                charge: account.nothing(),
            }),
        })
    }

    /// Counts allocated memory. Returns false if the process may not have it.
    pub(super) fn take(&self, size: u64) -> bool {
        let mut book = self.book();
        let wanted = book.used.saturating_add(size);
        if wanted > self.limit {
            return false;
        }
        let missing = wanted.saturating_sub(book.charge.bytes());
        let portions = missing.next_multiple_of(PORTION);
        // Near a limit, only the missing bytes are charged.
        if missing > 0 && book.charge.grow(portions).is_err() && book.charge.grow(missing).is_err()
        {
            return false;
        }
        book.used = wanted;
        true
    }

    /// Counts memory that the host is about to use. Returns `None` if the process may not have it.
    pub(super) fn hold(self: &Arc<Heap>, size: usize) -> Option<Held> {
        let size = size as u64;
        self.take(size).then(|| Held {
            heap: self.clone(),
            size,
        })
    }

    /// Counts released memory.
    pub(super) fn release(&self, size: u64) {
        let mut book = self.book();
        // The databases of several processes share a few bytes, which may be released by a process
        // other than the one that allocated them.
        book.used = book.used.saturating_sub(size);
        let spare = book.charge.bytes() - book.used;
        if spare > 2 * PORTION {
            book.charge.shrink(spare - PORTION);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// Memory that the host uses for a process's databases. It counts as allocated by SQLite for the
/// process until this value is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    heap: Arc<Heap>,
    size: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heap.release(self.size);
    }
}

/// SQLite's own allocator, which performs the allocations.
struct Allocator {
    allocate: unsafe extern "C" fn(c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    reallocate: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    size: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// `None` if SQLite's allocator could not be replaced, because the host program was using SQLite
/// already.
static OWN: OnceLock<Option<Allocator>> = OnceLock::new();

/// Puts the counting allocator in front of SQLite's own, once, before anything is allocated.
pub(super) fn install() {
    OWN.get_or_init(|| {
        // SAFETY: a struct of optional function pointers may be all zeros, which are `None`.
        // `sqlite3_config` takes a pointer to a struct, which it fills in or copies, depending on
        // its first argument. Once SQLite is in use, the call returns an error code, which is
        // checked. Before that, nothing else uses SQLite, because all of the machine's calls go
        // through this function first.
        unsafe {
            let mut own = std::mem::zeroed::<ffi::sqlite3_mem_methods>();
            if ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut own) != ffi::SQLITE_OK {
                return None;
            }
            let allocator = Allocator {
                allocate: own.xMalloc?,
                free: own.xFree?,
                reallocate: own.xRealloc?,
                size: own.xSize?,
            };
            own.xMalloc = Some(allocate);
            own.xFree = Some(free);
            own.xRealloc = Some(reallocate);
            let code = ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const own);
            (code == ffi::SQLITE_OK).then_some(allocator)
        }
    });
}

fn own() -> Option<&'static Allocator> {
    OWN.get()?.as_ref()
}

unsafe extern "C" fn allocate(size: c_int) -> *mut c_void {
    let Some(own) = own() else {
        return std::ptr::null_mut();
    };
    // SQLite has already rounded the size up, so `free` releases the same amount.
    let asked = u64::try_from(size).unwrap_or(0);
    if !work::allocate(asked, asked) {
        return std::ptr::null_mut();
    }
    // SAFETY: SQLite's own function receives the argument that SQLite passed.
    let address = unsafe { (own.allocate)(size) };
    if address.is_null() {
        work::release(asked);
    }
    address
}

unsafe extern "C" fn free(address: *mut c_void) {
    let Some(own) = own() else { return };
    work::release(size_of(address));
    // SAFETY: SQLite frees only addresses that it got from `allocate` or `reallocate`, so this
    // address belongs to SQLite's own allocator.
    unsafe { (own.free)(address) }
}

unsafe extern "C" fn reallocate(address: *mut c_void, size: c_int) -> *mut c_void {
    let Some(own) = own() else {
        return std::ptr::null_mut();
    };
    let (before, asked) = (size_of(address), u64::try_from(size).unwrap_or(0));
    if !work::allocate(asked, asked.saturating_sub(before)) {
        return std::ptr::null_mut();
    }
    // SAFETY: as in `free`.
    let new = unsafe { (own.reallocate)(address, size) };
    // If reallocating fails, the old allocation stays as it was.
    let gone = if new.is_null() {
        asked.saturating_sub(before)
    } else {
        before.saturating_sub(asked)
    };
    work::release(gone);
    new
}

fn size_of(address: *mut c_void) -> u64 {
    let Some(own) = own().filter(|_| !address.is_null()) else {
        return 0;
    };
    // SAFETY: the address came from SQLite's own allocator and has not been freed.
    u64::try_from(unsafe { (own.size)(address) }).unwrap_or(0)
}
