//! Tests for the order in which processes run and for how programs share the cores. The tests drive
//! the clock and count turns, so that nothing depends on the computer's speed.

use crate::support::{Lab, import};
use lunatic_vm::{Caller, Environment, Exit, Guest, Host, Module, Vm, VmBuilder, Weight};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A VM with one worker, on which programs report their turns.
struct Share {
    lab: Lab,
    seen: Arc<Mutex<Seen>>,
}

/// The turns that the programs have reported.
#[derive(Default)]
struct Seen {
    /// The pid of the process that reported last, and the turn in which it reported.
    last: (u64, u64),
    /// The number of turns in which each program has reported.
    turns: [u64; 3],
    /// The total number of reports from all programs.
    steps: u64,
}

impl Share {
    fn new() -> Share {
        Share::with(|builder| builder)
    }

    fn with(change: impl FnOnce(VmBuilder) -> VmBuilder) -> Share {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut host = Host::default();
        let told = Arc::clone(&seen);
        host.function(
            "test",
            "step",
            move |caller: Caller<'_, Guest>, program: i32| {
                let process = caller.data().process();
                let turn = (process.pid().number(), process.turns());
                let mut seen = told
                    .lock()
                    .expect("no code panics while it holds this lock");
                seen.steps += 1;
                if seen.last != turn {
                    seen.last = turn;
                    seen.turns[program as usize] += 1;
                }
            },
        );
        let builder = change(Vm::builder().manual_ticks().workers(1));
        Share {
            lab: Lab::with_host(builder, host),
            seen,
        }
    }

    /// Creates a program with the given weight. Its function `spin` spins.
    fn program(
        &self,
        number: i32,
        weight: u64,
        imports: &[&str],
        fields: &str,
    ) -> (Environment, Module) {
        let weight = Weight::new(weight).expect("the tests use only valid weights");
        let environment = self.lab.environment_with(|config| {
            config.weight(weight);
        });
        let imports: String = imports.iter().map(|name| import(name)).collect();
        let module = self.lab.module(&format!(
            r#"(module {imports}
                (import "test" "step" (func $step (param i32)))
                (import "test" "say" (func $say (param i64)))
                (memory (export "memory") 1)
                (func (export "spin") (loop (call $step (i32.const {number})) (br 0)))
                {fields})"#
        ));
        (environment, module)
    }

    /// Creates a program with spinning processes.
    fn spinning(&self, number: i32, weight: u64, processes: usize) -> Environment {
        let (environment, module) = self.program(number, weight, &[], "");
        for _ in 0..processes {
            environment
                .spawn(&module, "spin", &[])
                .expect("no limit applies");
        }
        environment
    }

    fn turns(&self) -> [u64; 3] {
        self.seen
            .lock()
            .expect("no code panics while it holds this lock")
            .turns
    }

    /// Waits for `count` more reports from the programs.
    fn steps(&self, count: u64) {
        let steps = || {
            self.seen
                .lock()
                .expect("no code panics while it holds this lock")
                .steps
        };
        let enough = steps() + count;
        self.wait_until("a report", || steps() >= enough);
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        self.lab.wait_for(what, async {
            while !is_so() {
                thread::yield_now();
                futures_lite::future::yield_now().await;
            }
        });
    }

    /// Runs for the given number of slices. Returns how many turns each program had during them.
    fn slices(&self, count: u32) -> [u64; 3] {
        let start = self.turns();
        for _ in 0..count {
            let before: u64 = self.turns().iter().sum();
            self.lab.vm.beat();
            // Wait until a process is running, so that the next tick ends that process's slice, not
            // the previous process's.
            self.wait_until("a turn", || self.turns().iter().sum::<u64>() > before);
        }
        let end = self.turns();
        std::array::from_fn(|program| end[program] - start[program])
    }
}

/// Fails the test unless each program had the expected number of turns, with a tolerance of two.
fn check(had: [u64; 3], expected: [u64; 3]) {
    let is_near = had
        .iter()
        .zip(expected)
        .all(|(had, expected)| had.abs_diff(expected) <= 2);
    assert!(is_near, "the turn counts were {had:?}, not {expected:?}");
}

#[test]
fn a_program_with_thousands_of_spinning_processes_gets_only_its_share() {
    let share = Share::new();
    let _crowd = share.spinning(0, 100, 2_500);
    let _one = share.spinning(1, 100, 1);
    // The program gets only its share even while most of its processes are new.
    check(share.slices(200), [100, 100, 0]);
    check(share.slices(200), [100, 100, 0]);
}

#[test]
fn programs_share_by_weight() {
    let share = Share::new();
    let _crowd = share.spinning(0, 100, 50);
    let _one = share.spinning(1, 300, 1);
    share.slices(60);
    check(share.slices(200), [50, 150, 0]);
    let _third = share.spinning(2, 400, 3);
    share.slices(10);
    check(share.slices(200), [25, 75, 100]);
}

#[test]
fn the_share_of_a_program_that_ends_goes_to_the_others() {
    let share = Share::new();
    let _one = share.spinning(0, 100, 1);
    let other = share.spinning(1, 900, 5);
    check(share.slices(100), [10, 90, 0]);
    other.end();
    // Each dying process gets one more turn, in which it reports nothing.
    share.slices(10);
    check(share.slices(50), [50, 0, 0]);
    // Neither of the two programs has accumulated any credit.
    let _third = share.spinning(2, 100, 1);
    check(share.slices(100), [50, 0, 50]);
}

#[test]
fn nested_environments_do_not_increase_a_programs_share() {
    let share = Share::new();
    let (environment, module) = share.program(
        0,
        100,
        &[
            "lunatic::environment::create_empty_config",
            "lunatic::environment::config_allow_namespace",
            "lunatic::environment::create",
            "lunatic::environment::spawn",
        ],
        r#"(data (i32.const 0) "spin")
           (func (export "nest") (local $left i32) (local.set $left (i32.const 20))
             (loop $again
               (if (call $create_empty_config (i32.const 64)) (then unreachable))
               (if (call $config_allow_namespace (i64.load (i32.const 64)) (i32.const 0) (i32.const 0) (i32.const 72)) (then unreachable))
               (if (call $create (i64.load (i32.const 64)) (i32.const 80)) (then unreachable))
               (if (call $spawn (i64.load (i32.const 80)) (i64.const -1) (i64.const 0) (i32.const 0) (i32.const 4)
                      (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                      (i32.const 88)) (then unreachable))
               (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             (call $say (i64.const 1)))"#,
    );
    let nest = environment
        .spawn(&module, "nest", &[])
        .expect("no limit applies");
    assert_eq!(share.lab.hear(), 1);
    assert!(share.lab.exit(&nest).is_normal());
    assert_eq!(environment.processes().len(), 20);
    let _one = share.spinning(1, 100, 1);
    share.slices(4);
    check(share.slices(100), [50, 50, 0]);
}

#[test]
fn a_flood_of_woken_processes_gets_only_its_share() {
    let share = Share::new();
    let _crowd = share.spinning(0, 100, 200);
    let _one = share.spinning(1, 100, 1);
    share.slices(10);
    // Two hundred processes wake each other and never use up a slice. Each process is woken before
    // the previous one waits.
    let (flood, module) = share.program(
        2,
        100,
        &["lunatic::process::process_id", "lunatic::message::receive_bytes", "lunatic::message::send_bytes"],
        r#"(func (export "play")
             (loop
               (call $step (i32.const 2))
               (drop (call $send_bytes (call $process_id) (i64.const 0) (i32.const 128) (i32.const 8) (i32.const 0) (i32.const 0)))
               (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 128) (i32.const 8) (i32.const 256)))
               (br 0)))"#,
    );
    for _ in 0..200 {
        flood.spawn(&module, "play", &[]).expect("no limit applies");
    }
    share.slices(10);
    let had = share.slices(300);
    assert!(
        had[0].abs_diff(had[1]) <= 3,
        "turns of two spinning programs alongside a flood: {had:?}"
    );
    // As this test counts slices, each program gets one in three.
    assert!(
        had[1] >= 90,
        "turns of one spinning program alongside a flood, in 300 slices: {had:?}"
    );
}

#[test]
fn a_slice_lasts_as_many_ticks_as_configured_and_a_kill_waits_for_one_tick() {
    let share = Share::with(|builder| builder.slice(5));
    let (environment, module) = share.program(0, 100, &[], "");
    let [one, other] = [1, 2].map(|_| {
        environment
            .spawn(&module, "spin", &[])
            .expect("no limit applies")
    });
    share.steps(1);
    for turn in [1, 1, 1, 1, 2, 2, 2, 2, 2, 3] {
        share.lab.vm.beat();
        // The first report may come from before the tick. By the second report, the process has
        // noticed the tick.
        share.steps(2);
        assert_eq!(one.turns() + other.turns(), turn);
    }
    let told_last = share
        .seen
        .lock()
        .expect("no code panics while it holds this lock")
        .last
        .0;
    let running = if one.pid().number() == told_last {
        one
    } else {
        other
    };
    running.kill();
    share.lab.vm.beat();
    assert!(matches!(share.lab.exit(&running), Exit::Killed));
}

#[test]
fn ticks_and_slices_out_of_range_are_refused_and_the_error_states_the_range() {
    let check = |builder: VmBuilder, expected: &str| {
        assert_eq!(
            builder
                .build()
                .expect_err("the setting is out of range")
                .to_string(),
            expected
        );
    };
    check(
        Vm::builder().slice(0),
        "a slice must last from 1 to 1000 ticks, not 0",
    );
    check(
        Vm::builder().slice(1_001),
        "a slice must last from 1 to 1000 ticks, not 1001",
    );
    check(
        Vm::builder().tick(Duration::ZERO),
        "a tick must last from 100µs to 1s, not 0ns",
    );
    check(
        Vm::builder().tick(Duration::from_secs(2)),
        "a tick must last from 100µs to 1s, not 2s",
    );
}

#[test]
fn a_killed_process_ends_within_two_ticks_whatever_other_programs_do() {
    let share = Share::new();
    let _crowds = [0, 1, 2].map(|number| share.spinning(number, 10_000, 100));
    share.slices(400);
    // With the minimum weight of 1, the victim's next regular slice is a long way off.
    for weight in [100, 1] {
        let (victims, module) = share.program(
            0,
            weight,
            &[],
            r#"(func (export "main") (call $say (i64.const 1)) (loop (call $step (i32.const 0)) (br 0)))"#,
        );
        let victim = victims
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        share.slices(20);
        assert_eq!(share.lab.hear(), 1);
        victim.kill();
        share.lab.vm.beat();
        share.lab.vm.beat();
        assert!(matches!(share.lab.exit(&victim), Exit::Killed));
    }
}
