//! The rows of older generations, which are written like the rows of `table.rs`.
//!
//! Guests of the published crate `lunatic` 0.6 and 0.7 have a table of their own, with processes as
//! handles, with environments, and with versioned names. Guests of 0.10 to 0.12 import the newer
//! table, except for a few functions with different types.
//!
//! Three things set 0.6 and 0.7 apart. A process is identified by a handle in the caller's own
//! table, which cannot be forged and can be sent in messages. A timeout of 0 means no timeout.
//! `send` has no result. A function that means the same as in the newer table is served by the same
//! function of the machine.

/// Calls `$project!` with the whole table of the host functions of the older generation, as they
/// are in 0.7.
#[macro_export]
macro_rules! for_each_older_host_function {
    ($project:path) => {
        $project! {
            /// The texts of errors.
            "lunatic::error" as error {
                /// Returns the length of an error's text in bytes.
                now string_size(id: ErrorId) -> U32;
                /// Writes an error's text: exactly as many bytes as `string_size` returns.
                now to_string(id: ErrorId, text: OutText);
                /// Releases an error.
                now drop(id: ErrorId);
            }

            /// Messages: compose and read.
            "lunatic::message" as message {
                /// Starts an empty data message in the slot and drops what was there. `capacity` is
                /// a hint.
                now create_data(tag: Tag, capacity: U64);
                /// Appends bytes to the data message in the slot and returns how many.
                now write_data(data: Bytes) -> U32;
                /// Copies bytes, starting at the read position, advances the position, and returns
                /// the number of bytes; 0 at the end.
                now read_data(buffer: Buffer) -> U32;
                /// Sets the read position, in bytes from the start.
                now seek_data(position: U64);
                /// Returns the tag of the message in the slot; 0 if it has none.
                now get_tag() -> I64;
                /// Returns the length of the data in the slot in bytes.
                now data_size() -> U64;
                /// Moves a stream into the message in the slot and returns its index there.
                now push_tcp_stream(stream: StreamId) -> U64;
                /// Takes a stream out of the message in the slot and returns its id.
                now take_tcp_stream(index: U64) -> StreamId;
            }

            /// Messages: send and receive.
            "lunatic::message" as mail {
                /// Sends the message in the slot, or drops it if the process does not exist. There
                /// is no result, so the caller waits while the mailbox is full, and traps if the
                /// receiver cannot take the message at all.
                wait send(process: ProcessId);
                /// Sends the message in the slot, then waits for a message that arrives after the
                /// send and has the same tag, or for any message if the tag is 0. Returns 0; or
                /// returns 9027 and leaves an empty message in the slot.
                wait send_receive_skip_search(process: ProcessId, timeout: ShortMillis) -> I32;
                /// Waits for the first message that has one of the tags, or for any message if no
                /// tag is given. Returns 0 for data and 1 for the death of a linked process; or
                /// returns 9027 and leaves an empty message in the slot. Also times out if no
                /// process is left that could send a message.
                wait receive(tags: Words, timeout: ShortMillis) -> I32;
            }

            /// Handles of processes.
            "lunatic::message" as handles {
                /// Moves a handle into the message in the slot and returns its index there.
                now push_process(process: ProcessId) -> U64;
                /// Takes a handle out of the message in the slot.
                now take_process(index: U64) -> ProcessId;
            }

            /// Handles of processes.
            "lunatic::process" as handles {
                /// Returns a new handle to the caller.
                now this() -> ProcessId;
                /// Writes an identifier of a process, which is the same for all handles to the
                /// process and different for other processes.
                now id(process: ProcessId, uuid: OutUuid);
                /// Returns another handle to the same process.
                now clone_process(process: ProcessId) -> ProcessId;
                /// Releases a handle. The process continues to run.
                now drop_process(process: ProcessId);
                /// Links the caller with a process. If the process is already dead, its death is
                /// not reported.
                now link(tag: Tag, process: ProcessId);
                /// Unlinks the caller from a process.
                now unlink(process: ProcessId);
            }

            /// Processes: functions that mean the same in both generations.
            "lunatic::process" as process {
                /// Releases a configuration.
                now drop_config(config: ConfigId);
                /// Suspends the caller.
                wait sleep_ms(time: Millis);
                /// Sets what happens when a linked process fails: with 0, the failure becomes a
                /// message; with any other number, the caller dies too.
                now die_when_link_dies(die: I32);
            }

            /// Environments, which determine what their processes may use and call.
            "lunatic::process" as environments {
                /// Creates a configuration that grants no function at all. Memory is limited in
                /// bytes, and compute in units; 0 units means no limit. Returns the configuration's
                /// id.
                now create_config(memory: U64, compute: U64) -> ConfigId;
                /// Grants a configuration the functions whose `namespace::name` begins with the
                /// prefix. Functions that the caller may not call itself are removed again when the
                /// environment is created.
                now allow_namespace(config: ConfigId, prefix: Text);
                /// Grants a directory inside one of the caller's directories. Returns 0, or 1 and
                /// an error id.
                wait preopen_dir(config: ConfigId, directory: Text, error: OutU64) -> I32;
                /// Returns 1 and an error id, because there are no plugins.
                now add_plugin(config: ConfigId, data: Bytes, error: OutU64) -> I32;
                /// Creates an environment from a configuration. Returns 0 and its id, or 1 and an
                /// error id.
                now create_environment(config: ConfigId, environment: OutU64) -> I32;
                /// Returns 1 and an error id, because the machine is the only node.
                now create_remote_environment(config: ConfigId, name: Text, error: OutU64) -> I32;
                /// Returns the caller's own environment under a new id.
                now this_env() -> EnvironmentId;
                /// Releases an environment. Its processes continue to run.
                now drop_environment(environment: EnvironmentId);
                /// Compiles a module for an environment. Returns 0 and its id, or 1 and an error
                /// id.
                wait add_module(environment: EnvironmentId, data: Bytes, module: OutU64) -> I32;
                /// Adds the caller's own module to an environment. Returns 0 and its id there, or 1
                /// and an error id.
                now add_this_module(environment: EnvironmentId, module: OutU64) -> I32;
                /// Releases a module. Processes that run it continue to run.
                now drop_module(module: AddedModuleId);
                /// Spawns an exported function of a module as a process in the environment that the
                /// module was added to, linked to the caller unless the link's tag is 0. Returns 0
                /// and a handle, or 1 and an error id.
                wait spawn(
                    link: Tag, module: AddedModuleId, function: Text, parameters: Bytes,
                    process: OutU64
                ) -> I32;
                /// Spawns as `spawn` does, but from the caller's own module and in the caller's own
                /// environment.
                wait inherit_spawn(
                    link: Tag, function: Text, parameters: Bytes, process: OutU64
                ) -> I32;
            }

            /// Names for processes, with versions.
            "lunatic::process" as names {
                /// Registers a process in an environment under a name and a semantic version.
                /// Returns 0, or 1 if the version is malformed. A name that belongs to a living
                /// process is reassigned if the caller is that process or registered the name.
                /// Otherwise, the call traps.
                now register(
                    name: Text, version: Text, environment: EnvironmentId, process: ProcessId
                ) -> I32;
                /// Removes a registration. Returns 0; 1 if the version is malformed; or 2 if there
                /// is no such registration. Traps if the registration belongs to another process.
                now unregister(name: Text, version: Text, environment: EnvironmentId) -> I32;
                /// Among the processes that are registered in the caller's environment under a name
                /// with a version that satisfies a requirement, finds the one registered last.
                /// Returns 0 and a handle; 1 if the requirement is malformed; or 2 if there is no
                /// such process.
                now lookup(name: Text, query: Text, process: OutU64) -> I32;
            }

            /// Host names.
            "lunatic::networking" as dns {
                /// Releases the result of a lookup.
                now drop_dns_iterator(addresses: DnsId);
                /// Writes the next address. Returns 0, or 1 at the end. Flow and scope are written
                /// for IPv6 only.
                now resolve_next(
                    addresses: DnsId, family: OutU32, ip: OutIpBytes, port: OutU16, flow: OutU32,
                    scope: OutU32
                ) -> I32;
            }

            /// TCP: functions that mean the same in both generations.
            "lunatic::networking" as tcp {
                /// Listens on an address. Returns 0 and a listener, or 1 and an error id.
                now tcp_bind(address: SocketAddr, listener: OutU64) -> I32;
                /// Releases a listener. Its port is free immediately.
                now drop_tcp_listener(listener: ListenerId);
                /// Waits for a connection. Returns 0, a stream and a lookup result that holds the
                /// peer's address; or 1 and an error id.
                wait tcp_accept(listener: ListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Releases a stream. The connection is closed when its last handle is released.
                now drop_tcp_stream(stream: StreamId);
                /// Returns another handle to a stream.
                now clone_tcp_stream(stream: StreamId) -> StreamId;
                /// Returns 0, because the operating system already has all written data.
                wait tcp_flush(stream: StreamId, error: OutU64) -> I32;
            }

            /// TCP and host names, with a timeout for each call. When the timeout expires, the
            /// result is 9027 and an error id is written too, because guests treat any result but 0
            /// as an error.
            "lunatic::networking" as sockets {
                /// Looks up `host:port`. Returns 0 and the id of the result; or 1 or 9027 and an
                /// error id.
                wait resolve(name: Text, timeout: ShortMillis, addresses: OutU64) -> I32;
                /// Writes the id of a lookup result that holds the address to which a listener is
                /// bound.
                now local_addr(listener: ListenerId, address: OutU64) -> I32;
                /// Connects to an address. Returns 0 and a stream; or 1 or 9027 and an error id.
                wait tcp_connect(address: SocketAddr, timeout: ShortMillis, stream: OutU64) -> I32;
                /// Writes data. Returns 0 and the number of bytes accepted; or 1 or 9027 and an
                /// error id.
                wait tcp_write_vectored(
                    stream: StreamId, vectors: Vectors, timeout: ShortMillis, written: OutU64
                ) -> I32;
                /// Reads data. Returns 0 and the number of bytes, which is 0 at the end; or 1 or
                /// 9027 and an error id.
                wait tcp_read(
                    stream: StreamId, buffer: Buffer, timeout: ShortMillis, read: OutU64
                ) -> I32;
            }

            /// The version of the interface, which is the last version of the older generation,
            /// 0.7.5.
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

/// Calls `$project!` with those functions of the table that guests of 0.10 to 0.12 import with a
/// different type: a request does not pass a tag, but waits for the tag of its message.
#[macro_export]
macro_rules! for_each_host_function_of_0_12 {
    ($project:path) => {
        $project! {
            /// Messages: request.
            "lunatic::message" as request {
                /// Sends the message in the slot, then waits for a message that arrives after the
                /// send and has the same tag, or for any message if the tag is 0. Returns 0 or
                /// 9027.
                wait send_receive_skip_search(process: Pid, timeout: Millis) -> I32;
            }

            /// Other machines: request.
            "lunatic::distributed" as distributed_request {
                /// Sends to a process of node 0 and waits as `message::send_receive_skip_search`
                /// does. For any other node, drops the message and returns 2.
                wait send_receive_skip_search(node: U64, process: Pid, timeout: Millis) -> I32;
            }
        }
    };
}

/// Calls `$project!` with those functions that guests of 0.10 and 0.11 import with different types
/// than guests of 0.12: sending has no result.
#[macro_export]
macro_rules! for_each_host_function_of_0_10 {
    ($project:path) => {
        $project! {
            /// Messages: send.
            "lunatic::message" as request {
                /// Sends the message in the slot, or drops it if the process does not exist. There
                /// is no result, so the caller waits while the mailbox is full, and traps if the
                /// receiver cannot take the message at all.
                wait send(process: Pid);
            }

            /// Other machines: send.
            "lunatic::distributed" as distributed_request {
                /// Sends to a process of node 0 as `message::send` does. For any other node, drops
                /// the message.
                wait send(node: U64, process: Pid);
            }
        }
    };
}

/// Calls `$project!` with those functions of the older generation that guests of 0.6 import with a
/// different type.
#[macro_export]
macro_rules! for_each_host_function_of_0_6 {
    ($project:path) => {
        $project! {
            /// Messages: receive by one tag.
            "lunatic::message" as tagged_mail {
                /// Waits for the first message that has the tag, or for any message if the tag is
                /// 0. Returns as in 0.7, except that a wait that no process is left to end is
                /// answered with an empty message.
                wait receive(tag: Tag, timeout: ShortMillis) -> I32;
            }
        }
    };
}
