//! Tests for processes: how they are spawned, how they end, and that they can be killed at any
//! point.

use crate::support::actor::{self, Actor};
use crate::support::{Lab, binary, guest};
use lunatic_vm::{Caller, Exit, ExitKind, Guest, Host, Limit, Pid, Process, Vm};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn a_process_runs_and_ends() {
    let lab = Lab::new();
    let exit = lab.run(&guest(
        &[],
        r#"(func (export "main") (call $say (i64.const 42)))"#,
    ));
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(lab.hear(), 42);
}

#[test]
fn t004_a_spinning_process_is_killed_within_two_ticks() {
    let lab = Lab::manual(1);
    let process = lab.spawn(&guest(
        &[],
        r#"(func (export "main") (call $say (i64.const 1)) (loop br 0))"#,
    ));
    lab.hear();
    process.kill();
    lab.vm.beat();
    lab.vm.beat();
    assert!(matches!(lab.exit(&process), Exit::Killed));
}

#[test]
fn t072_a_process_can_be_killed_in_its_start_function() {
    let lab = Lab::manual(1);
    let process = lab.spawn(&guest(
        &[],
        r#"(func $begin (call $say (i64.const 1)) (loop br 0)) (start $begin) (func (export "main"))"#,
    ));
    lab.hear();
    process.kill();
    lab.vm.beat();
    lab.vm.beat();
    assert!(matches!(lab.exit(&process), Exit::Killed));
}

#[test]
fn a_process_can_be_killed_before_its_first_turn() {
    let lab = Lab::manual(1);
    let spinner = lab.spawn(&guest(
        &[],
        r#"(func (export "main") (call $say (i64.const 1)) (loop br 0))"#,
    ));
    lab.hear();
    // The only worker is busy, so this process has not started.
    let process = lab.spawn(&guest(
        &[],
        r#"(func (export "main") (call $say (i64.const 2)))"#,
    ));
    process.kill();
    spinner.kill();
    lab.vm.beat();
    lab.vm.beat();
    assert!(matches!(lab.exit(&process), Exit::Killed));
    assert!(lab.heard_nothing_more());
}

/// Spawns a guest that reports 1 and then waits, and kills it while it is waiting. Returns the
/// guest's environment.
fn kill_in(lab: &Lab, imports: &[&str], body: &str) -> lunatic_vm::Environment {
    let environment = lab.environment();
    let text = guest(
        imports,
        &format!(
            r#"(func (export "main") (call $say (i64.const 1)) {body} (call $say (i64.const 2)))"#
        ),
    );
    let process = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear(), 1);
    lab.wait_for("the process to wait", async {
        while !lab.vm.is_idle() {
            futures_lite::future::yield_now().await;
        }
    });
    assert!(process.is_alive(), "{body}: {:?}", process.exit());
    process.kill();
    assert!(matches!(lab.exit(&process), Exit::Killed), "{body}");
    assert!(lab.heard_nothing_more(), "{body}");
    for limit in [Limit::Processes, Limit::Sockets, Limit::TotalMemory] {
        assert_eq!(environment.used(limit), 0, "{body}: {limit:?}");
    }
    environment
}

#[test]
fn t070_a_process_can_be_killed_wherever_it_waits() {
    let lab = Lab::new();
    let receive = "lunatic::message::receive";
    kill_in(
        &lab,
        &[receive],
        "(drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))",
    );
    kill_in(
        &lab,
        &[receive],
        "(drop (call $receive (i32.const 0) (i32.const 0) (i64.const 100000)))",
    );
    kill_in(
        &lab,
        &["lunatic::process::sleep_ms"],
        "(call $sleep_ms (i64.const -1))",
    );
    let bind = r#"(i32.store (i32.const 0) (i32.const 0x0100007f))
        (if (call $tcp_bind (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)) (then unreachable))"#;
    kill_in(
        &lab,
        &[
            "lunatic::networking::tcp_bind",
            "lunatic::networking::tcp_accept",
        ],
        &format!(
            "{bind} (drop (call $tcp_accept (i64.load (i32.const 8)) (i32.const 16) (i32.const 24)))"
        ),
    );
    // The test is the peer. It sends nothing, and its end of the connection is closed when the
    // process ends.
    let peer = TcpListener::bind("127.0.0.1:0").expect("the system chooses a free port");
    let port = peer
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    kill_in(
        &lab,
        &[
            "lunatic::networking::tcp_connect",
            "lunatic::networking::tcp_read",
        ],
        &format!(
            r#"(i32.store (i32.const 0) (i32.const 0x0100007f))
            (if (call $tcp_connect (i32.const 4) (i32.const 0) (i32.const {port}) (i32.const 0) (i32.const 0) (i64.const -1)
                (i32.const 8)) (then unreachable))
            (drop (call $tcp_read (i64.load (i32.const 8)) (i32.const 64) (i32.const 64) (i32.const 16)))"#
        ),
    );
    let (mut connection, _): (TcpStream, _) = peer.accept().expect("the guest connects");
    assert_eq!(
        connection
            .read(&mut [0; 8])
            .expect("the connection was closed cleanly"),
        0
    );
}

#[test]
fn t070_a_process_can_be_killed_in_a_waiting_host_function_and_the_future_is_dropped() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let was_dropped = Arc::new(AtomicBool::new(false));
    let mut host = Host::default();
    let flag = was_dropped.clone();
    host.waiting_function("test", "forever", move |_: Caller<'_, Guest>, (): ()| {
        let dropped = Dropped(flag.clone());
        Box::new(async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        })
    });
    let lab = Lab::with_host(Vm::builder(), host);
    let text = guest(
        &[],
        r#"(func (export "main") (call $say (i64.const 1)) (call $forever))"#,
    )
    .replacen(
        "(module\n",
        "(module\n(import \"test\" \"forever\" (func $forever))\n",
        1,
    );
    let process = lab.spawn(&text);
    lab.hear();
    process.kill();
    assert!(matches!(lab.exit(&process), Exit::Killed));
    assert!(
        was_dropped.load(Ordering::SeqCst),
        "the function's future is dropped before the exit is reported"
    );
}

#[test]
fn a_sender_that_is_waiting_for_room_can_be_killed() {
    let lab = Lab::new();
    let environment = lab.environment_with(|config| {
        config.limit(Limit::MailboxMessages, 0);
    });
    let full = environment
        .spawn(
            &lab.module(&guest(
                &["lunatic::process::sleep_ms"],
                r#"(func (export "main") (call $sleep_ms (i64.const -1)))"#,
            )),
            "main",
            &[],
        )
        .expect("no limit applies");
    let pid = full.pid().number().cast_signed();
    let sender = lab.spawn(&guest(
        &["lunatic::message::send_bytes"],
        &format!(
            r#"(func (export "main") (call $say (i64.const 1)) (loop $again
            (drop (call $send_bytes (i64.const {pid}) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (br $again)))"#
        ),
    ));
    lab.hear();
    sender.kill();
    assert!(matches!(lab.exit(&sender), Exit::Killed));
}

#[test]
fn t071_a_process_can_be_killed_while_it_waits_for_a_compilation() {
    let lab = Lab::new();
    let environment = lab.environment();
    // A thousand functions take a while to compile, and four processes request this compilation at
    // the same time.
    let function = "(func (param i32) (result i32) local.get 0)";
    let (bytes, length) = binary(&format!("(module {})", function.repeat(1000)));
    let module = lab.module(&guest(
        &["lunatic::process::compile_module"],
        &format!(
            r#"(data (i32.const 64) "{bytes}") (func (export "main") (call $say (i64.const 1))
            (drop (call $compile_module (i32.const 64) (i32.const {length}) (i32.const 0))) (loop br 0))"#
        ),
    ));
    let processes: Vec<_> = (0..4)
        .map(|_| {
            environment
                .spawn(&module, "main", &[])
                .expect("no limit applies")
        })
        .collect();
    for _ in &processes {
        lab.hear();
    }
    for process in &processes {
        process.kill();
    }
    for process in &processes {
        assert!(matches!(lab.exit(process), Exit::Killed));
    }
    // The compiler is free again for later callers.
    assert!(
        lab.run(&guest(
            &["lunatic::process::compile_module"],
            r#"(data (i32.const 64) "\00asm\01\00\00\00") (func (export "main")
            (if (call $compile_module (i32.const 64) (i32.const 8) (i32.const 0)) (then unreachable)))"#
        ))
        .is_normal()
    );
}

fn lab_that_panics() -> Lab {
    let mut host = Host::default();
    host.function("test", "panic", |_: Caller<'_, Guest>| -> () {
        panic!("the host function broke")
    });
    host.waiting_function("test", "panic_later", |_: Caller<'_, Guest>, (): ()| {
        Box::new(async {
            futures_lite::future::yield_now().await;
            let is_broken = std::hint::black_box(true);
            assert!(!is_broken, "the host function broke later");
        })
    });
    Lab::with_host(Vm::builder(), host)
}

#[test]
fn t075_a_panic_in_a_host_function_ends_the_process_and_notifies_its_links() {
    let lab = lab_that_panics();
    let (environment, actors) = (lab.environment(), lab.module(&actor::module()));
    for (name, sentence) in [
        ("panic", "the host function broke"),
        ("panic_later", "the host function broke later"),
    ] {
        let text = guest(
            &["lunatic::process::sleep_ms", "lunatic::message::receive"],
            r#"(func (export "main") (call $say (i64.const 1))
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1))) (call $panic))"#,
        )
        .replacen(
            "(module\n",
            &format!("(module\n(import \"test\" \"{name}\" (func $panic))\n"),
            1,
        );
        let process = environment
            .spawn(&lab.module(&text), "main", &[])
            .expect("no limit applies");
        lab.hear();
        let [told, dies] = [(); 2].map(|()| Actor::spawn(&lab, &environment, &actors));
        told.die_when_link_dies(false);
        told.link(3, process.pid());
        told.monitor(4, process.pid());
        dies.link(0, process.pid());
        process.send(0, b"").expect("the mailbox has room");
        let exit = lab.exit(&process);
        let Exit::Fault(what) = &exit else {
            panic!("{exit}")
        };
        assert_eq!(&**what, sentence);
        let fault = ExitKind::Fault as i64;
        assert_eq!(
            told.receive(&[3], -1),
            actor::Mail::LinkDied(3, process.pid(), fault)
        );
        assert_eq!(
            told.receive(&[4], -1),
            actor::Mail::ProcessDied(4, process.pid(), fault)
        );
        let exit = lab.exit(&dies.process);
        assert!(
            matches!(&exit, Exit::LinkDied { exit, .. } if exit.kind() == ExitKind::Fault),
            "{exit}"
        );
        told.finish();
    }
    assert_eq!(environment.used(Limit::Processes), 0);
}

#[test]
fn t074_names_and_mailboxes_still_work_after_a_panic_in_a_host_function() {
    let lab = lab_that_panics();
    let (environment, actors) = (lab.environment(), lab.module(&actor::module()));
    let actor = Actor::spawn(&lab, &environment, &actors);
    let text = guest(
        &["lunatic::registry::put", "lunatic::process::process_id"],
        r#"(data (i32.const 0) "name") (func (export "main")
            (call $put (i32.const 0) (i32.const 4) (i64.const 0) (call $process_id)) (call $say (i64.const 1)) (call $panic))"#,
    )
    .replacen("(module\n", "(module\n(import \"test\" \"panic\" (func $panic))\n", 1);
    let module = lab.module(&text);
    for _ in 0..20 {
        let process = environment
            .spawn(&module, "main", &[])
            .expect("no limit applies");
        lab.hear();
        assert!(matches!(lab.exit(&process), Exit::Fault(_)));
        assert_eq!(
            (
                environment.lookup("name", "*").ok(),
                environment.used(Limit::Names)
            ),
            (None, 0)
        );
    }
    assert_eq!(actor.send(actor.pid(), 1, 1), 0);
}

#[test]
fn t051_the_name_and_port_of_a_dead_process_are_free_when_its_exit_is_reported() {
    let lab = Lab::with(Vm::builder().workers(2));
    let environment = lab.environment();
    // The parent monitors a child that binds to the port and registers the name. The parent kills
    // the child and then immediately binds to the same port and registers the same name.
    let module = lab.module(&guest(
        &[
            "lunatic::process::spawn",
            "lunatic::process::monitor",
            "lunatic::process::kill",
            "lunatic::process::process_id",
            "lunatic::message::receive",
            "lunatic::message::send_bytes",
            "lunatic::registry::put",
            "lunatic::registry::get",
            "lunatic::networking::tcp_bind",
            "lunatic::networking::drop_tcp_listener",
            "lunatic::networking::tcp_accept",
        ],
        r#"(data (i32.const 16) "child") (data (i32.const 32) "\7e") (data (i32.const 49) "\7e") (data (i32.const 80) "name")
        (func $bind (param $port i32)
            (i32.store (i32.const 96) (i32.const 0x0100007f))
            (if (call $tcp_bind (i32.const 4) (i32.const 96) (local.get $port) (i32.const 0) (i32.const 0) (i32.const 104))
                (then unreachable)))
        (func $wait (param $kind i32)
            (if (i32.ne (local.get $kind) (call $receive (i32.const 0) (i32.const 0) (i64.const -1))) (then unreachable)))
        (func (export "child") (param $parent i64) (param $port i64)
            (call $bind (i32.wrap_i64 (local.get $port)))
            (call $put (i32.const 80) (i32.const 4) (i64.const 0) (call $process_id))
            (drop (call $send_bytes (local.get $parent) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (drop (call $tcp_accept (i64.load (i32.const 104)) (i32.const 112) (i32.const 120))))
        (func (export "main") (param $port i64) (local $left i32)
            (local.set $left (i32.const 1000))
            (i64.store (i32.const 33) (call $process_id))
            (i64.store (i32.const 50) (local.get $port))
            (loop $again
                (if (call $spawn (i64.const 0) (i64.const -1) (i64.const -1) (i32.const 16) (i32.const 5) (i32.const 32)
                    (i32.const 34) (i32.const 8)) (then unreachable))
                (call $wait (i32.const 0))
                (call $monitor (i64.load (i32.const 8)))
                (call $kill (i64.load (i32.const 8)))
                (call $wait (i32.const 2))
                (if (i32.ne (i32.const 1) (call $get (i32.const 80) (i32.const 4) (i32.const 128) (i32.const 136)))
                    (then unreachable))
                (call $bind (i32.wrap_i64 (local.get $port)))
                (call $drop_tcp_listener (i64.load (i32.const 104)))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#,
    ));
    // This port is free, and the operating system will not reassign it immediately.
    let port = {
        let probe = TcpListener::bind("127.0.0.1:0").expect("the system chooses a free port");
        i64::from(
            probe
                .local_addr()
                .expect("a bound socket has an address")
                .port(),
        )
    };
    let process = environment
        .spawn(&module, "main", &[lunatic_vm::Val::I64(port)])
        .expect("no limit applies");
    let exit = lab.exit(&process);
    assert!(exit.is_normal(), "{exit}");
    assert_eq!(environment.used(Limit::Sockets), 0);
}

/// A guest that connects to the test and moves the stream to a process in a message. The message is
/// delayed if a delay is given.
fn sends_its_stream(port: u16, to: Pid, delay: Option<i64>) -> String {
    let to = to.number().cast_signed();
    let send = match delay {
        None => format!("(call $say (i64.extend_i32_u (call $send (i64.const {to}))))"),
        Some(time) => {
            format!(
                "(drop (call $send_after (i64.const {to}) (i64.const {time}))) (call $say (i64.const 0))"
            )
        }
    };
    guest(
        &[
            "lunatic::networking::tcp_connect",
            "lunatic::message::create_data",
            "lunatic::message::push_tcp_stream",
            "lunatic::message::send",
            "lunatic::timer::send_after",
            "lunatic::process::sleep_ms",
        ],
        &format!(
            r#"(func (export "main")
            (i32.store (i32.const 0) (i32.const 0x0100007f))
            (if (call $tcp_connect (i32.const 4) (i32.const 0) (i32.const {port}) (i32.const 0) (i32.const 0) (i64.const -1)
                (i32.const 8)) (then unreachable))
            (call $create_data (i64.const 0) (i64.const 0))
            (drop (call $push_tcp_stream (i64.load (i32.const 8))))
            {send}
            (call $sleep_ms (i64.const -1)))"#
        ),
    )
}

#[test]
fn t061_a_stream_in_a_message_outlives_the_sender_and_is_closed_with_the_mailbox() {
    let lab = Lab::new();
    let peer = TcpListener::bind("127.0.0.1:0").expect("the system chooses a free port");
    let port = peer
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let (environment, actors) = (lab.environment(), lab.module(&actor::module()));
    let receiver = Actor::spawn(&lab, &environment, &actors);
    let text = sends_its_stream(port, receiver.pid(), None);
    let sender = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear(), 0);
    let (mut connection, _) = peer.accept().expect("the guest connects");
    sender.kill();
    lab.exit(&sender);
    assert_eq!(
        environment.used(Limit::Sockets),
        1,
        "the stream is in the mailbox"
    );
    connection
        .set_nonblocking(true)
        .expect("the system supports non-blocking mode");
    let error = connection
        .read(&mut [0; 1])
        .expect_err("the connection is open");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    connection
        .set_nonblocking(false)
        .expect("the system supports non-blocking mode");
    receiver.finish();
    assert_eq!(
        connection
            .read(&mut [0; 1])
            .expect("the connection was closed cleanly"),
        0
    );
    assert_eq!(environment.used(Limit::Sockets), 0);
}

#[test]
fn t062_a_stream_is_refused_if_the_receiver_may_not_use_it_or_has_no_room() {
    let lab = Lab::new();
    let peer = TcpListener::bind("127.0.0.1:0").expect("the system chooses a free port");
    let port = peer
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let actors = lab.module(&actor::module());
    let without_right = lab.environment_with(|config| {
        config.deny("lunatic::networking");
    });
    let without_room = lab.environment_with(|config| {
        config.limit(Limit::Sockets, 0);
    });
    for (environment, code) in [
        (without_right, 4),
        (without_room, 5),
        (lab.environment(), 0),
    ] {
        let receiver = Actor::spawn(&lab, &environment, &actors);
        let senders = lab.environment();
        let text = sends_its_stream(port, receiver.pid(), None);
        senders
            .spawn(&lab.module(&text), "main", &[])
            .expect("no limit applies");
        assert_eq!(lab.hear(), code);
        let arrived = u64::from(code == 0);
        assert_eq!(
            (
                senders.used(Limit::Sockets),
                environment.used(Limit::Sockets)
            ),
            (0, arrived)
        );
        assert_eq!(receiver.process.mailbox_size().0 as u64, arrived);
    }
}

#[test]
fn a_stream_that_is_held_by_a_timer_counts_as_a_socket() {
    let lab = Lab::new();
    let peer = TcpListener::bind("127.0.0.1:0").expect("the system chooses a free port");
    let port = peer
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let environment = lab.environment();
    let text = sends_its_stream(port, Pid::from_number(7), Some(-1));
    let process = environment
        .spawn(&lab.module(&text), "main", &[])
        .expect("no limit applies");
    assert_eq!(lab.hear(), 0);
    assert_eq!(environment.used(Limit::Sockets), 1);
    process.kill();
    lab.exit(&process);
    assert_eq!(
        environment.used(Limit::Sockets),
        1,
        "the timer outlives the process that started it"
    );
}

#[test]
fn a_vm_can_be_dropped_while_processes_run_and_none_runs_afterward() {
    let lab = Lab::with(Vm::builder().workers(3));
    let environment = lab.environment();
    let bodies = [
        "(loop br 0)",
        "(drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))",
        "(call $sleep_ms (i64.const 1000000))",
        "unreachable",
    ];
    let mut processes = Vec::new();
    for body in bodies {
        let module = lab.module(&guest(
            &["lunatic::message::receive", "lunatic::process::sleep_ms"],
            &format!(r#"(func (export "main") (call $say (i64.const 0)) {body})"#),
        ));
        for _ in 0..20 {
            processes.push(
                environment
                    .spawn(&module, "main", &[])
                    .expect("no limit applies"),
            );
        }
    }
    lab.hear();
    let module = lab.module(&guest(&[], r#"(func (export "main"))"#));
    drop(lab);
    for process in &processes {
        assert!(process.exit().is_some(), "{process:?}");
    }
    assert_eq!(environment.used(Limit::Processes), 0);
    // A process that is spawned afterwards does not run, and its exit says so.
    if let Ok(process) = environment.spawn(&module, "main", &[]) {
        assert!(
            matches!(process.exit(), Some(Exit::Killed)),
            "{:?}",
            process.exit()
        );
    }
}

/// Tests T004 with many processes: the number of turns that other processes have before a killed
/// process is dead does not grow with the number of processes.
#[test]
fn t004_a_killed_process_does_not_wait_behind_spinning_processes() {
    let lab = Lab::manual(1);
    let environment = lab.environment();
    let module = lab.module(&guest(&[], r#"(func (export "main") (loop br 0))"#));
    let spawn = |_| {
        environment
            .spawn(&module, "main", &[])
            .expect("no limit applies")
    };
    let spinning: Vec<Process> = (0..200).map(spawn).collect();
    // Each process has used up a slice and is waiting for the next one.
    while spinning.iter().any(|process| process.turns() < 2) {
        lab.vm.beat();
        thread::yield_now();
    }
    let turns = || spinning.iter().map(Process::turns).sum::<u64>();
    let before = turns();
    spinning[0].kill();
    while spinning[0].exit().is_none() {
        lab.vm.beat();
        thread::yield_now();
    }
    let passed = turns() - before;
    assert!(
        passed <= 4,
        "{passed} turns passed while 199 processes were spinning"
    );
}
