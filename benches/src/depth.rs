//! Determines how thoroughly this run measures.

/// How long a bench takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The bench runs long enough to measure.
    Full,
    /// The bench runs for one round, to check that it works. Its figures mean nothing.
    Quick,
}

impl Depth {
    /// Returns `Full` under `cargo bench`, and `Quick` under `cargo test --benches` and with
    /// `--test`.
    pub fn of_this_run() -> Depth {
        let has = |flag: &str| std::env::args().any(|argument| argument == flag);
        if has("--bench") && !has("--test") {
            Depth::Full
        } else {
            Depth::Quick
        }
    }

    /// Returns `full` or `quick`, depending on the depth.
    pub fn choose<T>(self, full: T, quick: T) -> T {
        match self {
            Depth::Full => full,
            Depth::Quick => quick,
        }
    }
}
