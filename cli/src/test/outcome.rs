//! Whether a test has passed: decided from how its first process ended and what that wrote. Plain data.

use super::panic;
use lunatic_vm::Exit;
use std::time::Duration;

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// It failed. What it wrote says why, or else the note.
    Failed(Option<String>),
    /// It was ended, as it took longer than it may.
    TimeIsOver(Duration),
    /// It was not run, for the reason that it gives.
    Ignored(Option<String>),
}

impl Outcome {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::TimeIsOver(_))
    }
}

/// Judges a test that ended by itself. `expected` is what its panic's message has to contain, where it has to panic;
/// `errors` is what the process wrote to standard error that the failure began in.
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
    // Programs on the published library say of a test that it has to panic where it has to reach a limit or be killed. Only
    // who says with which words wants a panic, which is a trap in wasm.
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
        Exit::Trapped(Arc::new(Trap {
            reason: "unreachable".into(),
            module: None,
            frames: Vec::new(),
        }))
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
    fn a_test_that_has_to_panic_passes_where_it_panics_as_it_has_to() {
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
                panic!("{exit} is accepted")
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
