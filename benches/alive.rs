//! Many live at once, with the kernel as it comes: mappings are what runs out, and a process may cost one at most.

use lunatic_benches::{Bar, Machine, Row, guest, meters, promise};

fn main() {
    let depth = promise("alive at once, each having sent a message, under the present vm.max_map_count: ≥ 60,000");
    let machine = Machine::new();
    let environment = machine.environment(&[depth.choose("65000", "100"), "0"]);
    let before = meters::mappings();
    let main = environment.spawn(&machine.module(&guest("crowd")), "_start", &[]).expect("the machine has room");
    let (_, alive) = machine.hear(&main);
    let mapped = meters::mappings() - before;
    println!("  vm.max_map_count is {}; these took {mapped} mappings", meters::max_mappings());
    Row::new("alive", "processes", &[alive].into_iter().collect()).print(Bar::AtLeast(60_000.0));
    environment.end();
}
