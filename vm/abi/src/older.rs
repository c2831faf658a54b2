//! Host function tables for older generations of guests, in the same format as `table.rs`.
//!
//! Guests built with versions 0.6 and 0.7 of the published `lunatic` crate have their own table,
//! which has process handles, environments and versioned names. Guests built with 0.10 to 0.12
//! import the newer table, but a few of its functions have different types there.
//!
//! Three things set 0.6 and 0.7 apart. A process is identified by an unforgeable handle in the
//! caller's own table, and handles can be sent in messages. A timeout of 0 means no timeout. `send`
//! returns nothing. Functions that behave as they do in the newer table share its implementation.

/// Calls `$project!` with the entire table of older-generation host functions, as of 0.7.
#[macro_export]
macro_rules! for_each_older_host_function {
    ($project:path) => {
        $project! {
            /// Error messages.
            "lunatic::error" as error {
                /// Returns the length of an error message in bytes.
                now string_size(id: ErrorId) -> U32;
                /// Writes an error message: exactly as many bytes as `string_size` returns.
                now to_string(id: ErrorId, text: OutText);
                /// Releases an error.
                now drop(id: ErrorId);
            }

            /// Messages: compose and read.
            "lunatic::message" as message {
                /// Starts an empty data message in the slot, replacing whatever was there.
                /// `capacity` is a hint.
                now create_data(tag: Tag, capacity: U64);
                /// Appends bytes to the data message in the slot and returns the number appended.
                soon write_data(data: Bytes) -> U32;
                /// Copies bytes from the read position and advances it. Returns the number of bytes
                /// copied, or 0 at the end.
                soon read_data(buffer: Buffer) -> U32;
                /// Sets the read position, in bytes from the start.
                now seek_data(position: U64);
                /// Returns the tag of the message in the slot, or 0 if it has none.
                now get_tag() -> I64;
                /// Returns the length, in bytes, of the data in the slot.
                now data_size() -> U64;
                /// Moves a stream into the message in the slot and returns its index there.
                now push_tcp_stream(stream: StreamId) -> U64;
                /// Takes a stream out of the message in the slot and returns its id.
                now take_tcp_stream(index: U64) -> StreamId;
            }

            /// Messages: send and receive.
            "lunatic::message" as mail {
                /// Sends the message in the slot, or drops it if the process does not exist.
                /// Because this function returns nothing, the caller waits while the mailbox is
                /// full, and traps if the receiver cannot accept the message at all.
                wait send(process: ProcessId);
                /// Sends the message in the slot, then waits for a message that arrives after the
                /// send and has the same tag, or for any message if the tag is 0. Returns 0, or
                /// 9027 on timeout, in which case the slot is left with an empty message.
                wait send_receive_skip_search(process: ProcessId, timeout: ShortMillis) -> I32;
                /// Waits for the first message that has one of the tags, or for any message if no
                /// tag is given. Returns 0 for data, 1 if a linked process died, or 9027 on
                /// timeout, in which case the slot is left with an empty message. Also times out
                /// once there is no process left that could send one.
                wait receive(tags: Words, timeout: ShortMillis) -> I32;
            }

            /// Process handles.
            "lunatic::message" as handles {
                /// Moves a handle into the message in the slot and returns its index there.
                now push_process(process: ProcessId) -> U64;
                /// Takes a handle out of the message in the slot and returns it.
                now take_process(index: U64) -> ProcessId;
            }

            /// Process handles.
            "lunatic::process" as handles {
                /// Returns a new handle that refers to the calling process.
                now this() -> ProcessId;
                /// Writes a process's unique identifier. All handles to the same process have the
                /// same one.
                now id(process: ProcessId, uuid: OutUuid);
                /// Returns another handle to the same process.
                now clone_process(process: ProcessId) -> ProcessId;
                /// Releases a handle. The process is not affected.
                now drop_process(process: ProcessId);
                /// Links the caller to a process. If the process is already dead, its death is not
                /// reported.
                now link(tag: Tag, process: ProcessId);
                /// Unlinks the caller from a process.
                now unlink(process: ProcessId);
            }

            /// Processes: functions that behave the same in both generations.
            "lunatic::process" as process {
                /// Releases a configuration.
                now drop_config(config: ConfigId);
                /// Suspends the caller.
                wait sleep_ms(time: Millis);
                /// Sets what happens when a linked process fails. If `die` is 0, the caller
                /// receives a message; otherwise, the caller dies too.
                now die_when_link_dies(die: I32);
            }

            /// Environments, which determine what their processes may call and how much they may
            /// use.
            "lunatic::process" as environments {
                /// Creates a configuration that grants no functions. The memory limit is in bytes
                /// and the compute limit in units, where 0 means no limit. Returns the
                /// configuration's id.
                now create_config(memory: U64, compute: U64) -> ConfigId;
                /// Grants a configuration the functions whose `namespace::name` begins with the
                /// prefix. Any function that the caller is not itself allowed to call is dropped
                /// when the environment is created.
                now allow_namespace(config: ConfigId, prefix: Text);
                /// Grants access to a directory inside one of the caller's directories. Returns 0,
                /// or 1 and an error id.
                wait preopen_dir(config: ConfigId, directory: Text, error: OutU64) -> I32;
                /// Returns 1 and an error id, because there are no plugins.
                now add_plugin(config: ConfigId, data: Bytes, error: OutU64) -> I32;
                /// Creates an environment from a configuration. Returns 0 and the environment's id,
                /// or 1 and an error id.
                now create_environment(config: ConfigId, environment: OutU64) -> I32;
                /// Returns 1 and an error id, because the machine is the only node.
                now create_remote_environment(config: ConfigId, name: Text, error: OutU64) -> I32;
                /// Returns the caller's own environment under a new id.
                now this_env() -> EnvironmentId;
                /// Releases an environment. Its processes are not affected.
                now drop_environment(environment: EnvironmentId);
                /// Compiles a module for an environment. Returns 0 and the module's id, or 1 and an
                /// error id.
                wait add_module(environment: EnvironmentId, data: Bytes, module: OutU64) -> I32;
                /// Adds the caller's own module to an environment. Returns 0 and the module's id
                /// there, or 1 and an error id.
                now add_this_module(environment: EnvironmentId, module: OutU64) -> I32;
                /// Releases a module. Processes that run it are not affected.
                now drop_module(module: AddedModuleId);
                /// Spawns a process that runs a function exported by a module, in the environment
                /// that the module was added to. The process is linked to the caller unless the
                /// link's tag is 0. Returns 0 and a handle, or 1 and an error id.
                wait spawn(
                    link: Tag, module: AddedModuleId, function: Text, parameters: Bytes,
                    process: OutU64
                ) -> I32;
                /// Like `spawn`, but uses the caller's own module and environment.
                wait inherit_spawn(
                    link: Tag, function: Text, parameters: Bytes, process: OutU64
                ) -> I32;
            }

            /// Names for processes, with versions.
            "lunatic::process" as names {
                /// Registers a process in an environment under a name and a semantic version.
                /// Returns 0, or 1 if the version is malformed. If the name belongs to a living
                /// process, it is reassigned if the caller is that process or registered the name;
                /// otherwise, the call traps.
                now register(
                    name: Text, version: Text, environment: EnvironmentId, process: ProcessId
                ) -> I32;
                /// Removes a registration. Returns 0 on success, 1 if the version is malformed, or
                /// 2 if there is no such registration. Traps if the registration belongs to another
                /// process.
                now unregister(name: Text, version: Text, environment: EnvironmentId) -> I32;
                /// Finds the most recently registered process in the caller's environment that has
                /// the given name and a version satisfying the requirement. Returns 0 and a handle,
                /// 1 if the requirement is malformed, or 2 if there is no such process.
                now lookup(name: Text, query: Text, process: OutU64) -> I32;
            }

            /// Host names.
            "lunatic::networking" as dns {
                /// Releases a lookup result.
                now drop_dns_iterator(addresses: DnsId);
                /// Writes the next address. Returns 0, or 1 at the end. Flow and scope are written
                /// for IPv6 only.
                now resolve_next(
                    addresses: DnsId, family: OutU32, ip: OutIpBytes, port: OutU16, flow: OutU32,
                    scope: OutU32
                ) -> I32;
            }

            /// TCP: functions that behave the same in both generations.
            "lunatic::networking" as tcp {
                /// Listens on an address. Returns 0 and a listener, or 1 and an error id.
                now tcp_bind(address: SocketAddr, listener: OutU64) -> I32;
                /// Releases a listener. Its port is free immediately.
                now drop_tcp_listener(listener: ListenerId);
                /// Waits for a connection. Returns 0, a stream and a lookup result that holds the
                /// peer's address. On failure, returns 1 and an error id.
                wait tcp_accept(listener: ListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Releases a stream. The connection is closed when its last handle is released.
                now drop_tcp_stream(stream: StreamId);
                /// Returns another handle to a stream.
                now clone_tcp_stream(stream: StreamId) -> StreamId;
                /// Returns 0, because the operating system already has all written data.
                wait tcp_flush(stream: StreamId, error: OutU64) -> I32;
            }

            /// TCP and host names, with a timeout for each call. On timeout, a call returns 9027
            /// and also writes an error id, because guests treat any result other than 0 as an
            /// error.
            "lunatic::networking" as sockets {
                /// Looks up `host:port`. Returns 0 and the result's id. On failure, returns 1 or
                /// 9027 and an error id.
                wait resolve(name: Text, timeout: ShortMillis, addresses: OutU64) -> I32;
                /// Writes the id of a lookup result that holds the address a listener is bound to.
                now local_addr(listener: ListenerId, address: OutU64) -> I32;
                /// Connects to an address. Returns 0 and a stream. On failure, returns 1 or 9027
                /// and an error id.
                wait tcp_connect(address: SocketAddr, timeout: ShortMillis, stream: OutU64) -> I32;
                /// Writes data. Returns 0 and the number of bytes accepted. On failure, returns 1
                /// or 9027 and an error id.
                wait tcp_write_vectored(
                    stream: StreamId, vectors: Vectors, timeout: ShortMillis, written: OutU64
                ) -> I32;
                /// Reads data. Returns 0 and the number of bytes read (0 at the end of the stream).
                /// On failure, returns 1 or 9027 and an error id.
                wait tcp_read(
                    stream: StreamId, buffer: Buffer, timeout: ShortMillis, read: OutU64
                ) -> I32;
            }

            /// The interface version: 0.7.5, the last of the older generation.
            "lunatic::version" as older_version {
                /// Returns the major version.
                now major() -> U32;
                /// Returns the minor version.
                now minor() -> U32;
                /// Returns the patch version.
                now patch() -> U32;
            }
        }
    };
}

/// Calls `$project!` with the functions whose types differ in 0.10 to 0.12: requests take no tag
/// and wait for a reply with the same tag as the message.
#[macro_export]
macro_rules! for_each_host_function_of_0_12 {
    ($project:path) => {
        $project! {
            /// Messages: request.
            "lunatic::message" as request {
                /// Sends the message in the slot, then waits for a message that arrives after the
                /// send and has the same tag, or for any message if the tag is 0. Returns 0, or
                /// 9027 on timeout.
                wait send_receive_skip_search(process: Pid, timeout: Millis) -> I32;
            }

            /// Other machines: request.
            "lunatic::distributed" as distributed_request {
                /// For node 0, behaves like `message::send_receive_skip_search`. For any other
                /// node, drops the message and returns 2.
                wait send_receive_skip_search(node: U64, process: Pid, timeout: Millis) -> I32;
            }
        }
    };
}

/// Calls `$project!` with the functions whose types in 0.10 and 0.11 differ from 0.12: sends return
/// nothing.
#[macro_export]
macro_rules! for_each_host_function_of_0_10 {
    ($project:path) => {
        $project! {
            /// Messages: send.
            "lunatic::message" as request {
                /// Sends the message in the slot, or drops it if the process does not exist.
                /// Because this function returns nothing, the caller waits while the mailbox is
                /// full, and traps if the receiver cannot accept the message at all.
                wait send(process: Pid);
            }

            /// Other machines: send.
            "lunatic::distributed" as distributed_request {
                /// For node 0, behaves like `message::send`. For any other node, drops the message.
                wait send(node: U64, process: Pid);
            }
        }
    };
}

/// Calls `$project!` with the older-generation functions whose types differ in 0.6.
#[macro_export]
macro_rules! for_each_host_function_of_0_6 {
    ($project:path) => {
        $project! {
            /// Messages: receive by one tag.
            "lunatic::message" as tagged_mail {
                /// Waits for the first message that has the tag, or for any message if the tag is
                /// 0. Returns the same values as in 0.7, except that if no process is left that
                /// could send a message, the caller receives an empty message.
                wait receive(tag: Tag, timeout: ShortMillis) -> I32;
            }
        }
    };
}
