//! What a message costs by its size: large ones are copied, and copied no more often than they must be.

use lunatic_benches::{Bar, Figures, Machine, Peer, Picture, Row, guest, promise};

/// The sizes, in bytes.
const SIZES: [usize; 9] = [
    16,
    64,
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
];

/// So many bytes go to and fro for each size, and at most so many messages.
const BYTES: usize = 200 << 20;
const MESSAGES: usize = 100_000;

fn main() {
    let depth = promise("round trip of a message by its size, copied by both processes");
    let (erlang, go) = (Peer::erlang("sizes"), Peer::go("sizes"));
    let machine = Machine::new();
    let sizes = machine.module(&guest("sizes"));
    let times = Picture::new("sizes", "round trip of a message", "bytes", "µs");
    let speeds = Picture::new(
        "sizes-bytes",
        "bytes that go to and fro",
        "bytes of a message",
        "bytes in a second",
    );

    for size in SIZES {
        let count = depth.choose((BYTES / size).min(MESSAGES), 5).to_string();
        let arguments = [&*size.to_string(), &*count];
        let mut figures = [const { Vec::new() }; 3].map(Figures::from_iter);
        for _ in 0..depth.choose(3, 1) {
            figures[0].extend(
                machine
                    .run(&sizes, &arguments)
                    .into_iter()
                    .map(microseconds),
            );
            figures[1].extend(erlang.run(&arguments).into_iter().map(microseconds));
            figures[2].extend(go.run(&arguments).into_iter().map(microseconds));
        }
        for (name, figures) in ["ours", "Erlang", "Go"]
            .into_iter()
            .zip(&figures)
            .filter(|(_, figures)| !figures.is_empty())
        {
            let size = size as f64;
            times.point(name, size, figures.median());
            speeds.point(name, size, 2.0 * size / figures.median() * 1e6);
        }
        let [ours, erlang, go] = &figures;
        Row::new(&format!("{size} bytes"), "µs", ours)
            .beside("Erlang", erlang)
            .beside("Go", go)
            .print(Bar::None);
    }
}

fn microseconds(per_second: f64) -> f64 {
    1e6 / per_second
}
