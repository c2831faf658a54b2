//! The meanings of host function parameters, and the wasm types that represent them.

/// A wasm value type used in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A 32-bit integer.
    I32,
    /// A 64-bit integer.
    I64,
    /// A 64-bit float.
    F64,
}

/// A parameter of a host function.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The parameter's name.
    pub name: &'static str,
    /// The parameter's meaning.
    pub kind: Kind,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $($wasm:ident)+,)*) => {
        /// The meaning of a host function parameter, which determines how it is checked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Returns the types of the wasm parameters that represent a parameter of this kind.
            pub const fn value_types(self) -> &'static [ValueType] {
                match self { $(Self::$kind => &[$(ValueType::$wasm),+],)* }
            }
        }
    };
}

kinds! {
    /// A plain number.
    I32: I32,
    /// A plain number.
    U32: I32,
    /// A plain number.
    I64: I64,
    /// A plain number.
    U64: I64,
    /// A plain number.
    F64: F64,
    /// Bytes to read: their address and length.
    Bytes: I32 I32,
    /// UTF-8 text to read: its address and length in bytes.
    Text: I32 I32,
    /// Bytes to write: their address and length.
    Buffer: I32 I32,
    /// 64-bit integers to read: their address and count.
    Words: I32 I32,
    /// 64-bit integers to write: their address and the maximum count.
    OutWords: I32 I32,
    /// Bytes to read, in several pieces. Each piece is described by a pair of 32-bit numbers, its
    /// address and length. The parameters are the address of the first pair and the number of
    /// pairs.
    Vectors: I32 I32,
    /// A socket address: the family (4 or 6), the location of the 4 or 16 bytes of the IP address,
    /// the port, and the flow and scope, which are used only for IPv6.
    SocketAddr: I32 I32 I32 I32 I32,
    /// The location where a two-byte result is written.
    OutU16: I32,
    /// The location where a four-byte result is written.
    OutU32: I32,
    /// The location where an eight-byte result is written.
    OutU64: I32,
    /// The location where the sixteen bytes of an IP address are written.
    OutIpBytes: I32,
    /// The location where a [`MessageHeader`](crate::MessageHeader) is written.
    OutHeader: I32,
    /// The location where an error message is written, as many bytes as `string_size` returns.
    OutText: I32,
    /// A process.
    Pid: I64,
    /// The tag of a message or a link.
    Tag: I64,
    /// A duration in milliseconds; all ones means forever.
    Millis: I64,
    /// The id of a configuration.
    ConfigId: I64,
    /// The id of a module; all ones means the caller's own.
    ModuleId: I64,
    /// The id of an environment; all ones means the caller's own.
    EnvironmentId: I64,
    /// The id of a lookup result.
    DnsId: I64,
    /// The id of a listener.
    ListenerId: I64,
    /// The id of a stream.
    StreamId: I64,
    /// The id of a TLS listener.
    TlsListenerId: I64,
    /// The id of a TLS stream.
    TlsStreamId: I64,
    /// The id of a UDP socket.
    UdpSocketId: I64,
    /// The id of an error.
    ErrorId: I64,
    /// The id of a timer.
    TimerId: I64,
    /// The id of a database connection.
    ConnectionId: I64,
    /// The id of a prepared statement.
    StatementId: I64,
    /// A process handle of an older guest: an id in the caller's own table that is meaningless to
    /// other processes.
    ProcessId: I64,
    /// The id of a module in an environment, for older guests.
    AddedModuleId: I64,
    /// A duration in milliseconds, for older guests; 0 means forever.
    ShortMillis: I32,
    /// The location where the sixteen bytes of a process identifier are written.
    OutUuid: I32,
}

/// Calls `$project!` with a row's parameters as they are passed in wasm.
///
/// Each kind is followed by its wasm parameters: a slice has two, a socket address has five, and
/// any other kind has one. `$row` is passed through unchanged, before the parameters.
///
/// ```
/// macro_rules! sizes {
///     ($row:ident $(($kind:ident: $($wire:ident: $part:ident),+))*) => {
///         [$((stringify!($kind), [$(stringify!($part)),+].len())),*]
///     };
/// }
/// let sizes = lunatic_abi::as_wasm_parameters!(sizes! read (stream: StreamId, buffer: Buffer));
/// assert_eq!(sizes, [("StreamId", 1), ("Buffer", 2)]);
/// ```
#[macro_export]
macro_rules! as_wasm_parameters {
    ($project:ident! $row:tt ($($name:ident: $kind:ident),*)) => {
        $crate::as_wasm_parameters! { @next $project $row [] $($name $kind)* }
    };
    (@next $project:ident $row:tt [$($done:tt)*]) => { $project! { $row $($done)* } };
    (@next $project:ident $row:tt $done:tt $name:ident Bytes $($rest:ident)*) => {
        $crate::as_wasm_parameters! { @slice $project $row $done $name Bytes $($rest)* }
    };
    (@next $project:ident $row:tt $done:tt $name:ident Text $($rest:ident)*) => {
        $crate::as_wasm_parameters! { @slice $project $row $done $name Text $($rest)* }
    };
    (@next $project:ident $row:tt $done:tt $name:ident Buffer $($rest:ident)*) => {
        $crate::as_wasm_parameters! { @slice $project $row $done $name Buffer $($rest)* }
    };
    (@next $project:ident $row:tt $done:tt $name:ident Words $($rest:ident)*) => {
        $crate::as_wasm_parameters! { @slice $project $row $done $name Words $($rest)* }
    };
    (@next $project:ident $row:tt $done:tt $name:ident OutWords $($rest:ident)*) => {
        $crate::as_wasm_parameters! { @slice $project $row $done $name OutWords $($rest)* }
    };
    (@next $project:ident $row:tt $done:tt $name:ident Vectors $($rest:ident)*) => {
        $crate::as_wasm_parameters! { @slice $project $row $done $name Vectors $($rest)* }
    };
    (@next $project:ident $row:tt [$($done:tt)*] $name:ident SocketAddr $($rest:ident)*) => {
        $crate::as_wasm_parameters! {
            @next $project $row [
                $($done)*
                (SocketAddr: family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32)
            ] $($rest)*
        }
    };
    (@next $project:ident $row:tt [$($done:tt)*] $name:ident $kind:ident $($rest:ident)*) => {
        $crate::as_wasm_parameters! {
            @next $project $row [$($done)* ($kind: $name: $kind)] $($rest)*
        }
    };
    // A separate step gives the `length` of each slice a distinct name.
    (@slice $project:ident $row:tt [$($done:tt)*] $name:ident $kind:ident $($rest:ident)*) => {
        $crate::as_wasm_parameters! {
            @next $project $row [$($done)* ($kind: $name: $kind, length: Length)] $($rest)*
        }
    };
}
