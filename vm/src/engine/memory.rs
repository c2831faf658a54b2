//! Linear memories, allocated in arenas.
//!
//! Each memory occupies a slot of an arena. The length of the slot depends on the profile. In
//! `fast`, every 32-bit address is inside the slot, and everything beyond the end of the memory is
//! inaccessible, so code does not need any checks. In `dense`, the slot is initially only a little
//! longer than the memory, code checks every access, and a memory that outgrows its slot is moved
//! to a longer one.
//!
//! When a memory is dropped, its initial contents are restored before the slot is reused. Modified
//! pages are overwritten, or returned to the kernel if there are many.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use super::arena::{self, Access, Arena};
use super::image::{self, Image};
use super::kind::Profile;
use super::mappings::{self, Mappings};
use super::pages::{self, Moment};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// How far beyond 4 GiB, using a constant offset, code in the `fast` profile can reach without a
/// check. A range of this length at the end of every slot is always inaccessible.
pub(super) const GUARD: usize = 32 << 20;

/// The range of a 32-bit address, and so the maximum size of a module's memory, in bytes.
pub(super) const ADDRESSABLE: usize = 1 << 32;

/// The maximum number of pages that are overwritten when a memory is dropped. If more were
/// modified, all pages are returned to the kernel.
const MAX_RESTORED_PAGES: usize = 64;

/// The number of slots that are reserved at a time.
const FAST_SLOTS: usize = 16;
const DENSE_SLOTS: usize = 256;

/// The maximum number of resident pages in all pooled memories (128 MiB). A page that stays
/// resident saves the memory's next owner a page fault.
const MAX_READY_PAGES: usize = (128 << 20) / 4_096;

/// Returns whether there is enough address space for the `fast` profile.
pub(super) fn has_address_space() -> bool {
    Arena::new(ADDRESSABLE + GUARD, FAST_SLOTS, Access::None)
        .take_new()
        .is_ok()
}

thread_local! {
    /// The initial contents of the memories being created on this thread.
    static IMAGE: RefCell<Option<Arc<Image>>> = const { RefCell::new(None) };
}

/// Calls `act`, and initializes memories that wasmtime creates on this thread during the call from
/// the image.
pub(crate) fn with_image<Output>(
    image: Option<&Arc<Image>>,
    act: impl FnOnce() -> Output,
) -> Output {
    /// Restores the previous image, even if `act` panics.
    struct Before(Option<Arc<Image>>);
    impl Drop for Before {
        fn drop(&mut self) {
            IMAGE.set(self.0.take());
        }
    }
    let _before = Before(IMAGE.replace(image.cloned()));
    act()
}

/// Allocates memories for an engine.
#[derive(Debug)]
pub(crate) struct Memories {
    profile: Profile,
    /// The arenas by slot length. In `fast` there is only one arena.
    arenas: Mutex<BTreeMap<usize, Arc<Arena>>>,
    /// Memories that were dropped and restored to their initial contents.
    ready: Mutex<Ready>,
}

/// Memories that are ready for reuse.
#[derive(Debug, Default)]
struct Ready {
    /// The memories by image and size.
    by_image: HashMap<(*const Image, usize), ReadyMemories>,
    /// The total number of resident pages in these memories.
    pages: usize,
}

// SAFETY: the pointers are only compared, never dereferenced.
unsafe impl Send for Ready {}

/// Memories that are ready for reuse and were initialized from the same image.
#[derive(Debug)]
struct ReadyMemories {
    /// Keeps the image alive, so that its address, which is part of the key, is not reused.
    _image: Arc<Image>,
    /// The memories, with the most recently dropped memory on top.
    memories: Vec<ReadyMemory>,
}

/// A memory that is ready for reuse.
#[derive(Debug)]
struct ReadyMemory {
    arena: Arc<Arena>,
    base: usize,
    /// The number of resident pages.
    pages: usize,
    _mappings: Mappings,
}

impl Memories {
    pub(super) fn new(profile: Profile) -> Memories {
        Memories {
            profile,
            arenas: Mutex::default(),
            ready: Mutex::default(),
        }
    }

    /// Allocates a memory of `size` bytes.
    fn make(self: &Arc<Self>, size: usize, image: Option<Arc<Image>>) -> io::Result<Memory> {
        if let Some(image) = &image
            && let Some(ReadyMemory { arena, base, .. }) = self.take_ready(image, size)
        {
            return Ok(Memory {
                memories: self.clone(),
                arena,
                base,
                size,
                initial_size: size,
                image: Some(image.clone()),
            });
        }
        let arena = self.arena(self.slot_length(size));
        let base = match arena.take_used() {
            Some(base) => base,
            None => arena.take_new()?,
        };
        let memory = Memory {
            memories: self.clone(),
            arena,
            base,
            size,
            initial_size: size,
            image,
        };
        // Unused slots are blank. If a later step fails, dropping `memory` blanks the slot again.
        let accessible = match self.profile {
            Profile::Fast => size,
            Profile::Dense => memory.arena.length(),
        };
        // SAFETY: the slot was taken above.
        unsafe {
            memory.open(0..accessible)?;
            if let Some(image) = &memory.image {
                image.prefault(memory.base, size);
            }
        }
        Ok(memory)
    }

    /// Returns the slot length for a memory of `size` bytes.
    fn slot_length(&self, size: usize) -> usize {
        match self.profile {
            Profile::Fast => ADDRESSABLE + GUARD,
            Profile::Dense => size_class(size),
        }
    }

    fn arena(&self, length: usize) -> Arc<Arena> {
        let slots = match self.profile {
            Profile::Fast => FAST_SLOTS,
            // Long slots are rare, so only a few are reserved at a time.
            Profile::Dense => (DENSE_SLOTS << 20 >> length.ilog2()).clamp(1, DENSE_SLOTS),
        };
        let mut arenas = self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        arenas
            .entry(length)
            .or_insert_with(|| Arc::new(Arena::new(length, slots, self.access())))
            .clone()
    }

    /// Returns the access permitted to an unused slot.
    fn access(&self) -> Access {
        match self.profile {
            Profile::Fast => Access::None,
            Profile::Dense => Access::ReadWrite,
        }
    }

    fn take_ready(&self, image: &Arc<Image>, size: usize) -> Option<ReadyMemory> {
        let mut ready = self.ready();
        let memory = ready
            .by_image
            .get_mut(&(Arc::as_ptr(image), size))?
            .memories
            .pop()?;
        ready.pages -= memory.pages;
        Some(memory)
    }

    /// Adds a restored memory of an image to the pool, for reuse by another process. Returns false
    /// if the pool is full.
    fn keep_ready(
        &self,
        image: &Arc<Image>,
        size: usize,
        arena: &Arc<Arena>,
        base: usize,
        pages: usize,
    ) -> bool {
        // The mappings reserved by the memory's process are about to be released, so the pool
        // reserves its own.
        let Some(mappings) = Mappings::take(mappings::of_memory(self.profile)) else {
            return false;
        };
        let mut ready = self.ready();
        // `forget` takes this lock after it retires the image, so this check cannot miss it.
        if image.is_retired() || ready.pages + pages > MAX_READY_PAGES {
            return false;
        }
        ready.pages += pages;
        let memory = ReadyMemory {
            arena: arena.clone(),
            base,
            pages,
            _mappings: mappings,
        };
        let key = (Arc::as_ptr(image), size);
        let of_image = ready.by_image.entry(key);
        of_image
            .or_insert_with(|| ReadyMemories {
                _image: image.clone(),
                memories: Vec::new(),
            })
            .memories
            .push(memory);
        true
    }

    /// Releases the memories kept for an image, and stops keeping any, because no new process will
    /// need them.
    pub(crate) fn forget(&self, image: &Arc<Image>) {
        image.retire();
        self.release_ready(|other| other == Arc::as_ptr(image));
    }

    /// Releases all pooled memories.
    pub(super) fn trim(&self) {
        self.release_ready(|_| true);
    }

    fn release_ready(&self, which: impl Fn(*const Image) -> bool) {
        let memories: Vec<ReadyMemory> = {
            let mut ready = self.ready();
            let memories: Vec<ReadyMemory> = ready
                .by_image
                .extract_if(|key, _| which(key.0))
                .flat_map(|(_, of_image)| of_image.memories)
                .collect();
            ready.pages -= memories.iter().map(|memory| memory.pages).sum::<usize>();
            memories
        };
        for memory in memories {
            self.release(&memory.arena, memory.base);
        }
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        // The contents are consistent at every point where a panic can occur.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restores a memory to its initial contents and returns the number of its resident pages.
    /// Returns `None` without restoring it if that would cost more than creating a new memory, or
    /// if the kernel cannot tell which pages were modified.
    ///
    /// # Safety
    ///
    /// `bytes` must be an entire memory that was allocated by [`Memories`] and initialized from
    /// this image, or with zeros if the image is `None`. Nothing may refer to its contents.
    unsafe fn reset(bytes: NonNull<[u8]>, image: Option<&Image>) -> Option<usize> {
        let written = Written::read(bytes)?;
        // SAFETY: the caller guarantees everything that this call requires, and the pages are those
        // of `bytes`.
        unsafe { written.restore(bytes, image) };
        Some(written.pages())
    }

    /// Restores a memory to its initial contents, like [`Memories::reset`], but does not ask the
    /// kernel which pages were written if no page has been added to those that `written` contains.
    /// `written` is `None` until a memory is restored for the first time. Returns false if the
    /// memory was not restored.
    ///
    /// `since` is a moment of the current thread, if only this thread, and only since that moment,
    /// has written to the memory after it was last restored.
    ///
    /// # Safety
    ///
    /// The same as for [`Memories::reset`]. In addition, `written` must have been passed to each
    /// earlier call for this memory and to no call for any other memory, and `since` must be
    /// correct.
    pub(crate) unsafe fn reset_again(
        bytes: NonNull<[u8]>,
        image: Option<&Image>,
        written: &mut Option<Written>,
        since: Option<Moment>,
    ) -> bool {
        // This is asked even if nothing is known yet, so that faults up to now do not matter the
        // next time.
        let has_faulted = since.is_none_or(pages::has_faulted_since);
        if has_faulted || written.is_none() {
            *written = Written::read(bytes);
        }
        let Some(written) = written else {
            return false;
        };
        // SAFETY: the caller guarantees everything that this call requires. The pages are those of
        // `bytes`, because `written` is used for no other memory.
        unsafe { written.restore(bytes, image) };
        true
    }

    /// Blanks a slot and releases it.
    fn release(&self, arena: &Arc<Arena>, base: usize) {
        // SAFETY: the caller gives up the entire slot.
        match unsafe { arena::blank(base, arena.length(), self.access()) } {
            Ok(()) => arena.release(base),
            // A slot that could not be blanked is never reused. Its address space stays reserved
            // until the machine is dropped.
            Err(error) => log::warn!("the memory at {base:#x} could not be released: {error}"),
        }
    }
}

/// The pages of one memory that have been written to, as ranges of offsets.
#[derive(Debug)]
pub(crate) struct Written(Box<[Range<usize>]>);

impl Written {
    /// Asks the kernel which pages of a memory have been written to. Returns `None` if there are
    /// many, or if the kernel cannot tell.
    fn read(bytes: NonNull<[u8]>) -> Option<Written> {
        let base = bytes.addr().get();
        let written = pages::written(base..base + bytes.len(), MAX_RESTORED_PAGES)?;
        let offsets = |range: Range<usize>| range.start - base..range.end - base;
        Some(Written(written.ranges().map(offsets).collect()))
    }

    /// Returns the number of pages.
    fn pages(&self) -> usize {
        let pages = |range: &Range<usize>| range.len() / arena::page_size();
        self.0.iter().map(pages).sum()
    }

    /// Overwrites the pages with their initial contents.
    ///
    /// # Safety
    ///
    /// The same as for [`Memories::reset`]. The pages must be those of `bytes`.
    unsafe fn restore(&self, bytes: NonNull<[u8]>, image: Option<&Image>) {
        let base = bytes.cast::<u8>().as_ptr().expose_provenance();
        for range in &self.0 {
            // SAFETY: the range is within `bytes`, and the caller guarantees everything that these
            // calls require of `bytes`.
            unsafe {
                match image {
                    Some(image) => image.restore(base, range.clone()),
                    None => image::zero(base, range.clone()),
                }
            }
        }
    }
}

/// Returns the slot length for a memory of `size` bytes in the `dense` profile. The slot is at
/// least an eighth longer than the memory, so that the heap can grow a little. The length is
/// rounded up to one of four size classes per power of two, so that slots can be reused.
fn size_class(size: usize) -> usize {
    let wanted = (size + size / 8 + (64 << 10)).max(128 << 10);
    let step = (1 << wanted.ilog2()) / 4;
    wanted.next_multiple_of(step)
}

/// A linear memory.
#[derive(Debug)]
struct Memory {
    memories: Arc<Memories>,
    arena: Arc<Arena>,
    base: usize,
    size: usize,
    /// The memory's size when it was created.
    initial_size: usize,
    image: Option<Arc<Image>>,
}

impl Memory {
    /// Makes a range of a blank slot accessible. Afterwards, the range contains the image as far as
    /// it extends, and zeros elsewhere.
    ///
    /// # Safety
    ///
    /// The range is relative to the slot's base. It must consist of whole pages and be within the
    /// slot.
    unsafe fn open(&self, range: Range<usize>) -> io::Result<()> {
        let of_image = self
            .image
            .as_ref()
            .map_or(0, |image| image.length())
            .clamp(range.start, range.end);
        if let Some(image) = &self.image
            && of_image > range.start
        {
            // SAFETY: the slot belongs to this memory, and the range is within the slot.
            unsafe { image.map(self.base, range.start..of_image)? };
        }
        if self.memories.profile == Profile::Fast && of_image < range.end {
            // SAFETY: as above.
            unsafe {
                arena::protect(
                    self.base + of_image,
                    range.end - of_image,
                    Access::ReadWrite,
                )?
            };
        }
        Ok(())
    }

    fn bytes(&self) -> NonNull<[u8]> {
        let start = NonNull::new(arena::pointer(self.base).cast::<u8>())
            .expect("the kernel maps nothing at address 0");
        NonNull::slice_from_raw_parts(start, self.size)
    }

    /// Moves to a longer slot.
    fn move_to(&mut self, size: usize) -> io::Result<()> {
        let mut longer = self.memories.make(size, self.image.clone())?;
        longer.initial_size = self.initial_size;
        let everything = self.base..self.base + self.size;
        let whole = pages::written(everything.clone(), self.size / arena::page_size());
        let copy = |range: Range<usize>| {
            let offset = range.start - self.base;
            let (from, to) = (
                arena::pointer(range.start),
                arena::pointer(longer.base + offset),
            );
            // SAFETY: the ranges have the same length; one is in this memory and the other in the
            // new one.
            unsafe {
                to.cast::<u8>()
                    .copy_from_nonoverlapping(from.cast(), range.len())
            };
        };
        match whole {
            // All other pages are unmodified, so the new memory already has their contents.
            Some(written) => written.ranges().for_each(copy),
            None => copy(everything),
        }
        std::mem::swap(self, &mut longer);
        // `longer` is now the old memory, and dropping it releases the old slot.
        Ok(())
    }
}

// SAFETY: the memory consists of `size` readable and writable bytes, starting at `base`, that
// nothing else uses. They move only when `grow_to` exceeds the capacity. In the `fast` profile, the
// rest of the 4 GiB and the guard after it are inaccessible. In `dense`, compiled code does not
// rely on either, because the engine is configured without a reservation or guard.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        match self.memories.profile {
            Profile::Fast => ADDRESSABLE,
            Profile::Dense => self.arena.length(),
        }
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        let grown = if size > self.byte_capacity() {
            self.move_to(size)
        } else if self.memories.profile == Profile::Fast {
            // SAFETY: the range after the memory, up to its new size, is within its slot.
            unsafe { self.open(self.size..size) }
        } else {
            Ok(())
        };
        grown.map_err(|error| {
            wasmtime::Error::msg(format!(
                "the memory could not grow to {size} bytes: {error}"
            ))
        })?;
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        arena::pointer(self.base).cast()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A memory that has grown cannot be reused for a new process.
        if let Some(image) = &self.image
            && self.size == self.initial_size
            // SAFETY: this memory is being dropped, so nothing refers to it.
            && let Some(pages) = unsafe { Memories::reset(self.bytes(), Some(image)) }
            && self.memories.keep_ready(image, self.size, &self.arena, self.base, pages)
        {
            return;
        }
        self.memories.release(&self.arena, self.base);
    }
}

/// Creates memories for wasmtime.
#[derive(Debug)]
pub(super) struct Creator(pub(super) Arc<Memories>);

// SAFETY: see `Memory`.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        _reserved: Option<usize>,
        _guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let image = IMAGE.with_borrow(Clone::clone);
        match self.0.make(minimum, image) {
            Ok(memory) => Ok(Box::new(memory)),
            Err(error) => Err(format!(
                "a memory of {minimum} bytes could not be allocated: {error}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(memory: &Memory, offset: usize) {
        // SAFETY: the tests write only within memories that they allocated.
        unsafe {
            arena::pointer(memory.base + offset)
                .cast::<u8>()
                .write_volatile(7)
        }
    }

    fn read(memory: &Memory, offset: usize) -> u8 {
        // SAFETY: as above.
        unsafe {
            arena::pointer(memory.base + offset)
                .cast::<u8>()
                .read_volatile()
        }
    }

    const PAGE: usize = 64 << 10;

    fn both() -> [Arc<Memories>; 2] {
        [Profile::Fast, Profile::Dense].map(|profile| Arc::new(Memories::new(profile)))
    }

    #[test]
    fn t034_a_reused_slot_looks_like_a_new_slot() {
        for memories in both() {
            let image =
                Arc::new(Image::new(PAGE + 5, b"data", false).expect("memory is available"));
            let mut bases = Vec::new();
            for _ in 0..10 {
                let memory = memories
                    .make(2 * PAGE, Some(image.clone()))
                    .expect("address space is available");
                let found = [0, PAGE + 4, PAGE + 5, PAGE + 8, 2 * PAGE - 1]
                    .map(|offset| read(&memory, offset));
                assert_eq!(found, [0, 0, b'd', b'a', 0]);
                [0, PAGE + 5, PAGE + 8, 2 * PAGE - 1]
                    .into_iter()
                    .for_each(|offset| write(&memory, offset));
                bases.push(memory.base);
            }
            if pages::scan_is_supported() {
                assert!(bases.iter().all(|&base| base == bases[0]), "{bases:x?}");
            }
        }
    }

    #[test]
    fn a_memory_that_moves_keeps_its_contents_and_the_new_part_is_zero() {
        let memories = Arc::new(Memories::new(Profile::Dense));
        let image = Arc::new(Image::new(5, b"data", false).expect("memory is available"));
        let mut memory = memories
            .make(PAGE, Some(image))
            .expect("address space is available");
        write(&memory, 6);
        write(&memory, PAGE - 1);
        let before = memory.base;
        memory
            .grow_to(100 * PAGE)
            .expect("address space is available");
        assert_ne!(memory.base, before);
        let found = [5, 6, 7, PAGE - 1, PAGE, 100 * PAGE - 1].map(|offset| read(&memory, offset));
        assert_eq!(found, [b'd', 7, b't', 7, 0, 0]);
    }

    #[test]
    fn no_memories_are_kept_for_a_forgotten_image() {
        for memories in both() {
            let image = Arc::new(Image::new(0, b"data", false).expect("memory is available"));
            let [early, late] = [(); 2].map(|()| {
                memories
                    .make(PAGE, Some(image.clone()))
                    .expect("memory is available")
            });
            drop(early);
            memories.forget(&image);
            drop(late);
            assert!(memories.ready().by_image.is_empty());
            assert_eq!((memories.ready().pages, Arc::strong_count(&image)), (0, 1));
        }
    }

    #[test]
    fn dense_slots_are_a_little_longer_than_their_memories() {
        for pages in [0, 1, 2, 17, 18, 100, 1_000, 65_536] {
            let size = pages * PAGE;
            let length = size_class(size);
            assert!(
                length > size && length.is_multiple_of(arena::page_size()),
                "{pages} pages: {length}"
            );
            assert!(
                length <= size + size / 2 + (128 << 10),
                "{pages} pages: {length}"
            );
        }
    }
}
