//! A process that only computes is dead at most two ticks after it is killed.

use lunatic_benches::{Bar, Figures, Machine, Row, promise};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The default tick, in milliseconds.
const TICK: f64 = 1.0;

#[expect(
    clippy::disallowed_methods,
    reason = "kills at different points within a tick"
)]
fn main() {
    let depth = promise("from killing a spinning process to its death, in ticks of 1 ms");
    let machine = Machine::new();
    let spin = machine.module(br#"(module (func (export "spin") (loop br 0)))"#);
    let environment = machine.environment(&[]);

    let measure = || {
        let process = environment
            .spawn(&spin, "spin", &[])
            .expect("there is enough memory for a process");
        while process.turns() == 0 {
            std::thread::yield_now();
        }
        // The kills happen at different points within a tick.
        sleep(Duration::from_micros(
            u64::from(process.pid().number() as u16) * 7919 % 3000,
        ));
        let start = Instant::now();
        process.kill();
        machine.vm().block_on(process.exited());
        start.elapsed().as_secs_f64() * 1000.0 / TICK
    };
    let rounds = depth.choose(500, 5);
    let alone: Figures = (0..rounds).map(|_| measure()).collect();
    let others: Vec<_> = (0..8)
        .map(|_| {
            environment
                .spawn(&spin, "spin", &[])
                .expect("there is enough memory for a process")
        })
        .collect();
    let beside: Figures = (0..rounds).map(|_| measure()).collect();
    drop(others);
    environment.end();
    Row::new("alone, 99th percentile", "ticks", &alone)
        .ninety_ninth()
        .print(Bar::AtMost(2.0));
    Row::new(
        "alongside eight spinning processes, 99th percentile",
        "ticks",
        &beside,
    )
    .ninety_ninth()
    .print(Bar::AtMost(2.0));
}
