//! Messages are cheap. A round trip to another process costs no more than it does in Erlang.

use lunatic_benches::{Bar, Machine, Peer, Row, guest, promise, side_by_side};

fn main() {
    let depth = promise(
        "message round trip via Process::send and Mailbox::receive, with a small serialized struct",
    );
    let (erlang, go) = (Peer::erlang("load"), Peer::go("load"));
    let machine = Machine::new();
    let load = machine.module(&guest("load"));

    let arguments = ["ping", "1", depth.choose("200000", "200")];
    let [ours, erlang, go] = side_by_side(
        depth.choose(9, 1),
        [
            &|| machine.run(&load, &arguments),
            &|| erlang.run(&arguments),
            &|| go.run(&arguments),
        ],
    )
    .map(|per_second| per_second.map(|per_second| 1e9 / per_second));
    Row::new("one round trip", "ns", &ours)
        .beside("Erlang", &erlang)
        .beside("Go", &go)
        .print(Bar::AtMostTimes(1.0));
}
