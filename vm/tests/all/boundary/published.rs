//! The published interface of Lunatic 0.13, written down independently of the table.

use std::collections::BTreeMap;

/// Every function with its parameters and its result: `i` is i32, `l` is i64, `f` is f64.
const PUBLISHED: &[(&str, &str)] = &[
    (
        "lunatic::distributed",
        "nodes_count()i get_nodes(ii)i node_id()l module_id()l spawn(llliiiii)i send(ll)i
         send_receive_skip_search(llll)i exec_lookup_nodes(iiiii)i copy_lookup_nodes_results(liii)i
         test_root_cert(i)i default_server_certificates(iiiii)i sign_node(iiiiiii)i",
    ),
    ("lunatic::error", "string_size(l)i to_string(li) drop(l)"),
    (
        "lunatic::message",
        "create_data(ll) write_data(ii)i read_data(ii)i seek_data(l) get_tag()l get_process_id()l data_size()l
         push_module(l)l take_module(l)l push_tcp_stream(l)l take_tcp_stream(l)l push_tls_stream(l)l
         take_tls_stream(l)l push_udp_socket(l)l take_udp_socket(l)l send(l)i send_receive_skip_search(lll)i
         receive(iil)i",
    ),
    (
        "lunatic::metrics",
        "counter(iil) increment_counter(ii) gauge(iif) increment_gauge(iif) decrement_gauge(iif) histogram(iif)",
    ),
    (
        "lunatic::networking",
        "resolve(iili)i resolve_next(liiiii)i drop_dns_iterator(l)
         tcp_bind(iiiiii)i drop_tcp_listener(l) tcp_local_addr(li)i tcp_accept(lii)i tcp_connect(iiiiili)i
         drop_tcp_stream(l) clone_tcp_stream(l)l tcp_peer_addr(li)i tcp_write_vectored(liii)i tcp_read(liii)i
         tcp_peek(liii)i tcp_flush(li)i set_read_timeout(ll) get_read_timeout(l)l set_write_timeout(ll)
         get_write_timeout(l)l set_peek_timeout(ll) get_peek_timeout(l)l
         tls_bind(iiiiiiiiii)i drop_tls_listener(l) tls_local_addr(li)i tls_accept(lii)i tls_connect(iiiliii)i
         drop_tls_stream(l) clone_tls_stream(l)l tls_write_vectored(liii)i tls_read(liii)i tls_flush(li)i
         set_tls_read_timeout(ll) get_tls_read_timeout(l)l set_tls_write_timeout(ll) get_tls_write_timeout(l)l
         udp_bind(iiiiii)i drop_udp_socket(l) clone_udp_socket(l)l udp_local_addr(li)i udp_peer_addr(li)i
         udp_receive(liii)i udp_receive_from(liiii)i udp_connect(liiiiili)i udp_send(liii)i
         udp_send_to(liiiiiiii)i set_udp_socket_broadcast(li) get_udp_socket_broadcast(l)i
         set_udp_socket_ttl(li) get_udp_socket_ttl(l)i",
    ),
    (
        "lunatic::process",
        "compile_module(iii)i drop_module(l) create_config()l drop_config(l)
         config_set_max_memory(ll) config_get_max_memory(l)l config_set_max_fuel(ll) config_get_max_fuel(l)l
         config_can_compile_modules(l)i config_set_can_compile_modules(li)
         config_can_create_configs(l)i config_set_can_create_configs(li)
         config_can_spawn_processes(l)i config_set_can_spawn_processes(li)
         spawn(llliiiii)i get_or_spawn(iillliiiiii)i sleep_ms(l) die_when_link_dies(i) process_id()l
         environment_id()l link(ll) unlink(l) monitor(l) stop_monitoring(l) kill(l) exists(l)i",
    ),
    ("lunatic::registry", "put(iill) get(iiii)i remove(ii)"),
    (
        "lunatic::sqlite",
        "open(iii)l execute(lii)i query_prepare(lii)l bind_value(lii) sqlite3_changes(l)i statement_reset(l)
         sqlite3_step(l)i sqlite3_finalize(l) column_count(l)i column_name(lii)i column_names(li)i
         read_column(lii)i read_row(li)i last_error(li)i",
    ),
    ("lunatic::timer", "send_after(ll)l cancel_timer(l)i"),
    ("lunatic::trap", "catch(ii)i"),
    ("lunatic::version", "major()i minor()i patch()i"),
    (
        "lunatic::wasi",
        "config_add_environment_variable(liiii) config_add_command_line_argument(lii) config_preopen_dir(lii)",
    ),
];

/// Returns the type of every published function by its whole name.
pub(super) fn functions() -> BTreeMap<String, &'static str> {
    let mut functions = BTreeMap::new();
    for (namespace, signatures) in PUBLISHED {
        for signature in signatures.split_whitespace() {
            let (name, _) = signature.split_once('(').expect("a signature has parentheses");
            functions.insert(format!("{namespace}::{name}"), &signature[name.len()..]);
        }
    }
    functions
}
