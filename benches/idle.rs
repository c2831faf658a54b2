//! Waiting processes cost only memory. They use no CPU time and never cause a thread to wake up.

use lunatic_benches::{Bar, Figures, Machine, Row, guest, meters, promise};
use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "measures for one second")]
fn main() {
    let depth = promise("100,000 waiting processes, or as many as fit");
    let machine = Machine::new();
    let environment = machine.environment(&[depth.choose("100000", "100"), "0"]);
    let main = environment
        .spawn(&machine.module(&guest("crowd")), "_start", &[])
        .expect("there is enough memory for a process");
    let (_, alive) = machine.next_report(&main);
    machine.next_report(&main);
    // Workers may still be going to sleep.
    std::thread::sleep(Duration::from_millis(500));

    let (mut busy, mut wakes) = (Figures::default(), Figures::default());
    for _ in 0..depth.choose(3, 1) {
        let (time_before, sleeps_before) = meters::activity();
        std::thread::sleep(Duration::from_secs(1));
        let (time, sleeps) = meters::activity();
        busy.push((time - time_before).as_secs_f64() * 100.0);
        // This thread's own sleep does not count.
        wakes.push((sleeps - sleeps_before).saturating_sub(1) as f64);
    }
    println!("  {alive} processes are waiting");
    // Reading these figures takes about 0.01% of a core.
    Row::new("over one second", "percent of a core", &busy).print(Bar::AtMost(0.1));
    Row::new("over one second", "wake-ups", &wakes).print(Bar::AtMost(0.0));
    environment.end();
}
