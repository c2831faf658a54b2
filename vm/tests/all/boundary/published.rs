//! The published interfaces of Lunatic 0.13, 0.12, 0.10, 0.7 and 0.6, listed independently of the
//! tables.

use std::collections::BTreeMap;

/// Every function with its parameters and result, where `i` stands for i32, `l` for i64 and `f` for
/// f64.
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

/// The functions in 0.7.5, the last version of its generation.
const PUBLISHED_0_7: &[(&str, &str)] = &[
    ("lunatic::error", "string_size(l)i to_string(li) drop(l)"),
    (
        "lunatic::message",
        "create_data(ll) write_data(ii)i read_data(ii)i seek_data(l) get_tag()l data_size()l push_process(l)l
         take_process(l)l push_tcp_stream(l)l take_tcp_stream(l)l send(l) send_receive_skip_search(li)i receive(iii)i",
    ),
    (
        "lunatic::process",
        "create_config(ll)l drop_config(l) allow_namespace(lii) preopen_dir(liii)i add_plugin(liii)i
         create_environment(li)i create_remote_environment(liii)i drop_environment(l) add_module(liii)i
         add_this_module(li)i drop_module(l) spawn(lliiiii)i inherit_spawn(liiiii)i drop_process(l) clone_process(l)l
         sleep_ms(l) die_when_link_dies(i) this()l id(li) this_env()l link(ll) unlink(l) register(iiiill)i
         unregister(iiiil)i lookup(iiiii)i",
    ),
    (
        "lunatic::networking",
        "resolve(iiii)i drop_dns_iterator(l) resolve_next(liiiii)i tcp_bind(iiiiii)i drop_tcp_listener(l)
         local_addr(li)i tcp_accept(lii)i tcp_connect(iiiiiii)i drop_tcp_stream(l) clone_tcp_stream(l)l
         tcp_write_vectored(liiii)i tcp_read(liiii)i tcp_flush(li)i",
    ),
    ("lunatic::version", "major()i minor()i patch()i"),
];

/// The functions that the 0.12 guest crate imports. 0.12 is the last version of its generation.
const PUBLISHED_0_12: &[(&str, &str)] = &[
    (
        "lunatic::distributed",
        "nodes_count()i get_nodes(ii)i node_id()l module_id()l spawn(llliiiii)i send(ll)i
         send_receive_skip_search(lll)i exec_lookup_nodes(iiiii)i copy_lookup_nodes_results(liii)i",
    ),
    ("lunatic::error", "string_size(l)i to_string(li) drop(l)"),
    (
        "lunatic::message",
        "create_data(ll) write_data(ii)i read_data(ii)i seek_data(l) get_tag()l data_size()l push_module(l)l
         take_module(l)l push_tcp_stream(l)l take_tcp_stream(l)l push_tls_stream(l)l take_tls_stream(l)l
         send(l)i send_receive_skip_search(ll)i receive(iil)i",
    ),
    (
        "lunatic::networking",
        "resolve(iili)i drop_dns_iterator(l) resolve_next(liiiii)i tcp_bind(iiiiii)i drop_tcp_listener(l)
         tcp_local_addr(li)i tcp_accept(lii)i tcp_connect(iiiiili)i drop_tcp_stream(l) clone_tcp_stream(l)l
         tcp_write_vectored(liii)i tcp_read(liii)i tcp_peek(liii)i tcp_flush(li)i set_read_timeout(ll)
         get_read_timeout(l)l set_write_timeout(ll) get_write_timeout(l)l set_peek_timeout(ll)
         get_peek_timeout(l)l tls_bind(iiiiiiiiii)i drop_tls_listener(l) tls_local_addr(li)i tls_accept(lii)i
         tls_connect(iiiliii)i drop_tls_stream(l) clone_tls_stream(l)l tls_write_vectored(liii)i
         tls_read(liii)i tls_flush(li)i set_tls_read_timeout(ll) get_tls_read_timeout(l)l
         set_tls_write_timeout(ll) get_tls_write_timeout(l)l udp_bind(iiiiii)i drop_udp_socket(l)
         udp_local_addr(li)i udp_receive(liii)i udp_receive_from(liiii)i udp_connect(liiiiili)i
         clone_udp_socket(l)l set_udp_socket_broadcast(li) get_udp_socket_broadcast(l)i
         set_udp_socket_ttl(li) get_udp_socket_ttl(l)i udp_send_to(liiiiiiii)i udp_send(liii)i",
    ),
    (
        "lunatic::process",
        "compile_module(iii)i drop_module(l) create_config()l drop_config(l) config_set_max_memory(ll)
         config_get_max_memory(l)l config_set_max_fuel(ll) config_get_max_fuel(l)l
         config_can_compile_modules(l)i config_set_can_compile_modules(li) config_can_create_configs(l)i
         config_set_can_create_configs(li) config_can_spawn_processes(l)i config_set_can_spawn_processes(li)
         spawn(llliiiii)i kill(l) sleep_ms(l) die_when_link_dies(i) process_id()l link(ll) unlink(l)",
    ),
    ("lunatic::registry", "put(iill) get(iiii)i remove(ii)"),
    ("lunatic::timer", "send_after(ll)l cancel_timer(l)i"),
    ("lunatic::version", "major()i minor()i patch()i"),
    (
        "lunatic::wasi",
        "config_add_environment_variable(liiii) config_add_command_line_argument(lii)
         config_preopen_dir(lii)",
    ),
];

/// Returns the types of the functions that guests built with 0.12 import. With `as_0_10`, returns
/// those for 0.10 and 0.11, in which sends return nothing.
pub(super) fn functions_of_0_12(as_0_10: bool) -> BTreeMap<String, &'static str> {
    let mut functions = by_name(PUBLISHED_0_12);
    if as_0_10 {
        functions.insert("lunatic::message::send".into(), "(l)");
        functions.insert("lunatic::distributed::send".into(), "(ll)");
    }
    functions
}

/// Returns the types of all published functions, by full name.
pub(super) fn functions() -> BTreeMap<String, &'static str> {
    by_name(PUBLISHED)
}

/// Returns the types for 0.7. With `as_0_6`, returns those for 0.6, in which one function has a
/// different type. The functions that were added in 0.7 do not affect guests built with 0.6.
pub(super) fn functions_of_0_7(as_0_6: bool) -> BTreeMap<String, String> {
    let mut functions = by_name(PUBLISHED_0_7);
    assert_eq!(functions.len(), 57, "Lunatic 0.7 has 57 functions");
    if as_0_6 {
        functions.insert("lunatic::message::receive".into(), "(li)i");
    }
    functions
        .into_iter()
        .map(|(name, ty)| (name, ty.to_string()))
        .collect()
}

fn by_name(published: &[(&str, &'static str)]) -> BTreeMap<String, &'static str> {
    let mut functions = BTreeMap::new();
    for (namespace, signatures) in published {
        for signature in signatures.split_whitespace() {
            let (name, _) = signature
                .split_once('(')
                .expect("a signature has parentheses");
            functions.insert(format!("{namespace}::{name}"), &signature[name.len()..]);
        }
    }
    functions
}
