//! Tests for mailboxes: order, limits, selective receives, timeouts, and the notification that no
//! sender is left.

use crate::support::actor::{self, Actor, Mail};
use crate::support::{Lab, guest};
use lunatic_vm::{Exit, ExitKind, Limit, SendError, Val, Vm};

const FULL: i64 = 2;
const TOO_LARGE: i64 = 3;
const NOBODY_LEFT: i64 = 9028;

#[test]
fn messages_from_one_sender_keep_their_order() {
    let lab = Lab::with(Vm::builder().workers(4));
    let environment = lab.environment();
    // Four senders number their messages. The receiver reports by how much each number differs from
    // the expected one.
    let module = lab.module(&guest(
        &["lunatic::message::send_bytes", "lunatic::message::receive_bytes"],
        r#"(func (export "send") (param $to i64) (param $tag i64) (local $number i64)
            (loop $again
                (i64.store (i32.const 0) (local.get $number))
                (if (call $send_bytes (local.get $to) (local.get $tag) (i32.const 0) (i32.const 8) (i32.const 0)
                    (i32.const 0)) (then unreachable))
                (local.set $number (i64.add (local.get $number) (i64.const 1)))
                (br_if $again (i64.lt_u (local.get $number) (i64.const 10000)))))
        (func (export "main") (local $left i32) (local $due i32)
            (local.set $left (i32.const 40000))
            (loop $again
                (drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) (i32.const 64) (i32.const 8)
                    (i32.const 0)))
                (local.set $due (i32.add (i32.const 1024) (i32.mul (i32.const 8) (i32.wrap_i64 (i64.load (i32.const 16))))))
                (if (i64.ne (i64.load (local.get $due)) (i64.load (i32.const 64))) (then unreachable))
                (i64.store (local.get $due) (i64.add (i64.const 1) (i64.load (local.get $due))))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    ));
    let receiver = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    let to = Val::I64(receiver.pid().number().cast_signed());
    for tag in 1..=4 {
        environment
            .spawn(&module, "send", &[to, Val::I64(tag)])
            .expect("no limit applies");
    }
    let exit = lab.exit(&receiver);
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn a_message_arrives_before_the_notice_of_its_senders_exit() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let watcher = Actor::spawn(&lab, &environment, &module);
    for number in 0..100 {
        let sender = Actor::spawn(&lab, &environment, &module);
        watcher.monitor(0, sender.pid());
        assert_eq!(sender.send(watcher.pid(), 5, number), 0);
        sender.process.kill();
        assert_eq!(watcher.receive(&[], -1), Mail::Data(5, number));
        assert_eq!(
            watcher.receive(&[], -1),
            Mail::ProcessDied(0, sender.pid(), ExitKind::Killed as i64)
        );
    }
}

#[test]
fn t046_a_receive_that_times_out_as_a_message_arrives_loses_and_reorders_nothing() {
    let lab = Lab::with(Vm::builder().workers(4));
    let environment = lab.environment();
    // The receiver waits with timeouts of 0 and 1 ms, with and without a tag. The sender pauses now
    // and then.
    let module = lab.module(&guest(
        &["lunatic::message::send_bytes", "lunatic::message::receive_bytes", "lunatic::process::sleep_ms"],
        r#"(func (export "send") (param $to i64) (local $number i64)
            (loop $again
                (i64.store (i32.const 0) (local.get $number))
                (if (call $send_bytes (local.get $to) (i64.const 7) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0))
                    (then unreachable))
                (local.set $number (i64.add (local.get $number) (i64.const 1)))
                (if (i64.eqz (i64.rem_u (local.get $number) (i64.const 16))) (then (call $sleep_ms (i64.const 1))))
                (br_if $again (i64.lt_u (local.get $number) (i64.const 8000)))))
        (func (export "main") (local $due i64) (local $turn i32) (local $code i32)
            (i64.store (i32.const 256) (i64.const 9)) (i64.store (i32.const 264) (i64.const 7))
            (loop $again
                (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
                (local.set $code (call $receive_bytes
                    (i32.const 256) (i32.mul (i32.const 2) (i32.and (local.get $turn) (i32.const 1)))
                    (i64.extend_i32_u (i32.and (i32.shr_u (local.get $turn) (i32.const 1)) (i32.const 1)))
                    (i32.const 64) (i32.const 8) (i32.const 0)))
                (if (i32.eqz (local.get $code)) (then
                    (if (i64.ne (local.get $due) (i64.load (i32.const 64))) (then unreachable))
                    (local.set $due (i64.add (local.get $due) (i64.const 1))))
                (else (if (i32.ne (local.get $code) (i32.const 9027)) (then unreachable))))
                (br_if $again (i64.lt_u (local.get $due) (i64.const 8000)))))"#,
    ));
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let receiver = environment
                .spawn(&module, "main", &[])
                .expect("no limit applies");
            let to = Val::I64(receiver.pid().number().cast_signed());
            environment
                .spawn(&module, "send", &[to])
                .expect("no limit applies");
            receiver
        })
        .collect();
    for receiver in &receivers {
        let exit = lab.exit(receiver);
        assert!(exit.is_normal(), "{exit}");
    }
}

#[test]
fn t042_a_flood_fills_a_mailbox_to_its_limit_and_the_senders_get_an_error() {
    let lab = Lab::with(Vm::builder().workers(2));
    let module = lab.module(&actor::module());
    let environment = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 100);
    });
    let flooder = lab.module(&guest(
        &["lunatic::message::send_bytes"],
        r#"(func (export "main") (param $to i64) (local $left i32) (local $full i64)
            (local.set $left (i32.const 20))
            (loop $again
                (if (i32.eq (i32.const 2) (call $send_bytes (local.get $to) (i64.const 1)
                    (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0)))
                    (then (local.set $full (i64.add (local.get $full) (i64.const 1)))))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $say (local.get $full)))"#,
    ));
    // In the meantime, the victim waits for a message with a different tag.
    let victim = lab.module(&guest(
        &["lunatic::message::receive"],
        r#"(func (export "main") (i64.store (i32.const 0) (i64.const 9))
            (drop (call $receive (i32.const 0) (i32.const 1) (i64.const -1)))
            (call $say (i64.const -1)))"#,
    ));
    let victim = environment
        .spawn(&victim, "main", &[])
        .expect("no limit applies");
    let to = Val::I64(victim.pid().number().cast_signed());
    for _ in 0..1000 {
        environment
            .spawn(&flooder, "main", &[to])
            .expect("no limit applies");
    }
    let full: i64 = (0..1000).map(|_| lab.hear()).sum();
    assert_eq!(full, 20_000 - 100);
    assert_eq!(victim.mailbox_size(), (100, 800));
    assert!(matches!(
        victim.send(8, b""),
        Err(SendError::MailboxFull(..))
    ));
    // There is always room for a signal, and the owner of the flooded mailbox is alive.
    let actor = Actor::spawn(&lab, &environment, &module);
    actor.link(0, victim.pid());
    actor.trap();
    assert!(matches!(lab.exit(&victim), Exit::LinkDied { .. }));
}

#[test]
fn a_sender_waits_one_slice_for_room_and_then_gets_an_error() {
    let lab = Lab::manual(1);
    let module = lab.module(&actor::module());
    let small = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 2);
    });
    let receiver = Actor::spawn(&lab, &small, &module);
    let sender = Actor::spawn(&lab, &lab.environment(), &module);
    assert_eq!(sender.send(receiver.pid(), 1, 10), 0);
    assert_eq!(sender.send(receiver.pid(), 1, 11), 0);
    // The receiver does not run in between, because the command to do so would be one message too
    // many.
    assert_eq!(sender.send(receiver.pid(), 1, 12), FULL);
    assert_eq!(receiver.process.mailbox_size(), (2, 16));
}

#[test]
fn an_offer_to_a_full_mailbox_is_refused_at_once() {
    let lab = Lab::manual(1);
    let small = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 2);
    });
    // The receiver never receives these messages, so only the number of the sender's turns shows
    // whether it waited for room.
    let receiver = lab.module(&guest(
        &["lunatic::message::receive"],
        r#"(func (export "main") (i64.store (i32.const 0) (i64.const 9))
            (drop (call $receive (i32.const 0) (i32.const 1) (i64.const -1))))"#,
    ));
    for (function, turns) in [("offer_bytes", 1), ("send_bytes", 2)] {
        let receiver = small
            .spawn(&receiver, "main", &[])
            .expect("no limit applies");
        let send = format!(
            "(call $say (i64.extend_i32_u (call ${function} (local.get $to) (i64.const 1)
                (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0))))"
        );
        let sender = lab.module(&guest(
            &[&format!("lunatic::message::{function}")],
            &format!(
                r#"(func (export "main") (param $to i64) {})"#,
                send.repeat(3)
            ),
        ));
        let to = Val::I64(receiver.pid().number().cast_signed());
        let sender = lab
            .environment()
            .spawn(&sender, "main", &[to])
            .expect("no limit applies");
        assert_eq!([lab.hear(), lab.hear(), lab.hear()], [0, 0, FULL]);
        assert!(lab.exit(&sender).is_normal());
        assert_eq!(sender.turns(), turns, "{function}");
        assert_eq!(receiver.mailbox_size(), (2, 16));
    }
}

#[test]
fn a_large_message_is_copied_in_portions_and_other_processes_run_in_between() {
    const SIZE: i64 = 16 << 20;
    const PORTIONS: u64 = 64;

    let lab = Lab::new();
    let own = "(call $process_id)";
    let all = format!("(i32.const 4096) (i32.const {SIZE})");
    let send = |function: &str| {
        format!(
            "(call $say (i64.extend_i32_u (call ${function} {own} (i64.const 1) {all}
                (i32.const 0) (i32.const 0))))"
        )
    };
    let receive = format!(
        "(drop (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1) {all} (i32.const 8)))
        (call $say (i64.load8_u (i32.const {})))",
        4095 + SIZE
    );
    let write = format!(
        "(call $create_data (i64.const 1) (i64.const 0))
        (call $say (i64.extend_i32_u (call $write_data {all})))
        (drop (call $send {own}))
        (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))"
    );
    let read = format!("(call $say (i64.extend_i32_u (call $read_data {all})))");
    let last = format!("(i32.store8 (i32.const {}) (i32.const 7))", 4095 + SIZE);
    let module = guest(
        &[
            "lunatic::process::process_id",
            "lunatic::message::offer_bytes",
            "lunatic::message::send_bytes",
            "lunatic::message::receive_bytes",
            "lunatic::message::create_data",
            "lunatic::message::write_data",
            "lunatic::message::send",
            "lunatic::message::receive",
            "lunatic::message::read_data",
        ],
        &format!(
            r#"(func (export "main") (drop (memory.grow (i32.const 512))) {last} {} {} {receive} {write} {read})"#,
            send("offer_bytes"),
            send("send_bytes"),
        ),
    );
    let process = lab.spawn(&module);
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear_all(), [FULL, 0, 7, SIZE, SIZE]);
    // The process copies such a message four times: it sends, receives, writes and reads one.
    assert!(process.turns() >= 4 * (PORTIONS - 1), "{}", process.turns());
}

#[test]
fn a_sender_that_waits_for_room_gets_it_once_a_ready_receiver_runs() {
    let lab = Lab::manual(1);
    let environment = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 1);
    });
    let module = lab.module(&guest(
        &["lunatic::message::send_bytes", "lunatic::message::receive"],
        r#"(func (export "send") (param $to i64) (local $left i32)
            (local.set $left (i32.const 100))
            (loop $again
                (if (call $send_bytes (local.get $to) (i64.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
                    (then unreachable))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $say (i64.const 1)))
        (func (export "main")
            (loop $again (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))) (br $again)))"#,
    ));
    let receiver = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    let to = Val::I64(receiver.pid().number().cast_signed());
    environment
        .spawn(&module, "send", &[to])
        .expect("no limit applies");
    assert_eq!(lab.hear(), 1);
}

#[test]
fn t044_a_message_that_exceeds_its_limit_on_bytes_or_resources_is_refused() {
    let lab = Lab::new();
    let exit = lab.run(&guest(
        &[
            "lunatic::message::create_data",
            "lunatic::message::push_module",
        ],
        r#"(func (export "main") (call $create_data (i64.const 0) (i64.const -1))
            (loop $again (drop (call $push_module (i64.const -1))) (br $again)))"#,
    ));
    assert!(exit.to_string().contains("at most 256 resources"), "{exit}");
    let exit = lab.run(&guest(
        &[
            "lunatic::message::create_data",
            "lunatic::message::write_data",
        ],
        r#"(func (export "main") (call $create_data (i64.const 0) (i64.const 1073741824))
            (loop $again (drop (call $write_data (i32.const 0) (i32.const 65536))) (br $again)))"#,
    ));
    assert!(
        exit.to_string()
            .contains("a message can have at most 16777216 bytes"),
        "{exit}"
    );
    let small = lab.environment_with(|config| {
        config.limit(Limit::MessageBytes, 7);
    });
    let module = lab.module(&actor::module());
    let [inside, outside] = [&small, &lab.environment()].map(|environment| {
        let module = lab.module(&guest(
            &["lunatic::message::send_bytes", "lunatic::message::receive"],
            r#"(func (export "main") (param $to i64)
                (call $say (i64.extend_i32_u (call $send_bytes (local.get $to) (i64.const 0) (i32.const 0) (i32.const 8)
                    (i32.const 0) (i32.const 0)))))"#,
        ));
        (environment.clone(), module)
    });
    let receiver = Actor::spawn(&lab, &lab.environment(), &module);
    let tight = small
        .spawn(&linger(&lab), "main", &[])
        .expect("no limit applies");
    for ((environment, module), to) in [(inside, receiver.pid()), (outside, tight.pid())] {
        environment
            .spawn(&module, "main", &[Val::I64(to.number().cast_signed())])
            .expect("no limit applies");
        assert_eq!(lab.hear(), TOO_LARGE);
    }
}

/// A process that waits forever.
fn linger(lab: &Lab) -> lunatic_vm::Module {
    lab.module(&guest(
        &["lunatic::message::receive"],
        r#"(func (export "main") (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))"#,
    ))
}

#[test]
fn t045_repeated_searches_for_a_tag_among_a_hundred_thousand_messages_are_fast() {
    let lab = Lab::new();
    let exit = lab.run(&guest(
        &["lunatic::message::send_bytes", "lunatic::message::receive", "lunatic::process::process_id"],
        r#"(func $send (param $tag i64)
            (if (call $send_bytes (call $process_id) (local.get $tag) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0)) (then unreachable)))
        (func (export "main") (local $left i32)
            (local.set $left (i32.const 99999))
            (loop $again
                (call $send (i64.extend_i32_u (i32.rem_u (local.get $left) (i32.const 1000))))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (i64.store (i32.const 8) (i64.const 5000))
            (local.set $left (i32.const 100000))
            (loop $again
                (if (i32.ne (i32.const 9027) (call $receive (i32.const 8) (i32.const 1) (i64.const 0))) (then unreachable))
                (call $send (i64.const 5000))
                (if (call $receive (i32.const 8) (i32.const 1) (i64.const 0)) (then unreachable))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn t047_a_message_to_a_dead_process_is_dropped_and_reaches_no_other_process() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let sender = Actor::spawn(&lab, &environment, &module);
    let mut dead = Vec::new();
    for _ in 0..200 {
        let actor = Actor::spawn(&lab, &environment, &module);
        dead.push(actor.pid());
        actor.finish();
        let heir = Actor::spawn(&lab, &environment, &module);
        for &pid in &dead[dead.len().saturating_sub(3)..] {
            assert_ne!(pid, heir.pid());
            assert_eq!(
                sender.send(pid, 1, 1),
                0,
                "the result is the same as for a live process"
            );
        }
        assert_eq!(heir.process.mailbox_size(), (0, 0));
        assert!(!sender.exists(actor.pid()));
        heir.finish();
    }
}

#[test]
fn a_signal_with_a_tag_is_found_by_its_tag_and_keeps_its_place() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let [watcher, one, other] = [(); 3].map(|()| Actor::spawn(&lab, &environment, &module));
    watcher.monitor(0, one.pid());
    watcher.monitor(4, other.pid());
    one.finish();
    assert_eq!(watcher.send(watcher.pid(), 0, 1), 0);
    other.finish();
    assert_eq!(
        watcher.take(&[0]),
        Mail::Data(0, 1),
        "a receive with tag 0 does not find an exit notification without a tag"
    );
    assert_eq!(watcher.take(&[4]), Mail::ProcessDied(4, other.pid(), 0));
    assert_eq!(watcher.take(&[]), Mail::ProcessDied(0, one.pid(), 0));
}

/// Runs a guest's `main` in an environment that receives no messages from outside.
fn run_closed(lab: &Lab, text: &str) -> Exit {
    let environment = lab.environment_with(|config| {
        config.closed();
    });
    let process = environment
        .spawn(&lab.module(text), "main", &[])
        .expect("no limit applies");
    lab.exit(&process)
}

#[test]
fn the_last_process_is_notified_that_no_sender_is_left() {
    let lab = Lab::new();
    let text = guest(
        &["lunatic::message::receive"],
        r#"(func (export "main")
            (call $say (i64.extend_i32_u (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))))"#,
    );
    assert!(run_closed(&lab, &text).is_normal());
    assert_eq!(lab.hear(), NOBODY_LEFT);
}

#[test]
fn no_process_is_notified_that_it_is_the_last_when_the_main_process_ends_the_program() {
    let lab = Lab::with(Vm::builder().workers(4));
    let text = guest(
        &["lunatic::message::receive", "lunatic::process::spawn"],
        r#"(data (i32.const 16) "child")
        (func (export "child")
            (call $say (i64.extend_i32_u (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))))
        (func (export "main")
            (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 16) (i32.const 5) (i32.const 0)
                (i32.const 0) (i32.const 64)) (then unreachable))
            (call $say (i64.const 1)))"#,
    );
    let module = lab.module(&text);
    for _ in 0..200 {
        let environment = lab.environment_with(|config| {
            config.closed();
        });
        let main = environment
            .spawn_main(&module, "main", &[])
            .expect("no limit applies");
        assert!(lab.exit(&main).is_normal());
        lab.wait_for("the child to be killed", environment.ended());
        assert_eq!(lab.hear(), 1);
    }
    assert!(lab.heard_nothing_more(), "a child was notified");
}

#[test]
fn a_message_that_arrived_before_the_other_processes_ended_is_received() {
    let lab = Lab::with(Vm::builder().workers(4));
    let text = guest(
        &[
            "lunatic::message::receive",
            "lunatic::message::send_bytes",
            "lunatic::process::spawn",
            "lunatic::process::process_id",
        ],
        r#"(data (i32.const 16) "child") (data (i32.const 32) "\7e")
        (func (export "child") (param $parent i64)
            (if (call $send_bytes (local.get $parent) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
                (then unreachable)))
        (func (export "main") (local $left i32)
            (local.set $left (i32.const 500))
            (loop $again
                (i64.store (i32.const 33) (call $process_id))
                (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 16) (i32.const 5) (i32.const 32)
                    (i32.const 17) (i32.const 64)) (then unreachable))
                (if (call $receive (i32.const 0) (i32.const 0) (i64.const -1)) (then unreachable))
                (if (i32.ne (call $receive (i32.const 0) (i32.const 0) (i64.const -1)) (i32.const 9028)) (then unreachable))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    );
    let exit = run_closed(&lab, &text);
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn a_pending_timer_counts_as_a_sender_and_its_message_is_received() {
    let lab = Lab::new();
    let text = guest(
        &[
            "lunatic::message::receive",
            "lunatic::timer::send_bytes_after",
            "lunatic::timer::cancel_timer",
            "lunatic::process::process_id",
        ],
        r#"(func $start (param $delay i64)
            (if (call $send_bytes_after (call $process_id) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (local.get $delay) (i32.const 8)) (then unreachable)))
        (func $wait (result i32) (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
        (func (export "main")
            (call $start (i64.const 20))
            (if (call $wait) (then unreachable))
            (if (i32.ne (call $wait) (i32.const 9028)) (then unreachable))
            (call $start (i64.const -1))
            (if (i32.ne (call $cancel_timer (i64.load (i32.const 8))) (i32.const 1)) (then unreachable))
            (if (i32.ne (call $wait) (i32.const 9028)) (then unreachable)))"#,
    );
    let exit = run_closed(&lab, &text);
    assert!(exit.is_normal(), "{exit}");
}

#[test]
fn a_receive_with_a_timeout_waits_even_if_no_sender_is_left() {
    let lab = Lab::new();
    let text = guest(
        &["lunatic::message::receive"],
        r#"(func (export "main")
            (call $say (i64.extend_i32_u (call $receive (i32.const 0) (i32.const 0) (i64.const 5)))))"#,
    );
    assert!(run_closed(&lab, &text).is_normal());
    assert_eq!(lab.hear(), actor::TIMED_OUT);
}

#[test]
fn a_receive_keeps_waiting_if_the_host_may_send_messages() {
    let lab = Lab::new();
    let module = linger(&lab);
    let process = lab
        .environment()
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    let other = lab
        .environment()
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    other.kill();
    lab.exit(&other);
    assert!(process.is_alive());
    process.send(0, b"").expect("the mailbox has room");
    assert!(lab.exit(&process).is_normal());
}
