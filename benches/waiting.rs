//! Waiting processes are small. This bench measures the memory and page tables of a process that
//! has used its heap.

use lunatic_benches::{Bar, Crowd, Figures, HEAP, PROFILES, Peer, Row, guest, promise};

fn main() {
    let depth = promise(
        "one process that waits in receive after using 10,000 bytes of heap, including page tables",
    );
    let (erlang, go) = (Peer::erlang("crowd"), Peer::go("crowd"));
    let count = depth.choose(5_000, 100);
    let bytes = |peer: &Peer| {
        peer.run(&[&count.to_string(), HEAP])
            .get(2)
            .copied()
            .into_iter()
            .collect::<Figures>()
    };
    let (erlang, go) = (bytes(&erlang), bytes(&go));

    let crowd = guest("crowd");
    for profile in PROFILES {
        // There is only one round because a second crowd would reuse memory released by the first,
        // which would hide the memory's cost.
        let footprint = Crowd::new(profile, &crowd).grow(count);
        let figure = |figure: f64| Figures::from_iter([figure]);
        let (ours, tables, mappings) = (
            figure(footprint.bytes),
            figure(footprint.table_bytes),
            figure(footprint.mappings),
        );
        let what = profile.of("total memory of a waiting process");
        let row = Row::new(&what, "bytes", &ours)
            .beside("Erlang", &erlang)
            .beside("Go", &go);
        row.print(profile.bar(Bar::AtMost(16_384.0)));
        Row::new("page tables, included above", "bytes", &tables).print(Bar::None);
        Row::new("mappings, not included above", "each", &mappings).print(Bar::None);
    }
}
