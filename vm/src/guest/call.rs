//! A guest's call to a host function.
//!
//! [`Call`] is the only way to access a guest's memory. Addresses passed by guests are not trusted.
//! Only this module turns them into slices, after checking the whole range, and no slice is held
//! across an `await`. A guest's memory never shrinks, so a range that was checked at the beginning
//! of a call is still valid at the end.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is `Call`"
)]

use super::failure::{Failure, HostError};
use super::kinds::{OutKind, Slice, Text, Words};
use super::meter::Rejected;
use super::state::Guest;
use crate::scheduler;
use lunatic_abi::Errno;
use std::io::IoSlice;
use wasmtime::{Caller, Extern, Memory};

/// The export that allocates space in the guest's memory, for functions whose results vary in
/// length.
const ALLOCATE: &str = "lunatic_alloc";

/// The maximum length of a prefix, name, version or query, in bytes. A longer string cannot be
/// valid.
pub(crate) const MAX_TEXT: usize = 4096;

/// How many bytes are copied without a pause. Copying them takes about a tenth of a tick, most of
/// which is spent on pages that have not been used before.
pub(super) const PORTION: usize = 256 << 10;

/// A guest's call to a host function.
pub struct Call<'a> {
    caller: Caller<'a, Guest>,
}

/// A type that host functions return. Some of these types can represent an error code.
pub(crate) trait FromErrno: Sized {
    /// Returns the error code as a result, if the type can represent it.
    fn from_errno(errno: Errno) -> Option<Self>;
}

impl FromErrno for i32 {
    fn from_errno(errno: Errno) -> Option<i32> {
        Some(errno as i32)
    }
}

impl FromErrno for u32 {
    fn from_errno(errno: Errno) -> Option<u32> {
        Some(errno as u32)
    }
}

macro_rules! without_errno {
    ($($ty:ty,)*) => {$(
        impl FromErrno for $ty {
            fn from_errno(_: Errno) -> Option<$ty> {
                None
            }
        }
    )*};
}

without_errno!(u64, i64, (),);

/// The answer of a host function that usually does not have to wait.
pub(crate) enum Answer<R: Rest> {
    /// The result.
    Now(R::Result),
    /// The rest of the call.
    Later(R),
}

/// The rest of a call that has to wait, consisting of its state so far and its continuation.
pub(crate) trait Rest: Send + Sized {
    /// The result of the whole call.
    type Result: Send;

    /// Runs the call to completion.
    fn finish(
        self,
        call: &mut Call<'_>,
    ) -> impl Future<Output = Result<Self::Result, Failure>> + Send;
}

impl<R: Rest> Answer<R> {
    /// Returns the result, waiting for it if necessary.
    pub(crate) async fn result(self, call: &mut Call<'_>) -> Result<R::Result, Failure> {
        match self {
            Answer::Now(result) => Ok(result),
            Answer::Later(rest) => rest.finish(call).await,
        }
    }
}

/// The location to write a result to, which has been verified to be inside the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out<const SIZE: usize>(Range);

/// A range of bytes that has been verified to be inside the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    start: usize,
    length: usize,
}

impl Range {
    fn checked(slice: Slice, size: usize) -> Result<Range, Failure> {
        // Products and sums of these 32-bit numbers cannot overflow 64 bits.
        let length = u64::from(slice.count) * u64::from(slice.item_size);
        if u64::from(slice.address) + length <= size as u64 {
            return Ok(Range {
                start: slice.address as usize,
                length: length as usize,
            });
        }
        Err(Failure::trap(format!(
            "bad pointer: {length} bytes at {:#x} in a memory of {size} bytes",
            slice.address
        )))
    }

    /// Returns the length in bytes.
    pub(crate) fn len(self) -> usize {
        self.length
    }

    /// Returns whether copying the range takes so long that other processes must be allowed to run
    /// partway through.
    pub(crate) fn is_large(self) -> bool {
        self.length > PORTION
    }

    /// Splits the range into parts that are each copied without a pause.
    pub(crate) fn portions(self) -> impl Iterator<Item = Range> {
        (0..self.length).step_by(PORTION).map(move |done| Range {
            start: self.start + done,
            length: PORTION.min(self.length - done),
        })
    }

    /// Returns the part of the range that begins at `start` and has at most `most` bytes.
    pub(crate) fn part(self, start: usize, most: usize) -> Range {
        let start = start.min(self.length);
        Range {
            start: self.start + start,
            length: most.min(self.length - start),
        }
    }

    fn of(self, memory: &mut [u8]) -> &mut [u8] {
        &mut memory[self.start..self.start + self.length]
    }
}

/// A guest's memory while the guest is not running. Addresses are checked as in [`Call`], but a
/// function that takes several addresses looks up the memory only once.
pub(crate) struct View<'a>(&'a mut [u8]);

impl View<'_> {
    /// Checks that a slice is inside the memory.
    pub(crate) fn range(&self, slice: impl Into<Slice>) -> Result<Range, Failure> {
        Range::checked(slice.into(), self.0.len())
    }

    /// Checks that a result can be written.
    pub(crate) fn out<const SIZE: usize>(
        &self,
        out: impl OutKind<SIZE>,
    ) -> Result<Out<SIZE>, Failure> {
        self.range(Slice::of_bytes(out.address(), SIZE as u32))
            .map(Out)
    }

    /// Returns the bytes in a checked range.
    pub(crate) fn bytes(&mut self, range: Range) -> &mut [u8] {
        range.of(self.0)
    }

    /// Writes a result.
    pub(crate) fn put<const SIZE: usize>(&mut self, out: Out<SIZE>, value: [u8; SIZE]) {
        self.bytes(out.0).copy_from_slice(&value);
    }

    /// Reads at most `most` 64-bit integers.
    pub(crate) fn words(
        &mut self,
        words: Words,
        most: usize,
    ) -> Result<impl ExactSizeIterator<Item = u64>, Failure> {
        let range = self.range(words)?;
        let (words, _) = self.bytes(range).as_chunks::<8>();
        at_most(most, words.len(), "entries")?;
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)))
    }
}

/// Traps if a guest passes more items than could ever make sense.
pub(crate) fn at_most(most: usize, count: usize, what: &str) -> Result<(), Failure> {
    if count <= most {
        return Ok(());
    }
    Err(Failure::trap(format!(
        "{count} {what}; at most {most} are accepted here"
    )))
}

impl<'a> Call<'a> {
    /// Starts serving a call.
    pub fn new(caller: Caller<'a, Guest>) -> Call<'a> {
        Call { caller }
    }

    /// Returns the host's state for the calling guest.
    pub fn guest(&mut self) -> &mut Guest {
        self.caller.data_mut()
    }

    pub(super) fn caller(&mut self) -> &mut Caller<'a, Guest> {
        &mut self.caller
    }

    /// Copies bytes out of the guest's memory.
    ///
    /// # Errors
    ///
    /// Traps if any of the bytes are outside the guest's memory.
    pub fn read(&mut self, address: u32, length: u32) -> Result<Vec<u8>, Failure> {
        self.slice(address, length).map(|bytes| bytes.to_vec())
    }

    /// Copies bytes into the guest's memory.
    ///
    /// # Errors
    ///
    /// Traps if the bytes do not all fit. In that case, nothing is written.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(bytes.len())
            .map_err(|_| Failure::trap("the answer does not fit into a 32-bit memory"))?;
        self.slice(address, length)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Returns bytes of the guest's memory, to be read and written in place.
    ///
    /// # Errors
    ///
    /// Traps if any of the bytes are outside the guest's memory.
    pub fn slice(&mut self, address: u32, length: u32) -> Result<&mut [u8], Failure> {
        let range = self.range(Slice::of_bytes(address, length))?;
        Ok(self.bytes_mut(range))
    }

    /// Copies text out of the guest's memory.
    ///
    /// # Errors
    ///
    /// Traps if the text is not inside the guest's memory or is not UTF-8.
    pub fn text(&mut self, address: u32, length: u32) -> Result<String, Failure> {
        let range = self.range(Slice::of_bytes(address, length))?;
        self.text_of(range)
    }

    /// Ends the call by turning the function's answer into the wasm result.
    pub(crate) fn finish<T: FromErrno>(
        &self,
        answer: Result<T, Failure>,
        function: &str,
    ) -> wasmtime::Result<T> {
        if self.caller.data().process().cell().is_ending() {
            // The process was killed during the call, perhaps by the call itself, so the guest does
            // not continue.
            return Err(wasmtime::Error::msg("the process is ending"));
        }
        let failure = match answer {
            Ok(answer) => return Ok(answer),
            Err(Failure::Errno(errno)) => match T::from_errno(errno) {
                Some(answer) => return Ok(answer),
                None => Failure::Errno(errno),
            },
            Err(Failure::Guest(error)) => return Err(error),
            Err(trap) => trap,
        };
        Err(wasmtime::Error::msg(format!("{failure} (in `{function}`)")))
    }

    /// Returns the guest's memory and the host's state for the guest.
    pub(crate) fn parts(&mut self) -> Result<(View<'_>, &mut Guest), Failure> {
        let memory = self.memory()?;
        let (bytes, guest) = memory.data_and_store_mut(&mut self.caller);
        Ok((View(bytes), guest))
    }

    /// Returns the guest's memory, against which a range has been checked.
    fn view(&mut self) -> View<'_> {
        let (view, _) = self
            .parts()
            .expect("a range was checked against this memory");
        view
    }

    /// Checks that a slice is inside the guest's memory.
    pub(crate) fn range(&mut self, slice: impl Into<Slice>) -> Result<Range, Failure> {
        self.parts()?.0.range(slice)
    }

    /// Checks that a result can be written.
    pub(crate) fn out<const SIZE: usize>(
        &mut self,
        out: impl OutKind<SIZE>,
    ) -> Result<Out<SIZE>, Failure> {
        self.parts()?.0.out(out)
    }

    /// Writes a result.
    pub(crate) fn put<const SIZE: usize>(&mut self, out: Out<SIZE>, value: [u8; SIZE]) {
        self.view().put(out, value);
    }

    /// Reads a fixed number of bytes.
    pub(crate) fn array<const SIZE: usize>(&mut self, address: u32) -> Result<[u8; SIZE], Failure> {
        let bytes = self.slice(address, SIZE as u32)?;
        Ok(*bytes.first_chunk().expect("the slice has `SIZE` bytes"))
    }

    /// Returns the bytes in a checked range.
    pub(crate) fn bytes(&mut self, range: Range) -> &[u8] {
        self.bytes_mut(range)
    }

    /// Returns the bytes in a checked range, for writing.
    pub(crate) fn bytes_mut(&mut self, range: Range) -> &mut [u8] {
        range.of(self.view().0)
    }

    /// Returns the bytes in checked ranges, for a vectored write.
    pub(crate) fn slices(&mut self, ranges: &[Range]) -> Vec<IoSlice<'_>> {
        let memory: &[u8] = self.view().0;
        ranges
            .iter()
            .map(|range| IoSlice::new(&memory[range.start..range.start + range.length]))
            .collect()
    }

    /// Copies the text in a checked range out of the guest's memory.
    pub(crate) fn text_of(&mut self, range: Range) -> Result<String, Failure> {
        let text = String::from_utf8(self.bytes(range).to_vec());
        text.map_err(|error| {
            Failure::trap(format!(
                "the text at {:#x} is not UTF-8: {}",
                range.start,
                error.utf8_error()
            ))
        })
    }

    /// Copies the bytes in a checked range out of the guest's memory. A large range is copied in
    /// portions, so that other processes can run in between.
    pub(crate) async fn copied(&mut self, range: Range) -> Vec<u8> {
        let mut copy = Vec::with_capacity(range.length);
        for portion in range.portions() {
            if !copy.is_empty() {
                scheduler::spent().await;
            }
            copy.extend_from_slice(self.bytes(portion));
        }
        copy
    }

    /// Copies bytes into a checked range of the guest's memory, in portions like [`Call::copied`].
    /// Bytes that do not fit are dropped.
    pub(crate) async fn paste(&mut self, range: Range, bytes: &[u8]) {
        let mut rest = bytes;
        for portion in range.portions() {
            if rest.len() < bytes.len() {
                scheduler::spent().await;
            }
            let count = rest.len().min(portion.length);
            self.bytes_mut(portion)[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            if rest.is_empty() {
                break;
            }
        }
    }

    /// Reads text of at most `most` bytes.
    pub(crate) fn short_text(&mut self, text: Text, most: usize) -> Result<String, Failure> {
        let range = self.range(text)?;
        at_most(most, range.length, "bytes of text")?;
        self.text_of(range)
    }

    /// Writes an id and returns 0, or writes an error's id instead and returns 1, as the published
    /// interface specifies.
    pub(crate) fn answer(
        &mut self,
        out: Out<8>,
        result: Result<u64, HostError>,
    ) -> Result<i32, Failure> {
        let (code, value) = match result {
            Ok(value) => (0, value),
            Err(error) => (1, self.guest().keep_error(error)?),
        };
        self.put(out, value.to_le_bytes());
        Ok(code)
    }

    /// Like [`Call::answer`], for calls that can time out. On a timeout, returns 9027 and writes
    /// nothing.
    pub(crate) fn timed_answer(
        &mut self,
        out: Out<8>,
        result: Result<u64, HostError>,
    ) -> Result<i32, Failure> {
        match result {
            Err(HostError {
                errno: Errno::TimedOut,
                ..
            }) => Ok(lunatic_abi::TIMED_OUT),
            result => self.answer(out, result),
        }
    }

    /// Returns how much more fuel the guest may burn, if compute is counted.
    pub(crate) fn compute_left(&mut self) -> Option<u64> {
        let fuel = self.caller.get_fuel().ok()?;
        Some(fuel.min(self.guest().domain().quota().compute_left()))
    }

    /// Charges the guest for work done on its behalf as if its own code had done it. The guest is
    /// terminated if the charge exceeds its limit.
    pub(crate) fn charge_compute(&mut self, fuel: u64) -> Result<(), Failure> {
        let left = self
            .caller
            .get_fuel()
            .map_err(Failure::Guest)?
            .saturating_sub(fuel);
        self.caller.set_fuel(left).map_err(Failure::Guest)?;
        self.guest()
            .meter()
            .charge_compute(left)
            .map_err(|reached| Failure::Guest(Rejected(reached).into()))?;
        if left == 0 {
            Err(Failure::Guest(wasmtime::Trap::OutOfFuel.into()))
        } else {
            Ok(())
        }
    }

    /// Calls the guest's `lunatic_alloc` to allocate space for bytes, copies the bytes there, and
    /// writes their length to `length`. Returns the address of the copy.
    ///
    /// The guest runs during this call and can call any host function.
    pub(crate) async fn give(&mut self, bytes: &[u8], length: Out<4>) -> Result<u32, Failure> {
        let size = i32::try_from(bytes.len())
            .map_err(|_| Failure::trap("the answer does not fit into a 32-bit memory"))?;
        let address = self
            .call_back::<i32, i32>(ALLOCATE, size)
            .await?
            .map_err(Failure::Guest)?
            .cast_unsigned();
        let range = self.range(Slice::of_bytes(address, size.cast_unsigned()))?;
        self.paste(range, bytes).await;
        self.put(length, size.to_le_bytes());
        Ok(address)
    }

    fn memory(&mut self) -> Result<Memory, Failure> {
        if let Some(memory) = self.caller.data().memory() {
            return Ok(memory);
        }
        match self.caller.get_export("memory") {
            Some(Extern::Memory(memory)) => {
                self.caller.data_mut().set_memory(memory);
                Ok(memory)
            }
            _ => Err(Failure::trap(
                "the module exports no memory named `memory`, which this function needs",
            )),
        }
    }
}
