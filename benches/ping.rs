//! A message is cheap: to another process and back costs at most what it costs in Erlang.

use lunatic_benches::{Bar, Figures, Machine, Peer, Row, guest, promise};

fn main() {
    let depth = promise(
        "message round trip by Process::send and Mailbox::receive, a small serialised struct",
    );
    let (erlang, go) = (Peer::erlang("load"), Peer::go("load"));
    let machine = Machine::new();
    let load = machine.module(&guest("load"));

    let (mut ours, mut beside_erlang, mut beside_go) =
        (Figures::default(), Figures::default(), Figures::default());
    for _ in 0..depth.choose(9, 1) {
        let arguments = ["ping", "1", depth.choose("200000", "200")];
        ours.extend(machine.run(&load, &arguments).into_iter().map(nanoseconds));
        beside_erlang.extend(erlang.run(&arguments).into_iter().map(nanoseconds));
        beside_go.extend(go.run(&arguments).into_iter().map(nanoseconds));
    }
    let row = Row::new("one round trip", "ns", &ours)
        .beside("Erlang", &beside_erlang)
        .beside("Go", &beside_go);
    row.print(Bar::AtMostTimes(1.0));
}

fn nanoseconds(per_second: f64) -> f64 {
    1e9 / per_second
}
