//! A module's test, and the result of running it.

use super::outcome::Outcome;
use std::time::Duration;

/// A module's test.
#[derive(Clone, Debug, Default)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) body: Body,
    pub(super) is_ignored: bool,
    pub(super) why_ignored: Option<String>,
    /// If the test must panic, the string that its panic message must contain.
    pub(super) panic: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) memory: Option<u64>,
}

/// The code to run for a test.
#[derive(Clone, Debug, Default)]
pub(super) enum Body {
    /// An exported function.
    Export(String),
    /// The module's `_start`, with arguments that select this test.
    #[default]
    Harness,
}

/// A test's result.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    /// The test's output, formatted for display, followed by the reason if it failed.
    pub(super) output: String,
    /// What the test left behind.
    pub(super) leaks: Option<String>,
    /// How long the test took. `None` if it was not run.
    pub(super) time: Option<Duration>,
}

impl Finished {
    pub(super) fn new(outcome: Outcome) -> Finished {
        Finished {
            outcome,
            output: String::new(),
            leaks: None,
            time: None,
        }
    }
}
