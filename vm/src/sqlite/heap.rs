//! The memory that SQLite allocates for a process, counted and limited.
//!
//! SQLite has one allocator for all databases, and a limit on the allocator would let one process
//! take memory that other processes need. Therefore each call to SQLite is made on behalf of a
//! process ([`Work::enter`](work::Work::enter)), and memory allocated on the thread during the call
//! is charged to that process. An allocation that would exceed the process's limit is refused, and
//! SQLite fails the statement with "out of memory".

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::work;
use crate::environment::{Permit, Quota};
use lunatic_abi::Limit;
use lunatic_process::LimitReached;
use rusqlite::ffi;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How many bytes SQLite may allocate for one process, unless the process's memory is limited to
/// less.
const MAX_SIZE: u64 = 64 << 20;

/// How many bytes are charged to the environment at a time.
const PORTION: u64 = 1 << 18;

/// The memory that SQLite has allocated for one process.
#[derive(Debug)]
pub(super) struct Heap {
    limit: u64,
    used: AtomicU64,
    /// The amount charged to the environment, which is at least the amount used. It is released
    /// when the heap is dropped.
    permit: Mutex<(Permit, u64)>,
}

impl Heap {
    pub(super) fn new(memory: u64, quota: &Arc<Quota>) -> Result<Arc<Heap>, LimitReached> {
        let permit = quota.permit(Limit::TotalMemory, 0)?;
        Ok(Arc::new(Heap {
            limit: memory.min(MAX_SIZE),
            used: AtomicU64::new(0),
            permit: Mutex::new((permit, 0)),
        }))
    }

    /// Counts allocated memory. Returns false if the process may not have this memory.
    pub(super) fn take(&self, size: u64) -> bool {
        // Relaxed, here and below: the count publishes no other data.
        let counted = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(size).filter(|&sum| sum <= self.limit)
            });
        let Ok(before) = counted else { return false };
        let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = before + size;
        if wanted > permit.1 {
            let growth = (wanted - permit.1).next_multiple_of(PORTION);
            if permit.0.grow(growth).is_err() {
                drop(permit);
                self.release(size);
                return false;
            }
            permit.1 += growth;
        }
        true
    }

    /// Counts memory that the host is about to use. Returns `None` if the process may not have this
    /// memory.
    pub(super) fn hold(self: &Arc<Heap>, size: usize) -> Option<Held> {
        let size = size as u64;
        self.take(size).then(|| Held {
            heap: self.clone(),
            size,
        })
    }

    /// Counts released memory.
    pub(super) fn release(&self, size: u64) {
        // The databases of several processes share a few bytes, which may be released by a process
        // other than the one that allocated them.
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used.saturating_sub(size))
            });
    }
}

/// Memory that the host uses for a process's databases. The memory counts as allocated by SQLite
/// for the process until this value is dropped.
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
        // checked. Until then nothing else uses SQLite, because all of the machine's calls come
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
    // SQLite requests an already rounded size, so `free` releases the same amount.
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
