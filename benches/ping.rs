//! A message is cheap: to another process and back costs at most what it costs in Erlang.

use lunatic_benches::{Bar, Erlang, Figures, Machine, Row, guest, promise};

fn main() {
    let depth =
        promise("message round trip by Process::send and Mailbox::receive, a small serialised struct: ≤ Erlang's");
    let erlang = Erlang::compile("load");
    let machine = Machine::new();
    let load = machine.module(&guest("load"));

    let (mut ours, mut peer) = (Figures::default(), Figures::default());
    for _ in 0..depth.choose(9, 1) {
        let times = depth.choose("200000", "200");
        ours.extend(machine.run(&load, &["ping", "1", times]).into_iter().map(nanoseconds));
        peer.extend(erlang.run(&["ping", "1", times]).into_iter().map(nanoseconds));
    }
    Row::new("one round trip", "ns", &ours).beside("Erlang", &peer).print(Bar::AtMostTimes(1.0));
}

fn nanoseconds(per_second: f64) -> f64 {
    1e9 / per_second
}
