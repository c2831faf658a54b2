//! What a memory begins with.
//!
//! An image is a file in memory that has the data of a module where the module wants it, and holes elsewhere. The memories of
//! all processes of the module are private mappings of it: a page that a process only reads is there once for all, and one
//! that it writes becomes its own at that moment. A memory is set back to its beginning from the same bytes.

use super::arena::{page_size, pointer};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{self, MapFlags, ProtFlags};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Behind its data an image has so many bytes of holes, which become the first pages of a heap. That costs no mapping then;
/// but what is only read there takes a page of the file, which is nobody's to pay, so there are not many.
const ROOM: usize = 4 << 20;

/// What the memory of a module begins with.
pub(crate) struct Image {
    file: File,
    /// The data, from the page where they begin to the page where they end.
    data: Box<[u8]>,
    /// Where they begin.
    start: usize,
    /// How long the file is.
    length: usize,
}

impl Image {
    /// Makes an image that has these bytes there, and zeros elsewhere.
    ///
    /// # Errors
    ///
    /// Where the kernel gives no such file.
    pub(crate) fn new(offset: usize, bytes: &[u8]) -> io::Result<Image> {
        let start = offset - offset % page_size();
        let end = (offset + bytes.len()).next_multiple_of(page_size());
        let mut data = vec![0; end - start];
        data[offset - start..][..bytes.len()].copy_from_slice(bytes);

        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("lunatic-image", flags)?);
        let length = end + ROOM;
        file.set_len(length as u64)?;
        file.write_all_at(&data, start as u64)?;
        // Nobody changes it any more: not its length either, so that no page of a mapping can go away.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        Ok(Image { file, data: data.into(), start, length })
    }

    /// Returns how many bytes of a memory it can be mapped into.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Maps the part of the image that belongs into a range of a memory, private and writable.
    ///
    /// # Safety
    ///
    /// The memory that begins at `base` is the caller's over this range, of whole pages, and nothing refers to what is in it.
    pub(super) unsafe fn map(&self, base: usize, range: Range<usize>) -> io::Result<()> {
        debug_assert!(range.end <= self.length);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // What is written is not written to the file, so the kernel need not set memory aside for all of it.
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let (start, offset) = (pointer(base + range.start), range.start as u64);
        // SAFETY: the caller says that the range is his.
        unsafe { mm::mmap(start, range.len(), protection, flags, &self.file, offset)? };
        Ok(())
    }

    /// Writes what a memory begins with over a part of it.
    ///
    /// # Safety
    ///
    /// The memory that begins at `base` is the caller's over this range and can be written, and nothing refers to what is in
    /// it.
    pub(super) unsafe fn restore(&self, base: usize, range: Range<usize>) {
        let end = self.start + self.data.len();
        let (from, to) = (range.start.clamp(self.start, end), range.end.clamp(self.start, end));
        // SAFETY: the caller says that the range is his.
        unsafe {
            if from < to {
                let data = &self.data[from - self.start..to - self.start];
                pointer(base + from).cast::<u8>().copy_from_nonoverlapping(data.as_ptr(), data.len());
                zero(base, range.start..from);
                zero(base, to..range.end);
            } else {
                zero(base, range);
            }
        }
    }
}

/// Writes zeros over a part of a memory.
///
/// # Safety
///
/// As [`Image::restore`].
pub(super) unsafe fn zero(base: usize, range: Range<usize>) {
    // SAFETY: the caller says that the range is his.
    unsafe { pointer(base + range.start).cast::<u8>().write_bytes(0, range.len()) };
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("start", &self.start).field("length", &self.data.len()).finish_non_exhaustive()
    }
}
