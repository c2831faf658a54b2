//! The kinds of parameters in the host function tables, as the machine sees them.
//!
//! Addresses passed by guests are not trusted. An address's kind says what should be there, and
//! keeps the address and the length together. [`Call`](super::Call) turns the address into a slice
//! of memory once the whole range has been checked.

use lunatic_abi::{FOREVER, MessageHeader};
use std::time::Duration;

/// The meaning of a parameter, wrapped around the numbers that wasm passes for it.
pub(crate) trait Kind {
    /// The type of each wasm parameter of this kind.
    type Raw;
    /// The wasm parameters of this kind.
    type Wire;
    fn new(wire: Self::Wire) -> Self;
}

/// Items of the same size that should be contiguous in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(super) address: u32,
    pub(super) count: u32,
    pub(super) item_size: u32,
}

impl Slice {
    /// Creates a slice of bytes.
    pub(crate) fn of_bytes(address: u32, length: u32) -> Slice {
        Slice {
            address,
            count: length,
            item_size: 1,
        }
    }
}

macro_rules! slices {
    ($($kind:ident of $item_size:literal,)*) => {$(
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $kind(Slice);

        impl Kind for $kind {
            type Raw = u32;
            type Wire = [u32; 2];
            fn new([address, count]: [u32; 2]) -> $kind {
                $kind(Slice { address, count, item_size: $item_size })
            }
        }

        impl From<$kind> for Slice {
            fn from(slice: $kind) -> Slice {
                slice.0
            }
        }
    )*};
}

slices! {
    Bytes of 1,
    Text of 1,
    Buffer of 1,
    Words of 8,
    OutWords of 8,
    Vectors of 8,
}

/// A socket address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketAddr {
    pub(crate) family: u32,
    pub(crate) ip: u32,
    pub(crate) port: u32,
    pub(crate) flow: u32,
    pub(crate) scope: u32,
}

impl Kind for SocketAddr {
    type Raw = u32;
    type Wire = [u32; 5];
    fn new([family, ip, port, flow, scope]: [u32; 5]) -> SocketAddr {
        SocketAddr {
            family,
            ip,
            port,
            flow,
            scope,
        }
    }
}

/// Where a result of `SIZE` bytes should be written.
pub(crate) trait OutKind<const SIZE: usize> {
    fn address(self) -> u32;
}

macro_rules! numbers {
    ($($raw:ty: $($kind:ident)*;)*) => {$($(
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $kind(pub(crate) $raw);

        impl Kind for $kind {
            type Raw = $raw;
            type Wire = [$raw; 1];
            fn new([raw]: [$raw; 1]) -> $kind {
                $kind(raw)
            }
        }
    )*)*};
}

numbers! {
    u32: OutU16 OutU32 OutU64 OutIpBytes OutUuid OutHeader OutText ShortMillis;
    u64: Millis ConfigId ModuleId EnvironmentId DnsId ListenerId StreamId TlsListenerId TlsStreamId UdpSocketId ErrorId;
    u64: TimerId ConnectionId StatementId ProcessId AddedModuleId;
}

macro_rules! outs {
    ($($kind:ident of $size:expr,)*) => {$(
        impl OutKind<{ $size }> for $kind {
            fn address(self) -> u32 {
                self.0
            }
        }
    )*};
}

outs! {
    OutU16 of 2,
    OutU32 of 4,
    OutU64 of 8,
    OutIpBytes of 16,
    OutUuid of 16,
    OutHeader of MessageHeader::SIZE,
}

macro_rules! plain {
    ($($kind:ident: $raw:ty,)*) => {$(
        pub(crate) type $kind = $raw;

        impl Kind for $raw {
            type Raw = $raw;
            type Wire = [$raw; 1];
            fn new([raw]: [$raw; 1]) -> $raw {
                raw
            }
        }
    )*};
}

plain!(I32: i32, U32: u32, U64: u64, F64: f64, Tag: i64,);

pub(crate) use lunatic_process::Pid;

impl Kind for Pid {
    type Raw = u64;
    type Wire = [u64; 1];
    fn new([number]: [u64; 1]) -> Pid {
        Pid::from_number(number)
    }
}

impl Millis {
    /// Returns the duration; `None` means forever.
    pub(crate) fn duration(self) -> Option<Duration> {
        (self.0 != FOREVER).then(|| Duration::from_millis(self.0))
    }
}

impl ShortMillis {
    /// Returns the duration in the newer generation's representation.
    pub(crate) fn millis(self) -> Millis {
        Millis(match self.0 {
            0 => FOREVER,
            time => time.into(),
        })
    }
}
