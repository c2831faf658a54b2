//! Which pages of a range were written.
//!
//! Linux tells it since 6.7 (`PAGEMAP_SCAN`, in its `admin-guide/mm/pagemap`). So a memory is made what it was by writing
//! over a few pages, which costs less than to give all of them back and to have the next owner take new ones. Where the
//! kernel does not tell, the answer is that it is not known.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

/// So many ranges of pages are told of at once. Who wrote to more places is treated as one that wrote everywhere.
const MAX_RANGES: usize = 32;

/// The written ranges of a range.
pub(super) struct Written {
    regions: [Region; MAX_RANGES],
    count: usize,
}

impl Written {
    /// Returns the written ranges, from low to high, as addresses of whole pages.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.regions[..self.count]
            .iter()
            .map(|region| region.start as usize..region.end as usize)
    }
}

/// Returns which pages of a private mapping differ from what they were when it was mapped; `None` where that is more than
/// so many pages, more than some ranges, or not known.
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
        // A page that was written is the process's own: not the file's, and not the kernel's page of zeros.
        category_inverted: FILE | ZERO,
        category_mask: FILE | ZERO,
        // It may have been swapped out meanwhile.
        category_anyof_mask: PRESENT | SWAPPED,
        ..Scan::default()
    };
    // SAFETY: the kernel writes to the record and, as far as `vec_len` says, to the regions, which both outlive the call.
    let count = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
    written.count = usize::try_from(count).ok()?;
    // It stops early where there is more than it may tell.
    (scan.walk_end == range.end as u64).then_some(written)
}

/// The kernel's view of this process's pages; `None` where there is none, or where it cannot be asked for what was written.
static PAGEMAP: LazyLock<Option<File>> = LazyLock::new(|| {
    let file = File::open("/proc/self/pagemap").ok()?;
    let mut nothing = Scan {
        size: size_of::<Scan>() as u64,
        ..Scan::default()
    };
    // SAFETY: an empty range is scanned into no regions.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut nothing) };
    (answer == 0).then_some(file)
});

/// Whether the kernel tells what was written.
pub(super) fn are_told() -> bool {
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
