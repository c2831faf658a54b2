/* The host functions that a guest can call, and the constants of the interface.
 *
 * Generated from the machine's table of host functions; do not edit. To regenerate this file, see the test
 * `the_header_for_c_is_what_the_table_says` in vm/abi.
 *
 * A result of type `uint32_t` or `int32_t` is 0 on success unless documented otherwise. The module must export its
 * memory under the name `memory`. */
#ifndef LUNATIC_H
#define LUNATIC_H

#include <stdint.h>

#define LUNATIC_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define LUNATIC_EXPORT(name) __attribute__((export_name(name), visibility("default")))

#define LUNATIC_TIMED_OUT 9027
#define LUNATIC_NOBODY_LEFT 9028
#define LUNATIC_FOREVER UINT64_MAX
#define LUNATIC_OWN UINT64_MAX

enum {
  LUNATIC_ERRNO_SUCCESS = 0,
  LUNATIC_ERRNO_OTHER = 1,
  LUNATIC_ERRNO_MAILBOX_FULL = 2,
  LUNATIC_ERRNO_MESSAGE_TOO_LARGE = 3,
  LUNATIC_ERRNO_NOT_GRANTED = 4,
  LUNATIC_ERRNO_LIMIT_REACHED = 5,
  LUNATIC_ERRNO_NO_PROCESS = 6,
  LUNATIC_ERRNO_NAME_TAKEN = 7,
  LUNATIC_ERRNO_NAME_NOT_FOUND = 8,
  LUNATIC_ERRNO_BAD_VERSION = 9,
  LUNATIC_ERRNO_BAD_MODULE = 10,
  LUNATIC_ERRNO_NO_FUNCTION = 11,
  LUNATIC_ERRNO_BAD_PARAMETERS = 12,
  LUNATIC_ERRNO_INVALID_INPUT = 13,
  LUNATIC_ERRNO_TIMED_OUT = 14,
  LUNATIC_ERRNO_CONNECTION_REFUSED = 15,
  LUNATIC_ERRNO_CONNECTION_RESET = 16,
  LUNATIC_ERRNO_CONNECTION_ABORTED = 17,
  LUNATIC_ERRNO_NOT_CONNECTED = 18,
  LUNATIC_ERRNO_ADDR_IN_USE = 19,
  LUNATIC_ERRNO_ADDR_NOT_AVAILABLE = 20,
  LUNATIC_ERRNO_BROKEN_PIPE = 21,
  LUNATIC_ERRNO_NOT_FOUND = 22,
  LUNATIC_ERRNO_PERMISSION_DENIED = 23,
  LUNATIC_ERRNO_NETWORK_UNREACHABLE = 24,
  LUNATIC_ERRNO_HOST_UNREACHABLE = 25,
  LUNATIC_ERRNO_EXHAUSTED = 26,
  LUNATIC_ERRNO_BAD_TLS = 27,
};

enum {
  LUNATIC_EXIT_NORMAL = 0,
  LUNATIC_EXIT_STATUS = 1,
  LUNATIC_EXIT_TRAPPED = 2,
  LUNATIC_EXIT_KILLED = 3,
  LUNATIC_EXIT_LIMIT = 4,
  LUNATIC_EXIT_LINK_DIED = 5,
  LUNATIC_EXIT_NO_PROCESS = 6,
  LUNATIC_EXIT_FAULT = 7,
};

enum {
  LUNATIC_LIMIT_MEMORY = 0,
  LUNATIC_LIMIT_COMPUTE = 1,
  LUNATIC_LIMIT_TABLE_ELEMENTS = 2,
  LUNATIC_LIMIT_PROCESSES = 3,
  LUNATIC_LIMIT_MAILBOX_MESSAGES = 4,
  LUNATIC_LIMIT_MAILBOX_BYTES = 5,
  LUNATIC_LIMIT_MESSAGE_BYTES = 6,
  LUNATIC_LIMIT_TIMERS = 7,
  LUNATIC_LIMIT_NAMES = 8,
  LUNATIC_LIMIT_SOCKETS = 9,
  LUNATIC_LIMIT_FILES = 10,
  LUNATIC_LIMIT_OUTPUT = 11,
  LUNATIC_LIMIT_HANDLES = 12,
  LUNATIC_LIMIT_TOTAL_MEMORY = 13,
  LUNATIC_LIMIT_TOTAL_COMPUTE = 14,
  LUNATIC_LIMIT_TIME = 15,
  LUNATIC_LIMIT_METRICS = 16,
  LUNATIC_LIMIT_HOST_MEMORY = 17,
  LUNATIC_LIMIT_TOTAL_HOST_MEMORY = 18,
  LUNATIC_LIMIT_DESCRIPTORS = 19,
};

enum {
  LUNATIC_MESSAGE_DATA = 0,
  LUNATIC_MESSAGE_LINK_DIED = 1,
  LUNATIC_MESSAGE_PROCESS_DIED = 2,
};

/* Describes a received message. */
typedef struct {
  uint32_t kind;      /* LUNATIC_MESSAGE_... */
  uint32_t length;    /* of all the data, even if it does not fit into the buffer */
  uint32_t resources;
  uint32_t exit;      /* LUNATIC_EXIT_..., if the message reports a death */
  int64_t tag;
  uint64_t pid;       /* the process that died */
  uint64_t detail;    /* the exit status or LUNATIC_LIMIT_... */
} lunatic_message_header;

/* A piece of a vectored write. */
typedef struct {
  const void *data;
  uint32_t length;
} lunatic_vector;

/* A parameter of the function that a process starts with. */
typedef struct __attribute__((packed)) {
  uint8_t type;       /* LUNATIC_PARAMETER_... */
  uint64_t value;
  uint64_t upper;     /* of a vector; otherwise 0 */
} lunatic_parameter;

#define LUNATIC_PARAMETER_I32 0x7f
#define LUNATIC_PARAMETER_I64 0x7e
#define LUNATIC_PARAMETER_F32 0x7d
#define LUNATIC_PARAMETER_F64 0x7c
#define LUNATIC_PARAMETER_V128 0x7b

_Static_assert(sizeof(lunatic_message_header) == 40, "must match the layout that the machine writes");
_Static_assert(sizeof(lunatic_parameter) == 17, "must match the layout that the machine reads");

/* Returns the length of an error message in bytes. */
LUNATIC_IMPORT("lunatic::error", "string_size")
uint32_t lunatic_error_string_size(uint64_t id);

/* Writes an error message: exactly as many bytes as `string_size` returns. */
LUNATIC_IMPORT("lunatic::error", "to_string")
void lunatic_error_to_string(uint64_t id, char *text);

/* Releases an error. */
LUNATIC_IMPORT("lunatic::error", "drop")
void lunatic_error_drop(uint64_t id);

/* Extension. Returns the `Errno` of an error. */
LUNATIC_IMPORT("lunatic::error", "kind")
uint32_t lunatic_error_kind(uint64_t id);

/* Starts an empty data message in the slot, replacing whatever was there. `capacity` is a hint. */
LUNATIC_IMPORT("lunatic::message", "create_data")
void lunatic_message_create_data(int64_t tag, uint64_t capacity);

/* Appends bytes to the data message in the slot and returns the number appended. */
LUNATIC_IMPORT("lunatic::message", "write_data")
uint32_t lunatic_message_write_data(const void *data, uint32_t data_length);

/* Copies bytes from the read position and advances it. Returns the number of bytes copied, or 0 at the end. */
LUNATIC_IMPORT("lunatic::message", "read_data")
uint32_t lunatic_message_read_data(void *buffer, uint32_t buffer_length);

/* Sets the read position, in bytes from the start. */
LUNATIC_IMPORT("lunatic::message", "seek_data")
void lunatic_message_seek_data(uint64_t position);

/* Returns the tag of the message in the slot, or 0 if it has none. */
LUNATIC_IMPORT("lunatic::message", "get_tag")
int64_t lunatic_message_get_tag(void);

/* If the message in the slot reports the death of a monitored process, returns that process; otherwise returns 0. */
LUNATIC_IMPORT("lunatic::message", "get_process_id")
uint64_t lunatic_message_get_process_id(void);

/* Returns the length, in bytes, of the data in the slot. */
LUNATIC_IMPORT("lunatic::message", "data_size")
uint64_t lunatic_message_data_size(void);

/* Copies a module into the message in the slot and returns its index there. */
LUNATIC_IMPORT("lunatic::message", "push_module")
uint64_t lunatic_message_push_module(uint64_t module);

/* Takes a module out of the message in the slot and returns its id. */
LUNATIC_IMPORT("lunatic::message", "take_module")
uint64_t lunatic_message_take_module(uint64_t index);

/* Extension. Returns the `ResourceKind` of a resource in the slot's message: 0 if there is none or it has been taken, 1 for a module, 2 for a TCP stream, 3 for a resource defined by the host program, 4 for a TLS stream, 5 for a UDP socket. */
LUNATIC_IMPORT("lunatic::message", "resource_kind")
uint32_t lunatic_message_resource_kind(uint64_t index);

/* Moves a stream into the message in the slot and returns its index there. */
LUNATIC_IMPORT("lunatic::message", "push_tcp_stream")
uint64_t lunatic_message_push_tcp_stream(uint64_t stream);

/* Takes a stream out of the message in the slot and returns its id. */
LUNATIC_IMPORT("lunatic::message", "take_tcp_stream")
uint64_t lunatic_message_take_tcp_stream(uint64_t index);

/* Moves a TLS stream into the message in the slot and returns its index there. */
LUNATIC_IMPORT("lunatic::message", "push_tls_stream")
uint64_t lunatic_message_push_tls_stream(uint64_t stream);

/* Takes a TLS stream out of the message in the slot and returns its id. */
LUNATIC_IMPORT("lunatic::message", "take_tls_stream")
uint64_t lunatic_message_take_tls_stream(uint64_t index);

/* Moves a UDP socket into the message in the slot and returns its index there. */
LUNATIC_IMPORT("lunatic::message", "push_udp_socket")
uint64_t lunatic_message_push_udp_socket(uint64_t socket);

/* Takes a UDP socket out of the message in the slot and returns its id. */
LUNATIC_IMPORT("lunatic::message", "take_udp_socket")
uint64_t lunatic_message_take_udp_socket(uint64_t index);

/* Sends the message in the slot. Returns 0, even if the process does not exist. If the receiver cannot accept the message, drops it and returns `MailboxFull`, `MessageTooLarge` or `NotGranted` as an `Errno`. */
LUNATIC_IMPORT("lunatic::message", "send")
int32_t lunatic_message_send(uint64_t process);

/* Sends the message in the slot, then waits for a message that arrives after the send and has this tag. Returns 0, or 9027 on timeout. */
LUNATIC_IMPORT("lunatic::message", "send_receive_skip_search")
int32_t lunatic_message_send_receive_skip_search(uint64_t process, int64_t tag, uint64_t timeout);

/* Waits for the first message that has one of the tags, or for any message if no tag is given. Returns the `MessageKind`, 9027 on timeout, or 9028 if no process is left that could send a message. */
LUNATIC_IMPORT("lunatic::message", "receive")
int32_t lunatic_message_receive(const uint64_t *tags, uint32_t tags_count, uint64_t timeout);

/* Extension. Sends a complete message: data and copies of sockets. Each socket is identified by its id, with its `ResourceKind` in the highest byte; a bare id identifies a TCP stream. Returns an `Errno`, which is 0 even if the process does not exist. The caller keeps its data and sockets. */
LUNATIC_IMPORT("lunatic::message", "send_bytes")
int32_t lunatic_message_send_bytes(uint64_t process, int64_t tag, const void *data, uint32_t data_length, const uint64_t *sockets, uint32_t sockets_count);

/* Extension. Like `send_bytes`, but never waits for space in the mailbox: returns `MailboxFull` immediately, and also if there is more than 256 KiB of data. */
LUNATIC_IMPORT("lunatic::message", "offer_bytes")
int32_t lunatic_message_offer_bytes(uint64_t process, int64_t tag, const void *data, uint32_t data_length, const uint64_t *sockets, uint32_t sockets_count);

/* Extension. Like `receive`, but also writes the header and as much of the data as fits. The message stays in the slot, with its read position after the copied data: `read_data` returns the rest, and the `take_…` functions return the resources. */
LUNATIC_IMPORT("lunatic::message", "receive_bytes")
int32_t lunatic_message_receive_bytes(const uint64_t *tags, uint32_t tags_count, uint64_t timeout, void *buffer, uint32_t buffer_length, lunatic_message_header *header);

/* Compiles a module. Returns 0 and the module's id, 1 and an error id, or -1 if the environment does not let its processes compile. */
LUNATIC_IMPORT("lunatic::process", "compile_module")
int32_t lunatic_process_compile_module(const void *data, uint32_t data_length, uint64_t *module);

/* Releases a module. Processes that run it are not affected. */
LUNATIC_IMPORT("lunatic::process", "drop_module")
void lunatic_process_drop_module(uint64_t module);

/* Creates a configuration whose processes may call the same functions as the caller, except that they may not spawn, compile or create configurations. Returns the configuration's id, or -1 if the environment does not let its processes create one. */
LUNATIC_IMPORT("lunatic::process", "create_config")
uint64_t lunatic_process_create_config(void);

/* Releases a configuration. */
LUNATIC_IMPORT("lunatic::process", "drop_config")
void lunatic_process_drop_config(uint64_t config);

/* Sets a process's memory limit in bytes. */
LUNATIC_IMPORT("lunatic::process", "config_set_max_memory")
void lunatic_process_config_set_max_memory(uint64_t config, uint64_t bytes);

/* Returns a process's memory limit in bytes. */
LUNATIC_IMPORT("lunatic::process", "config_get_max_memory")
uint64_t lunatic_process_config_get_max_memory(uint64_t config);

/* Sets a process's compute limit in units; 0 removes the limit. */
LUNATIC_IMPORT("lunatic::process", "config_set_max_fuel")
void lunatic_process_config_set_max_fuel(uint64_t config, uint64_t units);

/* Returns a process's compute limit in units, or 0 if there is no limit. */
LUNATIC_IMPORT("lunatic::process", "config_get_max_fuel")
uint64_t lunatic_process_config_get_max_fuel(uint64_t config);

/* Returns 1 if processes may compile modules. */
LUNATIC_IMPORT("lunatic::process", "config_can_compile_modules")
int32_t lunatic_process_config_can_compile_modules(uint64_t config);

/* Sets whether processes may compile modules. */
LUNATIC_IMPORT("lunatic::process", "config_set_can_compile_modules")
void lunatic_process_config_set_can_compile_modules(uint64_t config, int32_t can);

/* Returns 1 if processes may create configurations. */
LUNATIC_IMPORT("lunatic::process", "config_can_create_configs")
int32_t lunatic_process_config_can_create_configs(uint64_t config);

/* Sets whether processes may create configurations. */
LUNATIC_IMPORT("lunatic::process", "config_set_can_create_configs")
void lunatic_process_config_set_can_create_configs(uint64_t config, int32_t can);

/* Returns 1 if processes may spawn. */
LUNATIC_IMPORT("lunatic::process", "config_can_spawn_processes")
int32_t lunatic_process_config_can_spawn_processes(uint64_t config);

/* Sets whether processes may spawn. */
LUNATIC_IMPORT("lunatic::process", "config_set_can_spawn_processes")
void lunatic_process_config_set_can_spawn_processes(uint64_t config, int32_t can);

/* Spawns a process that runs an exported function. The process is linked to the caller unless the link's tag is 0. Returns 0 and the pid, or 1 and an error id. The process shares the caller's registered names, even if it has a different configuration. */
LUNATIC_IMPORT("lunatic::process", "spawn")
int32_t lunatic_process_spawn(int64_t link, uint64_t config, uint64_t module, const char *function, uint32_t function_length, const void *parameters, uint32_t parameters_length, uint64_t *process);

/* Finds a process by its name, or spawns a process under that name. If several callers race for a name, one of them spawns the process and the others find it. Returns 2 if the process was found or 0 if it was spawned, along with its node and pid. On failure, returns 1 and an error id in place of the pid, and leaves the name free. */
LUNATIC_IMPORT("lunatic::process", "get_or_spawn")
int32_t lunatic_process_get_or_spawn(const char *name, uint32_t name_length, int64_t link, uint64_t config, uint64_t module, const char *function, uint32_t function_length, const void *parameters, uint32_t parameters_length, uint64_t *node, uint64_t *process);

/* Suspends the caller. */
LUNATIC_IMPORT("lunatic::process", "sleep_ms")
void lunatic_process_sleep_ms(uint64_t time);

/* Sets what happens when a linked process fails. If `die` is 0, the caller receives a message; otherwise, the caller dies too. */
LUNATIC_IMPORT("lunatic::process", "die_when_link_dies")
void lunatic_process_die_when_link_dies(int32_t die);

/* Returns the caller's pid. */
LUNATIC_IMPORT("lunatic::process", "process_id")
uint64_t lunatic_process_process_id(void);

/* Returns the number of the caller's environment. */
LUNATIC_IMPORT("lunatic::process", "environment_id")
uint64_t lunatic_process_environment_id(void);

/* Links the caller to a process. If the process does not exist, it is treated as though it died immediately. */
LUNATIC_IMPORT("lunatic::process", "link")
void lunatic_process_link(int64_t tag, uint64_t process);

/* Unlinks the caller from a process. */
LUNATIC_IMPORT("lunatic::process", "unlink")
void lunatic_process_unlink(uint64_t process);

/* Monitors a process: the caller receives a message when the process dies, or immediately if it does not exist. */
LUNATIC_IMPORT("lunatic::process", "monitor")
void lunatic_process_monitor(uint64_t process);

/* Stops monitoring a process. If its death has already been reported, the message stays in the mailbox. */
LUNATIC_IMPORT("lunatic::process", "stop_monitoring")
void lunatic_process_stop_monitoring(uint64_t process);

/* Extension. Monitors a process with a tag, so that a receive can select the message that reports its death. Each tag is a separate monitor. */
LUNATIC_IMPORT("lunatic::process", "monitor_tagged")
void lunatic_process_monitor_tagged(int64_t tag, uint64_t process);

/* Extension. Removes the monitor with this tag. Returns 1 if the monitor existed, in which case the death will not be reported with this tag. Returns 0 if there is no such monitor or the death has already been reported, in which case the message stays in the mailbox. */
LUNATIC_IMPORT("lunatic::process", "stop_monitoring_tagged")
int32_t lunatic_process_stop_monitoring_tagged(int64_t tag, uint64_t process);

/* Kills a process. Does nothing if the process does not exist. */
LUNATIC_IMPORT("lunatic::process", "kill")
void lunatic_process_kill(uint64_t process);

/* Returns 1 if a process is alive, otherwise 0. */
LUNATIC_IMPORT("lunatic::process", "exists")
int32_t lunatic_process_exists(uint64_t process);

/* Extension. Creates a configuration that grants no functions. Returns 0 and the configuration's id, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::environment", "create_empty_config")
int32_t lunatic_environment_create_empty_config(uint64_t *config);

/* Extension. Grants a configuration all of the caller's functions whose `namespace::name` begins with the prefix. Returns 0, or 1 and an error id if the caller has none. */
LUNATIC_IMPORT("lunatic::environment", "config_allow_namespace")
int32_t lunatic_environment_config_allow_namespace(uint64_t config, const char *prefix, uint32_t prefix_length, uint64_t *error);

/* Extension. Sets a limit, identified by its `Limit` number. A value of all ones copies the caller's limit. Returns 0, or 1 and an error id if there is no such limit. */
LUNATIC_IMPORT("lunatic::environment", "config_set_limit")
int32_t lunatic_environment_config_set_limit(uint64_t config, uint32_t limit, uint64_t value, uint64_t *error);

/* Extension. Creates an environment from a configuration. The environment has its own registered names, and none of its limits exceeds the caller's. Returns 0 and the environment's id, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::environment", "create")
int32_t lunatic_environment_create(uint64_t config, uint64_t *environment);

/* Extension. Releases an environment. Its processes are not affected. */
LUNATIC_IMPORT("lunatic::environment", "drop")
void lunatic_environment_drop(uint64_t environment);

/* Extension. Like `process::spawn`, but spawns in an environment. If `tag` is not 0, a message with this tag, data and sockets is in the new process's mailbox before its first instruction runs. If it cannot be delivered, the process is not spawned. */
LUNATIC_IMPORT("lunatic::environment", "spawn")
int32_t lunatic_environment_spawn(uint64_t environment, uint64_t module, int64_t link, const char *function, uint32_t function_length, const void *parameters, uint32_t parameters_length, int64_t tag, const void *data, uint32_t data_length, const uint64_t *sockets, uint32_t sockets_count, uint64_t *process);

/* Extension. Registers a process in an environment under a name and a semantic version. Returns an `Errno`. */
LUNATIC_IMPORT("lunatic::environment", "register")
uint32_t lunatic_environment_register(uint64_t environment, const char *name, uint32_t name_length, const char *version, uint32_t version_length, uint64_t process);

/* Extension. Removes a registration. Returns an `Errno`. */
LUNATIC_IMPORT("lunatic::environment", "unregister")
uint32_t lunatic_environment_unregister(uint64_t environment, const char *name, uint32_t name_length, const char *version, uint32_t version_length);

/* Extension. Finds the process registered under a name with the newest version that satisfies a requirement. Returns an `Errno`. */
LUNATIC_IMPORT("lunatic::environment", "lookup")
uint32_t lunatic_environment_lookup(uint64_t environment, const char *name, uint32_t name_length, const char *query, uint32_t query_length, uint64_t *process);

/* Returns the number of other nodes: 0. */
LUNATIC_IMPORT("lunatic::distributed", "nodes_count")
uint32_t lunatic_distributed_nodes_count(void);

/* Writes the ids of the other nodes, as many as fit, and returns the number written: 0. */
LUNATIC_IMPORT("lunatic::distributed", "get_nodes")
uint32_t lunatic_distributed_get_nodes(uint64_t *nodes, uint32_t nodes_count);

/* Returns the id of this node: 0. Functions that report a process's node also write this id. */
LUNATIC_IMPORT("lunatic::distributed", "node_id")
uint64_t lunatic_distributed_node_id(void);

/* Returns the id of the caller's module, which is the same on all nodes: 0. */
LUNATIC_IMPORT("lunatic::distributed", "module_id")
uint64_t lunatic_distributed_module_id(void);

/* For node 0, behaves like `process::spawn` without a link. For any other node, returns 1 and an error id. */
LUNATIC_IMPORT("lunatic::distributed", "spawn")
int32_t lunatic_distributed_spawn(uint64_t node, uint64_t config, uint64_t module, const char *function, uint32_t function_length, const void *parameters, uint32_t parameters_length, uint64_t *process);

/* For node 0, behaves like `message::send`. For any other node, drops the message and returns 2. */
LUNATIC_IMPORT("lunatic::distributed", "send")
int32_t lunatic_distributed_send(uint64_t node, uint64_t process);

/* For node 0, behaves like `message::send_receive_skip_search`. For any other node, drops the message and returns 2. */
LUNATIC_IMPORT("lunatic::distributed", "send_receive_skip_search")
int32_t lunatic_distributed_send_receive_skip_search(uint64_t node, uint64_t process, int64_t tag, uint64_t timeout);

/* Looks up nodes by attributes. Returns 1 and an error id, because there are no other nodes. */
LUNATIC_IMPORT("lunatic::distributed", "exec_lookup_nodes")
int32_t lunatic_distributed_exec_lookup_nodes(const char *query, uint32_t query_length, uint64_t *result, uint64_t *nodes, uint64_t *error);

/* Writes the result of a lookup. Returns -1 and an error id, because lookups never succeed. */
LUNATIC_IMPORT("lunatic::distributed", "copy_lookup_nodes_results")
int32_t lunatic_distributed_copy_lookup_nodes_results(uint64_t result, uint64_t *nodes, uint32_t nodes_count, uint64_t *error);

/* Traps, because the machine has no certificate authority. */
LUNATIC_IMPORT("lunatic::distributed", "test_root_cert")
uint32_t lunatic_distributed_test_root_cert(uint32_t *length);

/* Traps, because the machine has no certificate authority. */
LUNATIC_IMPORT("lunatic::distributed", "default_server_certificates")
uint32_t lunatic_distributed_default_server_certificates(const void *certificate, uint32_t certificate_length, const void *private_key, uint32_t private_key_length, uint32_t *length);

/* Traps, because the machine has no certificate authority. */
LUNATIC_IMPORT("lunatic::distributed", "sign_node")
uint32_t lunatic_distributed_sign_node(const void *certificate, uint32_t certificate_length, const void *private_key, uint32_t private_key_length, const void *request, uint32_t request_length, uint32_t *length);

/* Registers a process under a name. Traps if the name belongs to another living process. */
LUNATIC_IMPORT("lunatic::registry", "put")
void lunatic_registry_put(const char *name, uint32_t name_length, uint64_t node, uint64_t process);

/* Finds a process by its name. Returns 0, the node and the pid, or 1 if there is no such process. */
LUNATIC_IMPORT("lunatic::registry", "get")
int32_t lunatic_registry_get(const char *name, uint32_t name_length, uint64_t *node, uint64_t *process);

/* Removes a name that belongs to the caller or was registered by it. Traps if the name belongs to another process. */
LUNATIC_IMPORT("lunatic::registry", "remove")
void lunatic_registry_remove(const char *name, uint32_t name_length);

/* Sends the message in the slot after a delay. Returns the timer's id. */
LUNATIC_IMPORT("lunatic::timer", "send_after")
uint64_t lunatic_timer_send_after(uint64_t process, uint64_t delay);

/* Cancels a timer. Returns 1, or 0 if the timer has already fired or does not exist. */
LUNATIC_IMPORT("lunatic::timer", "cancel_timer")
int32_t lunatic_timer_cancel_timer(uint64_t timer);

/* Extension. Like `message::send_bytes`, but sends the message after a delay. Returns 0 and the timer's id, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::timer", "send_bytes_after")
int32_t lunatic_timer_send_bytes_after(uint64_t process, int64_t tag, const void *data, uint32_t data_length, const uint64_t *sockets, uint32_t sockets_count, uint64_t delay, uint64_t *timer);

/* Looks up `host:port`. Returns 0 and the result's id, 1 and an error id, or 9027 on timeout. */
LUNATIC_IMPORT("lunatic::networking", "resolve")
int32_t lunatic_networking_resolve(const char *name, uint32_t name_length, uint64_t timeout, uint64_t *addresses);

/* Releases a lookup result. */
LUNATIC_IMPORT("lunatic::networking", "drop_dns_iterator")
void lunatic_networking_drop_dns_iterator(uint64_t addresses);

/* Writes the next address. Returns 0, or 1 at the end. Flow and scope are written for IPv6 only. */
LUNATIC_IMPORT("lunatic::networking", "resolve_next")
int32_t lunatic_networking_resolve_next(uint64_t addresses, uint32_t *family, uint8_t *ip, uint16_t *port, uint32_t *flow, uint32_t *scope);

/* Listens on an address. Returns 0 and a listener, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "tcp_bind")
int32_t lunatic_networking_tcp_bind(uint32_t family, const uint8_t *ip, uint32_t port, uint32_t flow, uint32_t scope, uint64_t *listener);

/* Releases a listener. Its port is free immediately. */
LUNATIC_IMPORT("lunatic::networking", "drop_tcp_listener")
void lunatic_networking_drop_tcp_listener(uint64_t listener);

/* Writes the id of a lookup result that holds the address a listener is bound to. */
LUNATIC_IMPORT("lunatic::networking", "tcp_local_addr")
int32_t lunatic_networking_tcp_local_addr(uint64_t listener, uint64_t *address);

/* Waits for a connection, and until the environment's socket limit allows another socket. Returns 0, a stream and a lookup result that holds the peer's address. On failure, returns 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "tcp_accept")
int32_t lunatic_networking_tcp_accept(uint64_t listener, uint64_t *stream, uint64_t *peer);

/* Connects to an address. Returns 0 and a stream, 1 and an error id, or 9027 on timeout. */
LUNATIC_IMPORT("lunatic::networking", "tcp_connect")
int32_t lunatic_networking_tcp_connect(uint32_t family, const uint8_t *ip, uint32_t port, uint32_t flow, uint32_t scope, uint64_t timeout, uint64_t *stream);

/* Releases a stream. The connection is closed when its last handle is released. */
LUNATIC_IMPORT("lunatic::networking", "drop_tcp_stream")
void lunatic_networking_drop_tcp_stream(uint64_t stream);

/* Returns another handle to a stream. All handles share the timeouts. */
LUNATIC_IMPORT("lunatic::networking", "clone_tcp_stream")
uint64_t lunatic_networking_clone_tcp_stream(uint64_t stream);

/* Writes the id of a lookup result that holds the peer's address. */
LUNATIC_IMPORT("lunatic::networking", "tcp_peer_addr")
int32_t lunatic_networking_tcp_peer_addr(uint64_t stream, uint64_t *address);

/* Extension. Writes the id of a lookup result that holds the stream's own address. */
LUNATIC_IMPORT("lunatic::networking", "tcp_stream_local_addr")
int32_t lunatic_networking_tcp_stream_local_addr(uint64_t stream, uint64_t *address);

/* Writes data. Returns 0 and the number of bytes accepted, 1 and an error id, or 9027 on timeout. If the process is killed during the call, some of the data may already have been sent. */
LUNATIC_IMPORT("lunatic::networking", "tcp_write_vectored")
int32_t lunatic_networking_tcp_write_vectored(uint64_t stream, const lunatic_vector *vectors, uint32_t vectors_count, uint64_t *written);

/* Reads data. Returns 0 and the number of bytes read (0 at the end of the stream), 1 and an error id, or 9027 on timeout. */
LUNATIC_IMPORT("lunatic::networking", "tcp_read")
int32_t lunatic_networking_tcp_read(uint64_t stream, void *buffer, uint32_t buffer_length, uint64_t *read);

/* Like `tcp_read`, but does not consume the data. */
LUNATIC_IMPORT("lunatic::networking", "tcp_peek")
int32_t lunatic_networking_tcp_peek(uint64_t stream, void *buffer, uint32_t buffer_length, uint64_t *read);

/* Returns 0, because the operating system already has all written data. */
LUNATIC_IMPORT("lunatic::networking", "tcp_flush")
int32_t lunatic_networking_tcp_flush(uint64_t stream, uint64_t *error);

/* Extension. Shuts down reading (0), writing (1) or both (2). Returns 0, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "tcp_shutdown")
int32_t lunatic_networking_tcp_shutdown(uint64_t stream, uint32_t how, uint64_t *error);

/* Extension. Turns `TCP_NODELAY` on or off. While it is on, small writes are sent immediately. Returns 0, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "tcp_set_nodelay")
int32_t lunatic_networking_tcp_set_nodelay(uint64_t stream, int32_t on, uint64_t *error);

/* Sets how long a read may take. */
LUNATIC_IMPORT("lunatic::networking", "set_read_timeout")
void lunatic_networking_set_read_timeout(uint64_t stream, uint64_t timeout);

/* Returns how long a read may take. */
LUNATIC_IMPORT("lunatic::networking", "get_read_timeout")
uint64_t lunatic_networking_get_read_timeout(uint64_t stream);

/* Sets how long a write may take. */
LUNATIC_IMPORT("lunatic::networking", "set_write_timeout")
void lunatic_networking_set_write_timeout(uint64_t stream, uint64_t timeout);

/* Returns how long a write may take. */
LUNATIC_IMPORT("lunatic::networking", "get_write_timeout")
uint64_t lunatic_networking_get_write_timeout(uint64_t stream);

/* Sets how long a peek may take. */
LUNATIC_IMPORT("lunatic::networking", "set_peek_timeout")
void lunatic_networking_set_peek_timeout(uint64_t stream, uint64_t timeout);

/* Returns how long a peek may take. */
LUNATIC_IMPORT("lunatic::networking", "get_peek_timeout")
uint64_t lunatic_networking_get_peek_timeout(uint64_t stream);

/* Listens on an address. The certificate chain, starting with the server's own certificate, and the key are in PEM format. Returns 0 and a listener, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "tls_bind")
int32_t lunatic_networking_tls_bind(uint32_t family, const uint8_t *ip, uint32_t port, uint32_t flow, uint32_t scope, uint64_t *listener, const void *certificates, uint32_t certificates_length, const void *private_key, uint32_t private_key_length);

/* Releases a listener. Its port is free immediately. */
LUNATIC_IMPORT("lunatic::networking", "drop_tls_listener")
void lunatic_networking_drop_tls_listener(uint64_t listener);

/* Writes the id of a lookup result that holds the address a listener is bound to. */
LUNATIC_IMPORT("lunatic::networking", "tls_local_addr")
int32_t lunatic_networking_tls_local_addr(uint64_t listener, uint64_t *address);

/* Waits for a connection that completes its handshake, and until the environment's socket limit allows another socket. Other handshakes proceed in the meantime; handshakes that fail or take too long are not reported. Returns 0, a stream and a lookup result that holds the peer's address. On failure, returns 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "tls_accept")
int32_t lunatic_networking_tls_accept(uint64_t listener, uint64_t *stream, uint64_t *peer);

/* Looks up a host, connects and completes the handshake, all within the timeout. The vectors are the certificate authorities to trust, in PEM format; if there are none, the web's public authorities are trusted. Returns 0 and a stream, 1 and an error id, or 9027 on timeout. */
LUNATIC_IMPORT("lunatic::networking", "tls_connect")
int32_t lunatic_networking_tls_connect(const char *name, uint32_t name_length, uint32_t port, uint64_t timeout, uint64_t *stream, const lunatic_vector *authorities, uint32_t authorities_count);

/* Releases a stream. Releasing the last handle sends a `close_notify` alert to the peer and closes the connection. */
LUNATIC_IMPORT("lunatic::networking", "drop_tls_stream")
void lunatic_networking_drop_tls_stream(uint64_t stream);

/* Returns another handle to a stream. All handles share the timeouts. */
LUNATIC_IMPORT("lunatic::networking", "clone_tls_stream")
uint64_t lunatic_networking_clone_tls_stream(uint64_t stream);

/* Extension. Writes the id of a lookup result that holds the peer's address. */
LUNATIC_IMPORT("lunatic::networking", "tls_peer_addr")
int32_t lunatic_networking_tls_peer_addr(uint64_t stream, uint64_t *address);

/* Writes data. Returns 0 and the number of bytes accepted, 1 and an error id, or 9027 on timeout. If the process is killed during the call, some of the data may already have been sent. */
LUNATIC_IMPORT("lunatic::networking", "tls_write_vectored")
int32_t lunatic_networking_tls_write_vectored(uint64_t stream, const lunatic_vector *vectors, uint32_t vectors_count, uint64_t *written);

/* Reads data. Returns 0 and the number of bytes read, 1 and an error id, or 9027 on timeout. At the end of the stream, the number is 0 if the peer sent a `close_notify` alert; otherwise, the call fails. */
LUNATIC_IMPORT("lunatic::networking", "tls_read")
int32_t lunatic_networking_tls_read(uint64_t stream, void *buffer, uint32_t buffer_length, uint64_t *read);

/* Waits until all written data has been passed to the operating system. Returns 0, 1 and an error id, or 9027 on timeout. */
LUNATIC_IMPORT("lunatic::networking", "tls_flush")
int32_t lunatic_networking_tls_flush(uint64_t stream, uint64_t *error);

/* Extension. Shuts down writing for all handles and sends a `close_notify` alert to the peer. Returns 0, 1 and an error id, or 9027 on timeout. */
LUNATIC_IMPORT("lunatic::networking", "tls_shutdown")
int32_t lunatic_networking_tls_shutdown(uint64_t stream, uint64_t *error);

/* Sets how long a read may take. */
LUNATIC_IMPORT("lunatic::networking", "set_tls_read_timeout")
void lunatic_networking_set_tls_read_timeout(uint64_t stream, uint64_t timeout);

/* Returns how long a read may take. */
LUNATIC_IMPORT("lunatic::networking", "get_tls_read_timeout")
uint64_t lunatic_networking_get_tls_read_timeout(uint64_t stream);

/* Sets how long a write may take. */
LUNATIC_IMPORT("lunatic::networking", "set_tls_write_timeout")
void lunatic_networking_set_tls_write_timeout(uint64_t stream, uint64_t timeout);

/* Returns how long a write may take. */
LUNATIC_IMPORT("lunatic::networking", "get_tls_write_timeout")
uint64_t lunatic_networking_get_tls_write_timeout(uint64_t stream);

/* Binds a socket to an address. Returns 0 and the socket, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "udp_bind")
int32_t lunatic_networking_udp_bind(uint32_t family, const uint8_t *ip, uint32_t port, uint32_t flow, uint32_t scope, uint64_t *socket);

/* Releases a socket. The port is free once the last handle is released. */
LUNATIC_IMPORT("lunatic::networking", "drop_udp_socket")
void lunatic_networking_drop_udp_socket(uint64_t socket);

/* Returns another handle to a socket. All handles share the peer and the options. */
LUNATIC_IMPORT("lunatic::networking", "clone_udp_socket")
uint64_t lunatic_networking_clone_udp_socket(uint64_t socket);

/* Writes the id of a lookup result that holds the address a socket is bound to. */
LUNATIC_IMPORT("lunatic::networking", "udp_local_addr")
int32_t lunatic_networking_udp_local_addr(uint64_t socket, uint64_t *address);

/* Writes the id of a lookup result that holds the peer's address. Returns 0. On failure, writes an error id and returns 1 if there is no peer, or 2 for any other failure. */
LUNATIC_IMPORT("lunatic::networking", "udp_peer_addr")
int32_t lunatic_networking_udp_peer_addr(uint64_t socket, uint64_t *address);

/* Sets the peer. Sends nothing, so the timeout has no effect. Returns 0, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "udp_connect")
int32_t lunatic_networking_udp_connect(uint64_t socket, uint32_t family, const uint8_t *ip, uint32_t port, uint32_t flow, uint32_t scope, uint64_t timeout, uint64_t *error);

/* Sends a datagram to the peer. Returns 0 and its length, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "udp_send")
int32_t lunatic_networking_udp_send(uint64_t socket, const void *data, uint32_t data_length, uint64_t *sent);

/* Sends a datagram to an address. Returns 0 and its length, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::networking", "udp_send_to")
int32_t lunatic_networking_udp_send_to(uint64_t socket, const void *data, uint32_t data_length, uint32_t family, const uint8_t *ip, uint32_t port, uint32_t flow, uint32_t scope, uint64_t *sent);

/* Waits for a datagram. Returns 0 and the number of bytes written, 1 and an error id, or 9027 if a timeout is set and expires. Bytes that do not fit into the buffer are lost. */
LUNATIC_IMPORT("lunatic::networking", "udp_receive")
int32_t lunatic_networking_udp_receive(uint64_t socket, void *buffer, uint32_t buffer_length, uint64_t *received);

/* Like `udp_receive`, but also writes the id of a lookup result that holds the sender's address. */
LUNATIC_IMPORT("lunatic::networking", "udp_receive_from")
int32_t lunatic_networking_udp_receive_from(uint64_t socket, void *buffer, uint32_t buffer_length, uint64_t *received, uint64_t *sender);

/* Extension. Sets how long a receive may take. */
LUNATIC_IMPORT("lunatic::networking", "set_udp_receive_timeout")
void lunatic_networking_set_udp_receive_timeout(uint64_t socket, uint64_t timeout);

/* Extension. Returns how long a receive may take. */
LUNATIC_IMPORT("lunatic::networking", "get_udp_receive_timeout")
uint64_t lunatic_networking_get_udp_receive_timeout(uint64_t socket);

/* Sets whether datagrams may be sent to a broadcast address. Traps if the operating system refuses. */
LUNATIC_IMPORT("lunatic::networking", "set_udp_socket_broadcast")
void lunatic_networking_set_udp_socket_broadcast(uint64_t socket, int32_t on);

/* Returns 1 if datagrams may be sent to a broadcast address, otherwise 0. */
LUNATIC_IMPORT("lunatic::networking", "get_udp_socket_broadcast")
int32_t lunatic_networking_get_udp_socket_broadcast(uint64_t socket);

/* Sets the time to live of datagrams, in hops from 1 to 255. Traps if the operating system refuses. */
LUNATIC_IMPORT("lunatic::networking", "set_udp_socket_ttl")
void lunatic_networking_set_udp_socket_ttl(uint64_t socket, uint32_t ttl);

/* Returns the time to live of datagrams, in hops. */
LUNATIC_IMPORT("lunatic::networking", "get_udp_socket_ttl")
uint32_t lunatic_networking_get_udp_socket_ttl(uint64_t socket);

/* Adds an environment variable. */
LUNATIC_IMPORT("lunatic::wasi", "config_add_environment_variable")
void lunatic_wasi_config_add_environment_variable(uint64_t config, const char *key, uint32_t key_length, const char *value, uint32_t value_length);

/* Adds an argument. */
LUNATIC_IMPORT("lunatic::wasi", "config_add_command_line_argument")
void lunatic_wasi_config_add_command_line_argument(uint64_t config, const char *argument, uint32_t argument_length);

/* Grants access to a directory inside one of the caller's directories. Traps for any other directory. */
LUNATIC_IMPORT("lunatic::wasi", "config_preopen_dir")
void lunatic_wasi_config_preopen_dir(uint64_t config, const char *directory, uint32_t directory_length);

/* Sets a counter. */
LUNATIC_IMPORT("lunatic::metrics", "counter")
void lunatic_metrics_counter(const char *name, uint32_t name_length, uint64_t value);

/* Adds one to a counter. */
LUNATIC_IMPORT("lunatic::metrics", "increment_counter")
void lunatic_metrics_increment_counter(const char *name, uint32_t name_length);

/* Sets a gauge. */
LUNATIC_IMPORT("lunatic::metrics", "gauge")
void lunatic_metrics_gauge(const char *name, uint32_t name_length, double value);

/* Adds to a gauge. */
LUNATIC_IMPORT("lunatic::metrics", "increment_gauge")
void lunatic_metrics_increment_gauge(const char *name, uint32_t name_length, double value);

/* Subtracts from a gauge. */
LUNATIC_IMPORT("lunatic::metrics", "decrement_gauge")
void lunatic_metrics_decrement_gauge(const char *name, uint32_t name_length, double value);

/* Adds a sample to a histogram. */
LUNATIC_IMPORT("lunatic::metrics", "histogram")
void lunatic_metrics_histogram(const char *name, uint32_t name_length, double value);

/* Calls the guest's export `_lunatic_catch_trap(i32, i32) -> i32` with the same arguments. Returns the export's result, or 0 if the export traps, in which case memory stays as it was at the trap. Does not catch kills, exits or exceeded limits. */
LUNATIC_IMPORT("lunatic::trap", "catch")
int32_t lunatic_trap_catch(int32_t function, int32_t pointer);

/* Opens a database, creating it if it does not exist. If the name is `:memory:` or empty, the database is held in memory. Returns 0 and a connection, or 1 and an error id. */
LUNATIC_IMPORT("lunatic::sqlite", "open")
uint64_t lunatic_sqlite_open(const char *path, uint32_t path_length, uint64_t *connection);

/* Executes statements and discards their rows. Returns 0 or SQLite's result code. */
LUNATIC_IMPORT("lunatic::sqlite", "execute")
uint32_t lunatic_sqlite_execute(uint64_t connection, const char *sql, uint32_t sql_length);

/* Prepares the first statement in a string. Traps if SQLite rejects the statement. */
LUNATIC_IMPORT("lunatic::sqlite", "query_prepare")
uint64_t lunatic_sqlite_query_prepare(uint64_t connection, const char *sql, uint32_t sql_length);

/* Binds a list of values to parameters. Traps if the list is malformed or a parameter does not exist. */
LUNATIC_IMPORT("lunatic::sqlite", "bind_value")
void lunatic_sqlite_bind_value(uint64_t statement, const void *values, uint32_t values_length);

/* Returns the number of rows changed by the most recent `INSERT`, `UPDATE` or `DELETE` statement. */
LUNATIC_IMPORT("lunatic::sqlite", "sqlite3_changes")
uint32_t lunatic_sqlite_sqlite3_changes(uint64_t connection);

/* Resets a statement to its beginning. Its values stay bound. */
LUNATIC_IMPORT("lunatic::sqlite", "statement_reset")
void lunatic_sqlite_statement_reset(uint64_t statement);

/* Steps a statement. Returns 100 if there is a row, or 101 at the end. Traps on failure. */
LUNATIC_IMPORT("lunatic::sqlite", "sqlite3_step")
uint32_t lunatic_sqlite_sqlite3_step(uint64_t statement);

/* Releases a statement. */
LUNATIC_IMPORT("lunatic::sqlite", "sqlite3_finalize")
void lunatic_sqlite_sqlite3_finalize(uint64_t statement);

/* Returns the number of columns in a statement's rows. */
LUNATIC_IMPORT("lunatic::sqlite", "column_count")
uint32_t lunatic_sqlite_column_count(uint64_t statement);

/* Returns the address of a column's name. Columns are numbered from 0. */
LUNATIC_IMPORT("lunatic::sqlite", "column_name")
uint32_t lunatic_sqlite_column_name(uint64_t statement, uint32_t column, uint32_t *length);

/* Returns the address of a list of the column names. */
LUNATIC_IMPORT("lunatic::sqlite", "column_names")
uint32_t lunatic_sqlite_column_names(uint64_t statement, uint32_t *length);

/* Returns the address of a value of the current row. If there is no row, the value is `NULL`. */
LUNATIC_IMPORT("lunatic::sqlite", "read_column")
uint32_t lunatic_sqlite_read_column(uint64_t statement, uint32_t column, uint32_t *length);

/* Returns the address of a list of the current row's values. */
LUNATIC_IMPORT("lunatic::sqlite", "read_row")
uint32_t lunatic_sqlite_read_row(uint64_t statement, uint32_t *length);

/* Returns the address of the error from the last call on a connection. Traps if that call did not fail. */
LUNATIC_IMPORT("lunatic::sqlite", "last_error")
uint32_t lunatic_sqlite_last_error(uint64_t connection, uint32_t *length);

/* Extension. Closes a connection and its statements. Changes that were not committed are rolled back. */
LUNATIC_IMPORT("lunatic::sqlite", "drop_connection")
void lunatic_sqlite_drop_connection(uint64_t connection);

/* Extension. Like `execute`, but with detailed errors. Returns 0, or SQLite's extended result code and an error id. */
LUNATIC_IMPORT("lunatic::sqlite", "execute_all")
uint32_t lunatic_sqlite_execute_all(uint64_t connection, const char *sql, uint32_t sql_length, uint64_t *error);

/* Extension. Prepares the only statement in a string. Returns 0 and the statement's id, or SQLite's extended result code and an error id. */
LUNATIC_IMPORT("lunatic::sqlite", "prepare")
uint32_t lunatic_sqlite_prepare(uint64_t connection, const char *sql, uint32_t sql_length, uint64_t *statement);

/* Extension. Resets a statement to its beginning and replaces its values with those in a list. Returns 0, or SQLite's extended result code and an error id. */
LUNATIC_IMPORT("lunatic::sqlite", "bind")
uint32_t lunatic_sqlite_bind(uint64_t statement, const void *values, uint32_t values_length, uint64_t *error);

/* Extension. Steps a statement. If there is a row, returns 100, and writes the length of the list of its values and as much of the list as fits. Returns 101 at the end. On failure, returns SQLite's extended result code and an error id. */
LUNATIC_IMPORT("lunatic::sqlite", "step_row")
uint32_t lunatic_sqlite_step_row(uint64_t statement, void *buffer, uint32_t buffer_length, uint64_t *size);

/* Extension. Copies as much of the list of the current row's values as fits, and returns the list's length. */
LUNATIC_IMPORT("lunatic::sqlite", "copy_row")
uint64_t lunatic_sqlite_copy_row(uint64_t statement, void *buffer, uint32_t buffer_length);

/* Extension. Copies as much of the list of column names as fits, and returns the list's length. */
LUNATIC_IMPORT("lunatic::sqlite", "copy_column_names")
uint64_t lunatic_sqlite_copy_column_names(uint64_t statement, void *buffer, uint32_t buffer_length);

/* Extension. Returns the row id of the last inserted row. */
LUNATIC_IMPORT("lunatic::sqlite", "last_insert_rowid")
int64_t lunatic_sqlite_last_insert_rowid(uint64_t connection);

/* Extension. Sets how long statements wait for a database that another connection has locked. By default, they do not wait. */
LUNATIC_IMPORT("lunatic::sqlite", "set_busy_timeout")
void lunatic_sqlite_set_busy_timeout(uint64_t connection, uint64_t timeout);

/* Returns the major version. */
LUNATIC_IMPORT("lunatic::version", "major")
uint32_t lunatic_version_major(void);

/* Returns the minor version. */
LUNATIC_IMPORT("lunatic::version", "minor")
uint32_t lunatic_version_minor(void);

/* Returns the patch version. */
LUNATIC_IMPORT("lunatic::version", "patch")
uint32_t lunatic_version_patch(void);

#endif
