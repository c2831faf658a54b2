//! Spawning a process is cheap even in a fresh slot, whose memory and stack have never been used.

use lunatic_benches::{Bar, Machine, PROFILES, Peer, Row, guest, promise, side_by_side};

fn main() {
    let depth =
        promise("spawn of a Rust closure that answers and stays, in a slot never used before");
    let (erlang, go) = (Peer::erlang("crowd"), Peer::go("crowd"));
    let crowd = guest("crowd");
    let arguments = [depth.choose("5000", "100"), "0"];
    // The peers report the number of processes, and the microseconds and bytes per process.
    let microseconds = |peer: &Peer| peer.run(&arguments).get(1).copied().into_iter().collect();
    for profile in PROFILES {
        let ours = || {
            // Only a new machine has slots that have never been used.
            let machine = Machine::with_profile(profile);
            let environment = machine.environment(&arguments);
            let main = environment
                .spawn(&machine.module(&crowd), "_start", &[])
                .expect("there is enough memory for a process");
            let (_, _count) = machine.next_report(&main);
            let (_, microseconds) = machine.next_report(&main);
            environment.end();
            vec![microseconds]
        };
        let [ours, erlang, go] = side_by_side(
            depth.choose(7, 1),
            [&ours, &|| microseconds(&erlang), &|| microseconds(&go)],
        );
        Row::new(&profile.of("one process"), "µs", &ours)
            .beside("Erlang", &erlang)
            .beside("Go", &go)
            .print(profile.bar(Bar::AtMost(15.0)));
    }
}
