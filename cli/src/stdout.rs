//! Writes to standard output.

use crate::failure::Failure;
use std::io::{self, ErrorKind, Write};

/// Writes bytes and flushes them. Returns whether standard output still has a reader. It is not a
/// failure if the reader has closed the pipe.
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
