//! Errors that the command reports to the user, each with an exit status.

use crate::status;
use lunatic_vm::printable_lines;
use std::fmt::Display;
use std::io::Write;

/// An error that ends the command.
#[derive(Debug)]
pub(crate) struct Failure {
    status: i32,
    sentence: String,
    hints: Vec<String>,
}

/// A command's result: the status to exit with.
pub(crate) type Outcome = Result<i32, Failure>;

impl Failure {
    pub(crate) fn new(sentence: impl Display) -> Failure {
        Failure {
            status: status::FAILED,
            sentence: sentence.to_string(),
            hints: Vec::new(),
        }
    }

    /// Sets the exit status.
    pub(crate) fn status(mut self, status: i32) -> Failure {
        self.status = status;
        self
    }

    /// Adds a line that tells the user what to do about it.
    pub(crate) fn hint(mut self, hint: impl Display) -> Failure {
        self.hints.push(hint.to_string());
        self
    }

    /// Reports the failure to the user and returns the exit status.
    pub(crate) fn report(self) -> i32 {
        let mut text = format!("error: {}\n", self.sentence.trim_end());
        for hint in self.hints {
            text += &format!("hint: {hint}\n");
        }
        tell(&text);
        self.status
    }
}

/// Returns the failure to report when something could not be started.
pub(crate) fn not_started(error: impl Display) -> Failure {
    Failure::new(error).status(status::NOT_STARTED)
}

/// Writes to standard error in a single write, so that nothing is interleaved. Escapes control
/// characters, so that a program's text cannot control the terminal. Ignores errors, because a
/// closed standard error is not a reason to fail.
pub(crate) fn tell(text: &str) {
    let _ = std::io::stderr()
        .lock()
        .write_all(printable_lines(text).as_bytes());
}
