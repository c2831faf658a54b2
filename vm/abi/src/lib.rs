//! What a guest and the machine agree on.
//!
//! The heart is [`for_each_host_function!`]: one row for every function that a guest can import. Everything else that
//! must know the functions is a projection of these rows: the machine's linker glue, the guest library's `extern`
//! blocks, the generated C header, the module that imports every row and the test that attacks every row. Beside it
//! stand the numbers that cross the boundary ([`Errno`], [`ExitKind`], [`Limit`], [`MessageKind`]) and the layout of
//! [`MessageHeader`]. The rule of restarts ([`restart`]) is here because guests, gateways and bridges all apply it.
//!
//! Guests of an older [`Generation`] find the functions of a second, small table, [`for_each_older_host_function!`].
//!
//! The crate has no dependency and no `std`, so that both sides can use it.
//!
//! # Conventions
//!
//! * Rows without the mark *own* are the published interface of Lunatic 0.13, named and typed as there.
//! * Addresses and lengths are offsets into the guest's exported memory `memory`. An address that is not readable or
//!   writable for its whole length ends the process with a trap; nothing is written before every argument was checked.
//! * Integers in guest memory are little-endian.
//! * A result of type `I32` is `0` for success. `1` means that it failed and an error id was written to the out pointer
//!   that would have received the value; [`TIMED_OUT`] that time ran out. Rows that differ say so.
//! * A time is in milliseconds; [`FOREVER`] waits without end and `0` polls once.
//! * A tag of `0` is "no tag".
//! * Ids (configurations, modules, sockets, timers, databases, errors) belong to the process that got them; an id that was never
//!   given or was given back ends the process with a trap.

#![no_std]

extern crate alloc;

mod c_header;
mod older;
pub mod restart;
pub mod spark;
pub mod sqlite;
mod table;

pub use c_header::write_c_header;

/// The result of a call whose time ran out.
pub const TIMED_OUT: i32 = 9027;

/// The result of a receive that nothing alive can ever answer: no other process of the program, no timer.
pub const NOBODY_LEFT: i32 = 9028;

/// The time that never runs out, and the id that means "my own" where a configuration, module or environment is asked.
pub const FOREVER: u64 = u64::MAX;

/// The id that means "the caller's own", where a row takes a configuration, a module or an environment.
pub const OWN: u64 = u64::MAX;

/// How many units of wasmtime's fuel make one unit of compute.
pub const FUEL_PER_UNIT: u64 = 100_000;

/// The first byte of a spawn parameter: its wasm type, as in the binary format.
///
/// A parameter is a record of [`SIZE`](parameter::SIZE) bytes: this byte, then the value's bits, little-endian, in 16 bytes.
pub mod parameter {
    /// A 32-bit integer.
    pub const I32: u8 = 0x7f;
    /// A 64-bit integer.
    pub const I64: u8 = 0x7e;
    /// A 32-bit float, as its bits.
    pub const F32: u8 = 0x7d;
    /// A 64-bit float, as its bits.
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
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the value that has this number.
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
    /// What kind of failure an error id stands for (`lunatic::error::kind`), and the code of calls that fail without one.
    Errno {
        /// The call did what it was asked.
        Success = 0,
        /// A failure that has no number of its own; its text says more.
        Other = 1,
        /// The receiver's mailbox has no room and the sender's slice is over.
        MailboxFull = 2,
        /// The message is larger than the receiver's environment accepts.
        MessageTooLarge = 3,
        /// The environment does not grant this, to the caller or to the receiver.
        NotGranted = 4,
        /// A bound of the environment is reached; the text names it.
        LimitReached = 5,
        /// The process does not exist, or not any more.
        NoProcess = 6,
        /// The name is taken by a living process.
        NameTaken = 7,
        /// No process is registered under this name, or no version satisfies the query.
        NameNotFound = 8,
        /// The text is not a semantic version or not a version requirement.
        BadVersion = 9,
        /// The bytes are not a module that the machine accepts.
        BadModule = 10,
        /// The module exports no such function.
        NoFunction = 11,
        /// The function takes other parameters.
        BadParameters = 12,
        /// A name or text is malformed.
        InvalidInput = 13,
        /// Time ran out.
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
        /// The address is not one of this machine.
        AddrNotAvailable = 20,
        /// The other end of the connection is closed.
        BrokenPipe = 21,
        /// The host or name was not found.
        NotFound = 22,
        /// The operating system denies it.
        PermissionDenied = 23,
        /// The network cannot be reached.
        NetworkUnreachable = 24,
        /// The host cannot be reached.
        HostUnreachable = 25,
        /// The machine is at a ceiling (descriptors, memory, mappings); the text names it.
        Exhausted = 26,
        /// What the peer of a TLS connection sent or showed is not acceptable: a certificate, a handshake, a record.
        BadTls = 27,
    }
}

numbered! {
    /// Why a process ended, as its links and monitors are told.
    ExitKind {
        /// Its function returned, or it called `proc_exit(0)`.
        Normal = 0,
        /// It called `proc_exit` with another status, which is the header's `detail`.
        Status = 1,
        /// It trapped.
        Trapped = 2,
        /// It was killed.
        Killed = 3,
        /// It reached a limit, whose [`Limit`] is the header's `detail`.
        Limit = 4,
        /// A process that it was linked to failed.
        LinkDied = 5,
        /// It never was alive, or was dead before anybody asked.
        NoProcess = 6,
        /// The machine itself failed it: a defect of the runtime, not of the guest.
        Fault = 7,
    }
}

numbered! {
    /// What an environment bounds. Every bound can be set in a configuration (`lunatic::environment::config_set_limit`).
    Limit {
        /// Bytes of linear memory of one process, over all its memories.
        Memory = 0,
        /// Units of compute of one process, of [`FUEL_PER_UNIT`] each.
        Compute = 1,
        /// Elements of one process's tables, over all of them.
        TableElements = 2,
        /// Processes alive in the environment.
        Processes = 3,
        /// Messages waiting in one mailbox.
        MailboxMessages = 4,
        /// Bytes waiting in one mailbox.
        MailboxBytes = 5,
        /// Bytes of one message.
        MessageBytes = 6,
        /// Timers of the environment that have not fired.
        Timers = 7,
        /// Names registered in the environment.
        Names = 8,
        /// Sockets open in the environment.
        Sockets = 9,
        /// Files and directories that one process has open.
        Files = 10,
        /// Bytes that the environment may write to its standard output and error in all.
        Output = 11,
        /// Errors, modules, configurations, environments and name look-ups that one process holds.
        Handles = 12,
        /// Bytes of linear memory of all processes of the environment together.
        TotalMemory = 13,
        /// Units of compute of all processes of the environment together, checked once a slice.
        TotalCompute = 14,
        /// Milliseconds that one process may live, waiting included.
        Time = 15,
        /// Metrics that the environment's processes have named, until the program is gone.
        Metrics = 16,
    }
}

impl Limit {
    /// Returns what the limit bounds and in which unit, as words of a sentence.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Memory => ("memory of a process", "bytes"),
            Self::Compute => ("compute of a process", "units"),
            Self::TableElements => ("tables of a process", "elements"),
            Self::Processes => ("the environment", "processes"),
            Self::MailboxMessages => ("a mailbox", "messages"),
            Self::MailboxBytes => ("a mailbox", "bytes"),
            Self::MessageBytes => ("a message", "bytes"),
            Self::Timers => ("the environment", "timers"),
            Self::Names => ("the environment", "names"),
            Self::Sockets => ("the environment", "sockets"),
            Self::Files => ("a process", "open files"),
            Self::Output => ("output of the environment", "bytes"),
            Self::Handles => ("a process", "handles of a kind"),
            Self::TotalMemory => ("memory of the environment", "bytes"),
            Self::TotalCompute => ("compute of the environment", "units"),
            Self::Time => ("the life of a process", "milliseconds"),
            Self::Metrics => ("the environment", "metrics"),
        }
    }
}

numbered! {
    /// What a received message is; the result of a receive that got one.
    MessageKind {
        /// A message that a process, a timer or the host sent.
        Data = 0,
        /// A linked process failed, and this process asked to be told instead of dying with it.
        LinkDied = 1,
        /// A monitored process ended.
        ProcessDied = 2,
    }
}

numbered! {
    /// What a resource of a message is; the result of `lunatic::message::resource_kind`.
    ResourceKind {
        /// There is none, or it was taken already.
        None = 0,
        /// A module.
        Module = 1,
        /// A TCP stream.
        TcpStream = 2,
        /// One of the host program's own.
        Foreign = 3,
        /// A TLS stream.
        TlsStream = 4,
        /// A UDP socket.
        UdpSocket = 5,
    }
}

impl ResourceKind {
    /// Returns the word that names a socket where sockets of several kinds are listed: its id, and its kind in the highest
    /// byte. The id of a TCP stream stands also for itself.
    pub const fn word(self, id: u64) -> u64 {
        (self as u64) << 56 | id
    }

    /// Takes such a word apart. The kind is `None` where its number means nothing.
    pub const fn of_word(word: u64) -> (Option<Self>, u64) {
        (
            Self::from_number((word >> 56) as u32),
            word & (u64::MAX >> 8),
        )
    }
}

/// What `lunatic::message::receive_bytes` writes about the message it received.
///
/// For a death ([`MessageKind::LinkDied`], [`MessageKind::ProcessDied`]) the data is the reason as a sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MessageHeader {
    /// The [`MessageKind`], as its number.
    pub kind: u32,
    /// The length of the whole data in bytes, also where it did not fit the buffer.
    pub length: u32,
    /// How many resources travel with it.
    pub resources: u32,
    /// The [`ExitKind`] of a death, as its number; otherwise 0.
    pub exit: u32,
    /// The message's tag, or the link's; 0 for none.
    pub tag: i64,
    /// The process that died; otherwise 0.
    pub pid: u64,
    /// The status or the [`Limit`] that goes with `exit`; otherwise 0.
    pub detail: u64,
}

impl MessageHeader {
    /// The size of a header in guest memory, in bytes.
    pub const SIZE: usize = 40;

    /// Lays the header out as it stands in guest memory.
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

// The guest reads the header as this structure; the machine writes it with `to_bytes`. They agree only while it has no
// padding and the target is little-endian, which wasm is.
const _: () = assert!(size_of::<MessageHeader>() == MessageHeader::SIZE);

/// A wasm value type that occurs in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A 32-bit integer.
    I32,
    /// A 64-bit integer.
    I64,
    /// A 64-bit float.
    F64,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $wasm:ident,)*) => {
        /// What a parameter of a host function means, which decides how it is checked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Returns the wasm type that a parameter of this kind has.
            pub const fn value_type(self) -> ValueType {
                match self { $(Self::$kind => ValueType::$wasm,)* }
            }
        }
    };
}

kinds! {
    /// A number with no further meaning to the boundary.
    I32: I32,
    /// A number with no further meaning to the boundary.
    U32: I32,
    /// A number with no further meaning to the boundary.
    I64: I64,
    /// A number with no further meaning to the boundary.
    U64: I64,
    /// A number with no further meaning to the boundary.
    F64: F64,
    /// Address of bytes that are read; the next parameter is their [`Kind::Length`] in bytes.
    Bytes: I32,
    /// Address of bytes that are written; the next parameter is their [`Kind::Length`] in bytes.
    Buffer: I32,
    /// Address of 64-bit integers that are read; the next parameter is their [`Kind::Length`] as a count.
    Words: I32,
    /// Address of (address, length) pairs of 32 bits each, whose bytes are read; the next parameter is their count.
    Vectors: I32,
    /// How long what the parameter before it points to is.
    Length: I32,
    /// Address of 4 or 16 bytes of an IP address, as the [`Kind::Family`] before it says.
    IpBytes: I32,
    /// 4 or 6; another value is a trap.
    Family: I32,
    /// Address of two bytes that receive a result.
    OutU16: I32,
    /// Address of four bytes that receive a result.
    OutU32: I32,
    /// Address of eight bytes that receive a result.
    OutU64: I32,
    /// Address of 64-bit integers that are written; the next parameter is their [`Kind::Length`] as a count.
    OutWords: I32,
    /// Address of sixteen bytes that receive an IP address.
    OutIpBytes: I32,
    /// Address that receives a [`MessageHeader`].
    OutHeader: I32,
    /// Address of bytes that receive the text of an error, as many as `string_size` said.
    OutText: I32,
    /// A process.
    Pid: I64,
    /// A message's or a link's tag.
    Tag: I64,
    /// Milliseconds; all ones is for ever.
    Millis: I64,
    /// An id of a configuration.
    ConfigId: I64,
    /// An id of a module; all ones is the caller's own.
    ModuleId: I64,
    /// An id of an environment; all ones is the caller's own.
    EnvironmentId: I64,
    /// An id of the result of a name look-up.
    DnsId: I64,
    /// An id of a listener.
    ListenerId: I64,
    /// An id of a stream.
    StreamId: I64,
    /// An id of a TLS listener.
    TlsListenerId: I64,
    /// An id of a TLS stream.
    TlsStreamId: I64,
    /// An id of a UDP socket.
    UdpSocketId: I64,
    /// An id of an error.
    ErrorId: I64,
    /// An id of a timer.
    TimerId: I64,
    /// An id of a connection to a database.
    ConnectionId: I64,
    /// An id of a prepared statement.
    StatementId: I64,
    /// An older guest's handle of a process: an id in the caller's own table, which names nobody elsewhere.
    ProcessId: I64,
    /// An older guest's id of a module in an environment.
    AddedModuleId: I64,
    /// An older guest's time, in milliseconds; 0 is for ever.
    ShortMillis: I32,
    /// Address of sixteen bytes that receive what identifies a process.
    OutUuid: I32,
}

/// A parameter of a host function.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub kind: Kind,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct HostFunction {
    /// The name of the import's module, such as `lunatic::message`.
    pub namespace: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// Its parameters, in order.
    pub parameters: &'static [Parameter],
    /// Its result.
    pub result: Option<Kind>,
    /// Whether the process may be suspended in it.
    pub waits: bool,
    /// What it does.
    pub doc: &'static [&'static str],
}

macro_rules! rows {
    ($($(#[doc = $about:literal])* $namespace:literal as $module:ident {
        $($(#[doc = $doc:literal])* $mode:ident $name:ident($($parameter:ident: $kind:ident),*) $(-> $result:ident)?;)*
    })*) => {
        const ROWS: &[HostFunction] = &[$($(HostFunction {
            namespace: $namespace,
            name: stringify!($name),
            parameters: &[$(Parameter { name: stringify!($parameter), kind: Kind::$kind },)*],
            result: rows!(@result $($result)?),
            waits: rows!(@waits $mode),
            doc: &[$($doc,)*],
        },)*)*];
    };
    (@result) => { None };
    (@result $result:ident) => { Some(Kind::$result) };
    (@waits wait) => { true };
    (@waits soon) => { true };
    (@waits now) => { false };
}

/// Every host function, in the order of the table.
pub const HOST_FUNCTIONS: &[HostFunction] = {
    for_each_host_function!(rows);
    ROWS
};

/// Every host function of the older generation, as guests of 0.7 import it, in the order of its table.
const OLDER_HOST_FUNCTIONS: &[HostFunction] = {
    for_each_older_host_function!(rows);
    ROWS
};

/// Those that guests of 0.6 import with another type.
const HOST_FUNCTIONS_OF_0_6: &[HostFunction] = {
    for_each_host_function_of_0_6!(rows);
    ROWS
};

/// A generation of the interface. What a guest's imports are called and typed decides which one it belongs to, and a
/// module belongs to one.
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
    /// Lunatic 0.13, with what this project adds: guests of this project's `lunatic` and of the published 0.13 and 0.14.
    V0_13,
    /// Lunatic 0.7: guests of the published `lunatic` 0.7.
    V0_7,
    /// Lunatic 0.6: guests of the published `lunatic` 0.6.
    V0_6,
}

impl Generation {
    /// Every generation, newest first.
    pub const ALL: [Generation; 3] = [Generation::V0_13, Generation::V0_7, Generation::V0_6];

    /// Returns the functions that a guest of this generation can import; each has one row.
    pub fn host_functions(self) -> impl Iterator<Item = &'static HostFunction> {
        let (rows, instead): (_, &[HostFunction]) = match self {
            Generation::V0_13 => (HOST_FUNCTIONS, &[]),
            Generation::V0_7 => (OLDER_HOST_FUNCTIONS, &[]),
            Generation::V0_6 => (OLDER_HOST_FUNCTIONS, HOST_FUNCTIONS_OF_0_6),
        };
        let is_another = |row: &HostFunction| {
            instead
                .iter()
                .any(|other| (other.namespace, other.name) == (row.namespace, row.name))
        };
        rows.iter()
            .filter(move |row| !is_another(row))
            .chain(instead)
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
    fn what_points_somewhere_is_followed_by_how_long_it_is() {
        for row in Generation::ALL
            .into_iter()
            .flat_map(Generation::host_functions)
        {
            for (index, parameter) in row.parameters.iter().enumerate() {
                let next = row
                    .parameters
                    .get(index + 1)
                    .map(|parameter| parameter.kind);
                if matches!(
                    parameter.kind,
                    Kind::Bytes | Kind::Buffer | Kind::Words | Kind::Vectors | Kind::OutWords
                ) {
                    assert_eq!(
                        next,
                        Some(Kind::Length),
                        "{}::{}({})",
                        row.namespace,
                        row.name,
                        parameter.name
                    );
                }
                if parameter.kind == Kind::Family {
                    assert_eq!(
                        next,
                        Some(Kind::IpBytes),
                        "{}::{}({})",
                        row.namespace,
                        row.name,
                        parameter.name
                    );
                }
            }
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
    fn numbers_come_back_as_what_they_were() {
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
