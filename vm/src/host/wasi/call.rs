//! A call to a WASI function.

use crate::environment::WasiTemplate;
use crate::environment::wasi::WasiErrno;
use crate::environment::wasi::table::Table;
use crate::guest::call::Range;
use crate::guest::kinds::{Kind, Slice, Vectors};
use crate::guest::{Call, Failure, Guest};
use crate::scheduler;
use wasmtime::Caller;

/// A version of WASI for modules. The versions differ in a few types and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preview {
    Zero,
    One,
}

/// Why a WASI function failed.
pub(super) enum Stop {
    /// The guest receives an error.
    Errno(WasiErrno),
    /// The guest violated a rule of the interface.
    Failure(Failure),
}

impl From<WasiErrno> for Stop {
    fn from(errno: WasiErrno) -> Stop {
        Stop::Errno(errno)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl From<rustix::io::Errno> for Stop {
    fn from(errno: rustix::io::Errno) -> Stop {
        Stop::Errno(errno.into())
    }
}

pub(super) type Result<T = ()> = std::result::Result<T, Stop>;

/// A call to a WASI function.
pub(super) struct WasiCall<'a> {
    pub(super) call: Call<'a>,
    pub(super) preview: Preview,
}

/// How many vectors are read before other processes get to run.
const VECTORS: usize = 1 << 16;

/// The maximum number of vectors that a call uses, as on Linux. Any others are left for the next
/// call.
const MAX_VECTORS: usize = 1024;

impl<'a> WasiCall<'a> {
    pub(super) fn begin(caller: Caller<'a, Guest>, preview: Preview) -> WasiCall<'a> {
        let mut call = Call::new(caller);
        call.guest().wasi().begin_call();
        WasiCall { call, preview }
    }

    /// Finishes the call, converting its result to the error number that the guest receives.
    pub(super) fn finish(&self, answer: Result, names: [&str; 2]) -> wasmtime::Result<i32> {
        let answer = match answer {
            Ok(()) => Ok(0),
            Err(Stop::Errno(errno)) => Ok(errno as i32),
            Err(Stop::Failure(failure)) => Err(failure),
        };
        self.call.finish(answer, names[self.preview as usize])
    }

    /// Returns the process's descriptors.
    pub(super) fn table(&mut self) -> &mut Table {
        self.call.guest().wasi().table()
    }

    /// Returns the template from which the environment's contexts are created.
    pub(super) fn template(&mut self) -> &WasiTemplate {
        self.call.guest().domain().wasi()
    }

    /// Checks that bytes are inside the guest's memory.
    pub(super) fn range(&mut self, address: u32, length: u32) -> Result<Range> {
        Ok(self.call.range(Slice::of_bytes(address, length))?)
    }

    /// Writes a number to a range that has already been checked.
    pub(super) fn put(&mut self, range: Range, bytes: &[u8]) {
        self.call.bytes_mut(range).copy_from_slice(bytes);
    }

    /// Returns the nonempty parts of the guest's memory that vectors refer to.
    pub(super) async fn vectors(&mut self, [address, count]: [u32; 2]) -> Result<Vec<Range>> {
        let all = self.call.range(Vectors::new([address, count]))?;
        let mut ranges = Vec::with_capacity(MAX_VECTORS.min(count as usize));
        for piece in 0..(count as usize).div_ceil(VECTORS) {
            if piece > 0 {
                scheduler::spent().await;
            }
            let (mut memory, _) = self.call.parts()?;
            let most = (count as usize - piece * VECTORS).min(VECTORS);
            for number in 0..most {
                let at = all.part((piece * VECTORS + number) * 8, 8);
                let (word, _) = memory.bytes(at).as_chunks::<4>();
                let [address, length] = [word[0], word[1]].map(u32::from_le_bytes);
                if length == 0 {
                    continue;
                }
                ranges.push(memory.range(Slice::of_bytes(address, length))?);
                if ranges.len() == MAX_VECTORS {
                    return Ok(ranges);
                }
            }
        }
        Ok(ranges)
    }
}

/// Runs an operation that may wait indefinitely. It runs on a thread reserved for such operations,
/// so that the machine's other threads for files and databases stay free.
pub(super) async fn apart<R: Send + 'static>(
    act: impl FnOnce() -> R + Send + 'static,
) -> Result<R> {
    // This fails only if the host program is shutting down.
    let done = tokio::task::spawn_blocking(act).await;
    Ok(done.map_err(|_| WasiErrno::Io)?)
}
