//! A process is cheap also where none was before: in a slot whose memory and stack were never used.

use lunatic_benches::{Bar, Erlang, Figures, Machine, Row, guest, promise};

fn main() {
    let depth = promise("spawn of a Rust closure that answers and stays, each in a slot never used before: ≤ 15 µs");
    let erlang = Erlang::compile("crowd");
    let crowd = guest("crowd");

    let (mut ours, mut peer) = (Figures::default(), Figures::default());
    let count = depth.choose("5000", "100");
    for _ in 0..depth.choose(7, 1) {
        // Only a machine of its own has slots that were never used.
        let machine = Machine::new();
        let environment = machine.environment(&[count, "0"]);
        let main = environment.spawn(&machine.module(&crowd), "_start", &[]).expect("the machine has room");
        let (_, _count) = machine.hear(&main);
        let (_, each) = machine.hear(&main);
        ours.push(each);
        environment.end();
        peer.extend(erlang.run(&[count, "0"]).get(1).copied());
    }
    Row::new("one process", "µs", &ours).beside("Erlang", &peer).print(Bar::AtMost(15.0));
}
