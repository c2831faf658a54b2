//! A process that computes a little is not held up by processes that compute without end.

use lunatic_benches::{Bar, Machine, Peer, Row, guest, promise, side_by_side};

/// The default tick, in microseconds.
const TICK: f64 = 1_000.0;

/// The number of computing processes.
const SPINNERS: &str = "1000";

fn main() {
    let depth =
        promise("spawning a process and receiving its answer, alongside 1,000 spinning processes");
    let erlang = Peer::erlang("beside");
    let beside = guest("beside");
    let machine = Machine::new();
    let beside = machine.module(&beside);
    let measure = |when: &str, times: &str, rounds: usize| {
        let arguments = [SPINNERS, times, when];
        side_by_side(
            rounds,
            [&|| machine.run(&beside, &arguments), &|| {
                erlang.run(&arguments)
            }],
        )
    };

    let [ours, peers] = measure("spent", depth.choose("500", "5"), depth.choose(10, 1));
    let row = |what| Row::new(what, "µs", &ours).beside("Erlang", &peers);
    row("one round trip").print(Bar::AtMost(10.0));
    row("one round trip, 99.9th percentile")
        .at(0.999)
        .print(Bar::AtMost(3.0 * TICK));
    row("one round trip, slowest")
        .at(1.0)
        .print(Bar::AtMostTimes(1.0));

    let [ours, peers] = measure("new", "1", depth.choose(10, 1));
    Row::new(
        "one round trip, before all of the 1,000 have had a turn",
        "µs",
        &ours,
    )
    .beside("Erlang", &peers)
    .print(Bar::None);
}
