//! Address space for many objects of the same size.
//!
//! An arena hands out slots: equally long ranges of address space, adjacent in large regions that
//! are reserved on demand. So the kernel needs few mappings for many slots, and neighbours share
//! page tables. The contents of a slot are up to its owner; the arena only knows whether it is
//! taken.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Slots of equal length.
#[derive(Debug)]
pub(super) struct Arena {
    /// The length of a slot in bytes, a multiple of the page size.
    length: usize,
    /// The number of slots per region.
    slots: usize,
    /// The access permitted to slots that were never taken.
    access: Access,
    state: Mutex<State>,
}

/// The access permitted to the bytes of a new slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// None: any access faults.
    None,
    /// Readable, writable and zeroed.
    ReadWrite,
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Access::None => ProtFlags::empty(),
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// The start of each region. All are unmapped when the arena is dropped.
    regions: Vec<usize>,
    /// The number of slots handed out from the last region.
    used: usize,
    /// Released slots, the most recent on top: its pages are the most likely to be cached.
    free: Vec<usize>,
}

impl Arena {
    pub(super) fn new(length: usize, slots: usize, access: Access) -> Arena {
        debug_assert!(length.is_multiple_of(page_size()) && slots > 0);
        Arena {
            length,
            slots,
            access,
            state: Mutex::default(),
        }
    }

    /// Returns the length of a slot in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Takes a released slot, in the state its last owner left it in.
    pub(super) fn take_used(&self) -> Option<usize> {
        self.state().free.pop()
    }

    /// Takes a slot that was never used.
    ///
    /// # Errors
    ///
    /// If there is no address space left or the kernel allows no more mappings.
    pub(super) fn take_new(&self) -> io::Result<usize> {
        let mut state = self.state();
        if state.regions.is_empty() || state.used == self.slots {
            let region = reserve(self.length * self.slots, self.access)?;
            state.regions.push(region);
            state.used = 0;
        }
        let region = state.regions[state.regions.len() - 1];
        state.used += 1;
        Ok(region + (state.used - 1) * self.length)
    }

    /// Makes a slot available to others again.
    pub(super) fn release(&self, slot: usize) {
        self.state().free.push(slot);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The contents are consistent between any two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for &region in &state.regions {
            // SAFETY: the region was mapped by `reserve`, and every owner of one of its slots held
            // this arena.
            let unmapped = unsafe { mm::munmap(pointer(region), self.length * self.slots) };
            debug_assert!(
                unmapped.is_ok(),
                "a region is a mapping of our own: {unmapped:?}"
            );
        }
    }
}

/// Reserves address space and returns its start.
fn reserve(length: usize, access: Access) -> io::Result<usize> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice affects no existing one.
    let region =
        unsafe { mm::mmap_anonymous(ptr::null_mut(), length, access.protection(), flags)? };
    // With huge pages, a process of a few kilobytes would take two megabytes. Kernels without huge
    // pages reject the advice.
    // SAFETY: the advice concerns our own mapping and changes no contents.
    let _ = unsafe { mm::madvise(region, length, Advice::LinuxNoHugepage) };
    Ok(region as usize)
}

/// Makes a range accessible or inaccessible, preserving its contents.
///
/// # Safety
///
/// The range consists of whole pages that belong to the caller.
pub(super) unsafe fn protect(start: usize, length: usize, access: Access) -> io::Result<()> {
    let flags = match access {
        Access::None => MprotectFlags::empty(),
        Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
    };
    // SAFETY: the caller vouches for the range.
    unsafe { mm::mprotect(pointer(start), length, flags)? };
    Ok(())
}

/// Returns the pages of a range to the kernel. If a file is mapped there, its contents become
/// visible again; otherwise the range reads as zeros.
///
/// # Safety
///
/// The range consists of whole pages that belong to the caller, and nothing refers to their
/// contents.
pub(super) unsafe fn discard(start: usize, length: usize) -> io::Result<()> {
    if length > 0 {
        // SAFETY: the caller vouches for the range.
        unsafe { mm::madvise(pointer(start), length, Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// Replaces a range with a fresh mapping, as in a new slot.
///
/// # Safety
///
/// The range consists of whole pages that belong to the caller, and nothing refers to their
/// contents.
pub(super) unsafe fn blank(start: usize, length: usize, access: Access) -> io::Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the caller vouches for the range.
    unsafe { mm::mmap_anonymous(pointer(start), length, access.protection(), flags)? };
    Ok(())
}

/// Turns a page into a guard: a touch is a fault. If the kernel supports it (Linux 6.13), that
/// splits no mapping.
///
/// # Safety
///
/// The page belongs to the caller, and nothing refers to its contents.
pub(super) unsafe fn guard(page: usize) -> io::Result<()> {
    // A kernel that does not know this advice reports so and changes nothing.
    // SAFETY: the caller vouches for the page.
    let installed = unsafe { libc::madvise(pointer(page), page_size(), MADV_GUARD_INSTALL) };
    if installed == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe { protect(page, page_size(), Access::None) }
}

/// Whether the kernel can guard pages without splitting mappings.
pub(super) fn has_light_guards() -> bool {
    let Ok(page) = reserve(page_size(), Access::ReadWrite) else {
        return false;
    };
    // SAFETY: the page was mapped above for this purpose.
    unsafe {
        let installed = libc::madvise(pointer(page), page_size(), MADV_GUARD_INSTALL) == 0;
        let _ = mm::munmap(pointer(page), page_size());
        installed
    }
}

/// Linux's number for the advice; `libc` does not define it on all architectures.
const MADV_GUARD_INSTALL: i32 = 102;

pub(super) fn page_size() -> usize {
    rustix::param::page_size()
}

pub(super) fn pointer(address: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(slot: usize, value: u8) {
        // SAFETY: the tests only touch accessible slots that they took.
        unsafe { pointer(slot).cast::<u8>().write_volatile(value) }
    }

    fn read(slot: usize) -> u8 {
        // SAFETY: as above.
        unsafe { pointer(slot).cast::<u8>().read_volatile() }
    }

    #[test]
    fn slots_do_not_overlap_and_come_back() {
        let arena = Arena::new(4 * page_size(), 3, Access::ReadWrite);
        let mut slots: Vec<usize> = (0..8)
            .map(|_| arena.take_new().expect("there is address space"))
            .collect();
        for (number, &slot) in slots.iter().enumerate() {
            write(slot, number as u8);
            write(slot + arena.length() - 1, number as u8);
        }
        for (number, &slot) in slots.iter().enumerate() {
            assert_eq!(
                (read(slot), read(slot + arena.length() - 1)),
                (number as u8, number as u8)
            );
        }
        slots.sort_unstable();
        assert!(
            slots
                .windows(2)
                .all(|pair| pair[0] + arena.length() <= pair[1]),
            "{slots:x?}"
        );
        assert_eq!(arena.take_used(), None);
        arena.release(slots[3]);
        assert_eq!(arena.take_used(), Some(slots[3]));
    }

    #[test]
    fn what_is_discarded_is_zero_again() {
        let arena = Arena::new(page_size(), 2, Access::ReadWrite);
        let slot = arena.take_new().expect("there is address space");
        write(slot, 7);
        // SAFETY: the slot was taken above.
        unsafe { discard(slot, page_size()) }.expect("the slot is a mapping");
        assert_eq!(read(slot), 0);
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let arena = Arena::new(1 << 40, 1 << 10, Access::None);
        let error = arena
            .take_new()
            .expect_err("no machine has a petabyte of address space");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}
