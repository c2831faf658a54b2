//! Tests for links and monitors: which processes are notified of an exit, and which die because of
//! it.

use crate::support::actor::{self, Actor, Mail};
use crate::support::{Lab, binary, guest, import};
use lunatic_vm::{Environment, Exit, ExitKind, Module, Pid, Process, Val, Vm};

const KILLED: i64 = ExitKind::Killed as i64;
const TRAPPED: i64 = ExitKind::Trapped as i64;
const NORMAL: i64 = ExitKind::Normal as i64;
const NO_PROCESS: i64 = ExitKind::NoProcess as i64;

fn actors<const COUNT: usize>(lab: &Lab) -> [Actor<'_>; COUNT] {
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    [(); COUNT].map(|()| Actor::spawn(lab, &environment, &module))
}

/// If a process died because of a link, returns which process failed first, and how it failed.
fn died_of(exit: &Exit) -> Option<(Pid, ExitKind)> {
    match exit {
        Exit::LinkDied { pid, exit } => Some((*pid, exit.kind())),
        _ => None,
    }
}

#[test]
fn t050_monitoring_a_dead_process_reports_no_process_at_once() {
    let lab = Lab::new();
    let [watcher, dead] = actors(&lab);
    dead.finish();
    for pid in [
        dead.pid(),
        Pid::from_number(77),
        Pid::from_number(u64::MAX),
        Pid::from_number(0),
    ] {
        watcher.monitor(3, pid);
        assert_eq!(watcher.take(&[3]), Mail::ProcessDied(3, pid, NO_PROCESS));
        assert_eq!(
            watcher.take(&[]),
            Mail::TimedOut,
            "there is only one notification"
        );
    }
}

#[test]
fn a_link_to_a_dead_process_kills_or_notifies_like_any_failure() {
    let lab = Lab::new();
    let [told, dies, dead] = actors(&lab);
    dead.finish();
    told.die_when_link_dies(false);
    told.link(5, dead.pid());
    assert_eq!(told.take(&[5]), Mail::LinkDied(5, dead.pid(), NO_PROCESS));
    dies.command("link", [0, dead.pid().number().cast_signed(), 0], b"");
    assert_eq!(
        died_of(&lab.exit(&dies.process)),
        Some((dead.pid(), ExitKind::NoProcess))
    );
}

#[test]
fn t049_a_link_to_a_process_that_is_dying_fails_exactly_once() {
    let lab = Lab::with(Vm::builder().workers(4));
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    let [linker, witness] = actors(&lab);
    linker.die_when_link_dies(false);
    witness.die_when_link_dies(false);
    for round in 0..300 {
        let other = Actor::spawn(&lab, &environment, &module);
        witness.monitor(2, other.pid());
        witness.link(1, other.pid());
        linker.monitor(2, other.pid());
        other.process.kill();
        // The delay varies so that the link is made at the time of the kill, long after it, or in
        // between.
        linker.link(1, other.pid());
        linker.monitor(3, other.pid());
        witness.link(4, other.pid());
        assert_eq!(
            witness.receive(&[2], -1),
            Mail::ProcessDied(2, other.pid(), KILLED)
        );
        let Mail::LinkDied(1, pid, KILLED | NO_PROCESS) = linker.receive(&[1], -1) else {
            panic!("round {round}")
        };
        assert_eq!(pid, other.pid());
        // The older monitor existed when the process died, so its notification has the reason, no
        // matter what the later monitor's notification says.
        assert_eq!(
            linker.receive(&[2], -1),
            Mail::ProcessDied(2, other.pid(), KILLED)
        );
        let Mail::ProcessDied(3, _, KILLED | NO_PROCESS) = linker.receive(&[3], -1) else {
            panic!("round {round}")
        };
        lab.exit(&other.process);
        assert_eq!(
            linker.take(&[]),
            Mail::TimedOut,
            "round {round}: no exit is reported twice"
        );
        // A link that existed when the process died reports the reason. The link has the newer tag
        // if the second call came before the death. If the second call came later, it made a link
        // to a dead process.
        match witness.take(&[]) {
            Mail::LinkDied(4, _, KILLED) => {}
            Mail::LinkDied(1, _, KILLED) => {
                assert_eq!(
                    witness.take(&[]),
                    Mail::LinkDied(4, other.pid(), NO_PROCESS),
                    "round {round}"
                );
            }
            other => panic!("round {round}: {other:?}"),
        }
        assert_eq!(
            witness.take(&[]),
            Mail::TimedOut,
            "round {round}: no exit is reported twice"
        );
    }
}

/// How the other process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Normal,
    Trap,
    Kill,
}

#[test]
fn t052_a_link_works_as_in_erlang_whichever_process_made_it() {
    let lab = Lab::new();
    let (environment, module) = (lab.environment(), lab.module(&actor::module()));
    for is_told in [false, true] {
        for made_by_other in [false, true] {
            for (end, kind) in [
                (End::Normal, NORMAL),
                (End::Trap, TRAPPED),
                (End::Kill, KILLED),
            ] {
                let case = format!(
                    "notified: {is_told}, linked by the other process: {made_by_other}, {end:?}"
                );
                let [one, other] = [(); 2].map(|()| Actor::spawn(&lab, &environment, &module));
                one.die_when_link_dies(!is_told);
                match made_by_other {
                    true => other.link(9, one.pid()),
                    false => one.link(9, other.pid()),
                }
                match end {
                    End::Normal => other.finish(),
                    End::Trap => other.trap(),
                    End::Kill => {
                        other.process.kill();
                        lab.exit(&other.process)
                    }
                };
                match (is_told, end) {
                    (_, End::Normal) => assert_eq!(one.take(&[]), Mail::TimedOut, "{case}"),
                    (true, _) => assert_eq!(
                        one.take(&[]),
                        Mail::LinkDied(9, other.pid(), kind),
                        "{case}"
                    ),
                    (false, _) => {
                        let exit = lab.exit(&one.process);
                        assert_eq!(
                            died_of(&exit).map(|(pid, kind)| (pid, kind as i64)),
                            Some((other.pid(), kind))
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_process_that_asks_to_be_notified_of_links_can_still_be_killed() {
    let lab = Lab::new();
    let [one, other] = actors(&lab);
    one.die_when_link_dies(false);
    other.kill(one.pid());
    assert!(matches!(lab.exit(&one.process), Exit::Killed));
}

#[test]
fn an_unlinked_process_is_not_notified() {
    let lab = Lab::new();
    let [one, other, third] = actors(&lab);
    one.die_when_link_dies(false);
    one.link(1, other.pid());
    other.link(1, one.pid());
    one.unlink(other.pid());
    one.link(1, third.pid());
    third.unlink(one.pid());
    other.trap();
    third.trap();
    assert_eq!(one.take(&[]), Mail::TimedOut);
}

#[test]
fn a_link_from_a_process_to_itself_does_nothing() {
    let lab = Lab::new();
    let [one] = actors(&lab);
    one.link(1, one.pid());
    one.unlink(one.pid());
    one.link(1, one.pid());
    assert!(matches!(one.trap(), Exit::Trapped(_)));
}

#[test]
fn a_removed_monitor_reports_nothing_and_the_others_still_work() {
    let lab = Lab::new();
    let [watcher, other] = actors(&lab);
    for tag in [1, 2, 3] {
        watcher.monitor(tag, other.pid());
    }
    assert!(watcher.stop_monitoring(2, other.pid()));
    assert!(!watcher.stop_monitoring(2, other.pid()));
    assert!(!watcher.stop_monitoring(7, other.pid()));
    other.trap();
    assert_eq!(
        watcher.take(&[]),
        Mail::ProcessDied(1, other.pid(), TRAPPED)
    );
    assert_eq!(
        watcher.take(&[]),
        Mail::ProcessDied(3, other.pid(), TRAPPED)
    );
    assert_eq!(watcher.take(&[]), Mail::TimedOut);
}

/// Spawns a chain of processes, each linked to the previous one, so that a failure spreads from
/// each process to the next.
fn linked(lab: &Lab, environment: &Environment, module: &Module, count: usize) -> Vec<Process> {
    let mut processes: Vec<Process> = Vec::new();
    for _ in 0..count {
        let before = processes.last().map_or(0, |process| process.pid().number());
        let parameter = Val::I64(before.cast_signed());
        processes.push(
            environment
                .spawn(module, "main", &[parameter])
                .expect("no limit applies"),
        );
        lab.hear();
    }
    processes
}

/// A process that links to another process, reports this and sleeps. It has no memory, so the
/// kernel's limits allow thousands of such processes.
fn sleeping(lab: &Lab) -> Module {
    lab.module(&format!(
        r#"(module {} {} (import "test" "say" (func $say (param i64)))
        (func (export "main") (param $before i64)
            (if (i64.ne (local.get $before) (i64.const 0)) (then (call $link (i64.const 1) (local.get $before))))
            (call $say (i64.const 0))
            (call $sleep_ms (i64.const -1))))"#,
        import("lunatic::process::link"),
        import("lunatic::process::sleep_ms")
    ))
}

fn linking(lab: &Lab) -> Module {
    lab.module(&guest(
        &["lunatic::process::link", "lunatic::message::receive", "lunatic::message::get_tag"],
        r#"(func (export "main") (param $before i64)
            (if (i64.ne (local.get $before) (i64.const 0)) (then (call $link (i64.const 1) (local.get $before))))
            (call $say (i64.const 0))
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
            unreachable)"#,
    ))
}

#[test]
fn t048_in_a_ring_of_a_thousand_links_each_process_dies_once_of_the_first_failure() {
    let lab = Lab::new();
    let ring = linked(&lab, &lab.environment(), &linking(&lab), 1000);
    let [closer] = actors(&lab);
    closer.die_when_link_dies(false);
    closer.link(1, ring[0].pid());
    closer.link(2, ring[999].pid());
    ring[500].send(0, b"").expect("the mailbox has room");
    assert!(matches!(lab.exit(&ring[500]), Exit::Trapped(_)));
    for process in ring
        .iter()
        .filter(|process| process.pid() != ring[500].pid())
    {
        assert_eq!(
            died_of(&lab.exit(process)),
            Some((ring[500].pid(), ExitKind::Trapped))
        );
    }
    let mut tags = [closer.receive(&[], -1), closer.receive(&[], -1)].map(|mail| match mail {
        Mail::LinkDied(tag, ..) => tag,
        other => panic!("{other:?}"),
    });
    tags.sort_unstable();
    assert_eq!((tags, closer.take(&[])), ([1, 2], Mail::TimedOut));
}

#[test]
fn t059_ten_thousand_linked_children_die_with_their_parent() {
    let lab = Lab::roomy();
    let environment = lab.environment();
    // There are as many children as the VM has slots for besides the parent. They have no memory,
    // so the kernel's limits allow them.
    let (child, length) = binary(
        r#"(module (import "lunatic::process" "sleep_ms" (func (param i64))) (func (export "main") (call 0 (i64.const -1))))"#,
    );
    let module = lab.module(&guest(
        &["lunatic::process::spawn", "lunatic::process::compile_module", "lunatic::message::receive"],
        &format!(
            r#"(data (i32.const 16) "main") (data (i32.const 1024) "{child}")
        (func (export "main") (local $left i32)
            (if (call $compile_module (i32.const 1024) (i32.const {length}) (i32.const 24)) (then unreachable))
            (local.set $left (i32.const 9999))
            (loop $again
                (if (call $spawn (i64.const 1) (i64.const -1) (i64.load (i32.const 24)) (i32.const 16) (i32.const 4)
                    (i32.const 0) (i32.const 0) (i32.const 8)) (then unreachable))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $say (i64.const 0))
            (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))))"#,
        ),
    ));
    let parent = environment
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    lab.hear();
    assert_eq!(lab.vm.processes().len(), 10_000);
    parent.kill();
    lab.wait_for("all processes to end", environment.ended());
    assert_eq!(lab.vm.processes().len(), 0);
    assert_eq!(environment.used(lunatic_vm::Limit::Processes), 0);
}

#[test]
fn a_spawn_with_a_link_is_linked_before_the_childs_first_instruction() {
    let lab = Lab::new();
    // The child traps in its start function, which is the first code that it runs.
    let (child, length) = binary(r#"(module (func unreachable) (start 0) (func (export "main")))"#);
    let module = lab.module(&guest(
        &[
            "lunatic::process::spawn",
            "lunatic::process::compile_module",
            "lunatic::process::die_when_link_dies",
            "lunatic::message::receive_bytes",
        ],
        &format!(
            r#"(data (i32.const 16) "main") (data (i32.const 1024) "{child}")
            (func (export "main") (local $left i32)
                (call $die_when_link_dies (i32.const 0))
                (if (call $compile_module (i32.const 1024) (i32.const {length}) (i32.const 8)) (then unreachable))
                (local.set $left (i32.const 500))
                (loop $again
                    (if (call $spawn (i64.const 6) (i64.const -1) (i64.load (i32.const 8)) (i32.const 16) (i32.const 4)
                        (i32.const 0) (i32.const 0) (i32.const 32)) (then unreachable))
                    (if (i32.ne (i32.const 1) (call $receive_bytes (i32.const 0) (i32.const 0) (i64.const -1)
                        (i32.const 256) (i32.const 64) (i32.const 512))) (then unreachable))
                    (if (i64.ne (i64.load (i32.const 32)) (i64.load (i32.const 536))) (then unreachable))
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (call $say (i64.const 42)))"#,
        ),
    ));
    let process = lab
        .environment()
        .spawn(&module, "main", &[])
        .expect("no limit applies");
    assert!(lab.exit(&process).is_normal());
    assert_eq!(lab.hear(), 42);
}

#[test]
fn t058_a_child_that_is_starting_dies_with_its_supervisor() {
    let lab = Lab::with(Vm::builder().workers(4));
    let environment = lab.environment();
    // The child never returns from its start function.
    let module = lab.module(&guest(
        &["lunatic::process::spawn", "lunatic::process::process_id"],
        r#"(data (i32.const 16) "main") (global $parent (mut i32) (i32.const 0))
        (func $begin (loop $spin br 0)) (func (export "main"))
        (start $begin)"#,
    ));
    let spawner = lab.module(&actor::module());
    for _ in 0..50 {
        let parent = Actor::spawn(&lab, &environment, &spawner);
        let child = environment
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        parent.link(0, child.pid());
        parent.process.kill();
        assert_eq!(
            died_of(&lab.exit(&child)),
            Some((parent.pid(), ExitKind::Killed))
        );
    }
}

#[test]
fn t043_a_flood_of_signals_is_limited_and_ends_the_process_that_causes_it() {
    let lab = Lab::new();
    let flood = |name: &str, call: &str| {
        lab.run(&guest(
            &[name],
            &format!(
                r#"(func (export "main") (local $tag i64) (loop $again
                (local.set $tag (i64.add (local.get $tag) (i64.const 1))) {call} (br $again)))"#
            ),
        ))
    };
    for (name, call) in [
        (
            "lunatic::process::monitor",
            "(call $monitor (i64.const 99))",
        ),
        (
            "lunatic::process::monitor_tagged",
            "(call $monitor_tagged (local.get $tag) (i64.const 99))",
        ),
    ] {
        let exit = flood(name, call);
        let Exit::Trapped(trap) = &exit else {
            panic!("{name}: {exit}")
        };
        assert!(trap.reason.contains("100000"), "{}", trap.reason);
    }
}

#[test]
fn t078_a_second_kill_has_no_effect_and_a_process_can_kill_itself() {
    let lab = Lab::new();
    let [one, other] = actors(&lab);
    one.process.kill();
    one.process.kill();
    assert!(matches!(lab.exit(&one.process), Exit::Killed));
    one.process.kill();
    assert!(matches!(one.process.exit(), Some(Exit::Killed)));
    other.kill(other.pid());
    assert!(matches!(lab.exit(&other.process), Exit::Killed));
    let [supervisor] = actors(&lab);
    let worker = supervisor.spawn_actor(4, -1).expect("no limit applies");
    worker.command("kill", [supervisor.pid().number().cast_signed(), 0, 0], b"");
    assert!(matches!(lab.exit(&supervisor.process), Exit::Killed));
    assert_eq!(
        died_of(&lab.exit(&worker.process)),
        Some((supervisor.pid(), ExitKind::Killed))
    );
}

#[test]
fn a_vm_can_be_dropped_while_chains_of_linked_processes_are_waiting() {
    let lab = Lab::roomy();
    let (environment, module) = (lab.environment(), sleeping(&lab));
    let chain = linked(&lab, &environment, &module, 5_000);
    drop(lab);
    for process in &chain {
        assert!(
            process
                .exit()
                .is_some_and(|exit| matches!(exit, Exit::Killed | Exit::LinkDied { .. }))
        );
    }
}
