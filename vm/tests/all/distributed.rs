//! Tests for the functions that concern other nodes, on a VM that is not part of a cluster.

use crate::support::{Lab, guest};

const NOT_FOUND: i64 = 22;

#[test]
fn a_vm_without_a_cluster_is_node_0_and_knows_no_other_nodes() {
    let lab = Lab::new();
    let exit = lab.run(&guest(
        &[
            "lunatic::distributed::node_id",
            "lunatic::distributed::module_id",
            "lunatic::distributed::nodes_count",
            "lunatic::distributed::get_nodes",
        ],
        r#"(func (export "main")
            (call $say (call $node_id)) (call $say (call $module_id))
            (call $say (i64.extend_i32_u (call $nodes_count)))
            (call $say (i64.extend_i32_u (call $get_nodes (i32.const 0) (i32.const 100)))))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [0, 0, 0, 0]);
}

/// A guest that spawns `child` on a node and reports the result. It then sends `child` a message on
/// that node and requests a reply.
fn across(node: u64) -> String {
    guest(
        &[
            "lunatic::distributed::spawn",
            "lunatic::distributed::send",
            "lunatic::distributed::send_receive_skip_search",
            "lunatic::message::create_data",
            "lunatic::message::write_data",
            "lunatic::message::read_data",
            "lunatic::message::receive",
            "lunatic::message::get_tag",
            "lunatic::message::send_bytes",
            "lunatic::process::process_id",
            "lunatic::error::kind",
        ],
        &format!(
            r#"(data (i32.const 0) "child")
            (func $compose
                (i64.store (i32.const 64) (call $process_id))
                (call $create_data (i64.const 5) (i64.const 0))
                (drop (call $write_data (i32.const 64) (i32.const 8))))
            (func (export "main") (local $spawned i32)
                (local.set $spawned (call $spawn (i64.const {node}) (i64.const -1) (i64.const -1)
                    (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 8)))
                (call $say (i64.extend_i32_u (local.get $spawned)))
                (if (local.get $spawned) (then
                    (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 8)))))))
                (call $compose)
                (call $say (i64.extend_i32_u (call $send (i64.const {node}) (i64.load (i32.const 8)))))
                (call $compose)
                (call $say (i64.extend_i32_u (call $send_receive_skip_search (i64.const {node})
                    (i64.load (i32.const 8)) (i64.const 6) (i64.const -1))))
                (if (i32.eqz (local.get $spawned)) (then (call $say (call $get_tag)))))
            (func (export "child")
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
                (drop (call $read_data (i32.const 64) (i32.const 8)))
                (drop (call $send_bytes (i64.load (i32.const 64)) (i64.const 6)
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))"#
        ),
    )
}

#[test]
fn calls_for_node_0_act_on_this_vm() {
    let lab = Lab::new();
    let exit = lab.run(&across(0));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [0, 0, 0, 6]);
}

#[test]
fn calls_for_another_node_fail_without_waiting() {
    let lab = Lab::new();
    for node in [1, u64::MAX] {
        let exit = lab.run(&across(node));
        assert!(exit.is_normal(), "{exit}");
        assert_eq!(lab.hear_all(), [1, NOT_FOUND, 2, 2]);
    }
}

#[test]
fn looking_up_nodes_returns_a_readable_error() {
    let lab = Lab::new();
    let exit = lab.run(&guest(
        &[
            "lunatic::distributed::exec_lookup_nodes",
            "lunatic::distributed::copy_lookup_nodes_results",
            "lunatic::error::kind",
        ],
        r#"(data (i32.const 0) "role=db")
        (func (export "main")
            (call $say (i64.extend_i32_s (call $exec_lookup_nodes (i32.const 0) (i32.const 7)
                (i32.const 16) (i32.const 24) (i32.const 32))))
            (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 32)))))
            (call $say (i64.extend_i32_s (call $copy_lookup_nodes_results (i64.const 0)
                (i32.const 64) (i32.const 4) (i32.const 40))))
            (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 40)))))
            (call $say (i64.load (i32.const 16))) (call $say (i64.load (i32.const 24))))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear_all(), [1, NOT_FOUND, -1, NOT_FOUND, 0, 0]);
}

#[test]
fn no_guest_gets_a_key_or_a_certificate() {
    let lab = Lab::new();
    for (row, arguments) in [
        ("test_root_cert", "(i32.const 64)"),
        (
            "default_server_certificates",
            "(i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4) (i32.const 64)",
        ),
        (
            "sign_node",
            "(i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4) (i32.const 64)",
        ),
    ] {
        let whole = format!("lunatic::distributed::{row}");
        let main = format!(r#"(func (export "main") (drop (call ${row} {arguments})))"#);
        // The VM must not call the allocator, and it must not write anything.
        let alloc = r#"(func (export "lunatic_alloc") (param i32) (result i32) (call $say (i64.const 1)) (i32.const 0))"#;
        let exit = lab.run(&guest(&[&whole], &format!("{alloc} {main}")));
        let reason = exit
            .trap()
            .map(|trap| trap.reason.as_str())
            .unwrap_or_default();
        assert!(
            reason.contains("there is no cluster") && reason.contains(&whole),
            "{exit}"
        );
        assert!(lab.heard_nothing_more());
    }
}
