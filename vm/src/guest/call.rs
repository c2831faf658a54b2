//! One call of a host function.
//!
//! [`Call`] is the only way to a guest's memory. What a guest gives as an address is an allegation: it becomes a slice only
//! here, after the whole range was checked, and no slice lives across an await. A guest's memory never shrinks, so a place
//! for a result that was checked at the beginning of a call is still good at its end.

use super::failure::{Failure, HostError};
use super::meter::Rejected;
use super::state::Guest;
use lunatic_abi::Errno;
use std::io::IoSlice;
use wasmtime::{Caller, Extern, Memory};

/// The export that gives the host room in the guest's memory, for functions whose answer is of any length.
const ALLOCATE: &str = "lunatic_alloc";

/// A call of a host function by a guest.
pub struct Call<'a> {
    caller: Caller<'a, Guest>,
}

/// What a host function can return.
pub(crate) trait Answer: Sized {
    /// Makes the answer that tells a code, where this type can.
    fn from_errno(errno: Errno) -> Option<Self>;
}

impl Answer for i32 {
    fn from_errno(errno: Errno) -> Option<i32> {
        Some(errno as i32)
    }
}

impl Answer for u32 {
    fn from_errno(errno: Errno) -> Option<u32> {
        Some(errno as u32)
    }
}

impl Answer for u64 {
    fn from_errno(_: Errno) -> Option<u64> {
        None
    }
}

impl Answer for i64 {
    fn from_errno(_: Errno) -> Option<i64> {
        None
    }
}

impl Answer for () {
    fn from_errno(_: Errno) -> Option<()> {
        None
    }
}

/// The kinds of parameters of the table, as the machine sees them.
pub(crate) mod kinds {
    /// A parameter's meaning, around its value.
    pub(crate) trait Kind {
        type Raw;
        fn new(raw: Self::Raw) -> Self;
    }

    macro_rules! kinds {
        ($raw:ty: $($kind:ident)*) => {$(
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) struct $kind(pub(crate) $raw);
            impl Kind for $kind {
                type Raw = $raw;
                fn new(raw: $raw) -> $kind {
                    $kind(raw)
                }
            }
        )*};
    }

    kinds!(u32: Bytes Buffer Words Vectors Length IpBytes Family OutU16 OutU32 OutU64 OutWords OutIpBytes OutHeader OutText);
    kinds!(u32: ShortMillis OutUuid);
    kinds!(u64: Millis ConfigId ModuleId EnvironmentId DnsId ListenerId StreamId TlsListenerId TlsStreamId UdpSocketId ErrorId TimerId ConnectionId StatementId);
    kinds!(u64: ProcessId AddedModuleId);

    macro_rules! plain {
        ($($kind:ident: $raw:ty,)*) => {$(
            pub(crate) type $kind = $raw;
            impl Kind for $raw {
                type Raw = $raw;
                fn new(raw: $raw) -> $raw {
                    raw
                }
            }
        )*};
    }

    plain!(I32: i32, U32: u32, U64: u64, F64: f64, Tag: i64,);

    pub(crate) use lunatic_process::Pid;

    impl Kind for Pid {
        type Raw = u64;
        fn new(raw: u64) -> Pid {
            Pid::from_number(raw)
        }
    }

    impl Millis {
        /// Returns the time, or `None` for ever.
        pub(crate) fn duration(self) -> Option<std::time::Duration> {
            (self.0 != lunatic_abi::FOREVER).then(|| std::time::Duration::from_millis(self.0))
        }
    }

    impl ShortMillis {
        /// Returns the time as the newer generation writes it.
        pub(crate) fn millis(self) -> Millis {
            Millis(if self.0 == 0 {
                lunatic_abi::FOREVER
            } else {
                self.0.into()
            })
        }
    }
}

/// A place for a result that was checked to lie in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<const SIZE: usize>(usize);

/// A range of bytes that was checked to lie in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    start: usize,
    length: usize,
}

impl Range {
    fn checked(address: u32, length: u32, size: usize) -> Result<Range, Failure> {
        let (start, length) = (address as usize, length as usize);
        // On a 64-bit host two 32-bit numbers cannot overflow; on another the sum is still checked.
        match start.checked_add(length) {
            Some(end) if end <= size => Ok(Range { start, length }),
            _ => Err(Failure::trap(format!(
                "bad pointer: {length} bytes at {address:#x} in a memory of {size} bytes"
            ))),
        }
    }

    /// Returns how many bytes they are.
    pub(crate) fn length(self) -> usize {
        self.length
    }
}

/// A guest's memory while nothing of the guest runs. Addresses are checked here as in [`Call`]; a function that has several
/// looks the memory up once.
pub(crate) struct View<'a>(&'a mut [u8]);

impl View<'_> {
    /// Returns bytes.
    pub(crate) fn bytes(&mut self, address: u32, length: u32) -> Result<&mut [u8], Failure> {
        let range = Range::checked(address, length, self.0.len())?;
        Ok(&mut self.0[range.start..range.start + range.length])
    }

    /// Reads 64-bit integers, at most `most` of them.
    pub(crate) fn words(
        &mut self,
        address: kinds::Words,
        count: kinds::Length,
        most: usize,
    ) -> Result<impl ExactSizeIterator<Item = u64>, Failure> {
        if count.0 as usize > most {
            return Err(Failure::trap(format!(
                "{} entries; at most {most} are taken",
                count.0
            )));
        }
        let (words, _) = self.bytes(address.0, count.0 * 8)?.as_chunks::<8>();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)))
    }
}

impl<'a> Call<'a> {
    /// Begins to serve a call.
    pub fn new(caller: Caller<'a, Guest>) -> Call<'a> {
        Call { caller }
    }

    /// Returns the host's side of the guest that calls.
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
    /// Traps where they do not all lie in it.
    pub fn read(&mut self, address: u32, length: u32) -> Result<Vec<u8>, Failure> {
        let range = self.range(address, length)?;
        Ok(self.bytes(range).to_vec())
    }

    /// Copies bytes into the guest's memory.
    ///
    /// # Errors
    ///
    /// Traps where they do not all fit; then nothing is written.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(bytes.len())
            .map_err(|_| Failure::trap("the answer does not fit a 32-bit memory"))?;
        let range = self.range(address, length)?;
        self.bytes_mut(range).copy_from_slice(bytes);
        Ok(())
    }

    /// Returns bytes of the guest's memory, to be read and written where they are.
    ///
    /// # Errors
    ///
    /// Traps where they do not all lie in it.
    pub fn slice(&mut self, address: u32, length: u32) -> Result<&mut [u8], Failure> {
        let range = self.range(address, length)?;
        Ok(self.bytes_mut(range))
    }

    /// Copies text out of the guest's memory.
    ///
    /// # Errors
    ///
    /// Traps where it does not lie in it or is not UTF-8.
    pub fn text(&mut self, address: u32, length: u32) -> Result<String, Failure> {
        let range = self.range(address, length)?;
        self.text_of(range)
    }

    /// Ends the call: turns what the function says into what wasm gets.
    pub(crate) fn finish<T: Answer>(
        &self,
        answer: Result<T, Failure>,
        function: &str,
    ) -> wasmtime::Result<T> {
        if self.caller.data().process().cell().is_ending() {
            // Killed meanwhile, perhaps by this very call: the guest does not go on.
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

    /// Returns the guest's memory, to be looked at as often as a function needs, together with the host's side of the guest.
    pub(crate) fn parts(&mut self) -> Result<(View<'_>, &mut Guest), Failure> {
        let memory = self.memory()?;
        let (bytes, guest) = memory.data_and_store_mut(&mut self.caller);
        Ok((View(bytes), guest))
    }

    /// Checks that bytes lie in the guest's memory.
    pub(crate) fn range(&mut self, address: u32, length: u32) -> Result<Range, Failure> {
        let size = self.memory()?.data_size(&self.caller);
        Range::checked(address, length, size)
    }

    /// Checks a place for a result.
    pub(crate) fn place<const SIZE: usize>(
        &mut self,
        address: u32,
    ) -> Result<Place<SIZE>, Failure> {
        Ok(Place(self.range(address, SIZE as u32)?.start))
    }

    /// Checks a place for so many 64-bit integers.
    pub(crate) fn out_words(
        &mut self,
        address: kinds::OutWords,
        count: kinds::Length,
    ) -> Result<Range, Failure> {
        let bytes = count.0.checked_mul(8).ok_or_else(|| {
            Failure::trap(format!(
                "bad pointer: {} words at {:#x} are more than a memory has",
                count.0, address.0
            ))
        })?;
        self.range(address.0, bytes)
    }

    /// Writes a result to the place that was checked for it.
    pub(crate) fn put<const SIZE: usize>(&mut self, place: Place<SIZE>, value: [u8; SIZE]) {
        self.bytes_mut(Range {
            start: place.0,
            length: SIZE,
        })
        .copy_from_slice(&value);
    }

    /// Copies text that lies in the guest's memory.
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

    /// Returns bytes that were checked.
    pub(crate) fn bytes(&mut self, range: Range) -> &[u8] {
        let memory = self
            .memory()
            .expect("a range was checked against this memory");
        &memory.data(&self.caller)[range.start..range.start + range.length]
    }

    /// Returns ranges of bytes that were checked, to be written somewhere together.
    pub(crate) fn slices(&mut self, ranges: &[Range]) -> Vec<IoSlice<'_>> {
        let memory = self
            .memory()
            .expect("the ranges were checked against this memory");
        let bytes = memory.data(&self.caller);
        ranges
            .iter()
            .map(|range| IoSlice::new(&bytes[range.start..range.start + range.length]))
            .collect()
    }

    /// Returns bytes that were checked, to be written.
    pub(crate) fn bytes_mut(&mut self, range: Range) -> &mut [u8] {
        let memory = self
            .memory()
            .expect("a range was checked against this memory");
        &mut memory.data_mut(&mut self.caller)[range.start..range.start + range.length]
    }

    /// Reads text of at most `most` bytes.
    pub(crate) fn short_text(
        &mut self,
        address: kinds::Bytes,
        length: kinds::Length,
        most: u32,
    ) -> Result<String, Failure> {
        // Checked first, so that a bad pointer is told as one whatever the length.
        self.range(address.0, length.0)?;
        if length.0 > most {
            return Err(Failure::trap(format!(
                "a text of {} bytes; at most {most} are taken here",
                length.0
            )));
        }
        self.text(address.0, length.0)
    }

    /// Writes an id or the id of the error that took its place; returns 0 or 1, as the published interface does.
    pub(crate) fn answer(
        &mut self,
        place: Place<8>,
        result: Result<u64, HostError>,
    ) -> Result<i32, Failure> {
        let (code, value) = match result {
            Ok(value) => (0, value),
            Err(error) => (1, self.guest().keep_error(error)?),
        };
        self.put(place, value.to_le_bytes());
        Ok(code)
    }

    /// The same for calls that can time out: these return 9027 and write nothing.
    pub(crate) fn timed_answer(
        &mut self,
        place: Place<8>,
        result: Result<u64, HostError>,
    ) -> Result<i32, Failure> {
        match result {
            Err(HostError {
                errno: Errno::TimedOut,
                ..
            }) => Ok(lunatic_abi::TIMED_OUT),
            result => self.answer(place, result),
        }
    }

    /// Returns how much the guest may compute yet, in fuel, where that is counted.
    pub(crate) fn compute_left(&mut self) -> Option<u64> {
        let fuel = self.caller.get_fuel().ok()?;
        Some(fuel.min(self.guest().domain().quota().compute_left()))
    }

    /// Counts what was computed for the guest as if its own code had; the guest ends where it is more than it may.
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

    /// Has the guest's `lunatic_alloc` give room for bytes, copies them there, and writes their length to the place that was
    /// checked for it; returns their address.
    ///
    /// The guest runs meanwhile and can call what it likes.
    pub(crate) async fn give(&mut self, bytes: &[u8], place: Place<4>) -> Result<u32, Failure> {
        let size = i32::try_from(bytes.len())
            .map_err(|_| Failure::trap("the answer does not fit a 32-bit memory"))?;
        let address = self
            .call_back::<i32, i32>(ALLOCATE, size)
            .await?
            .map_err(Failure::Guest)?
            .cast_unsigned();
        self.write(address, bytes)?;
        self.put(place, size.to_le_bytes());
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
