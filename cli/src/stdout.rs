//! Writes to standard output.

use crate::failure::Failure;
use std::io::{self, ErrorKind, Write};

/// Writes bytes and flushes them. Returns whether standard output still has a reader.
pub(crate) fn print(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    check(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Returns whether the stream still has a reader after a write. It is not a failure if the reader
/// has closed the pipe.
pub(crate) fn check(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!(
            "standard output cannot be written: {error}"
        ))),
    }
}
