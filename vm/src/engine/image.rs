//! The initial contents of a module's linear memory.
//!
//! An image is an in-memory file that contains a module's data at the offsets that the module
//! specifies, and holes elsewhere. The memories of all processes that run the module are private
//! mappings of the file. Pages that are only read are shared, and a page that a process writes to
//! is copied for that process. When a memory is reset, its contents are restored from the image.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::arena::{page_size, pointer};
use super::pages;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The size of the hole after an image's data, in bytes. The hole becomes the first pages of the
/// heap, so the heap does not need its own mapping at first. The hole is small because even reading
/// a page in it allocates memory in the file, and no process is charged for that memory.
const TRAILING_HOLE: usize = 4 << 20;

/// Like [`TRAILING_HOLE`], but for a module that a guest compiles. The guest is charged for the
/// entire file.
const TRAILING_HOLE_OF_GUESTS: usize = 64 << 10;

/// Long stretches of zeros are left out of an image. The length is that of the shortest one.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The initial contents of a module's memory.
pub(crate) struct Image {
    file: File,
    /// The data, padded with zeros to whole pages.
    data: Box<[u8]>,
    /// The offset of `data` within a memory.
    start: usize,
    /// The length of the file.
    length: usize,
    pattern: WritePattern,
    /// Set once no new memory will use the image.
    is_retired: AtomicBool,
}

/// The pages that a module's processes are likely to write to, as observed in a sampled memory.
#[derive(Default)]
struct WritePattern {
    /// The number of memories created.
    made: AtomicUsize,
    /// The address of the sampled memory.
    sample: AtomicUsize,
    pages: OnceLock<Vec<Range<usize>>>,
}

/// The index, among a module's memories, of the one whose written pages are sampled. The first
/// memory is not used, because the first process is rarely typical.
const SAMPLED: usize = 8;

/// The number of memories created before the sample is taken. By then, the sampled process has had
/// time to write.
const SAMPLED_AT: usize = 64;

/// The maximum number of prefaulted pages.
const MAX_PREFAULTED: usize = 16;

impl Image {
    /// Creates an image that has `bytes` at `offset` and zeros elsewhere.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to create the file.
    pub(crate) fn new(offset: usize, bytes: &[u8], is_guests: bool) -> io::Result<Image> {
        let start = offset - offset % page_size();
        let end = (offset + bytes.len()).next_multiple_of(page_size());
        let mut data = vec![0; end - start];

        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("lunatic-image", flags)?);
        let hole = match is_guests {
            true => TRAILING_HOLE_OF_GUESTS,
            false => TRAILING_HOLE,
        };
        let length = end + hole;
        file.set_len(length as u64)?;
        // Neither the file nor `data` occupies memory where there are only zeros.
        for (number, chunk) in bytes.chunks(ZEROS.len()).enumerate() {
            if *chunk != ZEROS[..chunk.len()] {
                let at = offset + number * ZEROS.len();
                data[at - start..][..chunk.len()].copy_from_slice(chunk);
                file.write_all_at(chunk, at as u64)?;
            }
        }
        // The file is sealed against changes, including truncation, so that mapped pages cannot
        // disappear.
        rustix::fs::fcntl_add_seals(
            &file,
            SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
        )?;
        Ok(Image {
            file,
            data: data.into(),
            start,
            length,
            pattern: WritePattern::default(),
            is_retired: AtomicBool::new(false),
        })
    }

    /// Records that no new memory will use the image.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::SeqCst)
    }

    /// Returns the maximum number of bytes that the image can occupy: the data in this process, and
    /// the file including its holes.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.length
    }

    /// Returns how many bytes at the start of a memory can be mapped from the image.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Maps part of the image into the corresponding range of a memory. The mapping is private and
    /// writable.
    ///
    /// # Safety
    ///
    /// The range of the memory at `base` must consist of whole pages that belong to the caller, and
    /// nothing may refer to their contents.
    pub(super) unsafe fn map(&self, base: usize, range: Range<usize>) -> io::Result<()> {
        debug_assert!(range.end <= self.length);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // Writes do not go to the file, so the kernel does not have to reserve memory for the
        // entire mapping.
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let (start, offset) = (pointer(base + range.start), range.start as u64);
        // SAFETY: the caller guarantees everything that this call requires of the range.
        unsafe { mm::mmap(start, range.len(), protection, flags, &self.file, offset)? };
        Ok(())
    }

    /// Faults in those pages of a new memory that its process is likely to write to.
    ///
    /// Otherwise, the first read of a page maps the page and its neighbours from the file. A later
    /// write to any of them changes the mapping, which requires a TLB shootdown on all cores.
    /// Prefaulting costs a third as much.
    ///
    /// # Safety
    ///
    /// The memory of `size` bytes at `base` must belong to the caller, and this image must be
    /// mapped into it as far as the image extends.
    pub(super) unsafe fn prefault(&self, base: usize, size: usize) {
        match self.pattern.made.fetch_add(1, Ordering::Relaxed) {
            SAMPLED => self.pattern.sample.store(base, Ordering::Relaxed),
            SAMPLED_AT => {
                // By now, the sampled address may belong to a different memory. The kernel is only
                // asked which pages were written, so the worst case is that a few pages are
                // prefaulted needlessly.
                let sample = self.pattern.sample.load(Ordering::Relaxed);
                let written =
                    pages::written(sample..sample + size.min(self.length), MAX_PREFAULTED);
                let offset = |range: Range<usize>| range.start - sample..range.end - sample;
                let _ = self.pattern.pages.set(
                    written.map_or_else(Vec::new, |written| written.ranges().map(offset).collect()),
                );
            }
            _ => {}
        }
        for range in self
            .pattern
            .pages
            .get()
            .into_iter()
            .flatten()
            .filter(|range| range.end <= size)
        {
            // If this fails, the pages are faulted in on first access.
            // SAFETY: the range is within the memory.
            let _ = unsafe {
                mm::madvise(
                    pointer(base + range.start),
                    range.len(),
                    Advice::LinuxPopulateWrite,
                )
            };
        }
    }

    /// Overwrites a range of a memory with its initial contents.
    ///
    /// # Safety
    ///
    /// The range of the memory at `base` must belong to the caller and be writable, and nothing may
    /// refer to its contents.
    pub(super) unsafe fn restore(&self, base: usize, range: Range<usize>) {
        let end = self.start + self.data.len();
        let (from, to) = (
            range.start.clamp(self.start, end),
            range.end.clamp(self.start, end),
        );
        // SAFETY: the caller guarantees everything that this call requires of the range.
        unsafe {
            if from < to {
                let data = &self.data[from - self.start..to - self.start];
                pointer(base + from)
                    .cast::<u8>()
                    .copy_from_nonoverlapping(data.as_ptr(), data.len());
                zero(base, range.start..from);
                zero(base, to..range.end);
            } else {
                zero(base, range);
            }
        }
    }
}

/// Overwrites a range of a memory with zeros.
///
/// # Safety
///
/// The same as for [`Image::restore`].
pub(super) unsafe fn zero(base: usize, range: Range<usize>) {
    // SAFETY: the caller guarantees everything that this call requires of the range.
    unsafe {
        pointer(base + range.start)
            .cast::<u8>()
            .write_bytes(0, range.len())
    };
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("start", &self.start)
            .field("length", &self.data.len())
            .finish_non_exhaustive()
    }
}
