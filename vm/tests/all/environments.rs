//! Tests for environments: what their processes may use and which functions they may call.

use crate::support::actor::{self, Actor};
use crate::support::{Lab, guest, import};
use lunatic_vm::{Config, Exit, Limit, LimitReached, SpawnError, Val};

fn limit(exit: &Exit) -> Option<LimitReached> {
    match exit {
        Exit::Limit(reached) => Some(*reached),
        _ => None,
    }
}

/// Runs a guest's `main` in an environment that grants everything, with the test's changes.
fn run_with(lab: &Lab, change: impl FnOnce(&mut Config), text: &str) -> Exit {
    let process = lab
        .environment_with(change)
        .spawn(&lab.module(text), "main", &[])
        .expect("no limit applies");
    lab.exit(&process)
}

#[test]
fn a_module_that_needs_more_memory_than_allowed_is_refused_and_the_error_gives_the_numbers() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Memory, 100_000);
    });
    let module = lab.module(r#"(module (memory 2) (memory 1) (func (export "main")))"#);
    let error = environment
        .spawn(&module, "main", &[])
        .expect_err("three pages are 196,608 bytes");
    let SpawnError::Limit(reached) = error else {
        panic!("{error}")
    };
    assert_eq!(
        reached,
        LimitReached {
            limit: Limit::Memory,
            allowed: 100_000,
            wanted: Some(196_608)
        }
    );
    assert_eq!(environment.used(Limit::Processes), 0);
}

#[test]
fn a_trap_after_a_refused_growth_is_reported_as_the_limit_along_with_the_numbers() {
    let lab = Lab::new();
    let change = |config: &mut Config| {
        config.limit(Limit::Memory, 200_000);
    };
    let exit = run_with(
        &lab,
        change,
        r#"(module (memory 1) (func (export "main")
            (if (i32.ne (memory.grow (i32.const 2)) (i32.const 1)) (then unreachable))
            (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"#,
    );
    let reached = LimitReached {
        limit: Limit::Memory,
        allowed: 200_000,
        wanted: Some(262_144),
    };
    assert_eq!(limit(&exit), Some(reached), "{exit}");
    let exit = run_with(
        &lab,
        change,
        r#"(module (memory 1 1) (func (export "main") (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"#,
    );
    assert!(
        matches!(exit, Exit::Trapped(_)),
        "the module's own maximum is not an environment limit: {exit}"
    );
}

#[test]
fn a_process_that_handles_a_refused_growth_ends_normally() {
    let lab = Lab::new();
    let change = |config: &mut Config| {
        config.limit(Limit::Memory, 65_536);
    };
    let exit = run_with(
        &lab,
        change,
        r#"(module (memory 1) (func (export "main") (drop (memory.grow (i32.const 1)))))"#,
    );
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn compute_ends_the_same_program_at_the_same_point_every_time() {
    // The count is the same with one worker or four, alone or alongside spinning processes.
    let mut counts = Vec::new();
    for workers in [1, 4] {
        let lab = Lab::with(lunatic_vm::Vm::builder().workers(workers));
        let module = lab.module(&guest(
            &[],
            r#"(global $count (mut i64) (i64.const 0))
            (func (export "main") (loop $again
                (global.set $count (i64.add (global.get $count) (i64.const 1)))
                (call $say (global.get $count))
                (br $again)))
            (func (export "spin") (loop br 0))"#,
        ));
        let noise = lab.environment();
        let spinners: Vec<_> = (0..4)
            .map(|_| noise.spawn(&module, "spin", &[]).expect("no limit applies"))
            .collect();
        for _ in 0..3 {
            let environment = lab.environment_with(|config| {
                config.limit(Limit::Compute, 1);
            });
            let process = environment
                .spawn(&module, "main", &[])
                .expect("no limit applies");
            let exit = lab.exit(&process);
            let reached = LimitReached {
                limit: Limit::Compute,
                allowed: 1,
                wanted: None,
            };
            assert_eq!(limit(&exit), Some(reached), "{exit}");
            let mut last = 0;
            while !lab.heard_nothing_more() {
                last = lab.hear();
            }
            counts.push(last);
        }
        for spinner in spinners {
            spinner.kill();
        }
    }
    assert!(counts[0] > 1000, "{counts:?}");
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn total_compute_is_limited_even_if_no_single_process_computes_much() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::TotalCompute, 10);
    });
    // Each process computes for about half a unit.
    let module = lab.module(
        r#"(module (func (export "main") (local $left i32) (local.set $left (i32.const 10000))
            (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#,
    );
    let mut ended = 0;
    let error = loop {
        match environment.spawn(&module, "main", &[]) {
            Ok(process) => {
                lab.exit(&process);
                ended += 1;
                assert!(ended < 1000, "compute is not counted");
            }
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            SpawnError::Limit(LimitReached {
                limit: Limit::TotalCompute,
                allowed: 10,
                ..
            })
        ),
        "{error}"
    );
    assert!(
        (15..30).contains(&ended),
        "{ended} processes that need half a unit each ran within 10 units"
    );
}

#[test]
fn compute_beyond_the_total_counts_so_the_next_spawn_is_refused() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::TotalCompute, 3);
    });
    let module = lab.module(r#"(module (func (export "main") (loop br 0)))"#);
    let exit = lab.exit(
        &environment
            .spawn(&module, "main", &[])
            .expect("nothing has been used yet"),
    );
    assert_eq!(
        limit(&exit).map(|reached| (reached.limit, reached.allowed)),
        Some((Limit::TotalCompute, 3)),
        "{exit}"
    );
    let error = environment
        .spawn(&module, "main", &[])
        .expect_err("the total is used up");
    assert!(
        matches!(
            error,
            SpawnError::Limit(LimitReached {
                limit: Limit::TotalCompute,
                ..
            })
        ),
        "{error}"
    );
    assert!(environment.used(Limit::TotalCompute) >= 3);
}

#[test]
fn the_compute_of_a_killed_process_counts() {
    let lab = Lab::manual(1);
    let environment = lab.environment_with(|config| {
        config.limit(Limit::TotalCompute, 1_000_000);
    });
    let module = lab.module(&guest(
        &["lunatic::process::sleep_ms"],
        r#"(func (export "main") (local $left i32) (local.set $left (i32.const 1000000))
            (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $say (i64.const 1)) (call $sleep_ms (i64.const -1)))"#,
    ));
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    lab.hear();
    process.kill();
    lab.exit(&process);
    assert!(
        environment.used(Limit::TotalCompute) >= 30,
        "{}",
        environment.used(Limit::TotalCompute)
    );
}

#[test]
fn the_memory_of_all_processes_together_is_limited_and_given_back() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::TotalMemory, 3 * 65_536);
    });
    let module = lab.module(&actor::module());
    let actors: Vec<_> = (0..3)
        .map(|_| Actor::spawn(&lab, &environment, &module))
        .collect();
    let error = environment
        .spawn(&module, "main", &[])
        .expect_err("three pages are allowed");
    let SpawnError::Limit(reached) = error else {
        panic!("{error}")
    };
    assert_eq!(
        reached,
        LimitReached {
            limit: Limit::TotalMemory,
            allowed: 196_608,
            wanted: Some(262_144)
        }
    );
    assert_eq!(
        environment.used(Limit::Processes),
        3,
        "a refused growth does not count"
    );
    actors[0].finish();
    assert_eq!(environment.used(Limit::TotalMemory), 131_072);
    let grows = lab.module(
        r#"(module (memory 1) (func (export "main") (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"#,
    );
    let exit = lab.exit(
        &environment
            .spawn(&grows, "main", &[])
            .expect("three pages are allowed"),
    );
    assert_eq!(
        limit(&exit).map(|reached| reached.limit),
        Some(Limit::TotalMemory),
        "{exit}"
    );
    assert_eq!(environment.used(Limit::TotalMemory), 131_072);
}

#[test]
fn a_call_without_a_grant_traps_with_a_message_that_names_the_function() {
    let lab = Lab::new();
    let text = guest(
        &["lunatic::process::process_id"],
        r#"(func (export "mentions")) (func (export "main") (drop (call $process_id)))"#,
    );
    let environment = lab.environment_with(|config| {
        config.deny("lunatic::process::process");
    });
    let module = lab.module(&text);
    let exit = lab.exit(
        &environment
            .spawn(&module, "mentions", &[])
            .expect("this function does not make the call"),
    );
    assert!(exit.is_normal(), "{exit}");
    let exit = lab.exit(
        &environment
            .spawn(&module, "main", &[])
            .expect("the call is made only after the spawn"),
    );
    let Exit::Trapped(trap) = &exit else {
        panic!("{exit}")
    };
    assert!(
        trap.reason
            .contains("does not grant `lunatic::process::process_id`"),
        "{}",
        trap.reason
    );
}

/// A guest that creates a configuration, allows a prefix in it, and spawns `child` in an
/// environment with this configuration.
const MAKES_A_CHILD: &[&str] = &[
    "lunatic::environment::create_empty_config",
    "lunatic::environment::config_allow_namespace",
    "lunatic::environment::config_set_limit",
    "lunatic::environment::create",
    "lunatic::process::sleep_ms",
    "lunatic::process::process_id",
];

fn makes_a_child(child: &str) -> String {
    let mut text = import("lunatic::environment::spawn");
    text.push_str(
        r#"(data (i32.const 16) "child") (data (i32.const 32) "lunatic::process")
        (func $make (param $limit i32) (param $bound i64) (result i32)
            (if (call $create_empty_config (i32.const 64)) (then unreachable))
            (drop (call $config_allow_namespace (i64.load (i32.const 64)) (i32.const 32) (i32.const 0) (i32.const 72)))
            (if (i32.ge_s (local.get $limit) (i32.const 0)) (then
                (if (call $config_set_limit (i64.load (i32.const 64)) (local.get $limit) (local.get $bound) (i32.const 72))
                    (then unreachable))))
            (if (call $create (i64.load (i32.const 64)) (i32.const 80)) (then unreachable))
            (call $spawn (i64.load (i32.const 80)) (i64.const -1) (i64.const 0) (i32.const 16) (i32.const 5)
                (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 88)))"#,
    );
    text.push_str(child);
    let text = guest(MAKES_A_CHILD, &text);
    // Imports must come first.
    let environment = import("lunatic::environment::spawn");
    let rest = text.replacen(&environment, "", 1);
    rest.replacen("(module\n", &format!("(module\n{environment}"), 1)
}

#[test]
fn a_child_never_has_a_right_that_its_creator_lacks() {
    let lab = Lab::new();
    let text = makes_a_child(
        r#"(func (export "child") (call $say (i64.const 1)) (drop (call $process_id)) (call $say (i64.const 2)))
        (func (export "main") (if (call $make (i32.const -1) (i64.const 0)) (then unreachable))
            (call $sleep_ms (i64.const -1)))"#,
    );
    let module = lab.module(&text);
    // The child is allowed the empty prefix, which means every function that its creator has.
    let environment = lab.environment();
    environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear_all(), [1, 2]);
    let environment = lab.environment_with(|config| {
        config.deny("lunatic::process::process_id");
    });
    let parent = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear(), 1);
    parent.kill();
    lab.wait_for("all processes to end", async {
        environment.end();
        environment.ended().await;
    });
    assert!(
        lab.heard_nothing_more(),
        "the child called a function that its creator may not call"
    );
}

#[test]
fn the_limits_of_a_child_are_at_most_those_of_its_creator() {
    let lab = Lab::new();
    let text = makes_a_child(&format!(
        r#"(func (export "child") (call $say (i64.extend_i32_s (memory.grow (i32.const 3)))))
        (func (export "main") (call $say (i64.extend_i32_u (call $make (i32.const {}) (i64.const 1000000000))))
            (call $sleep_ms (i64.const -1)))"#,
        Limit::Memory as u32
    ));
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Memory, 3 * 65_536);
    });
    environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    let mut said = lab.hear_all::<2>();
    said.sort_unstable();
    assert_eq!(said, [-1, 0]);
}

#[test]
fn t040_a_fork_bomb_reaches_the_limit_on_processes_and_harms_no_sibling() {
    let lab = Lab::with(lunatic_vm::Vm::builder().workers(2));
    let module = lab.module(&guest(
        &["lunatic::process::spawn", "lunatic::error::kind", "lunatic::error::drop"],
        r#"(data (i32.const 16) "main")
        (func $fork (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 16) (i32.const 4)
                (i32.const 0) (i32.const 0) (i32.const 8))
            (then
                (if (i32.ne (call $kind (i64.load (i32.const 8))) (i32.const 5)) (then (call $say (i64.const -1))))
                (call $drop (i64.load (i32.const 8))))))
        (func (export "main") (loop $again (call $fork) (call $fork) (br $again)))"#,
    ));
    let bombed = lab.environment_with(|config| {
        config.limit(Limit::Processes, 200);
    });
    bombed
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    let (quiet, actors) = (lab.environment(), lab.module(&actor::module()));
    let [one, other] = [(); 2].map(|()| Actor::spawn(&lab, &quiet, &actors));
    while bombed.used(Limit::Processes) < 200 {
        assert_eq!(one.send(other.pid(), 0, 0), 0);
    }
    for _ in 0..20 {
        assert_eq!(
            other.send(one.pid(), 0, 0),
            0,
            "a process alongside the fork bomb keeps running"
        );
        assert!(bombed.used(Limit::Processes) <= 200);
    }
    bombed.end();
    lab.wait_for("all processes of the fork bomb to end", bombed.ended());
    assert_eq!(bombed.used(Limit::Processes), 0);
    assert!(matches!(
        bombed.spawn(&module, "main", &[]),
        Err(SpawnError::Ending)
    ));
}

#[test]
fn t041_a_storm_of_spawns_and_exits_reuses_no_pid_and_leaks_nothing() {
    let lab = Lab::with(lunatic_vm::Vm::builder().workers(4));
    // The limit is far below the total number of spawns. A process that reaches the limit retries,
    // and processes that end make room.
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Processes, 500);
    });
    let module = lab.module(&guest(
        &["lunatic::process::spawn", "lunatic::process::sleep_ms", "lunatic::error::drop"],
        r#"(data (i32.const 16) "leaf")
        (func (export "leaf"))
        (func (export "main") (local $left i32)
            (local.set $left (i32.const 5000))
            (loop $again
                (if (i32.eqz (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 16) (i32.const 4)
                    (i32.const 0) (i32.const 0) (i32.const 8)))
                    (then (call $say (i64.load (i32.const 8))))
                    (else
                        (call $drop (i64.load (i32.const 8)))
                        (call $sleep_ms (i64.const 1))
                        (br $again)))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $say (i64.const 0)))"#,
    ));
    for _ in 0..4 {
        // The existing processes may have reached the limit.
        while let Err(error) = environment.spawn(&module, "main", &[]) {
            assert!(
                matches!(error, SpawnError::Limit(reached) if reached.limit == Limit::Processes),
                "{error}"
            );
            std::thread::yield_now();
        }
    }
    let mut pids = std::collections::HashSet::new();
    let mut ended = 0;
    while ended < 4 {
        match lab.hear() {
            0 => ended += 1,
            pid => assert!(pids.insert(pid), "the pid {pid:x} was reused"),
        }
    }
    assert_eq!(pids.len(), 20_000);
    lab.wait_for("all processes to end", environment.ended());
    assert_eq!(environment.used(Limit::Processes), 0);
}

#[test]
fn nested_environments_count_in_all_their_ancestors_and_are_limited() {
    let lab = Lab::new();
    // Each level spawns the next level in a new environment inside its own, and then ends. This
    // continues until a spawn is refused.
    let module = lab.module(&guest(
        &[
            "lunatic::process::create_config",
            "lunatic::process::config_set_can_create_configs",
            "lunatic::process::config_set_can_spawn_processes",
            "lunatic::process::spawn",
            "lunatic::error::kind",
        ],
        r#"(data (i32.const 16) "main") (data (i32.const 32) "\7e")
        (func (export "main") (param $level i64) (local $config i64)
            (local.set $config (call $create_config))
            (call $config_set_can_create_configs (local.get $config) (i32.const 1))
            (call $config_set_can_spawn_processes (local.get $config) (i32.const 1))
            (i64.store (i32.const 33) (i64.add (local.get $level) (i64.const 1)))
            (if (call $spawn (i64.const 0) (local.get $config) (i64.const -1) (i32.const 16) (i32.const 4)
                    (i32.const 32) (i32.const 17) (i32.const 8))
                (then
                    (call $say (local.get $level))
                    (call $say (i64.extend_i32_u (call $kind (i64.load (i32.const 8))))))))"#,
    ));
    let environment = lab.environment();
    environment
        .spawn(&module, "main", &[Val::I64(0)])
        .expect("no limit applies");
    assert_eq!(lab.hear_all(), [256, 5]);
    lab.wait_for("all processes to end", environment.ended());
    assert_eq!(environment.used(Limit::Processes), 0);
}

#[test]
fn a_process_that_exceeds_its_lifetime_is_ended_whether_it_waits_or_computes() {
    let lab = Lab::new();
    for body in ["(call $sleep_ms (i64.const -1))", "(loop br 0)"] {
        let text = guest(
            &["lunatic::process::sleep_ms"],
            &format!(r#"(func (export "main") {body})"#),
        );
        let exit = run_with(
            &lab,
            |config| {
                config.limit(Limit::Time, 5);
            },
            &text,
        );
        assert_eq!(
            limit(&exit),
            Some(LimitReached {
                limit: Limit::Time,
                allowed: 5,
                wanted: None
            }),
            "{body}: {exit}"
        );
    }
}

#[test]
fn a_process_with_a_configuration_is_in_its_parents_environment() {
    let lab = Lab::new();
    let exit = run_with(
        &lab,
        |_| (),
        r#"(module
            (import "lunatic::process" "environment_id" (func $environment (result i64)))
            (import "lunatic::process" "process_id" (func $this (result i64)))
            (import "lunatic::process" "create_config" (func $config (result i64)))
            (import "lunatic::process" "spawn"
                (func $spawn (param i64 i64 i64 i32 i32 i32 i32 i32) (result i32)))
            (import "lunatic::message" "create_data" (func $create (param i64 i64)))
            (import "lunatic::message" "write_data" (func $write (param i32 i32) (result i32)))
            (import "lunatic::message" "read_data" (func $read (param i32 i32) (result i32)))
            (import "lunatic::message" "send" (func $send (param i64) (result i32)))
            (import "lunatic::message" "receive" (func $receive (param i32 i32 i64) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "child") (data (i32.const 16) "\7e")
            (func (export "main")
                (i64.store (i32.const 17) (call $this))
                (if (call $spawn (i64.const 0) (call $config) (i64.const -1) (i32.const 0)
                        (i32.const 5) (i32.const 16) (i32.const 17) (i32.const 40))
                    (then unreachable))
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
                (drop (call $read (i32.const 48) (i32.const 8)))
                (if (i64.ne (i64.load (i32.const 48)) (call $environment)) (then unreachable)))
            (func (export "child") (param $parent i64)
                (i64.store (i32.const 48) (call $environment))
                (call $create (i64.const 1) (i64.const 8))
                (drop (call $write (i32.const 48) (i32.const 8)))
                (drop (call $send (local.get $parent)))))"#,
    );
    assert!(exit.is_normal(), "{exit}");
}

/// In the published runtime, a new configuration has 4 GiB and no limit on compute, and of two
/// variables with the same name, the first one counts.
#[test]
fn a_new_configuration_has_its_creators_limits_no_rights_and_the_last_value_of_a_variable() {
    let lab = Lab::new();
    let change = |config: &mut Config| {
        config
            .limit(Limit::Memory, 300_000)
            .limit(Limit::Compute, 5_000);
    };
    let imports: String = [
        "lunatic::process::create_config",
        "lunatic::process::config_get_max_memory",
        "lunatic::process::config_get_max_fuel",
        "lunatic::process::config_can_compile_modules",
        "lunatic::process::config_can_create_configs",
        "lunatic::process::config_can_spawn_processes",
        "lunatic::process::spawn",
        "lunatic::wasi::config_add_environment_variable",
    ]
    .map(import)
    .concat();
    let text = format!(
        r#"(module {imports}
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $variables (param i32 i32) (result i32)))
        (import "test" "say" (func $say (param i64)))
        (memory (export "memory") 1)
        (data (i32.const 16) "child") (data (i32.const 32) "K12")
        (func (export "main") (local $config i64)
            (local.set $config (call $create_config))
            (call $say (call $config_get_max_memory (local.get $config)))
            (call $say (call $config_get_max_fuel (local.get $config)))
            (call $say (i64.extend_i32_u (i32.or (call $config_can_compile_modules (local.get $config))
                (i32.or (call $config_can_create_configs (local.get $config))
                    (call $config_can_spawn_processes (local.get $config))))))
            (call $config_add_environment_variable (local.get $config)
                (i32.const 32) (i32.const 1) (i32.const 33) (i32.const 1))
            (call $config_add_environment_variable (local.get $config)
                (i32.const 32) (i32.const 1) (i32.const 34) (i32.const 1))
            (if (call $spawn (i64.const 0) (local.get $config) (i64.const -1) (i32.const 16) (i32.const 5)
                    (i32.const 0) (i32.const 0) (i32.const 8)) (then unreachable)))
        (func (export "child")
            (drop (call $sizes (i32.const 64) (i32.const 68)))
            (drop (call $variables (i32.const 128) (i32.const 256)))
            (call $say (i64.load32_u (i32.const 64)))
            (call $say (i64.load32_u (i32.const 256)))))"#
    );
    assert!(run_with(&lab, change, &text).is_normal());
    let variable = u32::from_le_bytes(*b"K=2\0");
    assert_eq!(lab.hear_all(), [300_000, 5_000, 0, 1, i64::from(variable)]);
}
