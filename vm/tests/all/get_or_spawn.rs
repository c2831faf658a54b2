//! Tests for `get_or_spawn`, which finds a process by its name or spawns it.

use crate::support::{Lab, guest};
use lunatic_vm::{Environment, Exit, Limit, Module, Pid, Val, Vm};

const SPAWNED: i64 = 0;
const FAILED: i64 = 1;
const FOUND: i64 = 2;

/// A module whose `$ask` calls `get_or_spawn` with the name `db` and reports the result; `$answer`
/// returns the pid or error that the call wrote. Its `serve` receives messages and reports how many
/// it has received, as negative numbers starting at -1.
fn asking(fields: &str) -> String {
    guest(
        &[
            "lunatic::process::get_or_spawn",
            "lunatic::process::spawn",
            "lunatic::process::create_config",
            "lunatic::message::receive",
            "lunatic::message::create_data",
            "lunatic::message::send",
            "lunatic::registry::put",
            "lunatic::error::kind",
        ],
        &format!(
            r#"(data (i32.const 0) "db") (data (i32.const 16) "serve")
            (func $ask (param $function_length i32) (param $link i64) (param $config i64)
                (i64.store (i32.const 64) (i64.const 99))
                (call $say (i64.extend_i32_u (call $get_or_spawn (i32.const 0) (i32.const 2) (local.get $link)
                    (local.get $config) (i64.const -1) (i32.const 16) (local.get $function_length)
                    (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 72)))))
            (func $node (result i64) (i64.load (i32.const 64)))
            (func $answer (result i64) (i64.load (i32.const 72)))
            (func $wait (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))
            (func (export "serve") (local $mail i64)
                (loop $next
                    (call $wait)
                    (local.set $mail (i64.sub (local.get $mail) (i64.const 1)))
                    (call $say (local.get $mail))
                    (br $next)))
            (func (export "wait") (call $wait))
            {fields}"#
        ),
    )
}

fn db(environment: &Environment) -> Option<Pid> {
    environment.lookup("db", "*").ok()
}

fn spawn(environment: &Environment, module: &Module, function: &str) -> lunatic_vm::Process {
    environment
        .spawn(module, function, &[])
        .expect("no limit applies")
}

#[test]
fn t053_one_of_a_hundred_concurrent_callers_spawns_and_all_reach_the_process() {
    const CALLERS: i64 = 100;
    let lab = Lab::with(Vm::builder().workers(4));
    let environment = lab.environment();
    let module = lab.module(&asking(
        r#"(func (export "main")
            (call $wait)
            (call $ask (i32.const 5) (i64.const 0) (i64.const -1))
            (call $create_data (i64.const 0) (i64.const 0))
            (drop (call $send (call $answer))))"#,
    ));
    for _ in 0..20 {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| spawn(&environment, &module, "main"))
            .collect();
        for caller in &callers {
            caller.send(0, b"go").expect("the mailbox has room");
        }
        let (mut spawned, mut found, mut delivered) = (0, 0, 0);
        for _ in 0..2 * CALLERS {
            match lab.hear() {
                SPAWNED => spawned += 1,
                FOUND => found += 1,
                mail if mail < 0 => delivered += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!((spawned, found, delivered), (1, CALLERS - 1, CALLERS));
        for caller in &callers {
            assert!(lab.exit(caller).is_normal());
        }
        assert_eq!(environment.used(Limit::Names), 1);
        assert_eq!(
            environment.used(Limit::Processes),
            1,
            "no other process was spawned"
        );
        let service = lab
            .vm
            .process(db(&environment).expect("the name is registered"))
            .expect("the process is alive");
        service.kill();
        lab.exit(&service);
        assert_eq!(
            (db(&environment), environment.used(Limit::Names)),
            (None, 0),
            "the name is removed when the process ends"
        );
    }
}

#[test]
fn a_spawn_that_fails_registers_nothing() {
    let lab = Lab::new();
    let module = lab.module(&asking(
        r#"(func (export "main")
            (call $ask (i32.const 3) (i64.const 0) (i64.const -1))
            (call $say (i64.extend_i32_u (call $kind (call $answer)))))"#,
    ));
    // The module has no function named `ser`.
    let environment = lab.environment();
    assert!(lab.exit(&spawn(&environment, &module, "main")).is_normal());
    assert_eq!(lab.hear_all(), [FAILED, 11]);
    assert_eq!(
        (db(&environment), environment.used(Limit::Names)),
        (None, 0)
    );
}

#[test]
fn at_a_limit_no_process_is_spawned_and_no_name_is_registered() {
    let lab = Lab::new();
    let module = lab.module(&asking(
        r#"(func (export "main")
            (call $ask (i32.const 5) (i64.const 7) (i64.const -1))
            (call $say (i64.extend_i32_u (call $kind (call $answer)))))"#,
    ));
    for (limit, bound) in [(Limit::Names, 0), (Limit::Processes, 1)] {
        let environment = lab.environment_with(|config| {
            config.limit(limit, bound);
        });
        let caller = spawn(&environment, &module, "main");
        assert!(
            lab.exit(&caller).is_normal(),
            "{limit:?}: the caller had no link to a process that could have died"
        );
        assert_eq!(lab.hear_all(), [FAILED, 5], "{limit:?}");
        assert_eq!(
            (db(&environment), environment.used(Limit::Names)),
            (None, 0),
            "{limit:?}"
        );
        assert_eq!(environment.used(Limit::Processes), 0, "{limit:?}");
    }
}

#[test]
fn a_found_process_is_on_node_0_and_finding_it_needs_no_right_to_spawn() {
    let lab = Lab::new();
    let environment = lab.environment();
    let module = lab.module(&asking(
        r#"(data (i32.const 32) "child")
        (func (export "main")
            (call $ask (i32.const 5) (i64.const 0) (call $create_config))
            (call $say (call $node)))
        (func (export "parent")
            (call $say (i64.extend_i32_u (call $spawn (i64.const 0) (call $create_config) (i64.const -1)
                (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 72)))))
        (func (export "child")
            (call $ask (i32.const 5) (i64.const 0) (i64.const -1))
            (call $say (call $node))
            (call $say (call $answer)))"#,
    ));
    assert!(lab.exit(&spawn(&environment, &module, "main")).is_normal());
    assert_eq!(lab.hear_all(), [SPAWNED, 0]);
    let holder = db(&environment).expect("the name is registered");
    // A new configuration does not allow spawning.
    assert!(
        lab.exit(&spawn(&environment, &module, "parent"))
            .is_normal()
    );
    assert_eq!(
        lab.hear_all(),
        [SPAWNED, FOUND, 0, holder.number().cast_signed()]
    );
}

#[test]
fn a_caller_that_may_not_spawn_traps_if_it_finds_no_process() {
    let lab = Lab::new();
    let environment = lab.environment();
    let module = lab.module(&guest(
        &["lunatic::process::spawn", "lunatic::process::create_config", "lunatic::process::get_or_spawn"],
        r#"(data (i32.const 0) "db") (data (i32.const 16) "child")
        (func (export "main")
            (drop (call $spawn (i64.const 7) (call $create_config) (i64.const -1) (i32.const 16) (i32.const 5)
                (i32.const 0) (i32.const 0) (i32.const 64)))
            (loop (br 0)))
        (func (export "child")
            (drop (call $get_or_spawn (i32.const 0) (i32.const 2) (i64.const 0) (i64.const -1) (i64.const -1)
                (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 72))))"#,
    ));
    let exit = lab.exit(&spawn(&environment, &module, "main"));
    let trap = exit
        .trap()
        .expect("the child trapped, and its parent died because of the link");
    assert!(
        trap.reason.contains("does not let its processes spawn")
            && trap.reason.contains("get_or_spawn"),
        "{exit}"
    );
    assert_eq!(
        (db(&environment), environment.used(Limit::Names)),
        (None, 0)
    );
}

#[test]
fn the_link_exists_before_the_spawned_process_can_die() {
    let lab = Lab::new();
    let module = lab.module(&asking(
        r#"(func (export "dies") unreachable)
        (func (export "main")
            (i64.store (i32.const 16) (i64.const 0x73656964))
            (call $ask (i32.const 4) (i64.const 7) (i64.const -1))
            (call $wait))"#,
    ));
    for _ in 0..50 {
        let exit = lab.run_in(&lab.environment(), &module);
        assert!(matches!(exit, Exit::LinkDied { .. }), "{exit}");
        assert_eq!(lab.hear(), SPAWNED);
    }
}

#[test]
fn a_name_registered_by_another_process_is_found_whatever_its_version() {
    let lab = Lab::new();
    let environment = lab.environment();
    let module = lab.module(&asking(
        r#"(func (export "main") (param $holder i64)
            (call $put (i32.const 0) (i32.const 2) (i64.const 0) (local.get $holder))
            (call $ask (i32.const 5) (i64.const 0) (i64.const -1))
            (call $say (call $answer)))"#,
    ));
    let holder = spawn(&environment, &module, "wait");
    let number = holder.pid().number().cast_signed();
    let asker = environment
        .spawn(&module, "main", &[Val::I64(number)])
        .expect("no limit applies");
    assert!(lab.exit(&asker).is_normal());
    assert_eq!(lab.hear_all(), [FOUND, number]);
    holder.kill();
}
