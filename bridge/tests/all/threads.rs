//! Tests which thread runs a function, and that calls keep their limits no matter which it is.

use lunatic_bridge::{Argument, Bridge, Builder, CallError};
use lunatic_vm::{Caller, Exit, Guest, Host, Vm, VmBuilder};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// Functions that report the threads they run on.
const MODULE: &str = r#"(module
    (import "test" "here" (func $here))
    (import "test" "step" (func $step))
    (import "test" "wait" (func $wait))
    (memory (export "memory") 1)
    (func (export "echo") (param i32 i32) (result i32) (call $here) (local.get 1))
    (func (export "trap") (param i32 i32) (result i32) (call $here) unreachable)
    (func (export "wait") (param i32 i32) (result i32)
        (call $here) (call $wait) (call $here) (local.get 1))
    (func (export "spin") (param i32 i32) (result i32)
        (call $here) (loop (call $step) (br 0)) (i32.const 0))
    ;; Computes for several ticks.
    (func (export "work") (param i32 i32) (result i32) (local $left i32)
        (local.set $left (i32.const 20000000))
        (loop (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (local.get 1)))"#;

struct Lab {
    vm: Vm,
    bridge: Bridge,
    /// The threads on which functions have reported.
    seen: Receiver<ThreadId>,
    /// The number of steps that `spin` has taken, and the thread on which it took the last one.
    steps: Arc<Mutex<(u64, Option<ThreadId>)>>,
    /// Each message ends one call of `wait`.
    gate: async_channel::Sender<()>,
}

impl Lab {
    fn new(vm: VmBuilder, bridge: Builder) -> Lab {
        let mut host = Host::default();
        let (told, seen) = channel();
        host.function("test", "here", move |_: Caller<'_, Guest>| {
            // The test may have ended.
            let _ = told.send(thread::current().id());
        });
        let steps = Arc::new(Mutex::new((0, None)));
        let stepped = steps.clone();
        host.function("test", "step", move |_: Caller<'_, Guest>| {
            let mut steps = stepped
                .lock()
                .expect("no code panics while it holds this lock");
            *steps = (steps.0 + 1, Some(thread::current().id()));
        });
        let (gate, opened) = async_channel::unbounded::<()>();
        host.waiting_function("test", "wait", move |_: Caller<'_, Guest>, (): ()| {
            let opened = opened.clone();
            Box::new(async move {
                let _ = opened.recv().await;
            })
        });
        let vm = vm
            .slots(64)
            .host(host)
            .build()
            .expect("the VM can be built");
        let bridge = bridge
            .vm(vm.clone())
            .allow("test::")
            .from_bytes(MODULE.as_bytes())
            .expect("the module is valid");
        let lab = Lab {
            vm,
            bridge,
            seen,
            steps,
            gate,
        };
        lab.wait_until_idle();
        lab
    }

    /// Waits until the instances are waiting for calls.
    fn wait_until_idle(&self) {
        while !self.vm.is_idle() {
            thread::yield_now();
        }
    }

    fn steps(&self) -> (u64, Option<ThreadId>) {
        *self
            .steps
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Waits until `spin` has taken a few more steps, and returns the thread on which it took them.
    fn few_steps(&self) -> Option<ThreadId> {
        let enough = self.steps().0 + 3;
        loop {
            let (steps, thread) = self.steps();
            if steps >= enough {
                return thread;
            }
            thread::yield_now();
        }
    }

    fn next(&self) -> ThreadId {
        self.seen.recv().expect("the machine holds a sender")
    }
}

#[test]
fn a_blocking_call_runs_on_the_callers_thread_and_any_other_does_not() {
    let lab = Lab::new(Vm::builder(), Bridge::builder());
    for _ in 0..3 {
        let answer = lab.bridge.call::<_, u8>("echo", &7);
        assert_eq!(answer.expect("the call succeeds"), 7);
        assert_eq!(lab.next(), thread::current().id());
        let argument = Argument::json(&7).expect("7 can be expressed as JSON");
        let answer = futures_lite::future::block_on(lab.bridge.invoke_async("echo", argument));
        assert!(answer.is_ok());
        assert_ne!(lab.next(), thread::current().id());
        lab.wait_until_idle();
    }
}

#[test]
fn a_trap_on_the_callers_thread_ends_only_the_instance() {
    let lab = Lab::new(Vm::builder(), Bridge::builder());
    let error = lab.bridge.call::<_, ()>("trap", &());
    assert!(
        matches!(error, Err(CallError::Ended(Exit::Trapped(_)))),
        "{error:?}"
    );
    assert_eq!(lab.next(), thread::current().id());
    let answer = lab.bridge.call::<_, u8>("echo", &7);
    assert_eq!(answer.expect("the call succeeds"), 7);
}

#[test]
fn a_function_that_waits_continues_on_the_machines_threads() {
    let lab = Lab::new(Vm::builder(), Bridge::builder());
    thread::scope(|scope| {
        let caller = scope.spawn(|| lab.bridge.call::<_, u8>("wait", &7));
        assert_eq!(lab.next(), caller.thread().id());
        lab.wait_until_idle();
        lab.gate.try_send(()).expect("the channel is open");
        assert_ne!(lab.next(), caller.thread().id());
        let answer = caller.join().expect("the caller does not panic");
        assert_eq!(answer.expect("the call succeeds"), 7);
    });
}

#[test]
fn a_function_leaves_the_callers_thread_at_the_second_tick_and_can_be_killed_on_any() {
    for beats in 0..=2 {
        let lab = Lab::new(
            Vm::builder().manual_ticks().workers(1).slice(1000),
            Bridge::builder(),
        );
        thread::scope(|scope| {
            let caller = scope.spawn(|| lab.bridge.call::<_, ()>("spin", &()));
            let own = caller.thread().id();
            assert_eq!(lab.next(), own);
            for beat in 1..=beats {
                lab.vm.beat();
                if beat < 2 {
                    assert_eq!(lab.few_steps(), Some(own));
                } else {
                    while lab.few_steps() == Some(own) {}
                }
            }
            for process in lab.vm.processes() {
                process.kill();
            }
            lab.vm.beat();
            let answer = caller.join().expect("the caller does not panic");
            assert!(
                matches!(answer, Err(CallError::Ended(Exit::Killed))),
                "{answer:?}"
            );
        });
    }
}

#[test]
fn calls_are_answered_while_all_instances_are_busy() {
    let lab = Lab::new(Vm::builder().workers(2), Bridge::builder().instances(2));
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for caller in 0..8 {
            let (lab, answered) = (&lab, &answered);
            let bridge = lab.bridge.clone();
            let gate = lab.gate.clone();
            scope.spawn(move || {
                for round in 0..40 {
                    let number = caller * 100 + round;
                    let function = match (caller + round) % 8 {
                        0 => "work",
                        1 => {
                            gate.try_send(()).expect("the channel is open");
                            "wait"
                        }
                        2 => "trap",
                        _ => "echo",
                    };
                    let answer = bridge.call::<_, u32>(function, &number);
                    assert_eq!(answer.is_err(), function == "trap", "{answer:?}");
                    assert!(answer.is_err() || answer.is_ok_and(|answer| answer == number));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(answered.into_inner(), 320);
}

#[test]
fn a_host_function_can_make_a_blocking_call() {
    let inner = Lab::new(Vm::builder().workers(1), Bridge::builder());
    let called = inner.bridge.clone();
    let mut host = Host::default();
    host.function("test", "call", move |_: Caller<'_, Guest>| {
        let answer = called.call::<_, u8>("echo", &7);
        assert_eq!(answer.expect("the call succeeds"), 7);
    });
    let outer = Bridge::builder()
        .vm(Vm::builder()
            .host(host)
            .slots(64)
            .build()
            .expect("the VM can be built"))
        .allow("test::")
        .from_bytes(
            br#"(module (import "test" "call" (func $call)) (memory (export "memory") 1)
            (func (export "nested") (param i32 i32) (result i32) (call $call) (local.get 1)))"#,
        )
        .expect("the module is valid");
    for _ in 0..3 {
        let answer = outer.call::<_, u8>("nested", &8);
        assert_eq!(answer.expect("the call succeeds"), 8);
        // A thread is not lent twice.
        assert_ne!(inner.next(), thread::current().id());
    }
}
