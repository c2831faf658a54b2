//! Tests for timers and sleeping.

use crate::support::actor::{self, Actor, Mail};
use crate::support::{Lab, guest};
use futures_lite::future::yield_now;
use lunatic_vm::{Environment, Exit, Limit, Pid};

#[test]
fn t060_timers_beyond_the_limit_are_refused_however_many_are_started() {
    let lab = Lab::new();
    let environment = lab.environment();
    let module = lab.module(&guest(
        &["lunatic::timer::send_bytes_after"],
        r#"(func (export "main") (local $left i32) (local $refused i64)
            (local.set $left (i32.const 1000000))
            (loop $again
                (if (call $send_bytes_after (i64.const 77) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i64.const -1) (i32.const 8))
                    (then (local.set $refused (i64.add (local.get $refused) (i64.const 1)))))
                ;; The number of errors is limited too, and a few errors are enough.
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $again (i32.and (i64.lt_u (local.get $refused) (i64.const 100)) (i32.ne (local.get $left) (i32.const 0)))))
            (call $say (i64.extend_i32_u (local.get $left))))"#,
    ));
    let process = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear(), 1_000_000 - 10_000 - 100);
    assert_eq!(
        environment.used(Limit::Timers),
        10_000,
        "timers outlive the process that started them"
    );
}

#[test]
fn timers_end_with_their_program() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let actor = Actor::spawn(&lab, &environment, &module);
    actor
        .send_after(actor.pid(), 1, i64::MAX)
        .expect("the limit on timers has not been reached");
    assert_eq!(environment.used(Limit::Timers), 1);
    environment.end();
    wait_for_the_last_timer(&lab, &environment);
}

#[test]
fn a_message_that_waits_for_room_is_dropped_when_its_timers_program_ends() {
    let lab = Lab::new();
    let module = lab.module(&actor::module());
    let other_program = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 2);
    });
    let full = Actor::spawn(&lab, &other_program, &module);
    for tag in [1, 2] {
        assert_eq!(full.send(full.pid(), tag, 0), 0);
    }
    let environment = lab.environment();
    let actor = Actor::spawn(&lab, &environment, &module);
    for (to, tag, delay) in [(full.pid(), 3, 0), (actor.pid(), 4, 30)] {
        actor
            .send_after(to, tag, delay)
            .expect("the limit on timers has not been reached");
    }
    // By the time the later timer fires, the first timer has usually found the mailbox full.
    assert_eq!(actor.receive(&[4], -1), Mail::Data(4, 0));
    assert_ne!(environment.used(Limit::Timers), 0);
    environment.end();
    wait_for_the_last_timer(&lab, &environment);
}

fn wait_for_the_last_timer(lab: &Lab, environment: &Environment) {
    lab.wait_for("the end of the timers", async {
        while environment.used(Limit::Timers) > 0 {
            yield_now().await;
        }
    });
}

#[test]
fn t060_a_timer_of_any_length_can_be_cancelled_once() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let actor = Actor::spawn(&lab, &environment, &module);
    for delay in [-1, i64::MAX, -2, 1 << 40] {
        let timer = actor
            .send_after(actor.pid(), 1, delay)
            .expect("the limit on timers has not been reached");
        assert!(actor.cancel(timer), "{delay}");
        assert!(!actor.cancel(timer), "{delay}");
    }
    assert!(!actor.cancel(12345));
    assert_eq!(actor.take(&[]), Mail::TimedOut);
}

#[test]
fn t060_a_timer_without_a_delay_fires_and_a_timer_to_a_dead_process_does_nothing() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let [actor, dead] = [(); 2].map(|()| Actor::spawn(&lab, &environment, &module));
    let timer = actor
        .send_after(actor.pid(), 6, 0)
        .expect("the limit on timers has not been reached");
    assert_eq!(actor.receive(&[6], -1), Mail::Data(6, 0));
    assert!(!actor.cancel(timer), "the timer has fired");
    dead.finish();
    for pid in [dead.pid(), Pid::from_number(1)] {
        actor
            .send_after(pid, 6, 0)
            .expect("the limit on timers has not been reached");
    }
    actor
        .send_after(actor.pid(), 7, 1)
        .expect("the limit on timers has not been reached");
    assert_eq!(actor.receive(&[7], -1), Mail::Data(7, 0));
    assert_eq!(actor.take(&[]), Mail::TimedOut);
}

#[test]
fn a_timer_fires_after_the_process_that_started_it_has_ended() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let [author, receiver] = [(); 2].map(|()| Actor::spawn(&lab, &environment, &module));
    author
        .send_after(receiver.pid(), 3, 20)
        .expect("the limit on timers has not been reached");
    author.finish();
    assert_eq!(receiver.receive(&[3], -1), Mail::Data(3, 0));
}

#[test]
fn a_timers_message_waits_for_room_in_a_full_mailbox() {
    let lab = Lab::new();
    let module = lab.module(&actor::module());
    let environment = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 2);
    });
    let full = Actor::spawn(&lab, &environment, &module);
    for tag in [1, 2] {
        assert_eq!(full.send(full.pid(), tag, 0), 0);
    }
    full.send_after(full.pid(), 3, 0)
        .expect("the limit on timers has not been reached");
    // By the time a later timer fires, the first timer has usually found the mailbox full.
    let other = Actor::spawn(&lab, &lab.environment(), &module);
    other
        .send_after(other.pid(), 4, 30)
        .expect("the limit on timers has not been reached");
    assert_eq!(other.receive(&[4], -1), Mail::Data(4, 0));
    for tag in [1, 2, 3] {
        assert_eq!(full.receive(&[], -1), Mail::Data(tag, 0));
    }
    wait_for_the_last_timer(&lab, &environment);
}

#[test]
fn timers_fire_in_the_order_of_their_delays() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let actor = Actor::spawn(&lab, &environment, &module);
    for delay in [90, 50, 10] {
        actor
            .send_after(actor.pid(), delay, delay)
            .expect("the limit on timers has not been reached");
    }
    for delay in [10, 50, 90] {
        assert_eq!(actor.receive(&[], -1), Mail::Data(delay, 0));
    }
}

#[test]
fn an_endless_sleep_ends_with_a_kill_and_a_sleep_of_zero_returns() {
    let lab = Lab::new();
    let sleeper = |time: i64| {
        lab.spawn(&guest(
            &["lunatic::process::sleep_ms"],
            &format!(r#"(func (export "main") (call $say (i64.const 1)) (call $sleep_ms (i64.const {time})))"#),
        ))
    };
    for time in [-1, -2, i64::MAX] {
        let process = sleeper(time);
        lab.hear();
        assert!(process.is_alive());
        process.kill();
        assert!(matches!(lab.exit(&process), Exit::Killed));
    }
    assert!(lab.exit(&sleeper(0)).is_normal());
}

#[test]
fn a_vm_can_be_dropped_while_timers_are_running() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let actor = Actor::spawn(&lab, &environment, &module);
    for delay in [-1, 1, 5, 100_000] {
        actor
            .send_after(actor.pid(), 0, delay)
            .expect("the limit on timers has not been reached");
    }
    drop(actor);
    drop(lab);
    assert_eq!(environment.used(Limit::Timers), 0);
}
