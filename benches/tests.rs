//! Tests run in the machine, each apart, nearly as soon as the same tests run natively in one process.

use lunatic_benches::{Bar, Figures, Row, lunatic, promise, tests};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

fn main() {
    let depth = promise("a guest crate of 100 tests, compiled, against the same tests natively");
    let lunatic = lunatic();
    // `cargo test` does not optimise, unless it is told to.
    for (profile, bar) in [("dev", Bar::AtMostTimes(1.5)), ("release", Bar::None)] {
        let ours = [lunatic.clone(), tests(profile, Some("wasm32-wasip1"))];
        let native = [tests(profile, None)];
        // Compiled code is kept from the first time on.
        run(&ours, "working");
        for (what, filter, bar) in [
            ("100 that work", "working", bar),
            ("100 that do nothing", "empty", Bar::None),
        ] {
            let (mut in_the_machine, mut natively) = (Figures::default(), Figures::default());
            for _ in 0..depth.choose(20, 1) {
                in_the_machine.push(run(&ours, filter));
                natively.push(run(&native, filter));
            }
            let what = format!("{what}, profile {profile}");
            Row::new(&what, "ms", &in_the_machine)
                .beside("native", &natively)
                .print(bar);
        }
    }
}

/// Runs the tests whose names contain a text; returns how many milliseconds that took.
fn run(line: &[PathBuf], filter: &str) -> f64 {
    let start = Instant::now();
    let output = Command::new(&line[0])
        .args(&line[1..])
        .arg(filter)
        .output()
        .expect("it was just built");
    let time = start.elapsed().as_secs_f64() * 1000.0;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("100 passed"), "{said}");
    time
}
