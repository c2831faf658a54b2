//! Which process runs when, and how cores are shared among programs. The test drives the clock and
//! counts turns, so that nothing depends on how fast the machine is.

use crate::support::{Lab, import};
use lunatic_vm::{Caller, Environment, Exit, Guest, Host, Module, Vm, VmBuilder, Weight};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Programs that report their turns, on one worker.
struct Share {
    lab: Lab,
    seen: Arc<Mutex<Seen>>,
}

/// What the programs have reported.
#[derive(Default)]
struct Seen {
    /// The pid of the process that reported last, and the turn in which it reported.
    last: (u64, u64),
    /// The number of turns in which each program has reported.
    turns: [u64; 3],
    /// The total number of reports from the programs.
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
                    .expect("nothing panics while it holds this lock");
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

    /// Makes a program with a weight, whose spinning function is `spin`.
    fn program(
        &self,
        number: i32,
        weight: u64,
        imports: &[&str],
        fields: &str,
    ) -> (Environment, Module) {
        let weight = Weight::new(weight).expect("the tests use valid weights");
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

    /// Makes a program of processes that spin.
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
            .expect("nothing panics while it holds this lock")
            .turns
    }

    /// Waits for the given number of further reports from the programs.
    fn steps(&self, count: u64) {
        let steps = || {
            self.seen
                .lock()
                .expect("nothing panics while it holds this lock")
                .steps
        };
        let enough = steps() + count;
        self.wait_until("a step", || steps() >= enough);
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        self.lab.wait_for(what, async {
            while !is_so() {
                thread::yield_now();
                futures_lite::future::yield_now().await;
            }
        });
    }

    /// Ends the given number of slices, and returns how many turns each program had meanwhile.
    fn slices(&self, count: u32) -> [u64; 3] {
        let start = self.turns();
        for _ in 0..count {
            let before: u64 = self.turns().iter().sum();
            self.lab.vm.beat();
            // Waits until a process runs, so that the next tick ends its slice and not the previous
            // one.
            self.wait_until("a turn", || self.turns().iter().sum::<u64>() > before);
        }
        let end = self.turns();
        std::array::from_fn(|program| end[program] - start[program])
    }
}

/// Fails unless the programs had these numbers of turns, give or take two.
fn check(had: [u64; 3], expected: [u64; 3]) {
    let is_near = had
        .iter()
        .zip(expected)
        .all(|(had, expected)| had.abs_diff(expected) <= 2);
    assert!(is_near, "turns were {had:?}, not {expected:?}");
}

#[test]
fn a_program_of_thousands_that_spin_takes_no_more_than_its_share() {
    let share = Share::new();
    let _crowd = share.spinning(0, 100, 2_500);
    let _one = share.spinning(1, 100, 1);
    // This holds even while most of the crowd is new.
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
fn a_program_that_ends_leaves_its_share_to_the_others() {
    let share = Share::new();
    let _one = share.spinning(0, 100, 1);
    let other = share.spinning(1, 900, 5);
    check(share.slices(100), [10, 90, 0]);
    other.end();
    // Dying processes get a turn for it, in which they report nothing.
    share.slices(10);
    check(share.slices(50), [50, 0, 0]);
    // Neither has saved anything up.
    let _third = share.spinning(2, 100, 1);
    check(share.slices(100), [50, 0, 50]);
}

#[test]
fn nested_environments_gain_a_program_nothing() {
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
fn a_flood_of_woken_processes_takes_no_more_than_its_share() {
    let share = Share::new();
    let _crowd = share.spinning(0, 100, 200);
    let _one = share.spinning(1, 100, 1);
    share.slices(10);
    // Two hundred processes that wake each other and never use up a slice; each is woken before the
    // previous one waits.
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
        "two that spin, beside a flood: {had:?}"
    );
    // One of three slices each, as ticks are counted here.
    assert!(
        had[1] >= 90,
        "one that spins, beside a flood, in 300 slices: {had:?}"
    );
}

#[test]
fn a_slice_lasts_as_many_ticks_as_configured_and_a_kill_waits_for_one() {
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
        // The first may have been on its way; by the second, the tick has been seen.
        share.steps(2);
        assert_eq!(one.turns() + other.turns(), turn);
    }
    let told_last = share
        .seen
        .lock()
        .expect("nothing panics while it holds this lock")
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
fn ticks_and_slices_that_are_not_possible_are_refused_with_what_is() {
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
        "a slice of 0 ticks is not possible: slices are from 1 to 1000 ticks",
    );
    check(
        Vm::builder().slice(1_001),
        "a slice of 1001 ticks is not possible: slices are from 1 to 1000 ticks",
    );
    check(
        Vm::builder().tick(Duration::ZERO),
        "a tick of 0ns is not possible: ticks are from 100µs to 1s",
    );
    check(
        Vm::builder().tick(Duration::from_secs(2)),
        "a tick of 2s is not possible: ticks are from 100µs to 1s",
    );
}

#[test]
fn a_process_is_killed_within_two_ticks_whatever_other_programs_do() {
    let share = Share::new();
    let _crowds = [0, 1, 2].map(|number| share.spinning(number, 10_000, 100));
    share.slices(400);
    // Even with the minimum weight, whose next slice is far away.
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
