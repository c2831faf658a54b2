//! A process is cheap: spawning a Rust closure, running it and its end cost at most three times Erlang's.

use lunatic_benches::{Bar, Figures, Machine, PROFILES, Peer, Row, guest, promise};

fn main() {
    let depth = promise("spawn + run + exit of a Rust closure that answers, warm, 200 at a time");
    let (erlang, go) = (Peer::erlang("load"), Peer::go("load"));
    let load = guest("load");
    for profile in PROFILES {
        let machine = Machine::with_profile(profile);
        let load = machine.module(&load);
        let (mut ours, mut beside_erlang, mut beside_go) =
            (Figures::default(), Figures::default(), Figures::default());
        for _ in 0..depth.choose(9, 1) {
            let (times, more) = (depth.choose("40000", "400"), depth.choose("400000", "400"));
            ours.extend(
                machine
                    .run(&load, &["spawn", "1", times])
                    .into_iter()
                    .map(microseconds),
            );
            beside_erlang.extend(
                erlang
                    .run(&["spawn", "1", more])
                    .into_iter()
                    .map(microseconds),
            );
            beside_go.extend(go.run(&["spawn", "1", more]).into_iter().map(microseconds));
        }
        let what = profile.of("one process");
        let row = Row::new(&what, "µs", &ours)
            .beside("Erlang", &beside_erlang)
            .beside("Go", &beside_go);
        row.print(profile.bar(Bar::AtMostTimes(3.0)));
    }
}

fn microseconds(per_second: f64) -> f64 {
    1e6 / per_second
}
