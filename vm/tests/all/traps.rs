//! Tests for traps that a guest can catch, and for exits that it cannot.

use crate::support::{Lab, guest};
use lunatic_vm::{Exit, Host, Limit, Vm};

/// The maximum nesting depth of callbacks.
const DEEPEST: i64 = 16;

/// A module that catches the traps of its function `$try`. `$try`'s parameter is the number of the
/// action to perform.
fn catching(body: &str, fields: &str) -> String {
    guest(
        &[
            "lunatic::trap::catch",
            "lunatic::process::drop_module",
            "lunatic::process::kill",
            "lunatic::process::process_id",
            "lunatic::message::receive",
        ],
        &format!(
            r#"(global $zero (mut i32) (i32.const 0))
            (func $wait (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))
            (func $catch_and_say (param i32 i32)
                (call $say (i64.extend_i32_s (call $catch (local.get 0) (local.get 1)))))
            (func $recurse (call $recurse) (call $wait))
            (func (export "_lunatic_catch_trap") (param $what i32) (param $pointer i32) (result i32)
                {body}
                (i32.const 42))
            {fields}"#
        ),
    )
}

/// A `$try` body that traps in the ordinary ways, numbered from 1.
const TRAPS: &str = r#"
    (i32.store (local.get $pointer) (local.get $what))
    (if (i32.eq (local.get $what) (i32.const 1)) (then unreachable))
    (if (i32.eq (local.get $what) (i32.const 2)) (then (drop (i32.div_u (i32.const 1) (global.get $zero)))))
    (if (i32.eq (local.get $what) (i32.const 3)) (then (drop (i32.load (i32.const -1)))))
    (if (i32.eq (local.get $what) (i32.const 4)) (then (call $recurse)))
    (if (i32.eq (local.get $what) (i32.const 5)) (then (call $drop_module (i64.const 77))))"#;

#[test]
fn a_caught_trap_returns_0_and_leaves_the_memory_unchanged() {
    let lab = Lab::new();
    let module = lab.module(&catching(
        TRAPS,
        r#"(func (export "main") (local $what i32)
            (loop $again
                (call $catch_and_say (local.get $what) (i32.const 64))
                (call $say (i64.extend_i32_s (i32.load (i32.const 64))))
                (local.set $what (i32.add (local.get $what) (i32.const 1)))
                (br_if $again (i32.le_s (local.get $what) (i32.const 5)))))"#,
    ));
    for compute in [u64::MAX, 1_000] {
        let environment = lab.environment_with(|config| {
            config.limit(Limit::Compute, compute);
        });
        let exit = lab.run_in(&environment, &module);
        assert!(exit.is_normal(), "{exit}");
        assert_eq!(lab.hear_all(), [42, 0]);
        for what in 1..=5 {
            assert_eq!(lab.hear_all(), [0, what]);
        }
    }
}

#[test]
fn a_callback_can_wait_and_call_host_functions() {
    let lab = Lab::new();
    let process = lab.spawn(&catching(
        r#"(call $say (i64.const 1)) (call $wait) (call $say (i64.const 2))"#,
        r#"(func (export "main") (call $catch_and_say (i32.const 0) (i32.const 0)))"#,
    ));
    assert_eq!(lab.hear(), 1);
    process.send(0, b"go on").expect("the mailbox has room");
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear_all(), [2, 42]);
}

#[test]
fn t007_recursion_through_the_host_ends_in_a_trap_and_harms_no_other_process() {
    let lab = Lab::new();
    // Each callback counts itself and catches the traps of the next callback. The last callback is
    // rejected, which makes its caller trap.
    let module = lab.module(&catching(
        r#"(global.set $zero (i32.add (global.get $zero) (i32.const 1)))
        (drop (call $catch (i32.const 0) (i32.const 0)))"#,
        r#"(func (export "main")
            (call $catch_and_say (i32.const 0) (i32.const 0))
            (call $say (i64.extend_i32_s (global.get $zero)))
            (global.set $zero (i32.const 0))
            (call $catch_and_say (i32.const 0) (i32.const 0))
            (call $say (i64.extend_i32_s (global.get $zero))))"#,
    ));
    let exit = lab.run_in(&lab.environment(), &module);
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(
        lab.hear_all(),
        [42, DEEPEST, 42, DEEPEST],
        "only the innermost callback traps"
    );
}

#[test]
fn each_stack_takes_one_of_the_vms_slots() {
    let vm = Vm::builder()
        .slots(1)
        .build()
        .expect("the configuration is valid");
    let text = catching(
        "",
        r#"(func (export "main") (drop (call $catch (i32.const 0) (i32.const 0))))"#,
    );
    let module = vm.module(
        "test",
        text.replace(
            "(import \"test\" \"say\" (func $say (param i64)))",
            "(func $say (param i64))",
        )
        .as_bytes(),
    );
    let module = module.expect("the module imports only functions in the table");
    let mut config = vm.config();
    config.allow("");
    let environment = vm.environment(config);
    for _ in 0..3 {
        let process = environment
            .spawn(&module, "main", &[])
            .expect("the slot is free");
        let exit = vm.block_on(process.exited());
        assert!(
            exit.trap()
                .is_some_and(|trap| trap.reason.contains("configured for")),
            "{exit}"
        );
    }
}

#[test]
fn t073_a_kill_inside_a_callback_cannot_be_caught() {
    let lab = Lab::new();
    let environment = lab.environment();
    // There are three nested callbacks, the innermost of which performs the given action.
    let nested = |body: &str| {
        catching(
            &format!(
                r#"(if (local.get $what) (then
                    (return (call $catch (i32.sub (local.get $what) (i32.const 1)) (i32.const 0)))))
                (call $say (i64.const 7)) {body}"#
            ),
            r#"(func (export "main")
                (loop $for_ever (drop (call $catch (i32.const 2) (i32.const 0))) (br $for_ever)))"#,
        )
    };
    for body in [
        "(call $wait)",
        "(loop (br 0))",
        "(call $kill (call $process_id))",
    ] {
        let module = lab.module(&nested(body));
        for _ in 0..20 {
            let process = environment
                .spawn(&module, "main", &[])
                .expect("no limit applies");
            assert_eq!(lab.hear(), 7);
            process.kill();
            let exit = lab.exit(&process);
            assert!(matches!(exit, Exit::Killed), "{body}: {exit}");
        }
    }
    assert!(
        lab.heard_nothing_more(),
        "the process did not run after it was killed"
    );
    assert_eq!(environment.used(Limit::TotalMemory), 0);
}

#[test]
fn an_exit_cannot_be_caught() {
    let lab = Lab::new();
    for status in [0, 3] {
        let text = catching(
            &format!("(call $exit (i32.const {status}))"),
            r#"(func (export "main") (call $catch_and_say (i32.const 0) (i32.const 0)))"#,
        );
        let import = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
        let exit = lab.run(&text.replacen("(module", &format!("(module {import}"), 1));
        assert!(
            if status == 0 {
                exit.is_normal()
            } else {
                matches!(exit, Exit::Status(3))
            },
            "{exit}"
        );
    }
    assert!(lab.heard_nothing_more());
}

#[test]
fn a_limit_cannot_be_caught() {
    let lab = Lab::new();
    for (limit, bound, body) in [
        (Limit::Compute, 10, "(loop (br 0))"),
        (Limit::TotalCompute, 10, "(loop (br 0))"),
        (Limit::Time, 30, "(call $wait)"),
        (Limit::Time, 30, "(loop (br 0))"),
        (Limit::Memory, 65_536, "(drop (memory.grow (i32.const 1))) unreachable"),
        // Even if a later callback returns normally, the earlier limit still ends the process.
        (
            Limit::Memory,
            65_536,
            "(if (local.get $what) (then (return (i32.const 1))))
             (drop (memory.grow (i32.const 1))) (drop (call $catch (i32.const 1) (i32.const 0))) unreachable",
        ),
    ] {
        let module = lab.module(&catching(
            body,
            r#"(func (export "main") (loop $again (drop (call $catch (i32.const 0) (i32.const 0))) (br $again)))"#,
        ));
        let environment = lab.environment_with(|config| {
            config.limit(limit, bound);
        });
        let exit = lab.run_in(&environment, &module);
        assert!(matches!(&exit, Exit::Limit(reached) if reached.limit == limit), "{limit:?}: {exit}");
    }
}

#[test]
fn a_later_trap_is_not_reported_as_a_limit_if_the_guest_handled_the_refusal() {
    let lab = Lab::new();
    let module = lab.module(&catching(
        "unreachable",
        r#"(func (export "main")
            (drop (memory.grow (i32.const 1)))
            (call $catch_and_say (i32.const 0) (i32.const 0)))"#,
    ));
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Memory, 65_536);
    });
    assert!(lab.run_in(&environment, &module).is_normal());
    assert_eq!(lab.hear(), 0);
}

#[test]
fn a_process_that_traps_repeatedly_cannot_exceed_its_compute() {
    let lab = Lab::new();
    // Code stores the compute that it has used when it calls a function and when it checks its
    // fuel. These functions trap in between.
    let spins = r#"(local $left i32) (local.set $left (i32.const 20000))
        (loop $again
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"#;
    for trap in [
        "(drop (i32.div_u (i32.const 1) (global.get $zero)))",
        "(drop (i32.load (i32.const -1)))",
    ] {
        let module = lab.module(&catching(
            &format!("{spins} {trap}"),
            r#"(func (export "main")
                (loop $for_ever (call $catch_and_say (i32.const 0) (i32.const 0)) (br $for_ever)))"#,
        ));
        let environment = lab.environment_with(|config| {
            config.limit(Limit::Compute, 50);
        });
        let exit = lab.run_in(&environment, &module);
        assert!(
            matches!(&exit, Exit::Limit(reached) if reached.limit == Limit::Compute),
            "{exit}"
        );
        let mut caught = 0;
        while !lab.heard_nothing_more() {
            assert_eq!(lab.hear(), 0);
            caught += 1;
        }
        assert!(
            (10..=50).contains(&caught),
            "each trap must cost at least one unit, but {caught} traps cost 50 units in total"
        );
    }
}

#[test]
fn a_caught_panic_costs_exactly_what_was_computed() {
    let lab = Lab::new();
    // Code that ends with `unreachable` is counted exactly, so one unit is enough for many panics.
    let module = lab.module(&catching(
        "unreachable",
        r#"(func (export "main") (local $left i32)
            (local.set $left (i32.const 1000))
            (loop $again
                (drop (call $catch (i32.const 0) (i32.const 0)))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    ));
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Compute, 1);
    });
    let exit = lab.run_in(&environment, &module);
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn t075_a_panic_in_a_host_function_cannot_be_caught() {
    let mut host = Host::default();
    host.function("test", "panic", || -> () { panic!("a bug in the host") });
    let lab = Lab::with_host(Vm::builder(), host);
    let text = catching(
        "(call $panic)",
        r#"(func (export "main") (call $catch_and_say (i32.const 0) (i32.const 0)))"#,
    );
    let exit = lab.run(&text.replacen(
        "(module",
        r#"(module (import "test" "panic" (func $panic))"#,
        1,
    ));
    assert!(matches!(exit, Exit::Fault(_)), "{exit}");
    assert!(
        lab.run(&guest(&[], r#"(func (export "main"))"#))
            .is_normal(),
        "the VM still works"
    );
}

#[test]
fn a_guest_without_the_required_export_traps_with_a_message() {
    let lab = Lab::new();
    let main = r#"(func (export "main") (drop (call $catch (i32.const 0) (i32.const 0))))"#;
    for (export, words) in [
        ("", "exports no function named `_lunatic_catch_trap`"),
        (
            r#"(global (export "_lunatic_catch_trap") i32 (i32.const 0))"#,
            "exports no function named `_lunatic_catch_trap`",
        ),
        (r#"(func (export "_lunatic_catch_trap"))"#, "the wrong type"),
        (
            r#"(func (export "_lunatic_catch_trap") (param i32 i32) (result i64) i64.const 0)"#,
            "the wrong type",
        ),
    ] {
        let exit = lab.run(&guest(
            &["lunatic::trap::catch"],
            &format!("{export} {main}"),
        ));
        let reason = exit
            .trap()
            .map(|trap| trap.reason.as_str())
            .unwrap_or_default();
        assert!(
            reason.contains(words) && reason.contains("lunatic::trap::catch"),
            "{export}: {exit}"
        );
    }
}

/// The loop is unrolled before it is compiled, which moves the instruction that traps.
const LOOP_AND_TRAP: &str = r#"(module (memory 1) (global (mut i32) (i32.const 2))
    (func $inner (param $n i32)
        (loop $again
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $again (local.get $n)))
        unreachable)
    (func $_ZN3app4main17h0123456789abcdefE (export "main") (call $inner (i32.const 9))))"#;

#[test]
fn a_trap_shows_the_same_frames_when_the_code_came_from_the_cache() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let frames = || {
        let cache = lunatic_vm::Cache::at(&directory.path().join("cache"));
        let cache = cache.expect("the directory belongs to this user");
        let lab = Lab::with(Vm::builder().cache(cache));
        let exit = lab.run(LOOP_AND_TRAP);
        exit.trap().expect("the guest trapped").frames()
    };
    let (compiled, cached) = (frames(), frames());
    let names: Vec<&str> = compiled.iter().map(|frame| &*frame.function).collect();
    assert_eq!(names, ["inner", "app::main"]);
    assert_eq!(compiled, cached);
    // `unreachable` is the second-to-last instruction of its function.
    let binary = wat::parse_str(LOOP_AND_TRAP).expect("the module text is well-formed");
    let offset = compiled[0].offset.expect("the offset is known");
    assert_eq!(binary[offset..offset + 2], [0x00, 0x0b]);
}

#[test]
fn a_trap_stays_small_however_long_the_names_are() {
    let lab = Lab::new();
    let long = "x".repeat(50_000);
    let calls: String = (0..100)
        .map(|number| {
            let next = if number < 99 {
                format!("(call {})", number + 1)
            } else {
                "unreachable".to_string()
            };
            format!(r#"(func (@name "{long}{number}") {next})"#)
        })
        .collect();
    let exit = lab.run(&format!(r#"(module {calls} (export "main" (func 0)))"#));
    let trap = exit.trap().expect("the guest trapped");
    assert!(trap.size() < 4_000, "{}", trap.size());
    let shown: usize = trap.frames().iter().map(|frame| frame.function.len()).sum();
    assert!(shown < 64 * 600, "{shown}");
}
