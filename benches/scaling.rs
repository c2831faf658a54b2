//! Two cores do nearly twice as much work as one.

use lunatic_benches::{Bar, Chart, Machine, Row, guest, promise, side_by_side};

fn main() {
    let depth = promise("spawns and messages per second, on two workers");
    let load = guest("load");
    let chart = Chart::new(
        "workers",
        "spawns and message round trips, in eight groups",
        "workers",
        "per second",
    );
    for (what, name, times) in [
        ("spawn", "spawns", depth.choose("10000", "200")),
        ("ping", "round trips", depth.choose("40000", "200")),
    ] {
        let run = |workers| {
            let machine = Machine::with_workers(workers);
            // With eight concurrent groups, neither worker has to wait for the other.
            machine.run(&machine.module(&load), &[what, "8", times])
        };
        let [one, two] = side_by_side(depth.choose(5, 1), [&|| run(1), &|| run(2)]);
        chart.point(name, 1.0, one.median());
        chart.point(name, 2.0, two.median());
        Row::new(name, "/s", &two)
            .beside("one worker", &one)
            .print(Bar::AtLeastTimes(1.8));
    }
}
