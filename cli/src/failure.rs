//! What the command tells its user when it cannot do what it was asked, and the status it then exits with.

use lunatic_vm::printable;
use std::fmt::Display;
use std::io::Write;

/// The command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    status: i32,
    sentence: String,
    hints: Vec<String>,
}

/// The result of a command: the status to exit with.
pub(crate) type Outcome = Result<i32, Failure>;

/// The status of a command that failed for a reason without a status of its own.
const FAILED: i32 = 1;

impl Failure {
    pub(crate) fn new(sentence: impl Display) -> Failure {
        Failure {
            status: FAILED,
            sentence: sentence.to_string(),
            hints: Vec::new(),
        }
    }

    /// Sets the status to exit with.
    pub(crate) fn status(mut self, status: i32) -> Failure {
        self.status = status;
        self
    }

    /// Adds a line about what the user can do.
    pub(crate) fn hint(mut self, hint: impl Display) -> Failure {
        self.hints.push(hint.to_string());
        self
    }

    /// Tells the user, and returns the status to exit with.
    pub(crate) fn report(self) -> i32 {
        let mut text = format!("error: {}\n", self.sentence.trim_end());
        for hint in self.hints {
            text += &format!("hint: {hint}\n");
        }
        tell(&text);
        self.status
    }
}

/// Writes to standard error, all at once so that nothing comes in between. Text that came from a program cannot steer the
/// terminal. If nobody reads standard error, then nobody is told: that is no reason to fail.
pub(crate) fn tell(text: &str) {
    let _ = std::io::stderr()
        .lock()
        .write_all(printable(text).as_bytes());
}
