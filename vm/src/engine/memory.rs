//! Linear memories, in arenas of our own.
//!
//! A memory is a place in an arena. Where it lies and how far it reaches differs between the two profiles. In `fast` a place
//! is so long that no address of 32 bits leads out of it: what lies behind the memory's end cannot be accessed, and code needs
//! no checks. In `dense` a place is not much longer than the memory at its beginning, code checks every access, and a memory
//! that outgrows its place moves to a longer one.
//!
//! A memory that is given up is made what a new one is before anybody else can take its place: pages that were written are
//! written over, and where they are many, given back to the kernel.

use super::arena::{self, Access, Arena};
use super::ceilings::{Mappings, mappings_of_memory};
use super::image::{self, Image};
use super::{Profile, pages};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// How far beyond a place compiled code of the profile `fast` can reach by a constant offset without a check. The same range
/// of every place is never accessible.
pub(super) const GUARD: usize = 32 << 20;

/// What 32 bits can address.
const ALL: usize = 1 << 32;

/// So many pages at most are written over when a memory is given up; where more were written, all are given back.
const MOST_PAGES: usize = 64;

/// So many places are reserved at once.
const FAST_PLACES: usize = 16;
const DENSE_PLACES: usize = 256;

/// So many pages are kept in memories that wait for their next owner, 128 MiB: with them its first touches are no faults.
const MAX_READY_PAGES: usize = (128 << 20) / 4_096;

/// Whether the profile `fast` finds address space.
pub(super) fn has_address_space() -> bool {
    Arena::new(ALL + GUARD, FAST_PLACES, Access::None)
        .take_new()
        .is_ok()
}

thread_local! {
    /// What the memories begin with that are made on this thread now.
    static IMAGE: RefCell<Option<Arc<Image>>> = const { RefCell::new(None) };
}

/// Does something, in which the memories that wasmtime asks for begin with this image.
pub(crate) fn beginning_with<Output>(
    image: Option<&Arc<Image>>,
    act: impl FnOnce() -> Output,
) -> Output {
    /// Puts back what was there, also where `act` panics.
    struct Before(Option<Arc<Image>>);
    impl Drop for Before {
        fn drop(&mut self) {
            IMAGE.set(self.0.take());
        }
    }
    let _before = Before(IMAGE.replace(image.cloned()));
    act()
}

/// Makes the memories of an engine.
#[derive(Debug)]
pub(crate) struct Memories {
    profile: Profile,
    /// The arenas by the length of their places. There is one in `fast`.
    arenas: Mutex<BTreeMap<usize, Arc<Arena>>>,
    /// Memories that were given up and are as new.
    ready: Mutex<Ready>,
}

/// Places that are memories, as new.
#[derive(Debug, Default)]
struct Ready {
    /// By image and size.
    places: HashMap<(*const Image, usize), OfImage>,
    /// How many pages they have together.
    pages: usize,
}

// SAFETY: the pointers are compared and never followed.
unsafe impl Send for Ready {}

/// Places that begin with one image.
#[derive(Debug)]
struct OfImage {
    /// Held, so that no other one has its address meanwhile.
    _image: Arc<Image>,
    /// The one that was given up last is on top.
    places: Vec<Place>,
}

/// A place that is a memory.
#[derive(Debug)]
struct Place {
    arena: Arc<Arena>,
    base: usize,
    /// How many pages it has of its own.
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

    /// Makes a memory of so many bytes.
    fn make(self: &Arc<Self>, size: usize, image: Option<Arc<Image>>) -> io::Result<Room> {
        if let Some(image) = &image
            && let Some(Place { arena, base, .. }) = self.take_ready(image, size)
        {
            return Ok(Room {
                memories: self.clone(),
                arena,
                base,
                size,
                first: size,
                image: Some(image.clone()),
            });
        }
        let arena = self.arena(self.length_for(size));
        let base = match arena.take_used() {
            Some(base) => base,
            None => arena.take_new()?,
        };
        let room = Room {
            memories: self.clone(),
            arena,
            base,
            size,
            first: size,
            image,
        };
        // A place that nobody has is blank. Where something fails now it is made that again by the drop.
        let accessible = match self.profile {
            Profile::Fast => size,
            Profile::Dense => room.arena.length(),
        };
        // SAFETY: the place was taken above.
        unsafe {
            room.open(0..accessible)?;
            if let Some(image) = &room.image {
                image.take_in_advance(room.base, size);
            }
        }
        Ok(room)
    }

    /// Returns how long a place is for a memory of so many bytes.
    fn length_for(&self, size: usize) -> usize {
        match self.profile {
            Profile::Fast => ALL + GUARD,
            Profile::Dense => class(size),
        }
    }

    fn arena(&self, length: usize) -> Arc<Arena> {
        let places = match self.profile {
            Profile::Fast => FAST_PLACES,
            // Long places are few, and are not worth reserving many of.
            Profile::Dense => (DENSE_PLACES << 20 >> length.ilog2()).clamp(1, DENSE_PLACES),
        };
        let mut arenas = self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        arenas
            .entry(length)
            .or_insert_with(|| Arc::new(Arena::new(length, places, self.access())))
            .clone()
    }

    /// Returns what can be done with a place that is no memory.
    fn access(&self) -> Access {
        match self.profile {
            Profile::Fast => Access::None,
            Profile::Dense => Access::ReadWrite,
        }
    }

    fn take_ready(&self, image: &Arc<Image>, size: usize) -> Option<Place> {
        let mut ready = self.ready();
        let place = ready
            .places
            .get_mut(&(Arc::as_ptr(image), size))?
            .places
            .pop()?;
        ready.pages -= place.pages;
        Some(place)
    }

    /// Keeps a place that is a memory of an image, as new. Says no where enough are kept.
    fn keep_ready(
        &self,
        image: &Arc<Image>,
        size: usize,
        arena: &Arc<Arena>,
        base: usize,
        pages: usize,
    ) -> bool {
        // Those of its process are about to be given back.
        let Some(mappings) = Mappings::take(mappings_of_memory(self.profile)) else {
            return false;
        };
        let mut ready = self.ready();
        // Looked at under the lock that `forget` takes after it was said.
        if image.is_given_up() || ready.pages + pages > MAX_READY_PAGES {
            return false;
        }
        ready.pages += pages;
        let place = Place {
            arena: arena.clone(),
            base,
            pages,
            _mappings: mappings,
        };
        let key = (Arc::as_ptr(image), size);
        let of_image = ready.places.entry(key);
        of_image
            .or_insert_with(|| OfImage {
                _image: image.clone(),
                places: Vec::new(),
            })
            .places
            .push(place);
        true
    }

    /// Gives up the memories that are kept for an image, and keeps none any more: nobody will ask for them.
    pub(crate) fn forget(&self, image: &Arc<Image>) {
        image.give_up();
        self.give_up(|kept| kept == Arc::as_ptr(image));
    }

    /// Gives up all memories that are kept.
    pub(super) fn trim(&self) {
        self.give_up(|_| true);
    }

    fn give_up(&self, which: impl Fn(*const Image) -> bool) {
        let places: Vec<Place> = {
            let mut ready = self.ready();
            let places: Vec<Place> = ready
                .places
                .extract_if(|key, _| which(key.0))
                .flat_map(|(_, of_image)| of_image.places)
                .collect();
            ready.pages -= places.iter().map(|place| place.pages).sum::<usize>();
            places
        };
        for place in places {
            self.retire(&place.arena, place.base);
        }
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        // What is in there is consistent wherever something can panic.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a memory what it was at its beginning, and returns how many pages it has. There are none where that would cost
    /// more than a new one, or cannot be known.
    ///
    /// # Safety
    ///
    /// They are all the bytes of a memory of [`Memories`], which begins with this image, or with zeros where there is none.
    pub(crate) unsafe fn reset(bytes: NonNull<[u8]>, image: Option<&Image>) -> Option<usize> {
        let base = bytes.cast::<u8>().as_ptr().expose_provenance();
        let written = pages::written(base..base + bytes.len(), MOST_PAGES)?;
        for range in written.ranges() {
            let range = range.start - base..range.end - base;
            // SAFETY: the caller says that they are a memory's.
            unsafe {
                match image {
                    Some(image) => image.restore(base, range),
                    None => image::zero(base, range),
                }
            }
        }
        Some(
            written
                .ranges()
                .map(|range| range.len() / arena::page_size())
                .sum(),
        )
    }

    /// Makes a place blank, and gives it back.
    fn retire(&self, arena: &Arc<Arena>, base: usize) {
        // SAFETY: the caller gives up the place, whole.
        match unsafe { arena::blank(base, arena.length(), self.access()) } {
            Ok(()) => arena.give(base),
            // Nobody gets a place that is not as it should be; it is lost until the machine ends.
            Err(error) => log::warn!("the memory at {base:#x} could not be given back: {error}"),
        }
    }
}

/// Returns how long a place is made for a memory of so many bytes in the profile `dense`: an eighth longer at least, so that
/// a heap can grow a little, and one of four lengths between two powers of two, so that places are used again.
fn class(size: usize) -> usize {
    let wanted = (size + size / 8 + (64 << 10)).max(128 << 10);
    let step = (1 << wanted.ilog2()) / 4;
    wanted.next_multiple_of(step)
}

/// A memory.
#[derive(Debug)]
struct Room {
    memories: Arc<Memories>,
    arena: Arc<Arena>,
    base: usize,
    size: usize,
    /// What it began with.
    first: usize,
    image: Option<Arc<Image>>,
}

impl Room {
    /// Makes a range accessible, from a blank place: what the image has where there is one, zeros elsewhere.
    ///
    /// # Safety
    ///
    /// The range is whole pages, and lies in the place.
    unsafe fn open(&self, range: Range<usize>) -> io::Result<()> {
        let of_image = self
            .image
            .as_ref()
            .map_or(0, |image| image.length())
            .clamp(range.start, range.end);
        if let Some(image) = &self.image
            && of_image > range.start
        {
            // SAFETY: the place is this memory's.
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
        let start =
            NonNull::new(arena::pointer(self.base).cast::<u8>()).expect("no memory begins at 0");
        NonNull::slice_from_raw_parts(start, self.size)
    }

    /// Moves to a longer place.
    fn move_to(&mut self, size: usize) -> io::Result<()> {
        let mut longer = self.memories.make(size, self.image.clone())?;
        longer.first = self.first;
        let everything = self.base..self.base + self.size;
        let whole = pages::written(everything.clone(), self.size / arena::page_size());
        let copy = |range: Range<usize>| {
            let offset = range.start - self.base;
            let (from, to) = (
                arena::pointer(range.start),
                arena::pointer(longer.base + offset),
            );
            // SAFETY: both ranges are as long as said, and lie in memories that are this one's and the new one's.
            unsafe {
                to.cast::<u8>()
                    .copy_from_nonoverlapping(from.cast(), range.len())
            };
        };
        match whole {
            // What was not written is there already.
            Some(written) => written.ranges().for_each(copy),
            None => copy(everything),
        }
        std::mem::swap(self, &mut longer);
        // The shorter one is given up with what has this name now.
        Ok(())
    }
}

// SAFETY: the memory is `size` bytes that begin at `base`, can be read and written, and are nobody else's; they move only
// where `grow_to` goes beyond the capacity. In the profile `fast` everything else up to 4 GiB and the guard behind them is
// not accessible; in `dense` compiled code relies on no such thing, as the engine has neither reservation nor guard.
unsafe impl LinearMemory for Room {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        match self.memories.profile {
            Profile::Fast => ALL,
            Profile::Dense => self.arena.length(),
        }
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        let grown = if size > self.byte_capacity() {
            self.move_to(size)
        } else if self.memories.profile == Profile::Fast {
            // SAFETY: what follows the memory, up to its new size, is its place too.
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

impl Drop for Room {
    fn drop(&mut self) {
        // What has grown is not what another one begins with.
        if let Some(image) = &self.image
            && self.size == self.first
            // SAFETY: nobody has this memory any more.
            && let Some(pages) = unsafe { Memories::reset(self.bytes(), Some(image)) }
            && self.memories.keep_ready(image, self.size, &self.arena, self.base, pages)
        {
            return;
        }
        self.memories.retire(&self.arena, self.base);
    }
}

/// What wasmtime asks for memories.
#[derive(Debug)]
pub(super) struct Creator(pub(super) Arc<Memories>);

// SAFETY: see `Room`.
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
            Ok(room) => Ok(Box::new(room)),
            Err(error) => Err(format!(
                "there is no room for a memory of {minimum} bytes: {error}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(room: &Room, offset: usize) {
        // SAFETY: the tests write inside of the memories that they made.
        unsafe {
            arena::pointer(room.base + offset)
                .cast::<u8>()
                .write_volatile(7)
        }
    }

    fn read(room: &Room, offset: usize) -> u8 {
        // SAFETY: as above.
        unsafe {
            arena::pointer(room.base + offset)
                .cast::<u8>()
                .read_volatile()
        }
    }

    const PAGE: usize = 64 << 10;

    fn both() -> [Arc<Memories>; 2] {
        [Profile::Fast, Profile::Dense].map(|profile| Arc::new(Memories::new(profile)))
    }

    #[test]
    fn t034_a_place_is_taken_again_as_new() {
        for memories in both() {
            let image = Arc::new(Image::new(PAGE + 5, b"data").expect("there is memory"));
            let mut places = Vec::new();
            for _ in 0..10 {
                let room = memories
                    .make(2 * PAGE, Some(image.clone()))
                    .expect("there is address space");
                let found = [0, PAGE + 4, PAGE + 5, PAGE + 8, 2 * PAGE - 1]
                    .map(|offset| read(&room, offset));
                assert_eq!(found, [0, 0, b'd', b'a', 0]);
                [0, PAGE + 5, PAGE + 8, 2 * PAGE - 1]
                    .into_iter()
                    .for_each(|offset| write(&room, offset));
                places.push(room.base);
            }
            if pages::are_told() {
                assert!(
                    places.iter().all(|&place| place == places[0]),
                    "{places:x?}"
                );
            }
        }
    }

    #[test]
    fn a_memory_that_moves_has_what_it_had_and_nothing_else() {
        let memories = Arc::new(Memories::new(Profile::Dense));
        let image = Arc::new(Image::new(5, b"data").expect("there is memory"));
        let mut room = memories
            .make(PAGE, Some(image))
            .expect("there is address space");
        write(&room, 6);
        write(&room, PAGE - 1);
        let before = room.base;
        room.grow_to(100 * PAGE).expect("there is address space");
        assert_ne!(room.base, before);
        let found = [5, 6, 7, PAGE - 1, PAGE, 100 * PAGE - 1].map(|offset| read(&room, offset));
        assert_eq!(found, [b'd', 7, b't', 7, 0, 0]);
    }

    #[test]
    fn nothing_is_kept_for_an_image_that_was_given_up() {
        for memories in both() {
            let image = Arc::new(Image::new(0, b"data").expect("there is memory"));
            let [early, late] = [(); 2].map(|()| {
                memories
                    .make(PAGE, Some(image.clone()))
                    .expect("there is room")
            });
            drop(early);
            memories.forget(&image);
            drop(late);
            assert!(memories.ready().places.is_empty());
            assert_eq!((memories.ready().pages, Arc::strong_count(&image)), (0, 1));
        }
    }

    #[test]
    fn places_of_dense_are_a_little_longer_than_what_lies_in_them() {
        for pages in [0, 1, 2, 17, 18, 100, 1_000, 65_536] {
            let size = pages * PAGE;
            let length = class(size);
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
