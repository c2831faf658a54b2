//! Address space for many things of one size.
//!
//! An arena hands out places: ranges of address space, all of one length, one after the other in large regions that are
//! reserved when they are needed. So the kernel has few mappings to keep for many places, and neighbours share tables of
//! pages. What a place contains is the business of who took it; the arena knows only whether it is taken.

use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places of one length.
#[derive(Debug)]
pub(super) struct Arena {
    /// How long a place is, in bytes; whole pages.
    length: usize,
    /// How many places are reserved at once.
    places: usize,
    /// What can be done with a place that nobody took yet.
    access: Access,
    state: Mutex<State>,
}

/// What can be done with the bytes of a new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: a touch is a fault.
    None,
    /// They are zeros that can be written.
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
    /// Where the regions begin. They are given back to the kernel with the arena.
    regions: Vec<usize>,
    /// How many places of the last region were handed out already.
    handed_out: usize,
    /// Places that were given back, the last one on top: its pages are the likeliest to be in a cache.
    free: Vec<usize>,
}

impl Arena {
    pub(super) fn new(length: usize, places: usize, access: Access) -> Arena {
        debug_assert!(length.is_multiple_of(page_size()) && places > 0);
        Arena {
            length,
            places,
            access,
            state: Mutex::default(),
        }
    }

    /// Returns how long a place is, in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Takes a place that was given back, as its last owner left it.
    pub(super) fn take_used(&self) -> Option<usize> {
        self.state().free.pop()
    }

    /// Takes a place that nobody ever had.
    ///
    /// # Errors
    ///
    /// Where there is no address space or the kernel allows no more mappings.
    pub(super) fn take_new(&self) -> io::Result<usize> {
        let mut state = self.state();
        if state.regions.is_empty() || state.handed_out == self.places {
            let region = reserve(self.length * self.places, self.access)?;
            state.regions.push(region);
            state.handed_out = 0;
        }
        let region = state.regions[state.regions.len() - 1];
        state.handed_out += 1;
        Ok(region + (state.handed_out - 1) * self.length)
    }

    /// Gives a place back.
    pub(super) fn give(&self, place: usize) {
        self.state().free.push(place);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is in there is consistent between any two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for &region in &state.regions {
            // SAFETY: the region was mapped by `reserve`, and every place in it was owned by somebody who held this arena.
            let unmapped = unsafe { mm::munmap(pointer(region), self.length * self.places) };
            debug_assert!(
                unmapped.is_ok(),
                "a region is whole pages of our own: {unmapped:?}"
            );
        }
    }
}

/// Reserves address space and returns where it begins.
fn reserve(length: usize, access: Access) -> io::Result<usize> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping, at an address of the kernel's choice, changes nothing that anybody has.
    let region =
        unsafe { mm::mmap_anonymous(ptr::null_mut(), length, access.protection(), flags)? };
    // A huge page would make a process of a few kilobytes one of two megabytes. Kernels without them refuse the advice.
    // SAFETY: it is advice about a mapping of our own, and changes no content.
    let _ = unsafe { mm::madvise(region, length, Advice::LinuxNoHugepage) };
    Ok(region as usize)
}

/// Makes bytes that belong to the caller accessible or not. What is in them stays.
///
/// # Safety
///
/// The range is whole pages, and is the caller's.
pub(super) unsafe fn protect(start: usize, length: usize, access: Access) -> io::Result<()> {
    let flags = match access {
        Access::None => MprotectFlags::empty(),
        Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
    };
    // SAFETY: the caller says that it is his.
    unsafe { mm::mprotect(pointer(start), length, flags)? };
    Ok(())
}

/// Gives the pages of a range back to the kernel. Where it is a mapping of a file, what the file has is there again; zeros
/// elsewhere.
///
/// # Safety
///
/// The range is whole pages, is the caller's, and nothing refers to what is in it.
pub(super) unsafe fn discard(start: usize, length: usize) -> io::Result<()> {
    if length > 0 {
        // SAFETY: the caller says that it is his.
        unsafe { mm::madvise(pointer(start), length, Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// Replaces a range by one without content, as a new place is.
///
/// # Safety
///
/// The range is whole pages, is the caller's, and nothing refers to what is in it.
pub(super) unsafe fn blank(start: usize, length: usize, access: Access) -> io::Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the caller says that it is his.
    unsafe { mm::mmap_anonymous(pointer(start), length, access.protection(), flags)? };
    Ok(())
}

/// Makes a page one whose touch is a fault. Where the kernel can (Linux 6.13), that splits no mapping.
///
/// # Safety
///
/// The page is the caller's, and nothing refers to what is in it.
pub(super) unsafe fn guard(page: usize) -> io::Result<()> {
    // `MADV_GUARD_INSTALL`. A kernel that does not know it says so, and changes nothing.
    // SAFETY: the caller says that the page is his.
    let installed = unsafe { libc::madvise(pointer(page), page_size(), MADV_GUARD_INSTALL) };
    if installed == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe { protect(page, page_size(), Access::None) }
}

/// Whether the kernel makes pages guards without splitting mappings.
pub(super) fn has_light_guards() -> bool {
    let Ok(page) = reserve(page_size(), Access::ReadWrite) else {
        return false;
    };
    // SAFETY: the page was mapped here, for this.
    unsafe {
        let installed = libc::madvise(pointer(page), page_size(), MADV_GUARD_INSTALL) == 0;
        let _ = mm::munmap(pointer(page), page_size());
        installed
    }
}

/// Linux's number for it; `libc` does not have it on all architectures.
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

    fn write(place: usize, value: u8) {
        // SAFETY: the tests write into places that they took and that are accessible.
        unsafe { pointer(place).cast::<u8>().write_volatile(value) }
    }

    fn read(place: usize) -> u8 {
        // SAFETY: as above.
        unsafe { pointer(place).cast::<u8>().read_volatile() }
    }

    #[test]
    fn places_do_not_overlap_and_come_back() {
        let arena = Arena::new(4 * page_size(), 3, Access::ReadWrite);
        let mut places: Vec<usize> = (0..8)
            .map(|_| arena.take_new().expect("there is address space"))
            .collect();
        for (number, &place) in places.iter().enumerate() {
            write(place, number as u8);
            write(place + arena.length() - 1, number as u8);
        }
        for (number, &place) in places.iter().enumerate() {
            assert_eq!(
                (read(place), read(place + arena.length() - 1)),
                (number as u8, number as u8)
            );
        }
        places.sort_unstable();
        assert!(
            places
                .windows(2)
                .all(|pair| pair[0] + arena.length() <= pair[1]),
            "{places:x?}"
        );
        assert_eq!(arena.take_used(), None);
        arena.give(places[3]);
        assert_eq!(arena.take_used(), Some(places[3]));
    }

    #[test]
    fn what_is_discarded_is_zero_again() {
        let arena = Arena::new(page_size(), 2, Access::ReadWrite);
        let place = arena.take_new().expect("there is address space");
        write(place, 7);
        // SAFETY: the place was taken here.
        unsafe { discard(place, page_size()) }.expect("it is mapped");
        assert_eq!(read(place), 0);
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let arena = Arena::new(1 << 40, 1 << 10, Access::None);
        let error = arena
            .take_new()
            .expect_err("no machine has a petabyte of addresses");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}
