//! Determines which pages in a range have been written to.
//!
//! Linux has been able to report this since version 6.7 (`PAGEMAP_SCAN`, described in the kernel's
//! `admin-guide/mm/pagemap`). It allows a memory to be reset by overwriting a few pages, which
//! costs less than returning all pages to the kernel and letting the next owner fault in new ones.
//! Other kernels cannot tell which pages have been written to.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use std::fs::File;
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
