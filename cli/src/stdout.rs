//! Writes to standard output.

use crate::failure::Failure;
use std::io::{self, ErrorKind, Write};

/// Writes bytes and flushes them. Returns whether they still have a reader: one that closes the pipe
/// has seen enough, which is no failure.
pub(crate) fn print(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!(
            "standard output cannot be written: {error}"
        ))),
    }
}
