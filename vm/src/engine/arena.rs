//! An allocator of address space for many objects of the same size.
//!
//! An arena hands out slots: ranges of address space of equal length. Slots are packed into large
//! regions, which are reserved on demand. The kernel therefore needs few mappings for many slots,
//! and neighbouring slots share page tables. A slot's owner decides what it contains; the arena
//! only knows whether it is taken.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Allocates slots of equal length.
#[derive(Debug)]
pub(super) struct Arena {
    /// The length of a slot in bytes, a multiple of the page size.
    length: usize,
    /// The number of slots per region.
    slots: usize,
    /// The access permitted to slots that have never been taken.
    access: Access,
    state: Mutex<State>,
}

/// The access permitted to the bytes of a new slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// No access: any access faults.
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
    /// The start of each region. All regions are unmapped when the arena is dropped.
    regions: Vec<usize>,
    /// The number of slots handed out from the last region.
    used: usize,
    /// Released slots. The most recently released slot is on top, because its pages are the most
    /// likely to be cached.
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

    /// Takes a released slot, which still has the contents and access that its previous owner left.
    pub(super) fn take_used(&self) -> Option<usize> {
        self.state().free.pop()
    }

    /// Takes a slot that has never been used.
    ///
    /// # Errors
    ///
    /// Fails if there is no address space left or the kernel does not allow any more mappings.
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

    /// Makes a slot available for reuse.
    pub(super) fn release(&self, slot: usize) {
        self.state().free.push(slot);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The contents stay consistent even if a panic occurs while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for &region in &state.regions {
            // SAFETY: the region was mapped by `reserve`. Owners of its slots keep this arena
            // alive, so there are none left.
            let unmapped = unsafe { mm::munmap(pointer(region), self.length * self.slots) };
            debug_assert!(
                unmapped.is_ok(),
                "every region is a mapping that this arena created: {unmapped:?}"
            );
        }
    }
}

/// Reserves address space and returns its start.
fn reserve(length: usize, access: Access) -> io::Result<usize> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address chosen by the kernel does not affect existing mappings.
    let region =
        unsafe { mm::mmap_anonymous(ptr::null_mut(), length, access.protection(), flags)? };
    // With huge pages, a process that uses a few kilobytes would take up two megabytes. Kernels
    // without huge pages reject the advice.
    // SAFETY: the advice affects only the mapping created above and does not change its contents.
    let _ = unsafe { mm::madvise(region, length, Advice::LinuxNoHugepage) };
    Ok(region as usize)
}

/// Makes a range accessible or inaccessible, preserving its contents.
///
/// # Safety
///
/// The range must consist of whole pages that belong to the caller.
pub(super) unsafe fn protect(start: usize, length: usize, access: Access) -> io::Result<()> {
    let flags = match access {
        Access::None => MprotectFlags::empty(),
        Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
    };
    // SAFETY: the caller guarantees everything that this call requires of the range.
    unsafe { mm::mprotect(pointer(start), length, flags)? };
    Ok(())
}

/// Returns a range's pages to the kernel. If a file is mapped there, its contents become visible
/// again; otherwise, the range reads as zeros.
///
/// # Safety
///
/// The range must consist of whole pages that belong to the caller, and nothing may refer to their
/// contents.
pub(super) unsafe fn discard(start: usize, length: usize) -> io::Result<()> {
    if length > 0 {
        // SAFETY: the caller guarantees everything that this call requires of the range.
        unsafe { mm::madvise(pointer(start), length, Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// Replaces a range with a fresh mapping, as in a new slot.
///
/// # Safety
///
/// The range must consist of whole pages that belong to the caller, and nothing may refer to their
/// contents.
pub(super) unsafe fn blank(start: usize, length: usize, access: Access) -> io::Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the caller guarantees everything that this call requires of the range.
    unsafe { mm::mmap_anonymous(pointer(start), length, access.protection(), flags)? };
    Ok(())
}

/// Turns a page into a guard page: any access to it faults. If the kernel supports light guards
/// (Linux 6.13), this does not split the mapping.
///
/// # Safety
///
/// The page must belong to the caller, and nothing may refer to its contents.
pub(super) unsafe fn guard(page: usize) -> io::Result<()> {
    // A kernel that does not know this advice returns an error without changing anything.
    // SAFETY: the caller guarantees that the page is its own and that nothing refers to its
    // contents.
    let installed = unsafe { libc::madvise(pointer(page), page_size(), MADV_GUARD_INSTALL) };
    if installed == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe { protect(page, page_size(), Access::None) }
}

/// Returns whether the kernel can guard pages without splitting mappings.
pub(super) fn has_light_guards() -> bool {
    let Ok(page) = reserve(page_size(), Access::ReadWrite) else {
        return false;
    };
    // SAFETY: the page was mapped above and is not used for anything else.
    unsafe {
        let installed = libc::madvise(pointer(page), page_size(), MADV_GUARD_INSTALL) == 0;
        let _ = mm::munmap(pointer(page), page_size());
        installed
    }
}

/// Linux's number for this advice, which `libc` does not define on all architectures.
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
        // SAFETY: the tests touch only slots that they took and that are accessible.
        unsafe { pointer(slot).cast::<u8>().write_volatile(value) }
    }

    fn read(slot: usize) -> u8 {
        // SAFETY: as above.
        unsafe { pointer(slot).cast::<u8>().read_volatile() }
    }

    #[test]
    fn slots_do_not_overlap_and_are_reused() {
        let arena = Arena::new(4 * page_size(), 3, Access::ReadWrite);
        let mut slots: Vec<usize> = (0..8)
            .map(|_| arena.take_new().expect("address space is available"))
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
    fn discarded_pages_read_as_zeros() {
        let arena = Arena::new(page_size(), 2, Access::ReadWrite);
        let slot = arena.take_new().expect("address space is available");
        write(slot, 7);
        // SAFETY: the slot was taken above.
        unsafe { discard(slot, page_size()) }.expect("the slot is mapped");
        assert_eq!(read(slot), 0);
    }

    #[test]
    fn exhausting_the_address_space_is_an_error() {
        let arena = Arena::new(1 << 40, 1 << 10, Access::None);
        let error = arena
            .take_new()
            .expect_err("no machine has a petabyte of address space");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}
