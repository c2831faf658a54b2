//! Programs start immediately. This bench measures an entire run of `lunatic hello.wasm`, with the
//! compiled code cached by an earlier run.

use lunatic_benches::{Bar, Figures, Row, command, promise};
use std::time::Instant;

fn main() {
    let depth = promise("`lunatic hello.wasm`, from start to finish");
    let mut hello = command("hello");
    let mut measure = || {
        let start = Instant::now();
        let output = hello.output().expect("the command was just built");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello!\n");
        start.elapsed().as_secs_f64() * 1000.0
    };
    let first = Figures::from_iter([measure()]);
    let later: Figures = (0..depth.choose(50, 2)).map(|_| measure()).collect();
    Row::new("first run", "ms", &first).print(Bar::None);
    Row::new("later runs", "ms", &later).print(Bar::AtMost(10.0));
}
