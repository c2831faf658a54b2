//! Processes are cheap. Spawning a process that runs a Rust closure and exits costs at most three
//! times as much as in Erlang.

use lunatic_benches::{Bar, Machine, PROFILES, Peer, Row, guest, promise, side_by_side};

fn main() {
    let depth = promise("spawn + run + exit of a Rust closure that answers, warm, 200 at a time");
    let (erlang, go) = (Peer::erlang("load"), Peer::go("load"));
    let load = guest("load");
    for profile in PROFILES {
        let machine = Machine::with_profile(profile);
        let load = machine.module(&load);
        let ours = ["spawn", "1", depth.choose("40000", "400")];
        // The peers spawn more processes because they are faster.
        let peers = ["spawn", "1", depth.choose("400000", "400")];
        let [ours, erlang, go] = side_by_side(
            depth.choose(9, 1),
            [
                &|| machine.run(&load, &ours),
                &|| erlang.run(&peers),
                &|| go.run(&peers),
            ],
        )
        .map(|per_second| per_second.map(|per_second| 1e6 / per_second));
        Row::new(&profile.of("one process"), "µs", &ours)
            .beside("Erlang", &erlang)
            .beside("Go", &go)
            .print(profile.bar(Bar::AtMostTimes(3.0)));
    }
}
