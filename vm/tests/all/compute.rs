//! Tests for compute: no process can monopolize a core, and limits are exact.

use crate::support::{Lab, guest};
use lunatic_vm::{CallError, Exit, Limit, LimitReached, Process, Val, Vm};
use std::time::{Duration, Instant};

/// A guest that reports -1 when it starts running and then spins.
const SPINNER: &str = r#"(func (export "main") (call $say (i64.const -1)) (loop br 0))"#;

fn is_limit(exit: &Exit, limit: Limit) -> bool {
    matches!(exit, Exit::Limit(reached) if reached.limit == limit)
}

#[test]
fn t001_ten_thousand_processes_finish_while_another_process_spins() {
    let lab = Lab::roomy();
    let spinner = lab.spawn(&guest(&[], SPINNER));
    assert_eq!(lab.hear(), -1);
    let module = lab.module(&guest(
        &[],
        r#"(func (export "main") (param i64) (call $say (local.get 0)))"#,
    ));
    let environment = lab.environment();
    for round in 0..2 {
        let numbers = round * 5_000..(round + 1) * 5_000;
        for number in numbers.clone() {
            environment
                .spawn(&module, "main", &[Val::I64(number)])
                .expect("earlier processes have ended, so there is room");
        }
        let heard: i64 = numbers.clone().map(|_| lab.hear()).sum();
        assert_eq!(heard, numbers.sum(), "every process reported its number");
    }
    assert!(
        spinner.is_alive() && spinner.turns() > 1,
        "the spinning process also got its share"
    );
}

#[test]
fn t002_spawns_messages_and_kills_are_prompt_while_ten_processes_per_core_spin() {
    let lab = Lab::new();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let module = lab.module(&guest(&[], SPINNER));
    let environment = lab.environment();
    let spawn = |_| {
        environment
            .spawn(&module, "main", &[])
            .expect("no limit applies")
    };
    let spinners: Vec<Process> = (0..10 * cores).map(spawn).collect();
    for _ in &spinners {
        assert_eq!(lab.hear(), -1);
    }
    let turns = |spinners: &[Process]| {
        spinners
            .iter()
            .map(Process::turns)
            .max()
            .expect("there are spinning processes")
    };

    let before = turns(&spinners[1..]);
    // This process spawns another process, exchanges messages with it and ends.
    let exit = lab.run(&guest(
        &["lunatic::process::process_id", "lunatic::process::spawn", "lunatic::message::receive_bytes", "lunatic::message::send_bytes"],
        r#"(data (i32.const 0) "answer")
           (func (export "main")
             (i32.store8 (i32.const 32) (i32.const 0x7e))
             (i64.store (i32.const 33) (call $process_id))
             (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 6)
                    (i32.const 32) (i32.const 17) (i32.const 64)) (then unreachable))
             (if (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1)
                    (i32.const 128) (i32.const 8) (i32.const 256)) (then unreachable))
             (call $say (i64.load (i32.const 128))))
           (func (export "answer") (param i64)
             (i64.store (i32.const 128) (i64.const 42))
             (drop (call $send_bytes (local.get 0) (i64.const 0) (i32.const 128) (i32.const 8) (i32.const 0) (i32.const 0))))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 42);
    spinners[0].kill();
    assert!(matches!(lab.exit(&spinners[0]), Exit::Killed));
    // Time is measured in turns of the spinning processes. None of them may have had many turns by
    // the time everything has been answered.
    let after = turns(&spinners[1..]);
    assert!(
        after - before < 50,
        "a spinning process had {} turns in the meantime",
        after - before
    );
}

#[test]
fn t003_a_process_that_exceeds_its_compute_or_time_ends_and_its_link_is_notified() {
    for (limit, bound) in [(Limit::Compute, 7), (Limit::Time, 20)] {
        let lab = Lab::new();
        // The parent is notified of the child's exit. Only the child's environment has the limit,
        // not the parent's.
        let text = guest(
            &[
                "lunatic::environment::create_empty_config",
                "lunatic::environment::config_set_limit",
                "lunatic::environment::create",
                "lunatic::environment::spawn",
                "lunatic::process::die_when_link_dies",
                "lunatic::message::receive_bytes",
            ],
            &format!(
                r#"(data (i32.const 0) "spin")
                (func (export "spin") (loop br 0))
                (func (export "main")
                  (call $die_when_link_dies (i32.const 0))
                  (if (call $create_empty_config (i32.const 64)) (then unreachable))
                  (if (call $config_set_limit (i64.load (i32.const 64)) (i32.const {}) (i64.const {bound}) (i32.const 72)) (then unreachable))
                  (if (call $create (i64.load (i32.const 64)) (i32.const 80)) (then unreachable))
                  (if (call $spawn (i64.load (i32.const 80)) (i64.const -1) (i64.const 9) (i32.const 0) (i32.const 4)
                         (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                         (i32.const 88)) (then unreachable))
                  (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 128)))
                  (call $say (i64.load32_u (i32.const 128)))
                  (call $say (i64.load32_u (i32.const 140)))
                  (call $say (i64.load (i32.const 144)))
                  (call $say (i64.load (i32.const 160))))"#,
                limit as u32
            ),
        );
        let exit = lab.run(&text);
        assert!(exit.is_normal(), "{exit}");
        // The parent reports that a linked process died because of a limit, the link's tag, and
        // which limit it was.
        assert_eq!(lab.hear_all(), [1, 4, 9, limit as i64]);
    }
}

#[test]
fn t003_compute_ends_the_same_program_at_the_same_point_every_time() {
    let lab = Lab::new();
    let module = lab.module(
        r#"(module (memory (export "memory") 1)
            (func (export "count") (loop (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 1))) (br 0))))"#,
    );
    let count = || {
        let environment = lab.environment_with(|config| {
            config.limit(Limit::Compute, 3);
        });
        let (tell, told) = async_channel::bounded(1);
        let process = environment.drive(&module, "counter", move |live| {
            Box::pin(async move {
                let Err(CallError::Ended(exit)) = live.call("count", &[]).await else {
                    return Exit::Normal;
                };
                let bytes = live.read(0, 8).expect("the memory has a page");
                let _ = tell
                    .send(u64::from_le_bytes(
                        bytes.try_into().expect("8 bytes were read"),
                    ))
                    .await;
                exit
            })
        });
        let exit = lab.exit(&process.expect("no limit applies"));
        assert!(is_limit(&exit, Limit::Compute), "{exit}");
        lab.wait_for("the count", told.recv())
            .expect("the count was sent before the process ended")
    };
    let first = count();
    assert!(
        first > 10_000,
        "three units are enough for more than {first} rounds"
    );
    assert_eq!([count(), count(), count()], [first; 3]);
}

#[test]
fn total_compute_is_used_up_by_many_processes_just_as_by_one() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::TotalCompute, 50);
    });
    let module = lab.module("(module (func (export \"main\") (loop br 0)))");
    let first = environment
        .spawn(&module, "main", &[])
        .expect("nothing has been used yet");
    let exit = lab.exit(&first);
    assert!(is_limit(&exit, Limit::TotalCompute), "{exit}");
    // Used compute is not refunded, so restarting a process does not grant more.
    let error = environment
        .spawn(&module, "main", &[])
        .expect_err("the total is used up");
    assert!(
        error.to_string().contains("compute of the environment"),
        "{error}"
    );
}

/// The longest that a guest within the default limits may run without interruption, on this
/// decade's hardware. Kills, time limits and other processes' turns can be delayed by this much. A
/// lower memory limit reduces this time in proportion.
const LONGEST_INSTRUCTION: Duration = Duration::from_secs(4);

#[test]
fn t005_the_time_of_the_longest_instruction_within_the_default_memory_limit_is_bounded() {
    let lab = Lab::new();
    // The module starts with one page, and its memory can grow to 256 MiB.
    let module = lab.module(
        r#"(module (memory (export "memory") 1) (table $table 1 funcref)
            (func (export "memory.grow") (if (i32.eq (memory.grow (i32.const 4095)) (i32.const -1)) (then unreachable)))
            (func (export "memory.fill") (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x10000000)))
            (func (export "memory.copy") (memory.copy (i32.const 1) (i32.const 0) (i32.const 0xfffffff)))
            (func (export "table.grow") (if (i32.eq (table.grow $table (ref.null func) (i32.const 99999)) (i32.const -1)) (then unreachable)))
            (func (export "table.fill") (table.fill $table (i32.const 0) (ref.null func) (i32.const 100000))))"#,
    );
    let (tell, told) = async_channel::unbounded();
    let driven = lab.environment().drive(&module, "bulk", move |live| {
        Box::pin(async move {
            for function in [
                "memory.grow",
                "memory.fill",
                "memory.fill",
                "memory.copy",
                "table.grow",
                "table.fill",
            ] {
                let begin = Instant::now();
                if let Err(error) = live.call(function, &[]).await {
                    return error.into_exit();
                }
                let _ = tell.send((function, begin.elapsed())).await;
            }
            Exit::Normal
        })
    });
    let exit = lab.exit(&driven.expect("no limit applies"));
    assert!(exit.is_normal(), "{exit}");
    let mut measured = 0;
    while let Ok((function, time)) = told.try_recv() {
        println!("{function}: {time:?}");
        assert!(time < LONGEST_INSTRUCTION, "{function} took {time:?}");
        measured += 1;
    }
    assert_eq!(measured, 6);
}

#[test]
fn t005_a_kill_takes_effect_between_two_long_instructions() {
    let lab = Lab::new();
    let process = lab.spawn(&guest(
        &[],
        r#"(func (export "main")
             (drop (memory.grow (i32.const 1023)))
             (call $say (i64.const 1))
             (loop
               (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000))
               (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3ffffff))
               (drop (memory.grow (i32.const 0)))
               (br 0)))"#,
    ));
    assert_eq!(lab.hear(), 1);
    process.kill();
    assert!(matches!(lab.exit(&process), Exit::Killed));
}

#[test]
fn t006_a_loop_of_host_calls_is_preempted() {
    let calls = [
        ("lunatic::process::process_id", "(drop (call $process_id))"),
        ("lunatic::version::major", "(drop (call $major))"),
        (
            "lunatic::message::create_data",
            "(call $create_data (i64.const 0) (i64.const 0))",
        ),
        (
            "lunatic::process::sleep_ms",
            "(call $sleep_ms (i64.const 0))",
        ),
        (
            "lunatic::process::exists",
            "(drop (call $exists (i64.const 7)))",
        ),
        (
            "lunatic::message::receive",
            "(drop (call $receive (i32.const 0) (i32.const 0) (i64.const 0)))",
        ),
    ];
    for (row, call) in calls {
        let lab = Lab::manual(1);
        let caller = lab.spawn(&guest(
            &[row],
            &format!(r#"(func (export "main") (call $say (i64.const 1)) (loop {call} (br 0)))"#),
        ));
        assert_eq!(lab.hear(), 1);
        lab.spawn(&guest(
            &[],
            r#"(func (export "main") (call $say (i64.const 2)))"#,
        ));
        // The current slice ends at this beat or at the next one.
        lab.vm.beat();
        lab.vm.beat();
        assert_eq!(lab.hear(), 2, "{row}");
        assert!(caller.is_alive());
    }
}

#[test]
fn t006_host_calls_count_toward_compute() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Compute, 5);
    });
    let text = guest(
        &["lunatic::process::process_id"],
        r#"(func (export "main") (loop (drop (call $process_id)) (br 0)))"#,
    );
    let process = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    let exit = lab.exit(&process);
    assert!(is_limit(&exit, Limit::Compute), "{exit}");
}

#[test]
fn t007_deep_recursion_traps_only_its_own_process() {
    let lab = Lab::new();
    let neighbour = lab.spawn(&guest(&[], SPINNER));
    let wide_frame: String = (0..64).map(|_| "(local v128) ").collect();
    for fields in [
        // The recursion is direct, goes through a table, starts in the start function, makes a host
        // call at every depth, or has large frames.
        r#"(func $f (export "main") (call $f))"#.to_string(),
        r#"(table funcref (elem $f)) (func $f (export "main") (call_indirect (i32.const 0)))"#
            .to_string(),
        r#"(func $f (call $f)) (start $f) (func (export "main"))"#.to_string(),
        r#"(func $f (export "main") (call $create_data (i64.const 0) (i64.const 0))
             (drop (call $write_data (i32.const 0) (i32.const 100))) (call $f))"#
            .to_string(),
        r#"(func $f (export "main") (call $sleep_ms (i64.const 0)) (call $f))"#.to_string(),
        format!(r#"(func $f (export "main") {wide_frame} (call $f) (drop (local.get 63)))"#),
    ] {
        let imports = [
            "lunatic::message::create_data",
            "lunatic::message::write_data",
            "lunatic::process::sleep_ms",
        ];
        let exit = lab.run(&guest(&imports, &fields));
        assert!(
            exit.trap()
                .is_some_and(|trap| trap.reason.contains("call stack exhausted")),
            "{fields}: {exit}"
        );
    }
    assert!(neighbour.is_alive());
}

#[test]
fn t007_a_host_call_at_the_bottom_of_the_stack_has_room() {
    let lab = Lab::new();
    // The guest recurses as deeply as possible. The last level that fits compiles a module, which
    // uses more stack than any other host function, and formats an error. Each attempt is eight
    // frames shallower than the previous one, which trapped.
    let text = guest(
        &[
            "lunatic::environment::config_allow_namespace",
            "lunatic::environment::create_empty_config",
            "lunatic::process::compile_module",
        ],
        r#"(data (i32.const 0) "\00asm\01\00\00\00")
           (func $f (param i32)
             (if (local.get 0)
               (then (call $f (i32.sub (local.get 0) (i32.const 1))))
               (else
                 (drop (call $create_empty_config (i32.const 64)))
                 (drop (call $config_allow_namespace (i64.const 0) (i32.const 0) (i32.const 4) (i32.const 72)))
                 (drop (call $compile_module (i32.const 0) (i32.const 8) (i32.const 80))))))
           (func (export "main") (param i32) (call $f (local.get 0)))"#,
    );
    let module = lab.module(&text);
    let run = |depth: i32| {
        let process = lab
            .environment()
            .spawn(&module, "main", &[Val::I32(depth)])
            .expect("no limit applies");
        let exit = lab.exit(&process);
        assert!(!matches!(exit, Exit::Fault(_)), "{depth}: {exit}");
        exit.is_normal()
    };
    // Bisection finds the deepest level that works.
    let (mut good, mut bad) = (0, 1 << 20);
    assert!(run(good) && !run(bad));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if run(middle) {
            good = middle
        } else {
            bad = middle
        }
    }
    assert!(
        good > 1_000,
        "a stack of {good} frames is too small to be useful"
    );
}

#[test]
fn t008_two_processes_that_wake_each_other_do_not_starve_a_computing_process() {
    let lab = Lab::with(Vm::builder().workers(1));
    let pair = lab.spawn(&guest(
        &["lunatic::process::process_id", "lunatic::process::spawn", "lunatic::message::receive_bytes", "lunatic::message::send_bytes"],
        r#"(data (i32.const 0) "other")
           (func $play (param $peer i64)
             (loop
               (drop (call $send_bytes (local.get $peer) (i64.const 0) (i32.const 128) (i32.const 8) (i32.const 0) (i32.const 0)))
               (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 128) (i32.const 8) (i32.const 256)))
               (br 0)))
           (func (export "main")
             (i32.store8 (i32.const 32) (i32.const 0x7e))
             (i64.store (i32.const 33) (call $process_id))
             (drop (call $spawn (i64.const 1) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 5)
                    (i32.const 32) (i32.const 17) (i32.const 64)))
             (call $say (i64.const 1))
             (call $play (i64.load (i32.const 64))))
           (func (export "other") (param i64) (call $play (local.get 0)))"#,
    ));
    assert_eq!(lab.hear(), 1);
    // This takes long enough to use up several slices.
    let computing = lab.spawn(&guest(
        &[],
        r#"(func (export "main") (local i32)
             (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 50000000))))
             (call $say (i64.const 2)))"#,
    ));
    assert_eq!(lab.hear(), 2);
    assert!(lab.exit(&computing).is_normal() && pair.is_alive());
    assert!(
        computing.turns() > 2,
        "the process was not preempted, so this test proves nothing"
    );
}

#[test]
fn t009_a_start_function_is_limited_like_any_other() {
    let lab = Lab::new();
    let looping = "(module (func $f (loop br 0)) (start $f) (func (export \"main\")))";
    for (limit, bound) in [
        (Limit::Compute, 3),
        (Limit::Time, 20),
        (Limit::TotalCompute, 3),
    ] {
        let environment = lab.environment_with(|config| {
            config.limit(limit, bound);
        });
        let process = environment
            .spawn(&lab.module(looping), "main", &[])
            .expect("the start function does not run during the spawn");
        let exit = lab.exit(&process);
        assert!(is_limit(&exit, limit), "{exit}");
    }
    let process = lab.spawn(&guest(
        &[],
        "(func $f (call $say (i64.const 1)) (loop br 0)) (start $f) (func (export \"main\"))",
    ));
    assert_eq!(lab.hear(), 1);
    process.kill();
    assert!(matches!(lab.exit(&process), Exit::Killed));
}

#[test]
fn t009_large_segments_and_many_segments_are_subject_to_the_same_limits() {
    let lab = Lab::new();
    let large = format!(
        "(module (memory 64) (data (i32.const 0) \"{}\") (func (export \"main\")))",
        "x".repeat(4 << 20)
    );
    let module = lab.module(&large);
    assert!(
        lab.exit(
            &lab.environment()
                .spawn(&module, "main", &[])
                .expect("the memory is within the limit")
        )
        .is_normal()
    );
    let small = lab.environment_with(|config| {
        config
            .limit(Limit::Memory, 4 << 20)
            .limit(Limit::Memory, (4 << 20) - 1);
    });
    small
        .spawn(&module, "main", &[])
        .expect_err("the memory for the data exceeds the limit");

    let many: String = (0..20_000)
        .map(|number| format!("(data (i32.const {}) \"x\")", number * 200))
        .collect();
    let exit = lab.run(&format!(
        "(module (memory 64) {many} (func (export \"main\")))"
    ));
    assert!(exit.is_normal(), "{exit}");
    // A segment that does not fit into its memory terminates only the process.
    let exit =
        lab.run("(module (memory 1) (data (i32.const 65536) \"x\") (func (export \"main\")))");
    assert!(matches!(exit, Exit::Trapped(_)), "{exit}");
}

#[test]
fn t010_compute_is_limited_separately_for_every_call_to_a_live_instance() {
    let lab = Lab::new();
    let module = lab.module(
        r#"(module
            (func (export "work") (param i32) (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
            (func (export "spin") (loop br 0)))"#,
    );
    for last in [1, 2, 1_000] {
        let environment = lab.environment_with(|config| {
            config.limit(Limit::Compute, 1);
        });
        let driven = environment.drive(&module, "again", move |live| {
            Box::pin(async move {
                for _ in 1..last {
                    // Each call uses more than half of what a call may compute, so two calls
                    // together would exceed the limit.
                    if let Err(error) = live.call("work", &[Val::I32(12_000)]).await {
                        return error.into_exit();
                    }
                }
                let Err(CallError::Ended(exit)) = live.call("spin", &[]).await else {
                    return Exit::Normal;
                };
                // The process stays dead.
                assert!(matches!(
                    live.call("work", &[Val::I32(1)]).await,
                    Err(CallError::Ended(_))
                ));
                exit
            })
        });
        let exit = lab.exit(&driven.expect("no limit applies"));
        assert!(is_limit(&exit, Limit::Compute), "call {last}: {exit}");
    }
}

#[test]
fn t010_time_is_limited_separately_for_every_call_to_a_live_instance() {
    let lab = Lab::new();
    let module =
        lab.module("(module (func (export \"nothing\")) (func (export \"spin\") (loop br 0)))");
    for last in [1, 2, 1_000] {
        let driven = lab.environment().drive(&module, "again", move |live| {
            Box::pin(async move {
                for _ in 1..last {
                    if let Err(error) = live
                        .call_within(Duration::from_secs(60), "nothing", &[])
                        .await
                    {
                        return error.into_exit();
                    }
                }
                match live
                    .call_within(Duration::from_millis(5), "spin", &[])
                    .await
                {
                    Err(CallError::Ended(exit)) => exit,
                    other => panic!("{other:?}"),
                }
            })
        });
        let exit = lab.exit(&driven.expect("no limit applies"));
        let expected = LimitReached {
            limit: Limit::Time,
            allowed: 5,
            wanted: None,
        };
        assert!(
            matches!(exit, Exit::Limit(reached) if reached == expected),
            "call {last}: {exit}"
        );
    }
}

#[test]
fn t011_no_process_is_killed_when_the_clock_stops_and_then_jumps() {
    let lab = Lab::manual(1);
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Compute, 10_000);
    });
    let text = guest(
        &[],
        r#"(func (export "main") (local i32)
             (call $say (i64.const 1))
             (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 20000000)))))"#,
    );
    let process = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    // No tick came while the process was starting. Now many ticks come in quick succession.
    assert_eq!(lab.hear(), 1);
    for _ in 0..10_000 {
        lab.vm.beat();
    }
    let exit = lab.wait_for("the computing process to end", async {
        loop {
            if let Some(exit) = futures_lite::future::poll_once(process.exited()).await {
                return exit;
            }
            lab.vm.beat();
            futures_lite::future::yield_now().await;
        }
    });
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn t012_modules_that_use_a_disabled_proposal_are_refused_and_the_error_names_it() {
    let lab = Lab::new();
    for (what, text) in [
        (
            "exceptions",
            "(module (tag $t) (func (export \"main\") (throw $t)))",
        ),
        (
            "gc",
            "(module (type $s (struct (field i32))) (func (export \"main\") (drop (struct.new_default $s))))",
        ),
        (
            "gc",
            "(module (type $a (array i8)) (func (export \"main\") (drop (array.new_default $a (i32.const 9)))))",
        ),
        (
            "gc",
            "(module (func (export \"main\") (drop (ref.i31 (i32.const 1)))))",
        ),
        (
            "typed function references",
            "(module (type $f (func)) (func (export \"main\") (param (ref null $f)) (call_ref $f (local.get 0))))",
        ),
        (
            "threads",
            "(module (memory 1 1 shared) (func (export \"main\")))",
        ),
        (
            "threads",
            "(module (memory 1) (func (export \"main\") (drop (i32.atomic.load (i32.const 0)))))",
        ),
        (
            "memory64",
            "(module (memory i64 1) (func (export \"main\")))",
        ),
        (
            "memory64",
            "(module (table i64 1 funcref) (func (export \"main\")))",
        ),
        (
            "custom page sizes",
            "(module (memory 1 (pagesize 1)) (func (export \"main\")))",
        ),
        (
            "wide arithmetic",
            "(module (func (export \"main\") (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) i64.add128 drop drop))",
        ),
        (
            "stack switching",
            "(module (type $f (func)) (type $c (cont $f)) (func $g) (elem declare func $g)
                (func (export \"main\") (drop (cont.new $c (ref.func $g)))))",
        ),
    ] {
        let error = lab
            .vm
            .module("test", text.as_bytes())
            .expect_err(what)
            .to_string();
        println!("{what}: {error}");
        assert!(
            [
                "enable",
                "disabled",
                "not supported",
                "does not support",
                "must be 1",
                "required"
            ]
            .iter()
            .any(|word| error.contains(word)),
            "{what}: {error}"
        );
    }
}

#[test]
fn t012_loops_made_of_tail_calls_can_be_preempted() {
    // Tail calls can repeat without a loop instruction and without using stack space.
    let lab = Lab::new();
    for body in ["(return_call $f)", "(return_call_indirect (i32.const 0))"] {
        let process = lab.spawn(&guest(
            &[],
            &format!(
                r#"(table funcref (elem $f)) (func $f {body})
                (func (export "main") (call $say (i64.const 1)) (call $f))"#
            ),
        ));
        assert_eq!(lab.hear(), 1);
        process.kill();
        assert!(matches!(lab.exit(&process), Exit::Killed), "{body}");
    }
}
