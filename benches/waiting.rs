//! A process that waits is small: memory and page tables, after it has used its heap.

use lunatic_benches::{Bar, Erlang, Figures, Machine, Row, guest, meters, promise};

/// How much heap each process used before it waits.
const HEAP: &str = "10000";

fn main() {
    let depth =
        promise("one process that waits in receive, after it has used 10,000 bytes of heap: ≤ 16 KiB, page tables too");
    let erlang = Erlang::compile("crowd");
    let count = depth.choose("5000", "100");

    // One round: what a first machine took and gave back would hide what a second one takes.
    let machine = Machine::new();
    let module = machine.module(&guest("crowd"));
    // The first process brings in what all share.
    let first = machine.environment(&["1", HEAP]);
    let main = first.spawn(&module, "_start", &[]).expect("the machine has room");
    machine.hear(&main);
    machine.hear(&main);

    let (resident_before, tables_before, mappings_before) = taken();
    let environment = machine.environment(&[count, HEAP]);
    let main = environment.spawn(&module, "_start", &[]).expect("the machine has room");
    let (_, alive) = machine.hear(&main);
    machine.hear(&main);
    let (resident, page_tables, mapped) = taken();
    first.end();
    environment.end();

    let each = |taken: f64| Figures::from_iter([taken / alive]);
    let ours = each(resident - resident_before + page_tables - tables_before);
    let (tables, mappings) = (each(page_tables - tables_before), each(mapped - mappings_before));
    let peer: Figures = erlang.run(&[count, HEAP]).get(2).copied().into_iter().collect();
    Row::new("one process, all in", "bytes", &ours).beside("Erlang", &peer).print(Bar::AtMost(16_384.0));
    Row::new("of these, page tables", "bytes", &tables).print(Bar::None);
    Row::new("beside these, mappings", "each", &mappings).print(Bar::None);
}

/// Returns resident bytes, bytes of page tables, and mappings.
fn taken() -> (f64, f64, f64) {
    let (resident, tables) = meters::memory();
    (resident as f64, tables as f64, meters::mappings() as f64)
}
