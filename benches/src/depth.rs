//! How thoroughly to measure in this run.

/// How long a bench runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Long enough for meaningful figures.
    Full,
    /// One round, to check that the bench works. The figures are meaningless.
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
