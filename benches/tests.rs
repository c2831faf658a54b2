//! Isolated tests in the machine run nearly as fast as the same tests do natively in a single
//! process.

use lunatic_benches::{Bar, Row, lunatic, promise, side_by_side, tests};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

fn main() {
    let depth = promise(
        "a compiled guest crate of 100 tests, compared with the same tests compiled natively",
    );
    let lunatic = lunatic();
    // `cargo test` does not optimize by default.
    for (profile, bar) in [("dev", Bar::AtMostTimes(1.5)), ("release", Bar::None)] {
        let ours = [lunatic.clone(), tests(profile, Some("wasm32-wasip1"))];
        let native = [tests(profile, None)];
        // The first run fills the cache of compiled code.
        run(&ours, "working");
        for (what, filter, bar) in [
            ("100 that compute", "working", bar),
            ("100 that do nothing", "empty", Bar::None),
        ] {
            let [ours, native] = side_by_side(
                depth.choose(20, 1),
                [&|| vec![run(&ours, filter)], &|| vec![run(&native, filter)]],
            );
            let what = format!("{what}, {profile} profile");
            Row::new(&what, "ms", &ours)
                .beside("native", &native)
                .print(bar);
        }
    }
}

/// Runs the tests whose names contain the filter and returns how many milliseconds they took.
fn run(line: &[PathBuf], filter: &str) -> f64 {
    let start = Instant::now();
    let output = Command::new(&line[0])
        .args(&line[1..])
        .arg(filter)
        .output()
        .expect("the program was just built");
    let time = start.elapsed().as_secs_f64() * 1000.0;
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(printed.contains("100 passed"), "{printed}");
    time
}
