//! A woken process soon gets to run, no matter how many other processes are computing.

use lunatic_benches::{Bar, Figures, Machine, Row, promise};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The default tick, in milliseconds.
const TICK: f64 = 1.0;

/// The number of computing processes.
const SPINNERS: usize = 1_000;

#[expect(
    clippy::disallowed_methods,
    reason = "wakes the process at different points within a tick"
)]
fn main() {
    let depth = promise("from sending a message to waking its receiver, in ticks of 1 ms");
    let machine = Machine::new();
    let spin = machine.module(br#"(module (func (export "spin") (loop br 0)))"#);
    let listener = machine.module(
        br#"(module
            (import "lunatic::message" "receive" (func $receive (param i32 i32 i64) (result i32)))
            (import "bench" "report" (func $report (param f64)))
            (memory (export "memory") 1)
            (func (export "listen")
                (loop
                    (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))
                    (call $report (f64.const 1))
                    (br 0))))"#,
    );
    let environment = machine.environment(&[]);
    let listener = environment
        .spawn(&listener, "listen", &[])
        .expect("there is enough memory for a process");

    let measure = |wake: u64| {
        // The process is woken at different points within a tick.
        sleep(Duration::from_micros(1_000 + wake * 7919 % 4_000));
        let start = Instant::now();
        listener
            .send(0, &[])
            .expect("the listener has emptied its mailbox");
        let (woken, _) = machine.next_report(&listener);
        (woken - start).as_secs_f64() * 1000.0 / TICK
    };
    let rounds = depth.choose(1_000, 5);
    let alone: Figures = (0..rounds).map(measure).collect();
    for _ in 0..SPINNERS {
        environment
            .spawn(&spin, "spin", &[])
            .expect("there is enough memory for a process");
    }
    let beside: Figures = (0..rounds).map(measure).collect();
    environment.end();
    Row::new("alone, 99th percentile", "ticks", &alone)
        .ninety_ninth()
        .print(Bar::None);
    Row::new(
        "alongside 1,000 spinning processes, 99th percentile",
        "ticks",
        &beside,
    )
    .ninety_ninth()
    .print(Bar::AtMost(2.0));
}
