//! Tests for process names.

use crate::support::actor::{self, Actor, Mail};
use crate::support::{Lab, guest};
use lunatic_vm::{ExitKind, Limit, Pid};
use std::collections::HashSet;

const TAKEN: i64 = 7;
const NOT_FOUND: i64 = 8;
const NOT_GRANTED: i64 = 4;
const NO_PROCESS: i64 = 6;
const LIMIT: i64 = 5;

#[test]
fn t053_exactly_one_of_a_hundred_processes_gets_a_name_that_all_try_to_register() {
    let lab = Lab::with(lunatic_vm::Vm::builder().workers(4));
    let environment = lab.environment();
    let module = lab.module(&guest(
        &[
            "lunatic::environment::register",
            "lunatic::process::process_id",
            "lunatic::message::receive",
        ],
        r#"(data (i32.const 0) "leader1.0.0")
        (func (export "main")
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
            (call $say (i64.extend_i32_u (call $register (i64.const -1) (i32.const 0) (i32.const 6)
                (i32.const 6) (i32.const 5) (call $process_id))))
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))"#,
    ));
    let racers: Vec<_> = (0..100)
        .map(|_| {
            environment
                .spawn(&module, "main", &[])
                .expect("no limit applies")
        })
        .collect();
    for racer in &racers {
        racer.send(0, b"go").expect("the mailbox has room");
    }
    let mut codes: Vec<i64> = racers.iter().map(|_| lab.hear()).collect();
    codes.sort_unstable();
    assert_eq!(codes[0], 0);
    assert!(codes[1..].iter().all(|&code| code == TAKEN), "{codes:?}");
    let winner = environment
        .lookup("leader", "*")
        .expect("one of the processes registered the name");
    assert!(racers.iter().any(|racer| racer.pid() == winner));
    assert_eq!(environment.used(Limit::Names), 1);
}

#[test]
fn t054_a_name_cannot_be_taken_from_its_process() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let [owner, thief] = [(); 2].map(|()| Actor::spawn(&lab, &environment, &module));
    assert_eq!(owner.register("bank", owner.pid()), 0);
    assert_eq!(thief.register("bank", thief.pid()), TAKEN);
    assert_eq!(thief.unregister("bank"), NOT_GRANTED);
    assert_eq!(thief.lookup("bank"), Some(owner.pid()));
    assert_eq!(owner.unregister("bank"), 0);
    assert_eq!(owner.unregister("bank"), NOT_FOUND);
    assert_eq!(thief.register("bank", thief.pid()), 0);
}

#[test]
fn t055_a_name_is_removed_with_its_process_and_can_then_be_registered_again() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let watcher = Actor::spawn(&lab, &environment, &module);
    let mut last = None;
    for _ in 0..200 {
        let service = Actor::spawn(&lab, &environment, &module);
        watcher.monitor(1, service.pid());
        assert_eq!(service.register("service", service.pid()), 0);
        assert_eq!(watcher.lookup("service"), Some(service.pid()));
        assert_ne!(last.replace(service.pid()), Some(service.pid()));
        service.process.kill();
        let down = watcher.receive(&[1], -1);
        assert_eq!(
            down,
            Mail::ProcessDied(1, service.pid(), ExitKind::Killed as i64)
        );
        assert_eq!(
            watcher.lookup("service"),
            None,
            "the name is removed before the exit of its process is reported"
        );
    }
    assert_eq!(environment.used(Limit::Names), 0);
}

#[test]
fn a_dead_process_is_not_registered() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let [one, other] = [(); 2].map(|()| Actor::spawn(&lab, &environment, &module));
    other.finish();
    assert_eq!(one.register("ghost", other.pid()), NO_PROCESS);
    assert_eq!(one.register("ghost", Pid::from_number(12345)), NO_PROCESS);
    assert_eq!(
        (one.lookup("ghost"), environment.used(Limit::Names)),
        (None, 0)
    );
}

#[test]
fn names_are_limited_and_each_name_counts_once() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::Names, 2);
    });
    let module = lab.module(&actor::module());
    let [one, other] = [(); 2].map(|()| Actor::spawn(&lab, &environment, &module));
    assert_eq!(one.register("a", one.pid()), 0);
    for _ in 0..10 {
        assert_eq!(
            one.register("a", one.pid()),
            0,
            "registering the same name again changes nothing"
        );
    }
    assert_eq!(
        other.register("a", other.pid()),
        TAKEN,
        "a repeated registration does not count"
    );
    assert_eq!(one.register("b", other.pid()), 0);
    assert_eq!(one.register("c", one.pid()), LIMIT);
    assert_eq!(environment.used(Limit::Names), 2);
    other.finish();
    assert_eq!(environment.used(Limit::Names), 1);
    assert_eq!(one.register("c", one.pid()), 0);
    assert_eq!((one.unregister("a"), one.unregister("c")), (0, 0));
    assert_eq!(environment.used(Limit::Names), 0);
}

#[test]
fn a_name_is_released_in_the_environment_that_counted_it() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let parent = Actor::spawn(&lab, &environment, &module);
    let config = parent.create_config();
    let child = parent.spawn_actor(0, config).expect("no limit applies");
    let inner = lab.vm.environment_of(&child.process);
    assert_ne!(inner.number(), environment.number());
    assert_eq!(parent.register("shared", child.pid()), 0);
    assert_eq!(
        (environment.used(Limit::Names), inner.used(Limit::Names)),
        (1, 0)
    );
    assert_eq!(
        child.unregister("shared"),
        0,
        "the name is in the parent's environment but belongs to the child"
    );
    assert_eq!(
        (environment.used(Limit::Names), inner.used(Limit::Names)),
        (0, 0)
    );
    assert_eq!(child.register("shared", child.pid()), 0);
    assert_eq!(
        (environment.used(Limit::Names), inner.used(Limit::Names)),
        (1, 1)
    );
    assert_eq!(parent.unregister("shared"), NOT_GRANTED);
    let inner = inner.clone();
    assert!(child.finish().is_normal());
    assert_eq!(
        (environment.used(Limit::Names), inner.used(Limit::Names)),
        (0, 0)
    );
}

#[test]
fn concurrent_registration_and_removal_leave_no_name_behind() {
    let lab = Lab::with(lunatic_vm::Vm::builder().workers(4));
    let environment = lab.environment();
    // The parameter is the pid of the process that gets the name. Two processes repeatedly register
    // the same name for that process and remove it.
    let module = lab.module(&guest(
        &["lunatic::environment::register", "lunatic::environment::unregister", "lunatic::message::receive"],
        r#"(data (i32.const 0) "n1.0.0")
        (func (export "wait") (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))
        (func (export "main") (param $holder i64) (local $left i32)
            (local.set $left (i32.const 20000))
            (loop $again
                (drop (call $register (i64.const -1) (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 5)
                    (local.get $holder)))
                (drop (call $unregister (i64.const -1) (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 5)))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    ));
    let holder = environment
        .spawn(&module, "wait", &[])
        .expect("no limit applies");
    let pid = lunatic_vm::Val::I64(holder.pid().number().cast_signed());
    let racers: Vec<_> = (0..4)
        .map(|_| {
            environment
                .spawn(&module, "main", &[pid])
                .expect("no limit applies")
        })
        .collect();
    for racer in &racers {
        assert!(lab.exit(racer).is_normal());
    }
    holder.kill();
    lab.exit(&holder);
    assert_eq!(
        (
            environment.lookup("n", "*").ok(),
            environment.used(Limit::Names)
        ),
        (None, 0)
    );
}

#[test]
fn each_environment_has_its_own_names() {
    let lab = Lab::new();
    let module = lab.module(&actor::module());
    let actors = [(); 2].map(|()| Actor::spawn(&lab, &lab.environment(), &module));
    for actor in &actors {
        assert_eq!(actor.register("same", actor.pid()), 0);
    }
    let found: HashSet<Pid> = actors
        .iter()
        .filter_map(|actor| actor.lookup("same"))
        .collect();
    assert_eq!(found.len(), 2);
}
