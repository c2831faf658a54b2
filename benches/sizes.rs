//! Measures how a message's cost depends on its size. Large messages are not copied more often than
//! necessary.

use lunatic_benches::{Bar, Chart, Machine, Peer, Row, guest, promise, side_by_side};

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

/// The total number of bytes to send for each size, and the maximum number of messages.
const BYTES: usize = 200 << 20;
const MESSAGES: usize = 100_000;

fn main() {
    let depth = promise(
        "message round-trip time by message size, with each message copied by both processes",
    );
    let (erlang, go) = (Peer::erlang("sizes"), Peer::go("sizes"));
    let machine = Machine::new();
    let module = machine.module(&guest("sizes"));
    let times = Chart::new("sizes", "message round-trip time", "bytes", "µs");
    let speeds = Chart::new(
        "sizes-bytes",
        "bytes sent and returned",
        "bytes per message",
        "bytes per second",
    );

    for size in SIZES {
        let count = depth.choose((BYTES / size).min(MESSAGES), 5).to_string();
        let arguments = [&*size.to_string(), &*count];
        let figures = side_by_side(
            depth.choose(3, 1),
            [
                &|| machine.run(&module, &arguments),
                &|| erlang.run(&arguments),
                &|| go.run(&arguments),
            ],
        )
        .map(|per_second| per_second.map(|per_second| 1e6 / per_second));
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
