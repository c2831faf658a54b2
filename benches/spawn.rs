//! A process is cheap: spawning a Rust closure, running it and its end cost at most three times Erlang's.

use lunatic_benches::{Bar, Erlang, Figures, Machine, Row, guest, promise};

fn main() {
    let depth = promise("spawn + run + exit of a Rust closure that answers, warm, 200 at a time: ≤ 3 × Erlang's");
    let erlang = Erlang::compile("load");
    let machine = Machine::new();
    let load = machine.module(&guest("load"));

    let (mut ours, mut peer) = (Figures::default(), Figures::default());
    for _ in 0..depth.choose(9, 1) {
        ours.extend(machine.run(&load, &["spawn", "1", depth.choose("40000", "400")]).into_iter().map(microseconds));
        peer.extend(erlang.run(&["spawn", "1", depth.choose("400000", "400")]).into_iter().map(microseconds));
    }
    Row::new("one process", "µs", &ours).beside("Erlang", &peer).print(Bar::AtMostTimes(3.0));
}

fn microseconds(per_second: f64) -> f64 {
    1e6 / per_second
}
