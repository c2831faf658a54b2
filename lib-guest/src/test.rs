//! Functions that `#[lunatic::test]` calls to run a test as the first process of a separate
//! program.

use crate::entry;
use crate::mailbox::Mailbox;
use std::process::{ExitCode, Termination};

/// Runs a test.
#[doc(hidden)]
pub fn __test<R: Termination>(test: fn() -> R) {
    settle(test());
}

/// Runs a test that takes its process's mailbox.
#[doc(hidden)]
pub fn __test_with_mailbox<T, R: Termination>(test: fn(Mailbox<T>) -> R) {
    // SAFETY: the process begins in this function, so it has no mailbox yet. On other targets, the
    // mailbox cannot be used.
    settle(test(unsafe { Mailbox::new() }));
}

/// Exits with the outcome of the test, as a program exits with the result of `main`.
fn settle(returned: impl Termination) {
    // If the test returned an error, `report` prints it.
    let has_passed = returned.report() == ExitCode::SUCCESS;
    if cfg!(not(target_family = "wasm")) {
        assert!(has_passed, "the test returned an error");
        return;
    }
    entry::flush_output();
    if !has_passed {
        std::process::exit(1);
    }
}
