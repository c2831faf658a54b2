//! What a memory begins with.
//!
//! An image is a file in memory that has the data of a module where the module wants it, and holes elsewhere. The memories of
//! all processes of the module are private mappings of it: a page that a process only reads is there once for all, and one
//! that it writes becomes its own at that moment. A memory is set back to its beginning from the same bytes.

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
    habit: Habit,
    /// Set when no new memory begins with it any more.
    is_given_up: AtomicBool,
}

/// Which pages the processes of a module write to, as far as they have shown it.
#[derive(Default)]
struct Habit {
    /// How many memories were made.
    made: AtomicUsize,
    /// Where one of the first lies.
    sample: AtomicUsize,
    pages: OnceLock<Vec<Range<usize>>>,
}

/// One of the first memories is looked at for what its process writes; not the very first, whose process is another one
/// than most. It is looked at when it has had time to do so.
const SAMPLE: usize = 8;
const LOOK: usize = 64;

/// So many pages at most are taken in advance.
const MOST_IN_ADVANCE: usize = 16;

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
        rustix::fs::fcntl_add_seals(
            &file,
            SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
        )?;
        Ok(Image {
            file,
            data: data.into(),
            start,
            length,
            habit: Habit::default(),
            is_given_up: AtomicBool::new(false),
        })
    }

    /// Says that no new memory begins with it any more.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::SeqCst)
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

    /// Takes the pages of a new memory that its process is likely to write to.
    ///
    /// A first touch that reads maps the file's page and its neighbours, and a write to one of these then changes the mapping
    /// under the eyes of all cores, which have to be told. To take them at once costs a third of that.
    ///
    /// # Safety
    ///
    /// The memory that begins at `base` is the caller's, and this image is mapped into all of its `size` bytes that it has.
    pub(super) unsafe fn take_in_advance(&self, base: usize, size: usize) {
        match self.habit.made.fetch_add(1, Ordering::Relaxed) {
            SAMPLE => self.habit.sample.store(base, Ordering::Relaxed),
            LOOK => {
                // Whatever lies there by now, it is only looked at, and what is taken in vain is a few pages.
                let sample = self.habit.sample.load(Ordering::Relaxed);
                let written =
                    pages::written(sample..sample + size.min(self.length), MOST_IN_ADVANCE);
                let offset = |range: Range<usize>| range.start - sample..range.end - sample;
                let _ = self.habit.pages.set(
                    written.map_or_else(Vec::new, |written| written.ranges().map(offset).collect()),
                );
            }
            _ => {}
        }
        for range in self
            .habit
            .pages
            .get()
            .into_iter()
            .flatten()
            .filter(|range| range.end <= size)
        {
            // Where it fails, the pages are taken when they are touched.
            // SAFETY: the range lies in the memory.
            let _ = unsafe {
                mm::madvise(
                    pointer(base + range.start),
                    range.len(),
                    Advice::LinuxPopulateWrite,
                )
            };
        }
    }

    /// Writes what a memory begins with over a part of it.
    ///
    /// # Safety
    ///
    /// The memory that begins at `base` is the caller's over this range and can be written, and nothing refers to what is in
    /// it.
    pub(super) unsafe fn restore(&self, base: usize, range: Range<usize>) {
        let end = self.start + self.data.len();
        let (from, to) = (
            range.start.clamp(self.start, end),
            range.end.clamp(self.start, end),
        );
        // SAFETY: the caller says that the range is his.
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

/// Writes zeros over a part of a memory.
///
/// # Safety
///
/// As [`Image::restore`].
pub(super) unsafe fn zero(base: usize, range: Range<usize>) {
    // SAFETY: the caller says that the range is his.
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
