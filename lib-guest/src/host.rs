//! Declarations of the machine's host functions.
//!
//! The functions are not listed in this file. Macros declare every function in `lunatic-abi`'s
//! tables twice: as an import in a `raw` module, and as a function that takes slices and
//! references. The latter is safe to call, because the machine checks all other arguments and traps
//! if one is invalid.
//!
//! On other targets, where nothing provides the functions, each of them panics with a message that
//! says so. This lets the crate compile for the developer's computer.

use std::io::IoSlice;
use std::marker::PhantomData;
use std::time::Duration;

/// The Rust types for the kinds that are passed unchanged.
mod scalars {
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

/// The Rust type for each kind of parameter.
mod kinds {
    pub(super) use super::scalars::*;
    pub(super) type Bytes<'a> = &'a [u8];
    pub(super) type Text<'a> = &'a str;
    pub(super) type Buffer<'a> = &'a mut [u8];
    pub(super) type Words<'a> = &'a [u64];
    pub(super) type Vectors<'a> = &'a [super::Vector<'a>];
    pub(super) type SocketAddr<'a> = &'a super::RawAddress;
    pub(super) type OutU16<'a> = &'a mut u16;
    pub(super) type OutU32<'a> = &'a mut u32;
    pub(super) type OutU64<'a> = &'a mut u64;
    pub(super) type OutWords<'a> = &'a mut [u64];
    pub(super) type OutIpBytes<'a> = &'a mut [u8; 16];
    pub(super) type OutHeader<'a> = &'a mut lunatic_abi::MessageHeader;
    /// Only the machine knows the length of such a string, so a function that writes one can only
    /// be called through its import.
    pub(super) type OutText = std::convert::Infallible;
}

/// The Rust type for each part of an import's parameter.
mod parts {
    pub(super) use super::scalars::*;
    pub(super) type Bytes = *const u8;
    pub(super) type Text = *const u8;
    pub(super) type Buffer = *mut u8;
    pub(super) type Words = *const u64;
    pub(super) type Vectors<'a> = *const super::Vector<'a>;
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
}

/// A parameter that can be split into the parts that the import takes.
trait Parameter {
    type Parts;

    fn parts(self) -> Self::Parts;
}

macro_rules! parameters {
    ($($name:ident: $parameter:ty $(; $any:ident)? => ($($part:expr => $type:ty),+);)*) => {$(
        impl$(<$any>)? Parameter for $parameter {
            type Parts = ($($type,)+);

            #[inline(always)]
            fn parts(self) -> Self::Parts {
                let $name = self;
                ($($part,)+)
            }
        }
    )*};
}

parameters! {
    number: i32 => (number => i32);
    number: u32 => (number => u32);
    number: i64 => (number => i64);
    number: u64 => (number => u64);
    number: f64 => (number => f64);
    text: &str => (text.as_ptr() => *const u8, text.len() => usize);
    slice: &[T]; T => (slice.as_ptr() => *const T, slice.len() => usize);
    slice: &mut [T]; T => (slice.as_mut_ptr() => *mut T, slice.len() => usize);
    out: &mut T; T => (std::ptr::from_mut(out) => *mut T);
    address: &RawAddress => (
        address.family => u32,
        address.ip.as_ptr() => *const u8,
        u32::from(address.port) => u32,
        address.flow => u32,
        address.scope => u32
    );
}

impl Parameter for std::convert::Infallible {
    type Parts = (*mut u8,);

    fn parts(self) -> Self::Parts {
        match self {}
    }
}

/// A socket address, in the form in which it is passed to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawAddress {
    /// 4 or 6.
    pub(crate) family: u32,
    /// The address; IPv4 uses the first four bytes.
    pub(crate) ip: [u8; 16],
    pub(crate) port: u16,
    pub(crate) flow: u32,
    pub(crate) scope: u32,
}

/// The address and length of a slice to write. A `Kind::Vectors` argument points to a list of
/// these.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Vector<'a> {
    address: *const u8,
    length: usize,
    bytes: PhantomData<&'a [u8]>,
}

/// The maximum number of slices passed in one vectored write. As after any short write, the caller
/// writes the remaining slices in its next call.
const VECTORS: usize = 16;

impl<'a> Vector<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            address: bytes.as_ptr(),
            length: bytes.len(),
            bytes: PhantomData,
        }
    }

    /// Returns the addresses and lengths of the first non-empty slices, and how many there are.
    pub(crate) fn gather(slices: &'a [IoSlice<'_>]) -> ([Self; VECTORS], usize) {
        let mut vectors = [Self::new(&[]); VECTORS];
        let mut count = 0;
        let filled = slices.iter().filter(|slice| !slice.is_empty());
        for (vector, slice) in vectors.iter_mut().zip(filled) {
            *vector = Self::new(slice);
            count += 1;
        }
        (vectors, count)
    }
}

macro_rules! imports {
    ($($(#[doc = $about:literal])* $namespace:literal as $module:ident {
        $($(#[doc = $doc:literal])* $mode:ident $name:ident($($parameter:ident: $kind:ident),*) $(-> $result:ident)?;)*
    })*) => {$(
        // Some functions are only for programs in other languages, and are never called by this
        // library.
        #[allow(dead_code, unused_imports, clippy::too_many_arguments)]
        $(#[doc = $about])*
        pub(crate) mod $module {
            use super::{Parameter, kinds::*};

            /// The imports.
            pub(crate) mod raw {
                use super::super::parts::*;

                $(lunatic_abi::as_wasm_parameters! {
                    import! ([$($doc)*] $namespace $name $($result)?) ($($parameter: $kind),*)
                })*
            }

            $(lunatic_abi::as_wasm_parameters! {
                call! ([$($doc)*] $name $($result)?) ($($parameter: $kind),*)
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
            super::super::outside_the_machine(concat!($namespace, "::", stringify!($name)))
        }
    };
}

macro_rules! call {
    (
        ([$($doc:literal)*] $name:ident $($result:ident)?)
        $(($kind:ident: $first:ident: $part:ident $(, $wire:ident: $more:ident)*))*
    ) => {
        $(#[doc = $doc])*
        #[inline]
        pub(crate) fn $name($($first: $kind),*) $(-> $result)? {
            $(let ($first, $($wire,)*) = $first.parts();)*
            // SAFETY: the machine accesses only the memory that the slices and references refer to,
            // and checks all other arguments.
            unsafe { raw::$name($($first $(, $wire)*),*) }
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

/// Converts a duration to whole milliseconds for the machine, rounded up so that a wait is never
/// too short.
///
/// The result is always less than `FOREVER`.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    let rounded_up = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(rounded_up)
        .unwrap_or(u64::MAX)
        .min(lunatic_abi::FOREVER - 1)
}

/// Converts an optional duration to milliseconds for the machine. `None` means forever.
pub(crate) fn milliseconds_or_forever(time: Option<Duration>) -> u64 {
    time.map_or(lunatic_abi::FOREVER, milliseconds)
}

/// Converts a duration from the machine. "Forever" becomes `None`.
pub(crate) fn duration(milliseconds: u64) -> Option<Duration> {
    (milliseconds != lunatic_abi::FOREVER).then(|| Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_rounded_up_and_never_means_forever() {
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
        process::process_id();
    }
}
