//! The rows. Read them as a list of declarations:
//!
//! ```text
//! /// What the namespace is about.
//! "import module" as file_in_the_machine {
//!     /// What the function does.
//!     now  name(parameter: Kind, …) -> Kind;    returns at once
//!     soon name(parameter: Kind, …) -> Kind;    returns at once mostly, but may suspend the process
//!     wait name(parameter: Kind, …) -> Kind;    suspends the process
//! }
//! ```

/// Calls `$project!` with the whole table of host functions.
#[macro_export]
macro_rules! for_each_host_function {
    ($project:path) => {
        $project! {
            /// Texts and kinds of failures.
            "lunatic::error" as error {
                /// Returns the length of an error's text, in bytes.
                now string_size(id: ErrorId) -> U32;
                /// Writes an error's text: as many bytes as `string_size` says.
                now to_string(id: ErrorId, text: OutText);
                /// Gives an error back.
                now drop(id: ErrorId);
                /// Own. Returns the `Errno` of an error.
                now kind(id: ErrorId) -> U32;
            }

            /// Messages: compose, send, receive.
            ///
            /// Every process has one slot, which holds the message being composed or the one received last.
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
                /// Returns the process whose death the message in the slot tells of; 0 for any other message.
                now get_process_id() -> Pid;
                /// Returns the length of the data in the slot, in bytes.
                now data_size() -> U64;
                /// Copies a module into the message in the slot and returns its index there.
                now push_module(module: ModuleId) -> U64;
                /// Takes a module out of the message in the slot and returns its id.
                now take_module(index: U64) -> ModuleId;
                /// Own. Returns the `ResourceKind` of a resource of the message in the slot: 0 none or taken, 1 a module, 2 a
                /// TCP stream, 3 one of the host's own, 4 a TLS stream, 5 a UDP socket.
                now resource_kind(index: U64) -> U32;
                /// Moves a stream into the message in the slot and returns its index there.
                now push_tcp_stream(stream: StreamId) -> U64;
                /// Takes a stream out of the message in the slot and returns its id.
                now take_tcp_stream(index: U64) -> StreamId;
                /// Moves a TLS stream into the message in the slot and returns its index there.
                now push_tls_stream(stream: TlsStreamId) -> U64;
                /// Takes a TLS stream out of the message in the slot and returns its id.
                now take_tls_stream(index: U64) -> TlsStreamId;
                /// Moves a UDP socket into the message in the slot and returns its index there.
                now push_udp_socket(socket: UdpSocketId) -> U64;
                /// Takes a UDP socket out of the message in the slot and returns its id.
                now take_udp_socket(index: U64) -> UdpSocketId;
                /// Sends the message in the slot. Returns 0, also where the process does not exist; `MailboxFull`,
                /// `MessageTooLarge` or `NotGranted` as an `Errno` where the receiver cannot take it, and then the
                /// message is dropped.
                soon send(process: Pid) -> I32;
                /// Sends the message in the slot, then waits for a message with this tag that arrives from now on.
                /// Returns 0 or 9027.
                wait send_receive_skip_search(process: Pid, tag: Tag, timeout: Millis) -> I32;
                /// Waits for the first message that has one of the tags; for any message where there is no tag. Returns
                /// its `MessageKind`, 9027, or 9028 where nobody is left who could send one.
                soon receive(tags: Words, count: Length, timeout: Millis) -> I32;
                /// Own. Sends a message whole: data, and copies of sockets. Each is named by its id with its `ResourceKind` in
                /// the highest byte; a bare id is a TCP stream's. Returns an `Errno`; 0 also where the process does not exist.
                /// Nothing of the caller's is consumed.
                soon send_bytes(process: Pid, tag: Tag, data: Bytes, length: Length, sockets: Words, count: Length) -> I32;
                /// Own. Sends as `send_bytes` does and waits for no room: `MailboxFull` is told at once.
                now offer_bytes(process: Pid, tag: Tag, data: Bytes, length: Length, sockets: Words, count: Length) -> I32;
                /// Own. Receives as `receive` does, writes the header and as much of the data as fits. The message stays
                /// in the slot with its read head behind what was copied: `read_data` gives the rest, `take_…` the
                /// resources.
                soon receive_bytes(tags: Words, count: Length, timeout: Millis, buffer: Buffer, length: Length, header: OutHeader) -> I32;
            }

            /// Processes: spawn, watch, end.
            "lunatic::process" as process {
                /// Compiles a module. Returns 0 and its id, 1 and an error id, or -1 where the environment does not
                /// let its processes compile.
                wait compile_module(data: Bytes, length: Length, module: OutU64) -> I32;
                /// Gives a module back; processes that run it go on.
                now drop_module(module: ModuleId);
                /// Makes a configuration for processes that may call what the caller may call, except that they may not
                /// spawn, compile or configure. Returns its id, or -1 where the environment does not let its processes
                /// make one.
                now create_config() -> ConfigId;
                /// Gives a configuration back.
                now drop_config(config: ConfigId);
                /// Sets the bytes of memory that a process may have.
                now config_set_max_memory(config: ConfigId, bytes: U64);
                /// Returns the bytes of memory that a process may have.
                now config_get_max_memory(config: ConfigId) -> U64;
                /// Sets the units of compute that a process may use; 0 for no limit.
                now config_set_max_fuel(config: ConfigId, units: U64);
                /// Returns the units of compute that a process may use; 0 for no limit.
                now config_get_max_fuel(config: ConfigId) -> U64;
                /// Returns 1 where processes may compile modules.
                now config_can_compile_modules(config: ConfigId) -> I32;
                /// Sets whether processes may compile modules.
                now config_set_can_compile_modules(config: ConfigId, can: I32);
                /// Returns 1 where processes may make configurations.
                now config_can_create_configs(config: ConfigId) -> I32;
                /// Sets whether processes may make configurations.
                now config_set_can_create_configs(config: ConfigId, can: I32);
                /// Returns 1 where processes may spawn.
                now config_can_spawn_processes(config: ConfigId) -> I32;
                /// Sets whether processes may spawn.
                now config_set_can_spawn_processes(config: ConfigId, can: I32);
                /// Spawns an exported function as a process, linked where the link tag is not 0. Returns 0 and the pid,
                /// or 1 and an error id. With a configuration of its own the process shares the caller's names.
                wait spawn(link: Tag, config: ConfigId, module: ModuleId, function: Bytes, function_length: Length, parameters: Bytes, parameters_length: Length, process: OutU64) -> I32;
                /// Finds a process by its name, or spawns one that has it: of callers that race for a name one spawns, and
                /// the others find. Returns 2, the node and the pid of who was found; 0, the node and the pid of who was
                /// spawned; or 1 and an error id in the place of the pid, and then nobody has the name.
                wait get_or_spawn(name: Bytes, name_length: Length, link: Tag, config: ConfigId, module: ModuleId, function: Bytes, function_length: Length, parameters: Bytes, parameters_length: Length, node: OutU64, process: OutU64) -> I32;
                /// Suspends the caller.
                wait sleep_ms(time: Millis);
                /// Decides what the failure of a linked process does: 0 makes it a message, otherwise the caller dies too.
                now die_when_link_dies(die: I32);
                /// Returns the caller.
                now process_id() -> Pid;
                /// Returns the number of the caller's environment.
                now environment_id() -> U64;
                /// Links the caller with a process. A process that does not exist is a death at once.
                now link(tag: Tag, process: Pid);
                /// Unlinks the caller from a process.
                now unlink(process: Pid);
                /// Asks to be told of a process's end; at once where it does not exist.
                now monitor(process: Pid);
                /// Takes that back; an end that was told already stays in the mailbox.
                now stop_monitoring(process: Pid);
                /// Own. Monitors with a tag, by which a receive finds the end among other messages. Each tag is a monitor
                /// of its own.
                now monitor_tagged(tag: Tag, process: Pid);
                /// Own. Takes that back for one tag. Returns 1, and then the end is not told with this tag; 0 where it was
                /// told already, which stays in the mailbox, or where there was no such monitor.
                now stop_monitoring_tagged(tag: Tag, process: Pid) -> I32;
                /// Kills a process; nothing where it does not exist.
                now kill(process: Pid);
                /// Returns 1 where a process is alive.
                now exists(process: Pid) -> I32;
            }

            /// Own. Environments: what their processes may use and call.
            "lunatic::environment" as environment {
                /// Own. Makes a configuration that grants no function at all. Returns 0 and its id, or 1 and an error id.
                now create_empty_config(config: OutU64) -> I32;
                /// Own. Allows a configuration those functions of the caller's whose `namespace::name` begins with this.
                /// Returns 0, or 1 and an error id where the caller has none such.
                now config_allow_namespace(config: ConfigId, prefix: Bytes, length: Length, error: OutU64) -> I32;
                /// Own. Sets a bound, by its `Limit`; all ones is the caller's own bound. Returns 0, or 1 and an error id
                /// where the number names no bound.
                now config_set_limit(config: ConfigId, limit: U32, value: U64, error: OutU64) -> I32;
                /// Own. Makes an environment from a configuration, with names of its own. Returns 0 and its id, or 1 and
                /// an error id. Each of its bounds is at most the caller's.
                now create(config: ConfigId, environment: OutU64) -> I32;
                /// Own. Gives an environment back; its processes go on.
                now drop(environment: EnvironmentId);
                /// Own. Spawns as `process::spawn` does, in an environment. Where the message's tag is not 0, the message is in
                /// the process's mailbox before its first instruction, or nothing is spawned.
                wait spawn(environment: EnvironmentId, module: ModuleId, link: Tag, function: Bytes, function_length: Length, parameters: Bytes, parameters_length: Length, tag: Tag, data: Bytes, length: Length, sockets: Words, count: Length, process: OutU64) -> I32;
                /// Own. Registers a process in an environment under a name and a semantic version. Returns an `Errno`.
                now register(environment: EnvironmentId, name: Bytes, name_length: Length, version: Bytes, version_length: Length, process: Pid) -> U32;
                /// Own. Takes a registration back. Returns an `Errno`.
                now unregister(environment: EnvironmentId, name: Bytes, name_length: Length, version: Bytes, version_length: Length) -> U32;
                /// Own. Finds the newest process under a name whose version satisfies a requirement. Returns an `Errno`.
                now lookup(environment: EnvironmentId, name: Bytes, name_length: Length, query: Bytes, query_length: Length, process: OutU64) -> U32;
            }

            /// Other machines. This one is by itself: it is node 0, and there is no other.
            "lunatic::distributed" as distributed {
                /// Returns how many nodes there are besides this one: 0.
                now nodes_count() -> U32;
                /// Writes the ids of the other nodes, at most so many, and returns how many: 0.
                now get_nodes(nodes: OutWords, count: Length) -> U32;
                /// Returns this node: 0, as is written where a process's node is asked.
                now node_id() -> U64;
                /// Returns the id of the module that the caller runs, where nodes hand modules to each other: 0.
                now module_id() -> U64;
                /// Spawns as `process::spawn` does, without a link, on node 0. Returns 0 and the pid, or 1 and an error id,
                /// which it is on any other node.
                wait spawn(node: U64, config: ConfigId, module: ModuleId, function: Bytes, function_length: Length, parameters: Bytes, parameters_length: Length, process: OutU64) -> I32;
                /// Sends to a process of node 0 as `message::send` does. Returns 2 where the node is another; the message
                /// is dropped then.
                wait send(node: U64, process: Pid) -> I32;
                /// Sends to a process of node 0 and waits as `message::send_receive_skip_search` does. Returns 2 where the
                /// node is another; the message is dropped then.
                wait send_receive_skip_search(node: U64, process: Pid, tag: Tag, timeout: Millis) -> I32;
                /// Looks nodes up by what they say of themselves. Returns 1 and an error id: there is nobody to ask.
                now exec_lookup_nodes(query: Bytes, length: Length, result: OutU64, nodes: OutU64, error: OutU64) -> I32;
                /// Writes what was found. Returns -1 and an error id: nothing was looked up.
                now copy_lookup_nodes_results(result: U64, nodes: OutWords, count: Length, error: OutU64) -> I32;
                /// Traps: there is no authority here whose certificate and key could be given away.
                now test_root_cert(length: OutU32) -> U32;
                /// Traps, as there is no authority here.
                now default_server_certificates(certificate: Bytes, certificate_length: Length, private_key: Bytes, private_key_length: Length, length: OutU32) -> U32;
                /// Traps, as there is no authority here that could sign.
                now sign_node(certificate: Bytes, certificate_length: Length, private_key: Bytes, private_key_length: Length, request: Bytes, request_length: Length, length: OutU32) -> U32;
            }

            /// Names for processes. A name belongs to a living process and goes with it.
            "lunatic::registry" as registry {
                /// Registers a process under a name. A name that a living process holds is a trap.
                now put(name: Bytes, length: Length, node: U64, process: Pid);
                /// Finds a process by its name. Returns 0, its node and its pid, or 1.
                now get(name: Bytes, length: Length, node: OutU64, process: OutU64) -> I32;
                /// Takes a name back, where the caller holds it or registered it; another's name is a trap.
                now remove(name: Bytes, length: Length);
            }

            /// Messages that are sent later.
            "lunatic::timer" as timer {
                /// Sends the message in the slot after a time. Returns the timer's id.
                now send_after(process: Pid, delay: Millis) -> TimerId;
                /// Stops a timer. Returns 1, or 0 where it has fired or does not exist.
                wait cancel_timer(timer: TimerId) -> I32;
                /// Own. Sends a message whole, as `message::send_bytes` does, after a time. Returns 0 and the timer's id, or
                /// 1 and an error id.
                now send_bytes_after(process: Pid, tag: Tag, data: Bytes, length: Length, sockets: Words, count: Length, delay: Millis, timer: OutU64) -> I32;
            }

            /// Names of hosts.
            "lunatic::networking" as dns {
                /// Looks `host:port` up. Returns 0 and the id of the result, 1 and an error id, or 9027.
                wait resolve(name: Bytes, length: Length, timeout: Millis, addresses: OutU64) -> I32;
                /// Gives a result back.
                now drop_dns_iterator(addresses: DnsId);
                /// Writes the next address. Returns 0, or 1 at the end. Flow and scope are written for version 6 only.
                now resolve_next(addresses: DnsId, family: OutU32, ip: OutIpBytes, port: OutU16, flow: OutU32, scope: OutU32) -> I32;
            }

            /// TCP.
            "lunatic::networking" as tcp {
                /// Listens. Returns 0 and a listener, or 1 and an error id.
                now tcp_bind(family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, listener: OutU64) -> I32;
                /// Gives a listener back; its port is free at once.
                now drop_tcp_listener(listener: ListenerId);
                /// Writes the id of a result that holds the address a listener is bound to.
                now tcp_local_addr(listener: ListenerId, address: OutU64) -> I32;
                /// Waits for a connection, and for a place among the environment's sockets. Returns 0, a stream and a result
                /// that holds the peer's address, or 1 and an error id.
                wait tcp_accept(listener: ListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Connects. Returns 0 and a stream, 1 and an error id, or 9027.
                wait tcp_connect(family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, timeout: Millis, stream: OutU64) -> I32;
                /// Gives a stream back; the connection is closed with its last handle.
                now drop_tcp_stream(stream: StreamId);
                /// Returns another handle to a stream; they share its timeouts.
                now clone_tcp_stream(stream: StreamId) -> StreamId;
                /// Writes the id of a result that holds the peer's address.
                now tcp_peer_addr(stream: StreamId, address: OutU64) -> I32;
                /// Own. Writes the id of a result that holds a stream's own address.
                now tcp_stream_local_addr(stream: StreamId, address: OutU64) -> I32;
                /// Writes. Returns 0 and the number of bytes taken, 1 and an error id, or 9027. Of a process that is killed in it,
                /// a part may have been sent.
                wait tcp_write_vectored(stream: StreamId, vectors: Vectors, count: Length, written: OutU64) -> I32;
                /// Reads. Returns 0 and the number of bytes, 0 at the end; 1 and an error id, or 9027.
                wait tcp_read(stream: StreamId, buffer: Buffer, length: Length, read: OutU64) -> I32;
                /// Reads without consuming.
                wait tcp_peek(stream: StreamId, buffer: Buffer, length: Length, read: OutU64) -> I32;
                /// Returns 0: what was written is with the operating system already.
                wait tcp_flush(stream: StreamId, error: OutU64) -> I32;
                /// Own. Closes one direction or both: 0 reading, 1 writing, 2 both. Returns 0, or 1 and an error id.
                now tcp_shutdown(stream: StreamId, how: U32, error: OutU64) -> I32;
                /// Own. Sets whether small writes are sent at once. Returns 0, or 1 and an error id.
                now tcp_set_nodelay(stream: StreamId, on: I32, error: OutU64) -> I32;
                /// Sets the time that a read may take.
                now set_read_timeout(stream: StreamId, timeout: Millis);
                /// Returns the time that a read may take.
                now get_read_timeout(stream: StreamId) -> Millis;
                /// Sets the time that a write may take.
                now set_write_timeout(stream: StreamId, timeout: Millis);
                /// Returns the time that a write may take.
                now get_write_timeout(stream: StreamId) -> Millis;
                /// Sets the time that a peek may take.
                now set_peek_timeout(stream: StreamId, timeout: Millis);
                /// Returns the time that a peek may take.
                now get_peek_timeout(stream: StreamId) -> Millis;
            }

            /// TLS, versions 1.2 and 1.3, over TCP.
            "lunatic::networking" as tls {
                /// Listens. The certificates (the server's own, then those by which it was issued) and the key are PEM texts.
                /// Returns 0 and a listener, or 1 and an error id.
                wait tls_bind(family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, listener: OutU64, certificates: Bytes, certificates_length: Length, private_key: Bytes, private_key_length: Length) -> I32;
                /// Gives a listener back; its port is free at once.
                now drop_tls_listener(listener: TlsListenerId);
                /// Writes the id of a result that holds the address a listener is bound to.
                now tls_local_addr(listener: TlsListenerId, address: OutU64) -> I32;
                /// Waits for a connection whose handshake succeeds, and for a place among the environment's sockets. Other
                /// handshakes go on meanwhile; those that fail or take too long are not told. Returns 0, a stream and a
                /// result that holds the peer's address, or 1 and an error id.
                wait tls_accept(listener: TlsListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Looks a host up, connects and goes through the handshake, all in the given time. The vectors are PEM texts
                /// of the authorities that are trusted; where there are none, those of the web are. Returns 0 and a stream,
                /// 1 and an error id, or 9027.
                wait tls_connect(name: Bytes, length: Length, port: U32, timeout: Millis, stream: OutU64, authorities: Vectors, count: Length) -> I32;
                /// Gives a stream back; with its last handle the peer is told that this is the end, and the connection is
                /// closed.
                now drop_tls_stream(stream: TlsStreamId);
                /// Returns another handle to a stream; they share its timeouts.
                now clone_tls_stream(stream: TlsStreamId) -> TlsStreamId;
                /// Own. Writes the id of a result that holds the peer's address.
                now tls_peer_addr(stream: TlsStreamId, address: OutU64) -> I32;
                /// Writes. Returns 0 and the number of bytes taken, 1 and an error id, or 9027. Of a process that is killed in
                /// it, a part may have been sent.
                wait tls_write_vectored(stream: TlsStreamId, vectors: Vectors, count: Length, written: OutU64) -> I32;
                /// Reads. Returns 0 and the number of bytes, 0 at the end that the peer announced; 1 and an error id, also where
                /// the connection ends without that; or 9027.
                wait tls_read(stream: TlsStreamId, buffer: Buffer, length: Length, read: OutU64) -> I32;
                /// Waits until what was written is with the operating system. Returns 0, 1 and an error id, or 9027.
                wait tls_flush(stream: TlsStreamId, error: OutU64) -> I32;
                /// Own. Ends the writing direction, for all handles: the peer reads the end. Returns 0, 1 and an error id, or
                /// 9027.
                wait tls_shutdown(stream: TlsStreamId, error: OutU64) -> I32;
                /// Sets the time that a read may take.
                now set_tls_read_timeout(stream: TlsStreamId, timeout: Millis);
                /// Returns the time that a read may take.
                now get_tls_read_timeout(stream: TlsStreamId) -> Millis;
                /// Sets the time that a write may take.
                now set_tls_write_timeout(stream: TlsStreamId, timeout: Millis);
                /// Returns the time that a write may take.
                now get_tls_write_timeout(stream: TlsStreamId) -> Millis;
            }

            /// UDP.
            "lunatic::networking" as udp {
                /// Binds a socket. Returns 0 and the socket, or 1 and an error id.
                now udp_bind(family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, socket: OutU64) -> I32;
                /// Gives a socket back; its port is free with its last handle.
                now drop_udp_socket(socket: UdpSocketId);
                /// Returns another handle to a socket; they share its peer and its options.
                now clone_udp_socket(socket: UdpSocketId) -> UdpSocketId;
                /// Writes the id of a result that holds the address a socket is bound to.
                now udp_local_addr(socket: UdpSocketId, address: OutU64) -> I32;
                /// Writes the id of a result that holds the peer's address. Returns 0, or with an error id 1 where there is no
                /// peer and 2 for any other failure.
                now udp_peer_addr(socket: UdpSocketId, address: OutU64) -> I32;
                /// Chooses the peer. Nothing is sent by it, so that the time does not matter. Returns 0, or 1 and an error id.
                now udp_connect(socket: UdpSocketId, family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, timeout: Millis, error: OutU64) -> I32;
                /// Sends a datagram to the peer. Returns 0 and its length, or 1 and an error id.
                wait udp_send(socket: UdpSocketId, data: Bytes, length: Length, sent: OutU64) -> I32;
                /// Sends a datagram to an address. Returns 0 and its length, or 1 and an error id.
                wait udp_send_to(socket: UdpSocketId, data: Bytes, length: Length, family: Family, ip: IpBytes, port: U32, flow: U32, scope: U32, sent: OutU64) -> I32;
                /// Waits for a datagram. Returns 0 and how much of it was written; what the buffer has no room for is lost. Or 1
                /// and an error id, or 9027 where a time was set and is over.
                wait udp_receive(socket: UdpSocketId, buffer: Buffer, length: Length, received: OutU64) -> I32;
                /// Waits for a datagram as `udp_receive` does, and writes the id of a result that holds the sender's address.
                wait udp_receive_from(socket: UdpSocketId, buffer: Buffer, length: Length, received: OutU64, sender: OutU64) -> I32;
                /// Own. Sets the time that a receive may take.
                now set_udp_receive_timeout(socket: UdpSocketId, timeout: Millis);
                /// Own. Returns the time that a receive may take.
                now get_udp_receive_timeout(socket: UdpSocketId) -> Millis;
                /// Sets whether datagrams may be sent to a broadcast address. What the operating system refuses is a trap.
                now set_udp_socket_broadcast(socket: UdpSocketId, on: I32);
                /// Returns 1 where datagrams may be sent to a broadcast address.
                now get_udp_socket_broadcast(socket: UdpSocketId) -> I32;
                /// Sets how many routers a datagram may pass: 1 to 255. What the operating system refuses is a trap.
                now set_udp_socket_ttl(socket: UdpSocketId, ttl: U32);
                /// Returns how many routers a datagram may pass.
                now get_udp_socket_ttl(socket: UdpSocketId) -> U32;
            }

            /// What a configuration gives a program: arguments, variables, directories.
            "lunatic::wasi" as wasi {
                /// Adds a variable.
                now config_add_environment_variable(config: ConfigId, key: Bytes, key_length: Length, value: Bytes, value_length: Length);
                /// Adds an argument.
                now config_add_command_line_argument(config: ConfigId, argument: Bytes, length: Length);
                /// Grants a directory that lies in one of the caller's; any other is a trap.
                wait config_preopen_dir(config: ConfigId, directory: Bytes, length: Length);
            }

            /// What a program counts. A name that is not one for Prometheus gets `_` for what is not; a name is of one kind,
            /// and what comes as another is left out, as is what comes when there are too many names.
            "lunatic::metrics" as metrics {
                /// Sets a counter.
                now counter(name: Bytes, length: Length, value: U64);
                /// Adds one to a counter.
                now increment_counter(name: Bytes, length: Length);
                /// Sets a gauge.
                now gauge(name: Bytes, length: Length, value: F64);
                /// Adds to a gauge.
                now increment_gauge(name: Bytes, length: Length, value: F64);
                /// Subtracts from a gauge.
                now decrement_gauge(name: Bytes, length: Length, value: F64);
                /// Adds a sample to a histogram.
                now histogram(name: Bytes, length: Length, value: F64);
            }

            /// Traps that do not end the process.
            "lunatic::trap" as trap {
                /// Calls the guest's export `_lunatic_catch_trap(i32, i32) -> i32` with the same arguments. Returns what it
                /// returns, or 0 where it trapped; memory stays as it was then. A kill, an exit and a limit are not caught.
                wait catch(function: I32, pointer: I32) -> I32;
            }

            /// SQLite. Databases lie in directories that the environment grants, or in memory.
            ///
            /// The rows whose result is an address call the guest's export `lunatic_alloc(i32) -> i32`, write to what it
            /// returns, and their length to the last parameter. Lists are laid out as `lunatic_abi::sqlite` says.
            "lunatic::sqlite" as sqlite {
                /// Opens a database, and makes one where there is none; `:memory:` and the empty name are in memory. Returns
                /// 0 and a connection, or 1 and an error id.
                wait open(path: Bytes, length: Length, connection: OutU64) -> U64;
                /// Executes statements, whatever they yield. Returns 0 or SQLite's result code.
                wait execute(connection: ConnectionId, sql: Bytes, length: Length) -> U32;
                /// Prepares the first statement of a text. What SQLite refuses is a trap.
                wait query_prepare(connection: ConnectionId, sql: Bytes, length: Length) -> StatementId;
                /// Binds a list of values to parameters. A list that is none, and a parameter that is not there, are traps.
                now bind_value(statement: StatementId, values: Bytes, length: Length);
                /// Returns how many rows the last statement that changes rows has changed.
                now sqlite3_changes(connection: ConnectionId) -> U32;
                /// Takes a statement back to its beginning. Values stay bound.
                wait statement_reset(statement: StatementId);
                /// Steps. Returns 100 where there is a row, 101 at the end; a failure is a trap.
                wait sqlite3_step(statement: StatementId) -> U32;
                /// Gives a statement back.
                wait sqlite3_finalize(statement: StatementId);
                /// Returns how many columns the rows of a statement have.
                now column_count(statement: StatementId) -> U32;
                /// Returns the address of the name of a column, whose number counts from 0.
                wait column_name(statement: StatementId, column: U32, length: OutU32) -> U32;
                /// Returns the address of a list of the columns' names.
                wait column_names(statement: StatementId, length: OutU32) -> U32;
                /// Returns the address of a value of the row at hand; `NULL` where there is no row.
                wait read_column(statement: StatementId, column: U32, length: OutU32) -> U32;
                /// Returns the address of a list of the values of the row at hand.
                wait read_row(statement: StatementId, length: OutU32) -> U32;
                /// Returns the address of what the last call on a connection failed with; where it did not fail, a trap.
                wait last_error(connection: ConnectionId, length: OutU32) -> U32;
                /// Own. Gives a connection back, with its statements; what was not committed is undone.
                wait drop_connection(connection: ConnectionId);
                /// Own. Executes statements, as `execute` does. Returns 0, or SQLite's extended result code and an error id.
                wait execute_all(connection: ConnectionId, sql: Bytes, length: Length, error: OutU64) -> U32;
                /// Own. Prepares a statement, which is alone in its text. Returns 0 and its id, or SQLite's extended result
                /// code and an error id.
                wait prepare(connection: ConnectionId, sql: Bytes, length: Length, statement: OutU64) -> U32;
                /// Own. Takes a statement back to its beginning, forgets its values and binds those of a list. Returns 0, or
                /// SQLite's extended result code and an error id.
                wait bind(statement: StatementId, values: Bytes, length: Length, error: OutU64) -> U32;
                /// Own. Steps. Returns 100, the length of the list of the row's values, and as much of it as fits; 101 at the
                /// end; or SQLite's extended result code and an error id.
                wait step_row(statement: StatementId, buffer: Buffer, length: Length, size: OutU64) -> U32;
                /// Own. Copies the list of the values of the row at hand again, as much as fits, and returns its length.
                now copy_row(statement: StatementId, buffer: Buffer, length: Length) -> U64;
                /// Own. Copies the list of the columns' names, as much as fits, and returns its length.
                now copy_column_names(statement: StatementId, buffer: Buffer, length: Length) -> U64;
                /// Own. Returns the row id that was inserted last.
                now last_insert_rowid(connection: ConnectionId) -> I64;
                /// Own. Sets how long a statement waits for a database that another connection has locked. At first it does
                /// not wait.
                now set_busy_timeout(connection: ConnectionId, timeout: Millis);
            }

            /// Which generation of the interface this is: 0.13.
            "lunatic::version" as version {
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
