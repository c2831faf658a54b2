//! Tests for the `fast` and `dense` profiles. Programs must not notice how memories and stacks are
//! laid out.

use crate::support::{DENSE, Lab, guest, printed};
use lunatic_vm::{Exit, Limit, Profile, Val, Vm};
use std::process::Command;

/// The tests to skip: those in this file, and slow tests that do not depend on how memories are
/// laid out.
const SKIPPED: [&str; 3] = ["profiles::", "soak::", "model::"];

#[test]
fn all_tests_also_pass_in_the_dense_profile() {
    let own = std::env::current_exe().expect("the path of the test is known");
    let skipped = SKIPPED.iter().flat_map(|name| ["--skip", name]);
    let output = Command::new(own)
        .args(skipped)
        .env(DENSE, "1")
        .output()
        .expect("the test binary can be started");
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("memory::t034_a_process_leaves_nothing_for_the_next_process ... ok"),
        "{text}"
    );
}

/// Returns a VM for each profile, with the profile's name.
fn labs() -> [(&'static str, Lab); 2] {
    let lab = |profile| Lab::with(Vm::builder().workers(1).profile(profile));
    [("fast", lab(Profile::Fast)), ("dense", lab(Profile::Dense))]
}

#[test]
fn t034_a_reused_instance_is_like_a_new_instance() {
    // The guest reports everything that its predecessor left behind. It then leaves something
    // behind wherever it can: in its data, after the data, far from the data, in pages that are
    // initially empty, and in globals of each type.
    let text = guest(
        &[],
        r#"(data (i32.const 4096) "beginning")
           (global $a (mut i32) (i32.const 7)) (global $b (mut i64) (i64.const 8)) (global $c (mut f32) (f32.const 1.5))
           (global $d (mut f64) (f64.const 2.5)) (global $e (mut v128) (v128.const i64x2 3 4))
           (func (export "main")
             (call $say (i64.load (i32.const 4096)))
             (call $say (i64.or (i64.or (i64.load (i32.const 0)) (i64.load (i32.const 8192))) (i64.load (i32.const 65528))))
             (call $say (i64.add (i64.extend_i32_u (global.get $a)) (global.get $b)))
             (call $say (i64.trunc_f64_s (f64.add (f64.promote_f32 (global.get $c)) (global.get $d))))
             (call $say (i64x2.extract_lane 1 (global.get $e)))
             (memory.fill (i32.const 0) (i32.const 255) (i32.const 9000))
             (i64.store (i32.const 65528) (i64.const -1))
             (global.set $a (i32.const -1)) (global.set $b (i64.const -1)) (global.set $c (f32.const -9))
             (global.set $d (f64.const -9)) (global.set $e (v128.const i64x2 -1 -1)))"#,
    );
    let beginning = i64::from_le_bytes(*b"beginnin");
    for (name, lab) in labs() {
        let module = lab.module(&text);
        for limit in [u64::MAX, 1_000_000] {
            let environment = lab.environment_with(|config| {
                config.limit(Limit::Compute, limit);
            });
            for round in 0..50 {
                assert!(lab.run_in(&environment, &module).is_normal());
                assert_eq!(
                    lab.hear_all(),
                    [beginning, 0, 15, 4, 4],
                    "{name}, {limit} units, round {round}"
                );
            }
        }
    }
}

#[test]
fn t034_a_page_that_only_a_later_process_writes_to_is_reset_too() {
    // As long as processes write only to pages that an earlier process of the same instance has
    // written to, the kernel is not asked again which pages were written.
    let text = guest(
        &[],
        r#"(func (export "touch") (param $address i32)
             (call $say (i64.load (local.get $address)))
             (i64.store (local.get $address) (i64.const -1)))"#,
    );
    for (name, lab) in labs() {
        let (module, environment) = (lab.module(&text), lab.environment());
        for round in 0..200 {
            let page = if round % 10 == 9 { round / 10 % 16 } else { 0 };
            let process = environment
                .spawn(&module, "touch", &[Val::I32(page * 4_096)])
                .expect("no limit applies");
            assert!(lab.exit(&process).is_normal());
            assert_eq!(lab.hear(), 0, "{name}, round {round}");
        }
    }
}

#[test]
fn t034_an_instance_whose_table_can_change_is_not_reused() {
    let text = guest(
        &[],
        r#"(table $t 2 funcref) (elem declare func $f) (func $f)
           (func (export "main")
             (call $say (i64.extend_i32_u (ref.is_null (table.get $t (i32.const 1)))))
             (call $say (i64.extend_i32_u (table.size $t)))
             (table.set $t (i32.const 1) (ref.func $f))
             (drop (table.grow $t (ref.null func) (i32.const 1))))"#,
    );
    for (name, lab) in labs() {
        let module = lab.module(&text);
        let environment = lab.environment();
        for round in 0..50 {
            assert!(lab.run_in(&environment, &module).is_normal());
            assert_eq!(lab.hear_all(), [1, 2], "{name}, round {round}");
        }
    }
}

#[test]
fn t034_an_instance_that_grew_or_trapped_is_not_reused() {
    let text = guest(
        &[],
        r#"(global $calls (mut i32) (i32.const 0))
           (func (export "main")
             (call $say (i64.extend_i32_u (i32.add (global.get $calls) (memory.size))))
             (global.set $calls (i32.const 1))
             (i32.store (i32.const 100) (i32.const 1))
             (drop (memory.grow (i32.const 3))))
           (func (export "trap")
             (call $say (i64.extend_i32_u (i32.add (global.get $calls) (i32.load (i32.const 100)))))
             (global.set $calls (i32.const 1))
             (i32.store (i32.const 100) (i32.const 1))
             unreachable)"#,
    );
    for (name, lab) in labs() {
        let (module, environment) = (lab.module(&text), lab.environment());
        for round in 0..30 {
            assert!(lab.run_in(&environment, &module).is_normal());
            assert_eq!(lab.hear(), 1, "{name}, round {round}");
            let exit = lab.exit(
                &environment
                    .spawn(&module, "trap", &[])
                    .expect("no limit applies"),
            );
            assert!(matches!(exit, Exit::Trapped(_)), "{exit}");
            assert_eq!(lab.hear(), 0, "{name}, round {round}");
        }
    }
}

#[test]
fn a_memory_that_outgrows_its_slot_is_moved_and_keeps_its_contents() {
    let text = guest(
        &[],
        r#"(data (i32.const 50000) "stays") (global $at (mut i32) (i32.const 0))
           (func $grow (param $pages i32)
             (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then unreachable))
             (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (memory.size)))
           (func (export "main")
             (i64.store (i32.const 8) (i64.const 99))
             (call $grow (i32.const 1)) (call $grow (i32.const 1)) (call $grow (i32.const 37)) (call $grow (i32.const 500))
             (call $say (i64.load (i32.const 8)))
             (call $say (i64.and (i64.load (i32.const 50000)) (i64.const 0xffffffffff)))
             (call $say (i64.extend_i32_u (i32.load (i32.const 131068))))
             (call $say (i64.extend_i32_u (i32.load (i32.const 196604))))
             (call $say (i64.extend_i32_u (i32.load (i32.const 2621436))))
             (call $say (i64.extend_i32_u (i32.load (i32.const 35389436))))
             ;; Bytes that were never written are zero, and bytes after the end cannot be accessed.
             (call $say (i64.load (i32.const 20000000)))
             (drop (i32.load (i32.const 35389440))))"#,
    );
    for (name, lab) in labs() {
        let exit = lab.run(&text);
        assert!(
            matches!(&exit, Exit::Trapped(trap) if trap.reason.contains("out of bounds")),
            "{name}: {exit}"
        );
        let stays = i64::from_le_bytes(*b"stays\0\0\0");
        assert_eq!(lab.hear_all(), [99, stays, 2, 3, 40, 540, 0], "{name}");
    }
}

#[test]
fn t007_nothing_past_the_end_of_a_memory_can_be_accessed() {
    // The accesses are just after the end, at the largest constant offset, at the last 32-bit
    // address, and at the start of the next memory. Each place is given once as an offset and once
    // as an address.
    let touches: [(u32, i32); 7] = [
        (0, 65_533),
        (u32::MAX, 0),
        (u32::MAX, -1),
        (0, -4),
        (65_536, 0),
        (131_072, 65_532),
        (32 << 20, -4),
    ];
    for (name, lab) in labs() {
        let environment = lab.environment();
        // This neighbour's memory is full of data.
        let neighbour = lab.module(&guest(
            &["lunatic::process::sleep_ms"],
            r#"(func (export "main") (memory.fill (i32.const 0) (i32.const 255) (i32.const 65536)) (call $say (i64.const 1))
                 (call $sleep_ms (i64.const -1)))"#,
        ));
        for _ in 0..3 {
            environment
                .spawn(&neighbour, "main", &[])
                .expect("no limit applies");
            lab.hear();
        }
        for (offset, address) in touches {
            for touch in [
                format!("(drop (i32.load offset={offset} (i32.const {address})))"),
                format!("(i32.store offset={offset} (i32.const {address}) (i32.const 1))"),
            ] {
                let module = lab.module(&guest(&[], &format!("(func (export \"main\") {touch})")));
                let exit = lab.run_in(&environment, &module);
                let is_out_of_bounds =
                    matches!(&exit, Exit::Trapped(trap) if trap.reason.contains("out of bounds"));
                assert!(is_out_of_bounds, "{name} {touch}: {exit}");
            }
        }
    }
}

#[test]
fn the_first_processes_are_fast_and_later_ones_are_dense_and_no_process_notices() {
    let lab = Lab::roomy();
    let environment = lab.environment();
    let module = lab.module(&guest(
        &["lunatic::process::sleep_ms"],
        r#"(data (i32.const 16) "\2a") (func (export "main")
             (i64.store (i32.const 24) (i64.const 1))
             (call $say (i64.load (i32.const 16))) (call $sleep_ms (i64.const -1)))"#,
    ));
    for _ in 0..5_000 {
        environment
            .spawn(&module, "main", &[])
            .expect("there are enough slots");
    }
    for _ in 0..5_000 {
        assert_eq!(lab.hear(), 42);
    }
    environment.end();
    lab.wait_for("all processes to end", environment.ended());
}
