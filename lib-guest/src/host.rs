//! The functions of the machine, as this program imports them.
//!
//! Nothing is listed here: every declaration is generated from the tables in `lunatic-abi`. Outside
//! the machine, where nothing provides the functions, each of them panics and says so; this lets
//! the crate compile for the development machine.

use std::io::IoSlice;
use std::time::Duration;

/// The Rust type of each kind of parameter. A slice is represented by its address.
mod kinds {
    pub(super) type Bytes = *const u8;
    pub(super) type Text = *const u8;
    pub(super) type Buffer = *mut u8;
    pub(super) type Words = *const u64;
    pub(super) type Vectors = *const super::Vector;
    pub(super) type Length = usize;
    pub(super) type IpBytes = *const u8;
    pub(super) type Family = u32;
    pub(super) type OutU16 = *mut u16;
    pub(super) type OutU32 = *mut u32;
    pub(super) type OutU64 = *mut u64;
    pub(super) type OutWords = *mut u64;
    pub(super) type OutIpBytes = *mut [u8; 16];
    pub(super) type OutHeader = *mut lunatic_abi::MessageHeader;
    pub(super) type OutText = *mut u8;
    pub(super) type I32 = i32;
    pub(super) type U32 = u32;
    pub(super) type I64 = i64;
    pub(super) type U64 = u64;
    pub(super) type F64 = f64;
    pub(super) type Pid = u64;
    pub(super) type Tag = i64;
    pub(super) type Millis = u64;
    pub(super) type ConfigId = u64;
    pub(super) type ModuleId = u64;
    pub(super) type EnvironmentId = u64;
    pub(super) type DnsId = u64;
    pub(super) type ListenerId = u64;
    pub(super) type StreamId = u64;
    pub(super) type TlsListenerId = u64;
    pub(super) type TlsStreamId = u64;
    pub(super) type UdpSocketId = u64;
    pub(super) type ErrorId = u64;
    pub(super) type TimerId = u64;
    pub(super) type ConnectionId = u64;
    pub(super) type StatementId = u64;
}

/// The address and length of bytes to write: what `Kind::Vectors` points to.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Vector {
    pub(crate) address: *const u8,
    pub(crate) length: usize,
}

/// The maximum number of slices passed in one vectored write. The rest is left for the next write,
/// as after any short write.
const VECTORS: usize = 16;

impl Vector {
    /// Returns the addresses and lengths of the first non-empty slices, and the number of these
    /// slices.
    pub(crate) fn gather(slices: &[IoSlice<'_>]) -> ([Vector; VECTORS], usize) {
        let nothing = Vector {
            address: std::ptr::null(),
            length: 0,
        };
        let mut vectors = [nothing; VECTORS];
        let mut count = 0;
        let filled = slices.iter().filter(|slice| !slice.is_empty());
        for (vector, slice) in vectors.iter_mut().zip(filled) {
            *vector = Vector {
                address: slice.as_ptr(),
                length: slice.len(),
            };
            count += 1;
        }
        (vectors, count)
    }
}

macro_rules! imports {
    ($($(#[doc = $about:literal])* $namespace:literal as $module:ident {
        $($(#[doc = $doc:literal])* $mode:ident $name:ident($($parameter:ident: $kind:ident),*) $(-> $result:ident)?;)*
    })*) => {$(
        // Some functions are never called by this library: they are for programs in other
        // languages.
        #[allow(dead_code, unused_imports, clippy::too_many_arguments)]
        $(#[doc = $about])*
        pub(crate) mod $module {
            use super::kinds::*;

            $(lunatic_abi::as_wasm_parameters! {
                import! ([$($doc)*] $namespace $name $($result)?) ($($parameter: $kind),*)
            })*
        }
    )*};
}

macro_rules! import {
    (
        ([$($doc:literal)*] $namespace:literal $name:ident $($result:ident)?)
        $(($kind:ident: $($wire:ident: $part:ident),+))*
    ) => {
        #[cfg(target_family = "wasm")]
        #[link(wasm_import_module = $namespace)]
        unsafe extern "C" {
            $(#[doc = $doc])*
            pub(crate) fn $name($($($wire: $part),+),*) $(-> $result)?;
        }

        #[cfg(not(target_family = "wasm"))]
        $(#[doc = $doc])*
        pub(crate) unsafe fn $name($($(_: $part),+),*) $(-> $result)? {
            super::outside_the_machine(concat!($namespace, "::", stringify!($name)))
        }
    };
}

lunatic_abi::for_each_host_function!(imports);
lunatic_abi::for_each_spark_function!(imports);

#[cfg(not(target_family = "wasm"))]
#[cold]
fn outside_the_machine(function: &str) -> ! {
    panic!(
        "`{function}` is provided by the Lunatic machine: compile for wasm32-wasip1 and run the program with `lunatic`"
    )
}

/// Converts a duration for the machine: to whole milliseconds, rounded up so that a wait is never
/// too short.
///
/// The maximum is one less than "forever".
pub(crate) fn milliseconds(time: Duration) -> u64 {
    let rounded_up = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(rounded_up)
        .unwrap_or(u64::MAX)
        .min(lunatic_abi::FOREVER - 1)
}

/// Converts an optional duration for the machine: `None` means forever.
pub(crate) fn milliseconds_or_forever(time: Option<Duration>) -> u64 {
    time.map_or(lunatic_abi::FOREVER, milliseconds)
}

/// Converts a duration from the machine: forever becomes `None`.
pub(crate) fn duration(milliseconds: u64) -> Option<Duration> {
    (milliseconds != lunatic_abi::FOREVER).then(|| Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_and_never_forever() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(7)), 7);
        assert_eq!(milliseconds(Duration::from_micros(7_001)), 8);
        assert_eq!(milliseconds(Duration::MAX), u64::MAX - 1);
        assert_eq!(milliseconds_or_forever(None), u64::MAX);
    }

    #[test]
    #[should_panic(expected = "`lunatic::process::process_id` is provided by the Lunatic machine")]
    fn outside_the_machine_a_call_says_what_is_missing() {
        // SAFETY: outside the machine the function reads and writes nothing.
        unsafe { process::process_id() };
    }
}
