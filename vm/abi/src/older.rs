//! The rows of the older generation, which guests of the published crate `lunatic` 0.6 and 0.7 import: processes as
//! handles, environments, names with versions. They read as those of `table.rs` do.
//!
//! What sets the generation apart: a process is named by a handle of the caller's own table, which cannot be made up and
//! travels in messages; a time of 0 is for ever; `send` has no result. Where a function means the same as in the newer
//! table, its row here names the same function of the machine.

/// Calls `$project!` with the whole table of the older generation's host functions, as 0.7 has them.
#[macro_export]
macro_rules! for_each_older_host_function {
    ($project:path) => {
        $project! {
            /// Texts of failures.
            "lunatic::error" as error {
                /// Returns the length of an error's text, in bytes.
                now string_size(id: ErrorId) -> U32;
                /// Writes an error's text: as many bytes as `string_size` says.
                now to_string(id: ErrorId, text: OutText);
                /// Gives an error back.
                now drop(id: ErrorId);
            }

            /// Messages: compose and read.
            "lunatic::message" as message {
                /// Starts an empty data message in the slot; what was there is dropped. `capacity` is a hint.
                now create_data(tag: Tag, capacity: U64);
                /// Appends bytes to the data message in the slot and returns how many.
                now write_data(data: Bytes, length: Length) -> U32;
                /// Copies bytes from the read head on, moves it, and returns how many; 0 at the end.
                now read_data(buffer: Buffer, length: Length) -> U32;
                /// Sets the read head, in bytes from the start.
                now seek_data(position: U64);
                /// Returns the tag of the message in the slot; 0 for none.
                now get_tag() -> I64;
                /// Returns the length of the data in the slot, in bytes.
                now data_size() -> U64;
                /// Moves a stream into the message in the slot and returns its index there.
                now push_tcp_stream(stream: StreamId) -> U64;
                /// Takes a stream out of the message in the slot and returns its id.
                now take_tcp_stream(index: U64) -> StreamId;
            }

            /// Messages: send and receive.
            "lunatic::message" as mail {
                /// Sends the message in the slot. One to a process that does not exist is dropped. There is no result, so a
                /// full mailbox is waited for, and any other reason why the receiver cannot take it is a trap.
                wait send(process: ProcessId);
                /// Sends the message in the slot, then waits for a message with its tag that arrives from now on; for any that
                /// does, where it has none. Returns 0 or 9027, and then the slot holds an empty message.
                wait send_receive_skip_search(process: ProcessId, timeout: ShortMillis) -> I32;
                /// Waits for the first message that has one of the tags; for any message where there is no tag. Returns 0 for
                /// data, 1 for the death of a linked process, or 9027, and then the slot holds an empty message. A wait that
                /// nobody is left to end times out too.
                wait receive(tags: Words, count: Length, timeout: ShortMillis) -> I32;
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
                /// Returns a new handle of the caller.
                now this() -> ProcessId;
                /// Writes what identifies a process: equal for handles of the same one, different for others.
                now id(process: ProcessId, uuid: OutUuid);
                /// Returns another handle of the same process.
                now clone_process(process: ProcessId) -> ProcessId;
                /// Gives a handle back; the process goes on.
                now drop_process(process: ProcessId);
                /// Links the caller with a process. Of one that is dead already nothing is told.
                now link(tag: Tag, process: ProcessId);
                /// Unlinks the caller from a process.
                now unlink(process: ProcessId);
            }

            /// Processes: what means the same in both generations.
            "lunatic::process" as process {
                /// Gives a configuration back.
                now drop_config(config: ConfigId);
                /// Suspends the caller.
                wait sleep_ms(time: Millis);
                /// Decides what the failure of a linked process does: 0 makes it a message, otherwise the caller dies too.
                now die_when_link_dies(die: I32);
            }

            /// Environments: what their processes may use and call.
            "lunatic::process" as environments {
                /// Makes a configuration that grants no function at all. Memory is in bytes, compute in units, of which 0 is
                /// no limit. Returns its id.
                now create_config(memory: U64, compute: U64) -> ConfigId;
                /// Allows a configuration the functions whose `namespace::name` begins with this. What the caller lacks is
                /// taken away again when the environment is made.
                now allow_namespace(config: ConfigId, prefix: Bytes, length: Length);
                /// Grants a directory that lies in one of the caller's. Returns 0, or 1 and an error id.
                wait preopen_dir(config: ConfigId, directory: Bytes, length: Length, error: OutU64) -> I32;
                /// Returns 1 and an error id: there are no plugins.
                now add_plugin(config: ConfigId, data: Bytes, length: Length, error: OutU64) -> I32;
                /// Makes an environment from a configuration. Returns 0 and its id, or 1 and an error id.
                now create_environment(config: ConfigId, environment: OutU64) -> I32;
                /// Returns 1 and an error id: the machine is the only node.
                now create_remote_environment(config: ConfigId, name: Bytes, length: Length, error: OutU64) -> I32;
                /// Returns the caller's own environment as a new id.
                now this_env() -> EnvironmentId;
                /// Gives an environment back; its processes go on.
                now drop_environment(environment: EnvironmentId);
                /// Compiles a module for an environment. Returns 0 and its id, or 1 and an error id.
                wait add_module(environment: EnvironmentId, data: Bytes, length: Length, module: OutU64) -> I32;
                /// Adds the caller's own module to an environment. Returns 0 and its id there, or 1 and an error id.
                now add_this_module(environment: EnvironmentId, module: OutU64) -> I32;
                /// Gives a module back; processes that run it go on.
                now drop_module(module: AddedModuleId);
                /// Spawns an exported function of a module as a process in the environment that the module was added to,
                /// linked where the link tag is not 0. Returns 0 and a handle, or 1 and an error id.
                wait spawn(link: Tag, module: AddedModuleId, function: Bytes, function_length: Length, parameters: Bytes, parameters_length: Length, process: OutU64) -> I32;
                /// The same with the caller's own module, in its own environment.
                wait inherit_spawn(link: Tag, function: Bytes, function_length: Length, parameters: Bytes, parameters_length: Length, process: OutU64) -> I32;
            }

            /// Names for processes, with versions.
            "lunatic::process" as names {
                /// Registers a process in an environment under a name and a semantic version. Returns 0, or 1 where that is
                /// no version. A name that a living process has is given to another by who registered it or has it; by
                /// anybody else it is a trap.
                now register(name: Bytes, name_length: Length, version: Bytes, version_length: Length, environment: EnvironmentId, process: ProcessId) -> I32;
                /// Takes a registration back. Returns 0, 1 where that is no version, or 2 where there is none; another's is a
                /// trap.
                now unregister(name: Bytes, name_length: Length, version: Bytes, version_length: Length, environment: EnvironmentId) -> I32;
                /// Finds the process that was registered last, in the caller's environment, under a name and a version that
                /// satisfies a requirement. Returns 0 and a handle, 1 where that is no requirement, or 2 where there is none.
                now lookup(name: Bytes, name_length: Length, query: Bytes, query_length: Length, process: OutU64) -> I32;
            }

            /// Names of hosts.
            "lunatic::networking" as dns {
                /// Gives a result back.
                now drop_dns_iterator(addresses: DnsId);
                /// Writes the next address. Returns 0, or 1 at the end. Flow and scope are written for version 6 only.
                now resolve_next(addresses: DnsId, family: OutU32, ip: OutIpBytes, port: OutU16, flow: OutU32, scope: OutU32) -> I32;
            }

            /// TCP: what means the same in both generations.
            "lunatic::networking" as tcp {
                /// Listens. Returns 0 and a listener, or 1 and an error id.
                now tcp_bind(family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, listener: OutU64) -> I32;
                /// Gives a listener back; its port is free at once.
                now drop_tcp_listener(listener: ListenerId);
                /// Waits for a connection. Returns 0, a stream and a result that holds the peer's address, or 1 and an
                /// error id.
                wait tcp_accept(listener: ListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Gives a stream back; the connection is closed with its last handle.
                now drop_tcp_stream(stream: StreamId);
                /// Returns another handle to a stream.
                now clone_tcp_stream(stream: StreamId) -> StreamId;
                /// Returns 0: what was written is with the operating system already.
                wait tcp_flush(stream: StreamId, error: OutU64) -> I32;
            }

            /// TCP and names of hosts, with a time for each call. Where it runs out, the result is 9027 and an error id is
            /// written all the same: guests take any result but 0 for an error.
            "lunatic::networking" as sockets {
                /// Looks `host:port` up. Returns 0 and the id of the result, or 1 or 9027 and an error id.
                wait resolve(name: Bytes, length: Length, timeout: ShortMillis, addresses: OutU64) -> I32;
                /// Writes the id of a result that holds the address a listener is bound to.
                now local_addr(listener: ListenerId, address: OutU64) -> I32;
                /// Connects. Returns 0 and a stream, or 1 or 9027 and an error id.
                wait tcp_connect(family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, timeout: ShortMillis, stream: OutU64) -> I32;
                /// Writes. Returns 0 and the number of bytes taken, or 1 or 9027 and an error id.
                wait tcp_write_vectored(stream: StreamId, vectors: Vectors, count: Length, timeout: ShortMillis, written: OutU64) -> I32;
                /// Reads. Returns 0 and the number of bytes, 0 at the end; or 1 or 9027 and an error id.
                wait tcp_read(stream: StreamId, buffer: Buffer, length: Length, timeout: ShortMillis, read: OutU64) -> I32;
            }

            /// Which generation of the interface this is: the last of the older one, 0.7.5.
            "lunatic::version" as older_version {
                /// Returns the first number of the version.
                now major() -> U32;
                /// Returns the second number of the version.
                now minor() -> U32;
                /// Returns the third number of the version.
                now patch() -> U32;
            }
        }
    };
}

/// Calls `$project!` with those functions of the older generation that guests of 0.6 import with another type.
#[macro_export]
macro_rules! for_each_host_function_of_0_6 {
    ($project:path) => {
        $project! {
            /// Messages: receive by one tag.
            "lunatic::message" as tagged_mail {
                /// Waits for the first message that has the tag; for any message where it is 0. Returns as in 0.7, except that
                /// a wait that nobody is left to end is answered with an empty message.
                wait receive(tag: Tag, timeout: ShortMillis) -> I32;
            }
        }
    };
}
