//! Decides whether a test passed, given how its main process ended and what it wrote. This module
//! works only on plain data.

use super::panic;
use lunatic_vm::Exit;
use std::time::Duration;

/// A test's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// The test failed. The note gives the reason if the test's output does not.
    Failed(Option<String>),
    /// The test exceeded its time limit and was killed.
    TimedOut(Duration),
    /// The test was not run, for the given reason.
    Ignored(Option<String>),
}

impl Outcome {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::TimedOut(_))
    }
}

/// Judges a test that ended on its own. If the test must panic, `expected` is the string that the
/// message must contain. `errors` is the standard error of the process in which the failure
/// originated.
pub(super) fn judge(exit: &Exit, expected: Option<&str>, errors: &str) -> Outcome {
    let Some(expected) = expected else {
        return if exit.is_normal() {
            Outcome::Passed
        } else {
            Outcome::Failed(None)
        };
    };
    if exit.is_normal() {
        return Outcome::Failed(Some("test did not panic as expected".into()));
    }
    // Programs that use the published library also mark tests with `should_panic` if the tests must
    // reach a limit or be killed. A real panic, which is a trap in wasm, is required only if a
    // message is expected.
    if expected.is_empty() {
        return Outcome::Passed;
    }
    if exit.trap().is_none() {
        return Outcome::Failed(Some(format!("test did not panic as expected: it {exit}")));
    }
    match panic::message(errors) {
        Some(message) if message.contains(expected) => Outcome::Passed,
        Some(message) => Outcome::Failed(Some(format!(
            "panic did not contain expected string\n      panic message: {message:?}\n expected substring: {expected:?}"
        ))),
        None => Outcome::Failed(Some(format!(
            "expected a panic with a message, found none: the test {exit}\n expected substring: {expected:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lunatic_vm::{Limit, LimitReached, Pid, Trap};
    use std::sync::Arc;

    fn trapped() -> Exit {
        Exit::Trapped(Arc::new(Trap::new("unreachable".into(), Vec::new(), None)))
    }

    #[test]
    fn a_test_that_ends_normally_passes() {
        let limit = Exit::Limit(LimitReached {
            limit: Limit::Memory,
            allowed: 1,
            wanted: None,
        });
        assert_eq!(
            judge(
                &Exit::Normal,
                None,
                "thread 'main' panicked at a:\nbut caught\n"
            ),
            Outcome::Passed
        );
        for exit in [Exit::Status(1), trapped(), Exit::Killed, limit] {
            assert_eq!(judge(&exit, None, ""), Outcome::Failed(None), "{exit}");
        }
    }

    #[test]
    fn a_test_that_must_panic_passes_if_it_panics_as_expected() {
        let errors = "\nthread 'main' panicked at src/lib.rs:1:2:\nthis was it\n";
        let linked = Exit::LinkDied {
            pid: Pid::from_number(1),
            exit: Arc::new(trapped()),
        };
        for exit in [trapped(), linked] {
            assert_eq!(judge(&exit, Some(""), ""), Outcome::Passed);
            assert_eq!(judge(&exit, Some("was"), errors), Outcome::Passed);
        }
        let limit = Exit::Limit(LimitReached {
            limit: Limit::Compute,
            allowed: 1,
            wanted: None,
        });
        for exit in [Exit::Status(101), Exit::Killed, limit] {
            assert_eq!(judge(&exit, Some(""), ""), Outcome::Passed, "{exit}");
        }
        let check = |exit: &Exit, expected: &str, errors: &str, note: &str| {
            let Outcome::Failed(Some(said)) = judge(exit, Some(expected), errors) else {
                panic!("{exit} counts as passed")
            };
            assert!(said.contains(note), "{said}");
        };
        check(
            &trapped(),
            "will be",
            errors,
            "panic message: \"this was it\"\n expected substring: \"will be\"",
        );
        check(
            &trapped(),
            "src/lib.rs",
            errors,
            "panic did not contain expected string",
        );
        check(&trapped(), "was", "", "found none");
        check(&Exit::Normal, "", errors, "did not panic");
        check(&Exit::Status(101), "was", errors, "exited with status 101");
        check(&Exit::Killed, "was", errors, "was killed");
    }
}
