//! Determines which pages in a range have been written to.
//!
//! Linux has been able to report this since version 6.7 (`PAGEMAP_SCAN`, described in the kernel's
//! `admin-guide/mm/pagemap`). It allows a memory to be reset by overwriting a few pages, which
//! costs less than returning all pages to the kernel and letting the next owner fault in new ones.
//! Other kernels cannot tell which pages have been written to.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use std::cell::Cell;
use std::fs::File;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

/// The maximum number of ranges reported. If there are more, the entire memory is treated as
/// written.
const MAX_RANGES: usize = 32;

/// The written pages, as ranges.
pub(super) struct Written {
    regions: [Region; MAX_RANGES],
    count: usize,
}

impl Written {
    /// Returns the written ranges in ascending order, as addresses of whole pages.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.regions[..self.count]
            .iter()
            .map(|region| region.start as usize..region.end as usize)
    }
}

/// Returns the pages of a private mapping that have been written to since it was mapped. Returns
/// `None` if there are more than `most` such pages or more than [`MAX_RANGES`] ranges of them, or
/// if the kernel cannot report them.
pub(super) fn written(range: Range<usize>, most: usize) -> Option<Written> {
    let file = PAGEMAP.as_ref()?;
    let mut written = Written {
        regions: [Region::default(); MAX_RANGES],
        count: 0,
    };
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        start: range.start as u64,
        end: range.end as u64,
        vec: written.regions.as_mut_ptr() as u64,
        vec_len: MAX_RANGES as u64,
        max_pages: most as u64,
        // A written page is private to the process: it is neither a page of the file nor the
        // kernel's zero page.
        category_inverted: FILE | ZERO,
        category_mask: FILE | ZERO,
        // The page may have been swapped out since it was written.
        category_anyof_mask: PRESENT | SWAPPED,
        ..Scan::default()
    };
    // SAFETY: the kernel writes to `scan` and to at most `vec_len` regions; both outlive the call.
    let count = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
    written.count = usize::try_from(count).ok()?;
    // The kernel stops early if more pages or ranges were written than it may report.
    (scan.walk_end == range.end as u64).then_some(written)
}

/// A point in the execution of a thread, after which it may write to memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u64);

thread_local! {
    /// The number of calls of [`has_faulted_since`] on this thread, and the number of page faults
    /// at the last one.
    static CHECKED: Cell<(u64, Option<u64>)> = const { Cell::new((0, None)) };
}

impl Moment {
    /// Returns the current moment of the current thread.
    pub(crate) fn now() -> Moment {
        Moment(CHECKED.get().0)
    }
}

/// Returns whether the current thread may have written to any page of a private mapping for the
/// first time since a moment of this thread.
///
/// The first write to such a page is a page fault, because the page is not mapped or not writable:
/// until then, it belongs to the file, is the kernel's zero page, or does not exist. The kernel
/// counts each fault for the thread whose code, or whose system call, it interrupted. This function
/// counts other faults too, as well as those between the previous call and the moment, so that it
/// reads the count only once per call. That takes a third of the time of asking which pages of a
/// small memory were written, and does not take the lock on the mappings.
pub(super) fn has_faulted_since(moment: Moment) -> bool {
    let now = faults();
    let (calls, before) = CHECKED.replace((CHECKED.get().0 + 1, now));
    // If there was another call since the moment, `before` is too recent.
    moment != Moment(calls) || now.is_none() || now != before
}

/// Returns how many page faults the current thread has had, with or without input.
fn faults() -> Option<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes only to `usage`, which outlives the call.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: the structure consists of numbers, which may all be zero.
    let usage = unsafe { usage.assume_init() };
    (answer == 0).then(|| usage.ru_minflt.cast_unsigned() + usage.ru_majflt.cast_unsigned())
}

/// The kernel's file for querying this process's pages. `None` if it does not exist or cannot
/// report which pages were written.
static PAGEMAP: LazyLock<Option<File>> = LazyLock::new(|| {
    let file = File::open("/proc/self/pagemap").ok()?;
    let mut nothing = Scan {
        size: size_of::<Scan>() as u64,
        ..Scan::default()
    };
    // SAFETY: the scanned range is empty and there is no output buffer, so the kernel writes only
    // to `nothing`.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut nothing) };
    (answer == 0).then_some(file)
});

/// Returns whether the kernel can report which pages were written.
pub(super) fn scan_is_supported() -> bool {
    PAGEMAP.is_some()
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;

const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;

/// The kernel's `struct pm_scan_arg`.
#[derive(Default)]
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// The kernel's `struct page_region`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const _: () = assert!(size_of::<Scan>() == 96);

#[cfg(test)]
mod tests {
    use super::super::arena::{Access, Arena, page_size, pointer};
    use super::super::image::Image;
    use super::*;

    fn write(address: usize) {
        // SAFETY: the tests write only to slots that they took and that are accessible.
        unsafe { pointer(address).cast::<u8>().write_volatile(7) }
    }

    fn read(address: usize) -> u8 {
        // SAFETY: as above.
        unsafe { pointer(address).cast::<u8>().read_volatile() }
    }

    #[test]
    fn the_first_write_to_a_page_is_a_fault() {
        const PAGES: usize = 32;
        let arena = Arena::new(PAGES * page_size(), 2, Access::ReadWrite);
        let [blank, mapped] = [(); 2].map(|()| arena.take_new().expect("memory is available"));
        let image = Image::new(0, b"data", false).expect("memory is available");
        // SAFETY: the slot was taken above.
        unsafe { image.map(mapped, 0..PAGES * page_size()) }.expect("the image is long enough");
        for slot in [blank, mapped] {
            // Every other page is read first, so that it is mapped when it is written to.
            for page in 0..PAGES {
                if page % 2 == 0 {
                    read(slot + page * page_size());
                }
                has_faulted_since(Moment::now());
                let moment = Moment::now();
                write(slot + page * page_size());
                assert!(has_faulted_since(moment), "page {page}");
                // The fault was before the last call, but after the moment.
                assert!(has_faulted_since(moment), "page {page}");
            }
        }
    }

    #[test]
    fn later_writes_to_a_page_are_not_faults() {
        let arena = Arena::new(page_size(), 1, Access::ReadWrite);
        let slot = arena.take_new().expect("memory is available");
        // Other faults are possible, but not every time.
        assert!((0..1_000).any(|_| {
            let moment = Moment::now();
            write(slot);
            !has_faulted_since(moment)
        }));
    }
}
