//! The interface between guests (WebAssembly programs) and the machine (the VM that runs them).
//!
//! The core of this crate is [`for_each_host_function!`], a table with one row for each function
//! that a guest can import. Everything else that describes these functions is generated from the
//! table: the machine's linker glue, the guest library's `extern` blocks, the C header, and the
//! tests that import and attack every function. The crate also defines the numbers that cross the
//! boundary ([`Errno`], [`ExitKind`], [`Limit`], [`MessageKind`]) and the layout of
//! [`MessageHeader`]. The restart rule ([`restart`]) is here because guests, gateways and bridges
//! all apply it.
//!
//! Guests of older [`Generation`]s import from a second, smaller table,
//! [`for_each_older_host_function!`].
//!
//! The crate has no dependencies and is `no_std`, so that both sides can use it.
//!
//! # Conventions
//!
//! * Rows marked *Extension* were added by this project. All others come from the published
//!   interface of Lunatic 0.13 and keep its names and types.
//! * Addresses and lengths refer to the memory that the guest exports as `memory`. If a range is
//!   not entirely within it, the process traps. Nothing is written until all arguments have been
//!   checked.
//! * Integers in guest memory are little-endian.
//! * A result of type `I32` is `0` for success. `1` means failure, in which case an error id is
//!   written to the out pointer in place of the value. [`TIMED_OUT`] means that the call timed out.
//!   Exceptions are documented in their rows.
//! * Durations are in milliseconds. [`FOREVER`] means no timeout; `0` polls once.
//! * A tag of `0` means no tag.
//! * Ids (of configurations, modules, sockets, timers, databases, errors) belong to the process
//!   that received them. Using an id that was never issued or has been released traps.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

mod c_header;
mod kind;
mod older;
pub mod restart;
pub mod spark;
pub mod sqlite;
mod table;

pub use c_header::write_c_header;
pub use kind::{Kind, Parameter, ValueType};

/// The result of a call that timed out.
pub const TIMED_OUT: i32 = 9027;

/// The result of a receive that can never get a message, because the program has no other processes
/// and no timers.
pub const NOBODY_LEFT: i32 = 9028;

/// The timeout that never expires.
pub const FOREVER: u64 = u64::MAX;

/// The tag of the message that asks a process to shut down, in programs that use this project's
/// guest library. The message contains only a `nil`.
pub const SHUTDOWN: i64 = i64::MIN + 1;

/// The name prefix of the exports that serve as process entry points in those programs.
pub const ENTRY_PREFIX: &str = "_lunatic_spawn_entry_";

/// The id that means "the caller's own" in functions that take a configuration, a module or an
/// environment.
pub const OWN: u64 = u64::MAX;

/// The node id of a machine that is not part of a cluster.
pub const THIS_NODE: u64 = 0;

/// The amount of wasmtime fuel in one unit of compute.
pub const FUEL_PER_UNIT: u64 = 100_000;

/// The first byte of a spawn parameter: its wasm type, as in the binary format.
///
/// A parameter is a record of [`SIZE`](parameter::SIZE) bytes: this byte, then the value's bits as
/// 16 little-endian bytes.
pub mod parameter {
    /// A 32-bit integer.
    pub const I32: u8 = 0x7f;
    /// A 64-bit integer.
    pub const I64: u8 = 0x7e;
    /// The bits of a 32-bit float.
    pub const F32: u8 = 0x7d;
    /// The bits of a 64-bit float.
    pub const F64: u8 = 0x7c;
    /// A 128-bit vector.
    pub const V128: u8 = 0x7b;
    /// The size of one record, in bytes.
    pub const SIZE: usize = 17;
}

macro_rules! numbered {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant = $number,)* }

        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the value with the given number.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// The kind of an error, returned directly by a call or by `lunatic::error::kind` for an error
    /// id.
    Errno {
        /// The call succeeded.
        Success = 0,
        /// Any other failure; the error message has the details.
        Other = 1,
        /// The receiver's mailbox was still full when the sender's time slice ended.
        MailboxFull = 2,
        /// The message exceeds the size limit of the receiver's environment.
        MessageTooLarge = 3,
        /// The caller's or the receiver's environment does not grant the operation.
        NotGranted = 4,
        /// A limit of the environment was reached; the error message names the limit.
        LimitReached = 5,
        /// The process does not exist, or no longer exists.
        NoProcess = 6,
        /// The name belongs to another living process.
        NameTaken = 7,
        /// There is no process registered under the name, or none with a version that satisfies the
        /// query.
        NameNotFound = 8,
        /// The string is not a semantic version or version requirement.
        BadVersion = 9,
        /// The bytes are not a module, or the machine does not accept the module.
        BadModule = 10,
        /// The module does not export a function with this name.
        NoFunction = 11,
        /// The function has different parameters.
        BadParameters = 12,
        /// A name or another string is malformed.
        InvalidInput = 13,
        /// The call timed out.
        TimedOut = 14,
        /// The peer refused the connection.
        ConnectionRefused = 15,
        /// The peer reset the connection.
        ConnectionReset = 16,
        /// The connection was aborted.
        ConnectionAborted = 17,
        /// The socket is not connected.
        NotConnected = 18,
        /// The address is in use.
        AddrInUse = 19,
        /// The address does not belong to this machine.
        AddrNotAvailable = 20,
        /// The peer has closed the connection.
        BrokenPipe = 21,
        /// The host or name was not found.
        NotFound = 22,
        /// The operating system denied the operation.
        PermissionDenied = 23,
        /// The network cannot be reached.
        NetworkUnreachable = 24,
        /// The host cannot be reached.
        HostUnreachable = 25,
        /// The machine ran out of descriptors, memory or mappings; the error message says which.
        Exhausted = 26,
        /// The peer of a TLS connection sent an unacceptable certificate, handshake or record.
        BadTls = 27,
    }
}

numbered! {
    /// Why a process ended, as reported to linked processes and monitors.
    ExitKind {
        /// Its function returned, or it called `proc_exit(0)`.
        Normal = 0,
        /// It called `proc_exit` with another status, which is the header's `detail`.
        Status = 1,
        /// It trapped.
        Trapped = 2,
        /// It was killed.
        Killed = 3,
        /// It reached a limit, the [`Limit`] in the header's `detail`.
        Limit = 4,
        /// A process that it was linked to failed.
        LinkDied = 5,
        /// It never existed, or had already ended.
        NoProcess = 6,
        /// The machine failed because of a bug in the runtime, not in the guest.
        Fault = 7,
    }
}

numbered! {
    /// The limits of an environment, which a configuration sets
    /// (`lunatic::environment::config_set_limit`).
    Limit {
        /// Bytes of linear memory of one process, summed over all its memories.
        Memory = 0,
        /// Compute of one process, in units of [`FUEL_PER_UNIT`].
        Compute = 1,
        /// Elements of one process's tables, in total.
        TableElements = 2,
        /// Living processes of the environment.
        Processes = 3,
        /// Messages waiting in one mailbox.
        MailboxMessages = 4,
        /// Bytes waiting in one mailbox.
        MailboxBytes = 5,
        /// Bytes of one message.
        MessageBytes = 6,
        /// Timers of the environment that have not fired yet.
        Timers = 7,
        /// Names registered in the environment.
        Names = 8,
        /// Open sockets of the environment.
        Sockets = 9,
        /// Open files and directories of one process.
        Files = 10,
        /// Bytes that the environment may write to standard output and standard error, in total.
        Output = 11,
        /// Errors, modules, configurations, environments and lookup results that one process
        /// holds.
        Handles = 12,
        /// Bytes of linear memory of all the environment's processes, in total.
        TotalMemory = 13,
        /// Units of compute of all the environment's processes, in total. Checked once per time
        /// slice.
        TotalCompute = 14,
        /// The maximum lifetime of one process in milliseconds, including the time it spends
        /// waiting.
        Time = 15,
        /// Metrics that the environment's processes have created. Metrics exist until the program
        /// ends.
        Metrics = 16,
        /// Bytes that the machine holds for one process outside of linear memory: handles,
        /// configurations, compiled modules, databases, messages.
        HostMemory = 17,
        /// Bytes that the machine holds for all of the environment's processes outside of linear
        /// memory, including the messages in their mailboxes.
        TotalHostMemory = 18,
        /// Operating system descriptors that the environment's processes hold: files, directories,
        /// sockets, databases and module images.
        Descriptors = 19,
    }
}

impl Limit {
    /// Returns what is limited, and the unit of an allowed number of this many, as worded in error
    /// messages.
    pub const fn words(self, allowed: u64) -> (&'static str, &'static str) {
        let (what, one, many) = match self {
            Self::Memory => ("the memory of a process", "byte", "bytes"),
            Self::Compute => ("the compute of a process", "unit", "units"),
            Self::TableElements => ("the tables of a process", "element", "elements"),
            Self::Processes => ("the environment", "process", "processes"),
            Self::MailboxMessages => ("a mailbox", "message", "messages"),
            Self::MailboxBytes => ("a mailbox", "byte", "bytes"),
            Self::MessageBytes => ("a message", "byte", "bytes"),
            Self::Timers => ("the environment", "timer", "timers"),
            Self::Names => ("the environment", "name", "names"),
            Self::Sockets => ("the environment", "socket", "sockets"),
            Self::Files => ("a process", "open file", "open files"),
            Self::Output => ("the output of the environment", "byte", "bytes"),
            Self::Handles => ("a process", "handle of each kind", "handles of each kind"),
            Self::TotalMemory => ("the memory of the environment", "byte", "bytes"),
            Self::TotalCompute => ("the compute of the environment", "unit", "units"),
            Self::Time => ("the lifetime of a process", "millisecond", "milliseconds"),
            Self::Metrics => ("the environment", "metric", "metrics"),
            Self::HostMemory => ("the host memory of a process", "byte", "bytes"),
            Self::TotalHostMemory => ("the host memory of the environment", "byte", "bytes"),
            Self::Descriptors => ("the environment", "descriptor", "descriptors"),
        };
        (what, if allowed == 1 { one } else { many })
    }
}

numbered! {
    /// The kind of a received message, as returned by a receive.
    MessageKind {
        /// A message that a process, a timer or the host sent.
        Data = 0,
        /// A linked process failed, and this process chose to receive a message rather than die
        /// with it.
        LinkDied = 1,
        /// A monitored process died.
        ProcessDied = 2,
    }
}

numbered! {
    /// The kind of a message's resource, as returned by `lunatic::message::resource_kind`.
    ResourceKind {
        /// There is no resource, or the resource has been taken out.
        None = 0,
        /// A module.
        Module = 1,
        /// A TCP stream.
        TcpStream = 2,
        /// A resource kind defined by the host program.
        Foreign = 3,
        /// A TLS stream.
        TlsStream = 4,
        /// A UDP socket.
        UdpSocket = 5,
    }
}

impl ResourceKind {
    /// Returns the number that identifies a socket in a list of mixed sockets: its id, with its
    /// kind in the highest byte. A bare id also identifies a TCP stream.
    pub const fn word(self, id: u64) -> u64 {
        (self as u64) << 56 | id
    }

    /// Splits a number from [`word`](Self::word) into the kind and the id. The kind is `None` if it
    /// is unknown.
    pub const fn of_word(word: u64) -> (Option<Self>, u64) {
        (
            Self::from_number((word >> 56) as u32),
            word & (u64::MAX >> 8),
        )
    }
}

/// The description of a received message that `lunatic::message::receive_bytes` writes.
///
/// If the message reports a death ([`MessageKind::LinkDied`], [`MessageKind::ProcessDied`]), the
/// data is a description of the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MessageHeader {
    /// The [`MessageKind`], as its number.
    pub kind: u32,
    /// The full length of the data in bytes, even if it does not fit into the buffer.
    pub length: u32,
    /// The number of resources in the message.
    pub resources: u32,
    /// The [`ExitKind`] of a death, as its number; otherwise 0.
    pub exit: u32,
    /// The tag of the message or the link; 0 if there is none.
    pub tag: i64,
    /// The process that died; otherwise 0.
    pub pid: u64,
    /// The status or [`Limit`] that goes with `exit`; otherwise 0.
    pub detail: u64,
}

impl MessageHeader {
    /// The size of a header in guest memory, in bytes.
    pub const SIZE: usize = 40;

    /// Returns the header's representation in guest memory.
    #[inline]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.resources.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.exit.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tag.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.pid.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.detail.to_le_bytes());
        bytes
    }
}

// Guests read the header as this struct, and the machine writes it with `to_bytes`. The layouts
// match because the struct has no padding and wasm is little-endian.
const _: () = assert!(size_of::<MessageHeader>() == MessageHeader::SIZE);

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct HostFunction {
    /// The import module, such as `lunatic::message`.
    pub namespace: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// The function's parameters, in order.
    pub parameters: &'static [Parameter],
    /// The function's result.
    pub result: Option<Kind>,
    /// Whether the function may suspend the process.
    pub waits: bool,
    /// The documentation, line by line.
    pub doc: &'static [&'static str],
}

impl HostFunction {
    /// Returns the wasm types of the parameters, in order.
    pub fn parameter_types(&self) -> impl Iterator<Item = ValueType> {
        self.parameters
            .iter()
            .flat_map(|parameter| parameter.kind.value_types())
            .copied()
    }

    /// Returns the wasm type of the result.
    pub fn result_type(&self) -> Option<ValueType> {
        self.result.map(|kind| kind.value_types()[0])
    }
}

macro_rules! rows {
    ($($(#[doc = $about:literal])* $namespace:literal as $module:ident {
        $($(#[doc = $doc:literal])* $mode:ident $name:ident($($parameter:ident: $kind:ident),*) $(-> $result:ident)?;)*
    })*) => {
        const ROWS: &[$crate::HostFunction] = &[$($($crate::HostFunction {
            namespace: $namespace,
            name: stringify!($name),
            parameters: &[$($crate::Parameter { name: stringify!($parameter), kind: $crate::Kind::$kind },)*],
            result: rows!(@result $($result)?),
            waits: rows!(@waits $mode),
            doc: &[$($doc,)*],
        },)*)*];
    };
    (@result) => { None };
    (@result $result:ident) => { Some($crate::Kind::$result) };
    (@waits now) => { false };
    (@waits $mode:ident) => { true };
}
pub(crate) use rows;

/// Every host function, in the order of the table.
pub const HOST_FUNCTIONS: &[HostFunction] = {
    for_each_host_function!(rows);
    ROWS
};

/// The host functions whose types in 0.12 differ from 0.13.
const HOST_FUNCTIONS_OF_0_12: &[HostFunction] = {
    for_each_host_function_of_0_12!(rows);
    ROWS
};

/// The host functions whose types in 0.10 differ from 0.12.
const HOST_FUNCTIONS_OF_0_10: &[HostFunction] = {
    for_each_host_function_of_0_10!(rows);
    ROWS
};

/// Every older-generation host function, with its type as of 0.7, in the order of the table.
const OLDER_HOST_FUNCTIONS: &[HostFunction] = {
    for_each_older_host_function!(rows);
    ROWS
};

/// The host functions whose types in 0.6 differ from 0.7.
const HOST_FUNCTIONS_OF_0_6: &[HostFunction] = {
    for_each_host_function_of_0_6!(rows);
    ROWS
};

/// A generation of the interface. A module's generation is determined by the names and types of its
/// imports.
///
/// ```
/// use lunatic_abi::Generation;
///
/// let has = |generation: Generation, name| generation.host_functions().any(|row| row.name == name);
/// assert!(has(Generation::V0_13, "process_id") && !has(Generation::V0_13, "this"));
/// assert!(has(Generation::V0_7, "this") && !has(Generation::V0_7, "process_id"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Lunatic 0.13 with this project's extensions: guests built with this project's `lunatic`
    /// crate, or with 0.13 or 0.14 of the published one.
    V0_13,
    /// Lunatic 0.12: guests built with the published `lunatic` 0.12.
    V0_12,
    /// Lunatic 0.7: guests built with the published `lunatic` 0.7.
    V0_7,
    /// Lunatic 0.6: guests built with the published `lunatic` 0.6.
    V0_6,
    /// Lunatic 0.10: guests built with the published `lunatic` 0.10 or 0.11.
    V0_10,
}

impl Generation {
    /// All generations, in the order in which they are tried.
    pub const ALL: [Generation; 5] = [
        Generation::V0_13,
        Generation::V0_12,
        Generation::V0_7,
        Generation::V0_6,
        Generation::V0_10,
    ];

    /// Returns the functions that a guest of this generation can import.
    pub fn host_functions(self) -> impl Iterator<Item = &'static HostFunction> {
        let (rows, instead): (_, &[&[HostFunction]]) = match self {
            Generation::V0_13 => (HOST_FUNCTIONS, &[]),
            Generation::V0_12 => (HOST_FUNCTIONS, &[HOST_FUNCTIONS_OF_0_12]),
            Generation::V0_10 => (
                HOST_FUNCTIONS,
                &[HOST_FUNCTIONS_OF_0_12, HOST_FUNCTIONS_OF_0_10],
            ),
            Generation::V0_7 => (OLDER_HOST_FUNCTIONS, &[]),
            Generation::V0_6 => (OLDER_HOST_FUNCTIONS, &[HOST_FUNCTIONS_OF_0_6]),
        };
        let instead = || instead.iter().copied().flatten();
        let is_another = move |row: &HostFunction| {
            instead().any(|other| (other.namespace, other.name) == (row.namespace, row.name))
        };
        rows.iter()
            .filter(move |row| !is_another(row))
            .chain(instead())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_has_two_rows() {
        for generation in Generation::ALL {
            for (index, row) in generation.host_functions().enumerate() {
                let mut before = generation.host_functions().take(index);
                let twin =
                    before.find(|other| (other.namespace, other.name) == (row.namespace, row.name));
                assert!(
                    twin.is_none(),
                    "{}::{} has two rows",
                    row.namespace,
                    row.name
                );
            }
        }
    }

    #[test]
    fn a_result_is_one_value() {
        for row in Generation::ALL
            .into_iter()
            .flat_map(Generation::host_functions)
        {
            let types = row.result.map_or(1, |kind| kind.value_types().len());
            assert_eq!(types, 1, "{}::{}", row.namespace, row.name);
        }
    }

    #[test]
    fn every_row_has_a_sentence() {
        for row in Generation::ALL
            .into_iter()
            .flat_map(Generation::host_functions)
        {
            assert!(
                row.doc.iter().any(|line| line.trim().ends_with('.')),
                "{}::{}",
                row.namespace,
                row.name
            );
        }
    }

    #[test]
    fn numbers_survive_a_round_trip() {
        for &errno in Errno::ALL {
            assert_eq!(Errno::from_number(errno as u32), Some(errno));
        }
        for &limit in Limit::ALL {
            assert_eq!(Limit::from_number(limit as u32), Some(limit));
        }
        assert_eq!(ExitKind::from_number(ExitKind::ALL.len() as u32), None);
        assert_eq!(MessageKind::from_number(3), None);
    }

    #[test]
    fn a_word_names_a_socket_and_a_bare_id_a_stream() {
        assert_eq!(
            ResourceKind::of_word(ResourceKind::UdpSocket.word(7)),
            (Some(ResourceKind::UdpSocket), 7)
        );
        assert_eq!(ResourceKind::of_word(7), (Some(ResourceKind::None), 7));
        assert_eq!(ResourceKind::of_word(u64::MAX), (None, u64::MAX >> 8));
    }
}
