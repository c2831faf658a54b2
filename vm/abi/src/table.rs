//! The host function table. Its rows read like declarations:
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
//! A slice is one parameter here but two in wasm, and a socket address is five: see
//! [`as_wasm_parameters!`](crate::as_wasm_parameters).

/// Calls `$project!` with the entire table of host functions.
#[macro_export]
macro_rules! for_each_host_function {
    ($project:path) => {
        $project! {
            /// Errors: messages and kinds.
            "lunatic::error" as error {
                /// Returns the length of an error message in bytes.
                now string_size(id: ErrorId) -> U32;
                /// Writes an error message: exactly as many bytes as `string_size` returns.
                now to_string(id: ErrorId, text: OutText);
                /// Releases an error.
                now drop(id: ErrorId);
                /// Extension. Returns the `Errno` of an error.
                now kind(id: ErrorId) -> U32;
            }

            /// Messages: compose, send, receive.
            ///
            /// Each process has one slot, which holds the message being composed or the last
            /// message received.
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
                /// If the message in the slot reports the death of a monitored process, returns
                /// that process; otherwise returns 0.
                now get_process_id() -> Pid;
                /// Returns the length, in bytes, of the data in the slot.
                now data_size() -> U64;
                /// Copies a module into the message in the slot and returns its index there.
                now push_module(module: ModuleId) -> U64;
                /// Takes a module out of the message in the slot and returns its id.
                now take_module(index: U64) -> ModuleId;
                /// Extension. Returns the `ResourceKind` of a resource in the slot's message: 0 if
                /// there is none or it has been taken, 1 for a module, 2 for a TCP stream, 3 for a
                /// resource defined by the host program, 4 for a TLS stream, 5 for a UDP socket.
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
                /// Sends the message in the slot. Returns 0, even if the process does not exist. If
                /// the receiver cannot accept the message, drops it and returns `MailboxFull`,
                /// `MessageTooLarge` or `NotGranted` as an `Errno`.
                soon send(process: Pid) -> I32;
                /// Sends the message in the slot, then waits for a message that arrives after the
                /// send and has this tag. Returns 0, or 9027 on timeout.
                wait send_receive_skip_search(process: Pid, tag: Tag, timeout: Millis) -> I32;
                /// Waits for the first message that has one of the tags, or for any message if no
                /// tag is given. Returns the `MessageKind`, 9027 on timeout, or 9028 if no process
                /// is left that could send a message.
                soon receive(tags: Words, timeout: Millis) -> I32;
                /// Extension. Sends a complete message: data and copies of sockets. Each socket is
                /// identified by its id, with its `ResourceKind` in the highest byte; a bare id
                /// identifies a TCP stream. Returns an `Errno`, which is 0 even if the process does
                /// not exist. The caller keeps its data and sockets.
                soon send_bytes(process: Pid, tag: Tag, data: Bytes, sockets: Words) -> I32;
                /// Extension. Like `send_bytes`, but never waits for space in the mailbox: returns
                /// `MailboxFull` immediately, and also if there is more than 256 KiB of data.
                now offer_bytes(process: Pid, tag: Tag, data: Bytes, sockets: Words) -> I32;
                /// Extension. Like `receive`, but also writes the header and as much of the data as
                /// fits. The message stays in the slot, with its read position after the copied
                /// data: `read_data` returns the rest, and the `take_…` functions return the
                /// resources.
                soon receive_bytes(
                    tags: Words, timeout: Millis, buffer: Buffer, header: OutHeader
                ) -> I32;
            }

            /// Processes: spawn, link, monitor, kill.
            "lunatic::process" as process {
                /// Compiles a module. Returns 0 and the module's id, 1 and an error id, or -1 if
                /// the environment does not let its processes compile.
                wait compile_module(data: Bytes, module: OutU64) -> I32;
                /// Releases a module. Processes that run it are not affected.
                now drop_module(module: ModuleId);
                /// Creates a configuration whose processes may call the same functions as the
                /// caller, except that they may not spawn, compile or create configurations.
                /// Returns the configuration's id, or -1 if the environment does not let its
                /// processes create one.
                now create_config() -> ConfigId;
                /// Releases a configuration.
                now drop_config(config: ConfigId);
                /// Sets a process's memory limit in bytes.
                now config_set_max_memory(config: ConfigId, bytes: U64);
                /// Returns a process's memory limit in bytes.
                now config_get_max_memory(config: ConfigId) -> U64;
                /// Sets a process's compute limit in units; 0 removes the limit.
                now config_set_max_fuel(config: ConfigId, units: U64);
                /// Returns a process's compute limit in units, or 0 if there is no limit.
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
                /// Spawns a process that runs an exported function. The process is linked to the
                /// caller unless the link's tag is 0. Returns 0 and the pid, or 1 and an error id.
                /// The process shares the caller's registered names, even if it has a different
                /// configuration.
                wait spawn(
                    link: Tag, config: ConfigId, module: ModuleId, function: Text,
                    parameters: Bytes, process: OutU64
                ) -> I32;
                /// Finds a process by its name, or spawns a process under that name. If several
                /// callers race for a name, one of them spawns the process and the others find it.
                /// Returns 2 if the process was found or 0 if it was spawned, along with its node
                /// and pid. On failure, returns 1 and an error id in place of the pid, and leaves
                /// the name free.
                wait get_or_spawn(
                    name: Text, link: Tag, config: ConfigId, module: ModuleId, function: Text,
                    parameters: Bytes, node: OutU64, process: OutU64
                ) -> I32;
                /// Suspends the caller.
                wait sleep_ms(time: Millis);
                /// Sets what happens when a linked process fails. If `die` is 0, the caller
                /// receives a message; otherwise, the caller dies too.
                now die_when_link_dies(die: I32);
                /// Returns the caller's pid.
                now process_id() -> Pid;
                /// Returns the number of the caller's environment.
                now environment_id() -> U64;
                /// Links the caller to a process. If the process does not exist, it is treated as
                /// though it died immediately.
                now link(tag: Tag, process: Pid);
                /// Unlinks the caller from a process.
                now unlink(process: Pid);
                /// Monitors a process: the caller receives a message when the process dies, or
                /// immediately if it does not exist.
                now monitor(process: Pid);
                /// Stops monitoring a process. If its death has already been reported, the message
                /// stays in the mailbox.
                now stop_monitoring(process: Pid);
                /// Extension. Monitors a process with a tag, so that a receive can select the
                /// message that reports its death. Each tag is a separate monitor.
                now monitor_tagged(tag: Tag, process: Pid);
                /// Extension. Removes the monitor with this tag. Returns 1 if the monitor existed,
                /// in which case the death will not be reported with this tag. Returns 0 if there
                /// is no such monitor or the death has already been reported, in which case the
                /// message stays in the mailbox.
                now stop_monitoring_tagged(tag: Tag, process: Pid) -> I32;
                /// Kills a process. Does nothing if the process does not exist.
                now kill(process: Pid);
                /// Returns 1 if a process is alive, otherwise 0.
                now exists(process: Pid) -> I32;
            }

            /// Extension. Environments, which determine what their processes may call and how much
            /// they may use.
            "lunatic::environment" as environment {
                /// Extension. Creates a configuration that grants no functions. Returns 0 and the
                /// configuration's id, or 1 and an error id.
                now create_empty_config(config: OutU64) -> I32;
                /// Extension. Grants a configuration all of the caller's functions whose
                /// `namespace::name` begins with the prefix. Returns 0, or 1 and an error id if the
                /// caller has none.
                now config_allow_namespace(config: ConfigId, prefix: Text, error: OutU64) -> I32;
                /// Extension. Sets a limit, identified by its `Limit` number. A value of all ones
                /// copies the caller's limit. Returns 0, or 1 and an error id if there is no such
                /// limit.
                now config_set_limit(
                    config: ConfigId, limit: U32, value: U64, error: OutU64
                ) -> I32;
                /// Extension. Creates an environment from a configuration. The environment has its
                /// own registered names, and none of its limits exceeds the caller's. Returns 0 and
                /// the environment's id, or 1 and an error id.
                now create(config: ConfigId, environment: OutU64) -> I32;
                /// Extension. Releases an environment. Its processes are not affected.
                now drop(environment: EnvironmentId);
                /// Extension. Like `process::spawn`, but spawns in an environment. If `tag` is not
                /// 0, a message with this tag, data and sockets is in the new process's mailbox
                /// before its first instruction runs. If it cannot be delivered, the process is not
                /// spawned.
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
                /// Extension. Finds the process registered under a name with the newest version
                /// that satisfies a requirement. Returns an `Errno`.
                now lookup(
                    environment: EnvironmentId, name: Text, query: Text, process: OutU64
                ) -> U32;
            }

            /// Other machines. This machine stands alone: it is node 0, and there are no other
            /// nodes.
            "lunatic::distributed" as distributed {
                /// Returns the number of other nodes: 0.
                now nodes_count() -> U32;
                /// Writes the ids of the other nodes, as many as fit, and returns the number
                /// written: 0.
                now get_nodes(nodes: OutWords) -> U32;
                /// Returns the id of this node: 0. Functions that report a process's node also
                /// write this id.
                now node_id() -> U64;
                /// Returns the id of the caller's module, which is the same on all nodes: 0.
                now module_id() -> U64;
                /// For node 0, behaves like `process::spawn` without a link. For any other node,
                /// returns 1 and an error id.
                wait spawn(
                    node: U64, config: ConfigId, module: ModuleId, function: Text,
                    parameters: Bytes, process: OutU64
                ) -> I32;
                /// For node 0, behaves like `message::send`. For any other node, drops the message
                /// and returns 2.
                wait send(node: U64, process: Pid) -> I32;
                /// For node 0, behaves like `message::send_receive_skip_search`. For any other
                /// node, drops the message and returns 2.
                wait send_receive_skip_search(
                    node: U64, process: Pid, tag: Tag, timeout: Millis
                ) -> I32;
                /// Looks up nodes by attributes. Returns 1 and an error id, because there are no
                /// other nodes.
                now exec_lookup_nodes(
                    query: Text, result: OutU64, nodes: OutU64, error: OutU64
                ) -> I32;
                /// Writes the result of a lookup. Returns -1 and an error id, because lookups never
                /// succeed.
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
                /// Registers a process under a name. Traps if the name belongs to another living
                /// process.
                now put(name: Text, node: U64, process: Pid);
                /// Finds a process by its name. Returns 0, the node and the pid, or 1 if there is
                /// no such process.
                now get(name: Text, node: OutU64, process: OutU64) -> I32;
                /// Removes a name that belongs to the caller or was registered by it. Traps if the
                /// name belongs to another process.
                now remove(name: Text);
            }

            /// Delayed messages.
            "lunatic::timer" as timer {
                /// Sends the message in the slot after a delay. Returns the timer's id.
                now send_after(process: Pid, delay: Millis) -> TimerId;
                /// Cancels a timer. Returns 1, or 0 if the timer has already fired or does not
                /// exist.
                wait cancel_timer(timer: TimerId) -> I32;
                /// Extension. Like `message::send_bytes`, but sends the message after a delay.
                /// Returns 0 and the timer's id, or 1 and an error id.
                wait send_bytes_after(
                    process: Pid, tag: Tag, data: Bytes, sockets: Words, delay: Millis,
                    timer: OutU64
                ) -> I32;
            }

            /// Host names.
            "lunatic::networking" as dns {
                /// Looks up `host:port`. Returns 0 and the result's id, 1 and an error id, or 9027
                /// on timeout.
                wait resolve(name: Text, timeout: Millis, addresses: OutU64) -> I32;
                /// Releases a lookup result.
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
                /// Writes the id of a lookup result that holds the address a listener is bound to.
                now tcp_local_addr(listener: ListenerId, address: OutU64) -> I32;
                /// Waits for a connection, and until the environment's socket limit allows another
                /// socket. Returns 0, a stream and a lookup result that holds the peer's address.
                /// On failure, returns 1 and an error id.
                wait tcp_accept(listener: ListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Connects to an address. Returns 0 and a stream, 1 and an error id, or 9027 on
                /// timeout.
                wait tcp_connect(address: SocketAddr, timeout: Millis, stream: OutU64) -> I32;
                /// Releases a stream. The connection is closed when its last handle is released.
                now drop_tcp_stream(stream: StreamId);
                /// Returns another handle to a stream. All handles share the timeouts.
                now clone_tcp_stream(stream: StreamId) -> StreamId;
                /// Writes the id of a lookup result that holds the peer's address.
                now tcp_peer_addr(stream: StreamId, address: OutU64) -> I32;
                /// Extension. Writes the id of a lookup result that holds the stream's own address.
                now tcp_stream_local_addr(stream: StreamId, address: OutU64) -> I32;
                /// Writes data. Returns 0 and the number of bytes accepted, 1 and an error id, or
                /// 9027 on timeout. If the process is killed during the call, some of the data may
                /// already have been sent.
                wait tcp_write_vectored(stream: StreamId, vectors: Vectors, written: OutU64) -> I32;
                /// Reads data. Returns 0 and the number of bytes read (0 at the end of the stream),
                /// 1 and an error id, or 9027 on timeout.
                wait tcp_read(stream: StreamId, buffer: Buffer, read: OutU64) -> I32;
                /// Like `tcp_read`, but does not consume the data.
                wait tcp_peek(stream: StreamId, buffer: Buffer, read: OutU64) -> I32;
                /// Returns 0, because the operating system already has all written data.
                wait tcp_flush(stream: StreamId, error: OutU64) -> I32;
                /// Extension. Shuts down reading (0), writing (1) or both (2). Returns 0, or 1 and
                /// an error id.
                now tcp_shutdown(stream: StreamId, how: U32, error: OutU64) -> I32;
                /// Extension. Turns `TCP_NODELAY` on or off. While it is on, small writes are sent
                /// immediately. Returns 0, or 1 and an error id.
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
                /// Listens on an address. The certificate chain, starting with the server's own
                /// certificate, and the key are in PEM format. Returns 0 and a listener, or 1 and
                /// an error id.
                wait tls_bind(
                    address: SocketAddr, listener: OutU64, certificates: Bytes, private_key: Bytes
                ) -> I32;
                /// Releases a listener. Its port is free immediately.
                now drop_tls_listener(listener: TlsListenerId);
                /// Writes the id of a lookup result that holds the address a listener is bound to.
                now tls_local_addr(listener: TlsListenerId, address: OutU64) -> I32;
                /// Waits for a connection that completes its handshake, and until the environment's
                /// socket limit allows another socket. Other handshakes proceed in the meantime;
                /// handshakes that fail or take too long are not reported. Returns 0, a stream and
                /// a lookup result that holds the peer's address. On failure, returns 1 and an
                /// error id.
                wait tls_accept(listener: TlsListenerId, stream: OutU64, peer: OutU64) -> I32;
                /// Looks up a host, connects and completes the handshake, all within the timeout.
                /// The vectors are the certificate authorities to trust, in PEM format; if there
                /// are none, the web's public authorities are trusted. Returns 0 and a stream, 1
                /// and an error id, or 9027 on timeout.
                wait tls_connect(
                    name: Text, port: U32, timeout: Millis, stream: OutU64, authorities: Vectors
                ) -> I32;
                /// Releases a stream. Releasing the last handle sends a `close_notify` alert to the
                /// peer and closes the connection.
                now drop_tls_stream(stream: TlsStreamId);
                /// Returns another handle to a stream. All handles share the timeouts.
                now clone_tls_stream(stream: TlsStreamId) -> TlsStreamId;
                /// Extension. Writes the id of a lookup result that holds the peer's address.
                now tls_peer_addr(stream: TlsStreamId, address: OutU64) -> I32;
                /// Writes data. Returns 0 and the number of bytes accepted, 1 and an error id, or
                /// 9027 on timeout. If the process is killed during the call, some of the data may
                /// already have been sent.
                wait tls_write_vectored(
                    stream: TlsStreamId, vectors: Vectors, written: OutU64
                ) -> I32;
                /// Reads data. Returns 0 and the number of bytes read, 1 and an error id, or 9027
                /// on timeout. At the end of the stream, the number is 0 if the peer sent a
                /// `close_notify` alert; otherwise, the call fails.
                wait tls_read(stream: TlsStreamId, buffer: Buffer, read: OutU64) -> I32;
                /// Waits until all written data has been passed to the operating system. Returns 0,
                /// 1 and an error id, or 9027 on timeout.
                wait tls_flush(stream: TlsStreamId, error: OutU64) -> I32;
                /// Extension. Shuts down writing for all handles and sends a `close_notify` alert
                /// to the peer. Returns 0, 1 and an error id, or 9027 on timeout.
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
                /// Writes the id of a lookup result that holds the address a socket is bound to.
                now udp_local_addr(socket: UdpSocketId, address: OutU64) -> I32;
                /// Writes the id of a lookup result that holds the peer's address. Returns 0. On
                /// failure, writes an error id and returns 1 if there is no peer, or 2 for any
                /// other failure.
                now udp_peer_addr(socket: UdpSocketId, address: OutU64) -> I32;
                /// Sets the peer. Sends nothing, so the timeout has no effect. Returns 0, or 1 and
                /// an error id.
                now udp_connect(
                    socket: UdpSocketId, address: SocketAddr, timeout: Millis, error: OutU64
                ) -> I32;
                /// Sends a datagram to the peer. Returns 0 and its length, or 1 and an error id.
                wait udp_send(socket: UdpSocketId, data: Bytes, sent: OutU64) -> I32;
                /// Sends a datagram to an address. Returns 0 and its length, or 1 and an error id.
                wait udp_send_to(
                    socket: UdpSocketId, data: Bytes, address: SocketAddr, sent: OutU64
                ) -> I32;
                /// Waits for a datagram. Returns 0 and the number of bytes written, 1 and an error
                /// id, or 9027 if a timeout is set and expires. Bytes that do not fit into the
                /// buffer are lost.
                wait udp_receive(socket: UdpSocketId, buffer: Buffer, received: OutU64) -> I32;
                /// Like `udp_receive`, but also writes the id of a lookup result that holds the
                /// sender's address.
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
                /// Returns 1 if datagrams may be sent to a broadcast address, otherwise 0.
                now get_udp_socket_broadcast(socket: UdpSocketId) -> I32;
                /// Sets the time to live of datagrams, in hops from 1 to 255. Traps if the
                /// operating system refuses.
                now set_udp_socket_ttl(socket: UdpSocketId, ttl: U32);
                /// Returns the time to live of datagrams, in hops.
                now get_udp_socket_ttl(socket: UdpSocketId) -> U32;
            }

            /// The arguments, environment variables and directories that a configuration gives to a
            /// program.
            "lunatic::wasi" as wasi {
                /// Adds an environment variable.
                now config_add_environment_variable(config: ConfigId, key: Text, value: Text);
                /// Adds an argument.
                now config_add_command_line_argument(config: ConfigId, argument: Text);
                /// Grants access to a directory inside one of the caller's directories. Traps for
                /// any other directory.
                wait config_preopen_dir(config: ConfigId, directory: Text);
            }

            /// A program's metrics. Characters in a name that Prometheus does not allow are
            /// replaced by `_`. Each name has one kind: updates of a different kind are ignored,
            /// and so are updates that would exceed the limit on metric names.
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

            /// Catching traps.
            "lunatic::trap" as trap {
                /// Calls the guest's export `_lunatic_catch_trap(i32, i32) -> i32` with the same
                /// arguments. Returns the export's result, or 0 if the export traps, in which case
                /// memory stays as it was at the trap. Does not catch kills, exits or exceeded
                /// limits.
                wait catch(function: I32, pointer: I32) -> I32;
            }

            /// SQLite. A database is either a file in a directory that the environment grants, or
            /// is held in memory.
            ///
            /// A function that returns an address gets the memory by calling the guest's export
            /// `lunatic_alloc(i32) -> i32`, and writes the length to the location given by its last
            /// parameter. For the layout of lists, see `lunatic_abi::sqlite`.
            "lunatic::sqlite" as sqlite {
                /// Opens a database, creating it if it does not exist. If the name is `:memory:` or
                /// empty, the database is held in memory. Returns 0 and a connection, or 1 and an
                /// error id.
                wait open(path: Text, connection: OutU64) -> U64;
                /// Executes statements and discards their rows. Returns 0 or SQLite's result code.
                wait execute(connection: ConnectionId, sql: Text) -> U32;
                /// Prepares the first statement in a string. Traps if SQLite rejects the statement.
                wait query_prepare(connection: ConnectionId, sql: Text) -> StatementId;
                /// Binds a list of values to parameters. Traps if the list is malformed or a
                /// parameter does not exist.
                wait bind_value(statement: StatementId, values: Bytes);
                /// Returns the number of rows changed by the most recent `INSERT`, `UPDATE` or
                /// `DELETE` statement.
                now sqlite3_changes(connection: ConnectionId) -> U32;
                /// Resets a statement to its beginning. Its values stay bound.
                wait statement_reset(statement: StatementId);
                /// Steps a statement. Returns 100 if there is a row, or 101 at the end. Traps on
                /// failure.
                wait sqlite3_step(statement: StatementId) -> U32;
                /// Releases a statement.
                wait sqlite3_finalize(statement: StatementId);
                /// Returns the number of columns in a statement's rows.
                now column_count(statement: StatementId) -> U32;
                /// Returns the address of a column's name. Columns are numbered from 0.
                wait column_name(statement: StatementId, column: U32, length: OutU32) -> U32;
                /// Returns the address of a list of the column names.
                wait column_names(statement: StatementId, length: OutU32) -> U32;
                /// Returns the address of a value of the current row. If there is no row, the value
                /// is `NULL`.
                wait read_column(statement: StatementId, column: U32, length: OutU32) -> U32;
                /// Returns the address of a list of the current row's values.
                wait read_row(statement: StatementId, length: OutU32) -> U32;
                /// Returns the address of the error from the last call on a connection. Traps if
                /// that call did not fail.
                wait last_error(connection: ConnectionId, length: OutU32) -> U32;
                /// Extension. Closes a connection and its statements. Changes that were not
                /// committed are rolled back.
                wait drop_connection(connection: ConnectionId);
                /// Extension. Like `execute`, but with detailed errors. Returns 0, or SQLite's
                /// extended result code and an error id.
                wait execute_all(connection: ConnectionId, sql: Text, error: OutU64) -> U32;
                /// Extension. Prepares the only statement in a string. Returns 0 and the
                /// statement's id, or SQLite's extended result code and an error id.
                wait prepare(connection: ConnectionId, sql: Text, statement: OutU64) -> U32;
                /// Extension. Resets a statement to its beginning and replaces its values with
                /// those in a list. Returns 0, or SQLite's extended result code and an error id.
                wait bind(statement: StatementId, values: Bytes, error: OutU64) -> U32;
                /// Extension. Steps a statement. If there is a row, returns 100, and writes the
                /// length of the list of its values and as much of the list as fits. Returns 101 at
                /// the end. On failure, returns SQLite's extended result code and an error id.
                wait step_row(statement: StatementId, buffer: Buffer, size: OutU64) -> U32;
                /// Extension. Copies as much of the list of the current row's values as fits, and
                /// returns the list's length.
                wait copy_row(statement: StatementId, buffer: Buffer) -> U64;
                /// Extension. Copies as much of the list of column names as fits, and returns the
                /// list's length.
                wait copy_column_names(statement: StatementId, buffer: Buffer) -> U64;
                /// Extension. Returns the row id of the last inserted row.
                now last_insert_rowid(connection: ConnectionId) -> I64;
                /// Extension. Sets how long statements wait for a database that another connection
                /// has locked. By default, they do not wait.
                now set_busy_timeout(connection: ConnectionId, timeout: Millis);
            }

            /// The interface version: 0.13.
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
