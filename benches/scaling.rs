//! Two cores do nearly twice as much as one.

use lunatic_benches::{Bar, Figures, Machine, Picture, Row, guest, promise};

fn main() {
    let depth = promise("spawns and messages in a second, on two workers");
    let load = guest("load");
    let picture = Picture::new(
        "workers",
        "spawns and round trips of messages, in eight places",
        "workers",
        "in a second",
    );
    for (what, name, times) in [
        ("spawn", "spawns", depth.choose("10000", "200")),
        ("ping", "round trips", depth.choose("40000", "200")),
    ] {
        let (mut two, mut one) = (Figures::default(), Figures::default());
        for _ in 0..depth.choose(5, 1) {
            for (workers, figures) in [(1, &mut one), (2, &mut two)] {
                let machine = Machine::with_workers(workers);
                // Eight places at the same time, so that neither worker has to wait for the other.
                figures.extend(machine.run(&machine.module(&load), &[what, "8", times]));
            }
        }
        picture.point(name, 1.0, one.median());
        picture.point(name, 2.0, two.median());
        Row::new(name, "/s", &two)
            .beside("one worker", &one)
            .print(Bar::AtLeastTimes(1.8));
    }
}
