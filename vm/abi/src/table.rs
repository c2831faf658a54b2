//! The rows, which read like a list of declarations:
//!
//! ```text
//! /// What the namespace is about.
//! "import module" as file_in_the_machine {
//!     /// What the function does.
//!     now  name(parameter: Kind, …) -> Kind;  returns immediately
//!     soon name(parameter: Kind, …) -> Kind;  usually returns immediately, may suspend the process
//!     wait name(parameter: Kind, …) -> Kind;  may suspend the process
//! }
//! ```
//!
//! A slice is one parameter here and two parameters in wasm, and the address of a socket is five:
//! see [`as_wasm_parameters!`](crate::as_wasm_parameters).

/// Calls `$project!` with the whole table of host functions.
#[macro_export]
macro_rules! for_each_host_function {
    ($project:path) => {
        $project! {
            /// Errors: their texts and kinds.
            "lunatic::error" as error {
                /// Returns the length of an error's text in bytes.
                now string_size(id: ErrorId) -> U32;
                /// Writes an error's text: exactly as many bytes as `string_size` returns.
                now to_string(id: ErrorId, text: OutText);
                /// Releases an error.
                now drop(id: ErrorId);
                /// Extension. Returns the `Errno` of an error.
                now kind(id: ErrorId) -> U32;
            }

            /// Messages: compose, send, receive.
            ///
            /// Each process has one slot, which holds the message that is being composed or the
            /// message that was received last.
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
                /// Returns the process whose death the message in the slot reports; 0 for any other
                /// message.
                now get_process_id() -> Pid;
                /// Returns the length of the data in the slot in bytes.
                now data_size() -> U64;
                /// Copies a module into the message in the slot and returns its index there.
                now push_module(module: ModuleId) -> U64;
                /// Takes a module out of the message in the slot and returns its id.
                now take_module(index: U64) -> ModuleId;
                /// Extension. Returns the `ResourceKind` of a resource in the slot's message: 0 if
                /// there is none or it has been taken, 1 for a module, 2 for a TCP stream, 3 for a
                /// resource of the host program, 4 for a TLS stream, 5 for a UDP socket.
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
                /// Sends the message in the slot. Returns 0, even if the process does not exist; or
                /// `MailboxFull`, `MessageTooLarge` or `NotGranted` as an `Errno` if the receiver
                /// cannot take the message, which is then dropped.
                soon send(process: Pid) -> I32;
                /// Sends the message in the slot, then waits for a message that arrives after the
                /// send and has this tag. Returns 0 or 9027.
                wait send_receive_skip_search(process: Pid, tag: Tag, timeout: Millis) -> I32;
                /// Waits for the first message that has one of the tags, or for any message if no
                /// tag is given. Returns the `MessageKind`; 9027; or 9028 if no process is left
                /// that could send a message.
                soon receive(tags: Words, timeout: Millis) -> I32;
                /// Extension. Sends a whole message: data, and copies of sockets. Each socket is
                /// identified by its id, with its `ResourceKind` in the highest byte; a bare id
                /// identifies a TCP stream. Returns an `Errno`; 0 even if the process does not
                /// exist. The caller keeps its data and sockets.
                soon send_bytes(process: Pid, tag: Tag, data: Bytes, sockets: Words) -> I32;
                /// Extension. Sends as `send_bytes` does, but never waits for room: returns
                /// `MailboxFull` immediately.
                now offer_bytes(process: Pid, tag: Tag, data: Bytes, sockets: Words) -> I32;
                /// Extension. Receives as `receive` does, then writes the header and as much of the
                /// data as fits. The message stays in the slot, with its read position after the
                /// copied data: `read_data` returns the rest, and the functions `take_…` return the
                /// resources.
                soon receive_bytes(
                    tags: Words, timeout: Millis, buffer: Buffer, header: OutHeader
                ) -> I32;
            }

            /// Processes: spawn, link, monitor, kill.
            "lunatic::process" as process {
                /// Compiles a module. Returns 0 and the module's id; 1 and an error id; or -1 if
                /// the environment does not let its processes compile.
                wait compile_module(data: Bytes, module: OutU64) -> I32;
                /// Releases a module. Processes that run it continue to run.
                now drop_module(module: ModuleId);
                /// Creates a configuration whose processes may call what the caller may call,
                /// except that they may not spawn, compile or create configurations. Returns the
                /// configuration's id, or -1 if the environment does not let its processes create
                /// one.
                now create_config() -> ConfigId;
                /// Releases a configuration.
                now drop_config(config: ConfigId);
                /// Sets how many bytes of memory a process may have.
                now config_set_max_memory(config: ConfigId, bytes: U64);
                /// Returns how many bytes of memory a process may have.
                now config_get_max_memory(config: ConfigId) -> U64;
                /// Sets how many units of compute a process may use; 0 removes the limit.
                now config_set_max_fuel(config: ConfigId, units: U64);
                /// Returns how many units of compute a process may use; 0 if there is no limit.
                now config_get_max_fuel(config: ConfigId) -> U64;
                /// Returns 1 if processes may compile modules.
                now config_can_compile_modules(config: ConfigId) -> I32;
                /// Sets whether processes may compile modules.
                now config_set_can_compile_modules(config: ConfigId, can: I32);
                /// Returns 1 if processes may create configurations.
                now config_can_create_configs(config: ConfigId) -> I32;
                /// Sets whether processes may create configurations.
                now config_set_can_create_configs(config: ConfigId, can: I32);
                /// Returns 1 if processes may spawn.
                now config_can_spawn_processes(config: ConfigId) -> I32;
                /// Sets whether processes may spawn.
                now config_set_can_spawn_processes(config: ConfigId, can: I32);
                /// Spawns an exported function as a process, linked to the caller unless the link's
                /// tag is 0. Returns 0 and the pid, or 1 and an error id. Even under a
                /// configuration of its own, the process shares the caller's names.
                wait spawn(
                    link: Tag, config: ConfigId, module: ModuleId, function: Text,
                    parameters: Bytes, process: OutU64
                ) -> I32;
                /// Finds a process by its name, or spawns a process under the name. If several
                /// callers race for a name, one caller spawns the process and the others find it.
                /// Returns 2, the node and the pid of the process that was found; 0, the node and
                /// the pid of the process that was spawned; or 1 and an error id in place of the
                /// pid, in which case the name is free.
                wait get_or_spawn(
                    name: Text, link: Tag, config: ConfigId, module: ModuleId, function: Text,
                    parameters: Bytes, node: OutU64, process: OutU64
                ) -> I32;
                /// Suspends the caller.
                wait sleep_ms(time: Millis);
                /// Sets what happens when a linked process fails: with 0, the failure becomes a
                /// message; with any other number, the caller dies too.
                now die_when_link_dies(die: I32);
                /// Returns the caller's pid.
                now process_id() -> Pid;
                /// Returns the number of the caller's environment.
                now environment_id() -> U64;
                /// Links the caller with a process. A process that does not exist is treated as one
                /// that dies immediately.
                now link(tag: Tag, process: Pid);
                /// Unlinks the caller from a process.
                now unlink(process: Pid);
                /// Monitors a process: its end is reported to the caller, immediately if the
                /// process does not exist.
                now monitor(process: Pid);
                /// Stops monitoring. An end that has already been reported stays in the mailbox.
                now stop_monitoring(process: Pid);
                /// Extension. Monitors with a tag, which lets a receive pick out the end from other
                /// messages. Each tag is a separate monitor.
                now monitor_tagged(tag: Tag, process: Pid);
                /// Extension. Stops the monitor with this tag. Returns 1 if the monitor existed, in
                /// which case the end will not be reported with this tag; or 0 if there is no such
                /// monitor or the end has already been reported, in which case the report stays in
                /// the mailbox.
                now stop_monitoring_tagged(tag: Tag, process: Pid) -> I32;
                /// Kills a process. Does nothing if the process does not exist.
                now kill(process: Pid);
                /// Returns 1 if a process is alive.
                now exists(process: Pid) -> I32;
            }

            /// Extension. Environments, which determine what their processes may use and call.
            "lunatic::environment" as environment {
                /// Extension. Creates a configuration that grants no function at all. Returns 0 and
                /// the configuration's id, or 1 and an error id.
                now create_empty_config(config: OutU64) -> I32;
                /// Extension. Grants a configuration those of the caller's functions whose
                /// `namespace::name` begins with the prefix. Returns 0, or 1 and an error id if the
                /// caller has no such function.
                now config_allow_namespace(config: ConfigId, prefix: Text, error: OutU64) -> I32;
                /// Extension. Sets a limit, which is identified by the number of its `Limit`; all
                /// ones means the same limit as the caller. Returns 0, or 1 and an error id if
                /// there is no such limit.
                now config_set_limit(
                    config: ConfigId, limit: U32, value: U64, error: OutU64
                ) -> I32;
                /// Extension. Creates an environment from a configuration. The environment has
                /// names of its own, and none of its limits exceeds the caller's. Returns 0 and the
                /// environment's id, or 1 and an error id.
                now create(config: ConfigId, environment: OutU64) -> I32;
                /// Extension. Releases an environment. Its processes continue to run.
                now drop(environment: EnvironmentId);
                /// Extension. Spawns as `process::spawn` does, in an environment. Unless the
                /// message's tag is 0, the message is in the process's mailbox before its first
                /// instruction runs. If the message cannot be delivered, nothing is spawned.
                wait spawn(
                    environment: EnvironmentId, module: ModuleId, link: Tag, function: Text,
                    parameters: Bytes, tag: Tag, data: Bytes, sockets: Words, process: OutU64
                ) -> I32;
                /// Extension. Registers a process in an environment under a name and a semantic
                /// version. Returns an `Errno`.
                now register(
                    environment: EnvironmentId, name: Text, version: Text, process: Pid
                ) -> U32;
                /// Extension. Removes a registration. Returns an `Errno`.
                now unregister(environment: EnvironmentId, name: Text, version: Text) -> U32;
                /// Extension. Finds the process with the newest version among those under a name
                /// whose version satisfies a requirement. Returns an `Errno`.
                now lookup(
                    environment: EnvironmentId, name: Text, query: Text, process: OutU64
                ) -> U32;
            }

            /// Other machines. This machine stands alone: it is node 0, and there are no other
            /// nodes.
            "lunatic::distributed" as distributed {
                /// Returns how many nodes there are besides this one: 0.
                now nodes_count() -> U32;
                /// Writes the ids of the other nodes, as many as fit, and returns how many: 0.
                now get_nodes(nodes: OutWords) -> U32;
                /// Returns the id of this node, which is 0. This id is also written wherever a
                /// function reports the node of a process.
                now node_id() -> U64;
                /// Returns the id that the caller's module has on all nodes: 0.
                now module_id() -> U64;
                /// Spawns as `process::spawn` does, without a link, on node 0. Returns 0 and the
                /// pid; or 1 and an error id, as for any other node.
                wait spawn(
                    node: U64, config: ConfigId, module: ModuleId, function: Text,
                    parameters: Bytes, process: OutU64
                ) -> I32;
                /// Sends to a process of node 0 as `message::send` does. For any other node, drops
                /// the message and returns 2.
                wait send(node: U64, process: Pid) -> I32;
                /// Sends to a process of node 0 and waits as `message::send_receive_skip_search`
                /// does. For any other node, drops the message and returns 2.
                wait send_receive_skip_search(
                    node: U64, process: Pid, tag: Tag, timeout: Millis
                ) -> I32;
                /// Looks up nodes by their attributes. Returns 1 and an error id, because there are
                /// no other nodes.
                now exec_lookup_nodes(
                    query: Text, result: OutU64, nodes: OutU64, error: OutU64
                ) -> I32;
                /// Writes the result of a lookup. Returns -1 and an error id, because no lookup
                /// succeeds.
                now copy_lookup_nodes_results(result: U64, nodes: OutWords, error: OutU64) -> I32;
                /// Traps, because the machine has no certificate authority.
                now test_root_cert(length: OutU32) -> U32;
                /// Traps, because the machine has no certificate authority.
                now default_server_certificates(
                    certificate: Bytes, private_key: Bytes, length: OutU32
                ) -> U32;
                /// Traps, because the machine has no certificate authority.
                now sign_node(
                    certificate: Bytes, private_key: Bytes, request: Bytes, length: OutU32
                ) -> U32;
            }

            /// Names for processes. A name belongs to a living process and disappears with it.
            "lunatic::registry" as registry {
                /// Registers a process under a name. Traps if another living process has the name.
                now put(name: Text, node: U64, process: Pid);
                /// Finds a process by its name. Returns 0, the node and the pid; or 1.
                now get(name: Text, node: OutU64, process: OutU64) -> I32;
                /// Removes a name that belongs to the caller or was registered by it. Traps if the
                /// name belongs to another process.
                now remove(name: Text);
            }

            /// Messages that are sent after a delay.
            "lunatic::timer" as timer {
                /// Sends the message in the slot after a delay. Returns the timer's id.
                now send_after(process: Pid, delay: Millis) -> TimerId;
                /// Cancels a timer. Returns 1, or 0 if it has fired or does not exist.
                wait cancel_timer(timer: TimerId) -> I32;
                /// Extension. Sends a whole message, as `message::send_bytes` does, after a delay.
                /// Returns 0 and the timer's id, or 1 and an error id.
                now send_bytes_after(
                    process: Pid, tag: Tag, data: Bytes, sockets: Words, delay: Millis,
                    timer: OutU64
                ) -> I32;
            }

            /// Host names.
            "lunatic::networking" as dns {
                /// Looks up `host:port`. Returns 0 and the id of the result; 1 and an error id; or
                /// 9027.
                wait resolve(name: Text, timeout: Millis, addresses: OutU64) -> I32;
                /// Releases the result of a lookup.
                now drop_dns_iterator(addresses: DnsId);
                /// Writes the next address. Returns 0, or 1 at the end. Flow and scope are written
                /// for IPv6 only.
                now resolve_next(
                    addresses: DnsId, family: OutU32, ip: OutIpBytes, port: OutU16, flow: OutU32,
                    scope: OutU32
                ) -> I32;
            }

            /// TCP.
            "lunatic::networking" as tcp {
                /// Listens on an address. Returns 0 and a listener, or 1 and an error id.
                now tcp_bind(address: SocketAddr, listener: OutU64) -> I32;
                /// Releases a listener. Its port is free immediately.
                now drop_tcp_listener(listener: ListenerId);
                /// Writes the id of a lookup result that holds the address to which a listener is
                /// bound.
                now tcp_local_addr(listener: ListenerId, address: OutU64) -> I32;
                /// Waits for a connection, and for room under the environment's limit on sockets.
                /// Returns 0, a stream and a lookup result that holds the peer's address; or 1 and
                /// an error id.
                wait tcp_accept(listener: ListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Connects to an address. Returns 0 and a stream; 1 and an error id; or 9027.
                wait tcp_connect(address: SocketAddr, timeout: Millis, stream: OutU64) -> I32;
                /// Releases a stream. The connection is closed when its last handle is released.
                now drop_tcp_stream(stream: StreamId);
                /// Returns another handle to a stream. All handles share the timeouts.
                now clone_tcp_stream(stream: StreamId) -> StreamId;
                /// Writes the id of a lookup result that holds the peer's address.
                now tcp_peer_addr(stream: StreamId, address: OutU64) -> I32;
                /// Extension. Writes the id of a lookup result that holds the stream's own address.
                now tcp_stream_local_addr(stream: StreamId, address: OutU64) -> I32;
                /// Writes data. Returns 0 and the number of bytes accepted; 1 and an error id; or
                /// 9027. If the process is killed during the call, part of the data may have been
                /// sent.
                wait tcp_write_vectored(stream: StreamId, vectors: Vectors, written: OutU64) -> I32;
                /// Reads data. Returns 0 and the number of bytes, which is 0 at the end; 1 and an
                /// error id; or 9027.
                wait tcp_read(stream: StreamId, buffer: Buffer, read: OutU64) -> I32;
                /// Reads data without consuming it.
                wait tcp_peek(stream: StreamId, buffer: Buffer, read: OutU64) -> I32;
                /// Returns 0, because the operating system already has all written data.
                wait tcp_flush(stream: StreamId, error: OutU64) -> I32;
                /// Extension. Closes one direction or both: 0 reading, 1 writing, 2 both. Returns
                /// 0, or 1 and an error id.
                now tcp_shutdown(stream: StreamId, how: U32, error: OutU64) -> I32;
                /// Extension. Sets whether small writes are sent immediately. Returns 0, or 1 and
                /// an error id.
                now tcp_set_nodelay(stream: StreamId, on: I32, error: OutU64) -> I32;
                /// Sets how long a read may take.
                now set_read_timeout(stream: StreamId, timeout: Millis);
                /// Returns how long a read may take.
                now get_read_timeout(stream: StreamId) -> Millis;
                /// Sets how long a write may take.
                now set_write_timeout(stream: StreamId, timeout: Millis);
                /// Returns how long a write may take.
                now get_write_timeout(stream: StreamId) -> Millis;
                /// Sets how long a peek may take.
                now set_peek_timeout(stream: StreamId, timeout: Millis);
                /// Returns how long a peek may take.
                now get_peek_timeout(stream: StreamId) -> Millis;
            }

            /// TLS 1.2 and 1.3 over TCP.
            "lunatic::networking" as tls {
                /// Listens on an address. The certificates (the server's own, followed by those of
                /// its issuers) and the key are in PEM format. Returns 0 and a listener, or 1 and
                /// an error id.
                wait tls_bind(
                    address: SocketAddr, listener: OutU64, certificates: Bytes, private_key: Bytes
                ) -> I32;
                /// Releases a listener. Its port is free immediately.
                now drop_tls_listener(listener: TlsListenerId);
                /// Writes the id of a lookup result that holds the address to which a listener is
                /// bound.
                now tls_local_addr(listener: TlsListenerId, address: OutU64) -> I32;
                /// Waits for a connection whose handshake succeeds, and for room under the
                /// environment's limit on sockets. Other handshakes proceed in the meantime; those
                /// that fail or take too long are not reported. Returns 0, a stream and a lookup
                /// result that holds the peer's address; or 1 and an error id.
                wait tls_accept(listener: TlsListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Looks up a host, connects and completes the handshake, all within the timeout.
                /// The vectors are the authorities to trust, in PEM format; if there are none, the
                /// authorities of the web are trusted. Returns 0 and a stream; 1 and an error id;
                /// or 9027.
                wait tls_connect(
                    name: Text, port: U32, timeout: Millis, stream: OutU64, authorities: Vectors
                ) -> I32;
                /// Releases a stream. When the last handle is released, the end of the stream is
                /// announced to the peer and the connection is closed.
                now drop_tls_stream(stream: TlsStreamId);
                /// Returns another handle to a stream. All handles share the timeouts.
                now clone_tls_stream(stream: TlsStreamId) -> TlsStreamId;
                /// Extension. Writes the id of a lookup result that holds the peer's address.
                now tls_peer_addr(stream: TlsStreamId, address: OutU64) -> I32;
                /// Writes data. Returns 0 and the number of bytes accepted; 1 and an error id; or
                /// 9027. If the process is killed during the call, part of the data may have been
                /// sent.
                wait tls_write_vectored(
                    stream: TlsStreamId, vectors: Vectors, written: OutU64
                ) -> I32;
                /// Reads data. Returns 0 and the number of bytes, which is 0 at the end if the peer
                /// announced the end; 1 and an error id, also if the connection ends without such
                /// an announcement; or 9027.
                wait tls_read(stream: TlsStreamId, buffer: Buffer, read: OutU64) -> I32;
                /// Waits until the operating system has all written data. Returns 0; 1 and an error
                /// id; or 9027.
                wait tls_flush(stream: TlsStreamId, error: OutU64) -> I32;
                /// Extension. Closes the writing direction for all handles, and announces the end
                /// to the peer. Returns 0; 1 and an error id; or 9027.
                wait tls_shutdown(stream: TlsStreamId, error: OutU64) -> I32;
                /// Sets how long a read may take.
                now set_tls_read_timeout(stream: TlsStreamId, timeout: Millis);
                /// Returns how long a read may take.
                now get_tls_read_timeout(stream: TlsStreamId) -> Millis;
                /// Sets how long a write may take.
                now set_tls_write_timeout(stream: TlsStreamId, timeout: Millis);
                /// Returns how long a write may take.
                now get_tls_write_timeout(stream: TlsStreamId) -> Millis;
            }

            /// UDP.
            "lunatic::networking" as udp {
                /// Binds a socket to an address. Returns 0 and the socket, or 1 and an error id.
                now udp_bind(address: SocketAddr, socket: OutU64) -> I32;
                /// Releases a socket. The port is free once the last handle is released.
                now drop_udp_socket(socket: UdpSocketId);
                /// Returns another handle to a socket. All handles share the peer and the options.
                now clone_udp_socket(socket: UdpSocketId) -> UdpSocketId;
                /// Writes the id of a lookup result that holds the address to which a socket is
                /// bound.
                now udp_local_addr(socket: UdpSocketId, address: OutU64) -> I32;
                /// Writes the id of a lookup result that holds the peer's address. Returns 0; or an
                /// error id and 1 if there is no peer, 2 for any other failure.
                now udp_peer_addr(socket: UdpSocketId, address: OutU64) -> I32;
                /// Sets the peer. Nothing is sent, so the timeout does not matter. Returns 0, or 1
                /// and an error id.
                now udp_connect(
                    socket: UdpSocketId, address: SocketAddr, timeout: Millis, error: OutU64
                ) -> I32;
                /// Sends a datagram to the peer. Returns 0 and its length, or 1 and an error id.
                wait udp_send(socket: UdpSocketId, data: Bytes, sent: OutU64) -> I32;
                /// Sends a datagram to an address. Returns 0 and its length, or 1 and an error id.
                wait udp_send_to(
                    socket: UdpSocketId, data: Bytes, address: SocketAddr, sent: OutU64
                ) -> I32;
                /// Waits for a datagram. Returns 0 and the number of bytes written, in which case
                /// bytes that did not fit into the buffer are lost; 1 and an error id; or 9027 if a
                /// timeout is set and has expired.
                wait udp_receive(socket: UdpSocketId, buffer: Buffer, received: OutU64) -> I32;
                /// Waits for a datagram as `udp_receive` does, and also writes the id of a lookup
                /// result that holds the sender's address.
                wait udp_receive_from(
                    socket: UdpSocketId, buffer: Buffer, received: OutU64, sender: OutU64
                ) -> I32;
                /// Extension. Sets how long a receive may take.
                now set_udp_receive_timeout(socket: UdpSocketId, timeout: Millis);
                /// Extension. Returns how long a receive may take.
                now get_udp_receive_timeout(socket: UdpSocketId) -> Millis;
                /// Sets whether datagrams may be sent to a broadcast address. Traps if the
                /// operating system refuses.
                now set_udp_socket_broadcast(socket: UdpSocketId, on: I32);
                /// Returns 1 if datagrams may be sent to a broadcast address.
                now get_udp_socket_broadcast(socket: UdpSocketId) -> I32;
                /// Sets how many routers a datagram may pass: 1 to 255. Traps if the operating
                /// system refuses.
                now set_udp_socket_ttl(socket: UdpSocketId, ttl: U32);
                /// Returns how many routers a datagram may pass.
                now get_udp_socket_ttl(socket: UdpSocketId) -> U32;
            }

            /// What a configuration gives to a program: arguments, environment variables,
            /// directories.
            "lunatic::wasi" as wasi {
                /// Adds an environment variable.
                now config_add_environment_variable(config: ConfigId, key: Text, value: Text);
                /// Adds an argument.
                now config_add_command_line_argument(config: ConfigId, argument: Text);
                /// Grants a directory inside one of the caller's directories. Traps for any other
                /// directory.
                wait config_preopen_dir(config: ConfigId, directory: Text);
            }

            /// Metrics of a program. In a name, characters that Prometheus does not allow become
            /// `_`. Each name has one kind: updates of a different kind are ignored, and so are
            /// updates that would exceed the limit on names.
            "lunatic::metrics" as metrics {
                /// Sets a counter.
                now counter(name: Text, value: U64);
                /// Adds one to a counter.
                now increment_counter(name: Text);
                /// Sets a gauge.
                now gauge(name: Text, value: F64);
                /// Adds to a gauge.
                now increment_gauge(name: Text, value: F64);
                /// Subtracts from a gauge.
                now decrement_gauge(name: Text, value: F64);
                /// Adds a sample to a histogram.
                now histogram(name: Text, value: F64);
            }

            /// Traps that do not end the process.
            "lunatic::trap" as trap {
                /// Calls the guest's export `_lunatic_catch_trap(i32, i32) -> i32` with the same
                /// arguments. Returns the export's result, or 0 if the export traps, in which case
                /// the memory stays as it was at the trap. A kill, an exit and a reached limit are
                /// not caught.
                wait catch(function: I32, pointer: I32) -> I32;
            }

            /// SQLite. Databases are files in directories that the environment grants, or are held
            /// in memory.
            ///
            /// A function whose result is an address calls the guest's export `lunatic_alloc(i32)
            /// -> i32`, writes to the memory that the export returns, and writes the length to its
            /// own last parameter. For the layout of lists see `lunatic_abi::sqlite`.
            "lunatic::sqlite" as sqlite {
                /// Opens a database and creates it if it does not exist. With the name `:memory:`
                /// or an empty name, the database is held in memory. Returns 0 and a connection, or
                /// 1 and an error id.
                wait open(path: Text, connection: OutU64) -> U64;
                /// Executes statements and discards their rows. Returns 0 or SQLite's result code.
                wait execute(connection: ConnectionId, sql: Text) -> U32;
                /// Prepares the first statement of a string. Traps if SQLite refuses the statement.
                wait query_prepare(connection: ConnectionId, sql: Text) -> StatementId;
                /// Binds a list of values to parameters. Traps if the list is malformed or a
                /// parameter does not exist.
                wait bind_value(statement: StatementId, values: Bytes);
                /// Returns how many rows were changed by the last statement that changes rows.
                now sqlite3_changes(connection: ConnectionId) -> U32;
                /// Resets a statement to its beginning. Its values stay bound.
                wait statement_reset(statement: StatementId);
                /// Performs a step. Returns 100 if there is a row, 101 at the end. Traps on
                /// failure.
                wait sqlite3_step(statement: StatementId) -> U32;
                /// Releases a statement.
                wait sqlite3_finalize(statement: StatementId);
                /// Returns the number of columns in a statement's rows.
                now column_count(statement: StatementId) -> U32;
                /// Returns the address of a column's name. Columns count from 0.
                wait column_name(statement: StatementId, column: U32, length: OutU32) -> U32;
                /// Returns the address of a list of the columns' names.
                wait column_names(statement: StatementId, length: OutU32) -> U32;
                /// Returns the address of a value of the current row; `NULL` if there is no row.
                wait read_column(statement: StatementId, column: U32, length: OutU32) -> U32;
                /// Returns the address of a list of the current row's values.
                wait read_row(statement: StatementId, length: OutU32) -> U32;
                /// Returns the address of the error of the last call on a connection. Traps if the
                /// last call did not fail.
                wait last_error(connection: ConnectionId, length: OutU32) -> U32;
                /// Extension. Closes a connection and its statements. Changes that were not
                /// committed are rolled back.
                wait drop_connection(connection: ConnectionId);
                /// Extension. Executes statements as `execute` does. Returns 0, or SQLite's
                /// extended result code and an error id.
                wait execute_all(connection: ConnectionId, sql: Text, error: OutU64) -> U32;
                /// Extension. Prepares a statement, which must be the only statement in its string.
                /// Returns 0 and its id, or SQLite's extended result code and an error id.
                wait prepare(connection: ConnectionId, sql: Text, statement: OutU64) -> U32;
                /// Extension. Resets a statement to its beginning and replaces its values by those
                /// of a list. Returns 0, or SQLite's extended result code and an error id.
                wait bind(statement: StatementId, values: Bytes, error: OutU64) -> U32;
                /// Extension. Performs a step. Returns 100, the length of the list of the row's
                /// values, and as much of the list as fits; 101 at the end; or SQLite's extended
                /// result code and an error id.
                wait step_row(statement: StatementId, buffer: Buffer, size: OutU64) -> U32;
                /// Extension. Copies the list of the current row's values again, as much as fits,
                /// and returns its length.
                wait copy_row(statement: StatementId, buffer: Buffer) -> U64;
                /// Extension. Copies the list of the columns' names, as much as fits, and returns
                /// its length.
                wait copy_column_names(statement: StatementId, buffer: Buffer) -> U64;
                /// Extension. Returns the row id of the last row inserted.
                now last_insert_rowid(connection: ConnectionId) -> I64;
                /// Extension. Sets how long a statement waits for a database that another
                /// connection has locked. By default, a statement does not wait.
                now set_busy_timeout(connection: ConnectionId, timeout: Millis);
            }

            /// The version of the interface, which is 0.13.
            "lunatic::version" as version {
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
