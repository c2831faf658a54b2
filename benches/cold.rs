//! A process is cheap also where none was before: in a slot whose memory and stack were never used.

use lunatic_benches::{Bar, Figures, Machine, PROFILES, Peer, Row, guest, promise};

fn main() {
    let depth =
        promise("spawn of a Rust closure that answers and stays, in a slot never used before");
    let (erlang, go) = (Peer::erlang("crowd"), Peer::go("crowd"));
    let crowd = guest("crowd");
    let count = depth.choose("5000", "100");
    for profile in PROFILES {
        let (mut ours, mut beside_erlang, mut beside_go) =
            (Figures::default(), Figures::default(), Figures::default());
        for _ in 0..depth.choose(7, 1) {
            // Only a machine of its own has slots that were never used.
            let machine = Machine::with_profile(profile);
            let environment = machine.environment(&[count, "0"]);
            let main = environment
                .spawn(&machine.module(&crowd), "_start", &[])
                .expect("the machine has room");
            let (_, _count) = machine.hear(&main);
            let (_, each) = machine.hear(&main);
            ours.push(each);
            environment.end();
            beside_erlang.extend(erlang.run(&[count, "0"]).get(1).copied());
            beside_go.extend(go.run(&[count, "0"]).get(1).copied());
        }
        let what = profile.of("one process");
        let row = Row::new(&what, "µs", &ours)
            .beside("Erlang", &beside_erlang)
            .beside("Go", &beside_go);
        row.print(profile.bar(Bar::AtMost(15.0)));
    }
}
