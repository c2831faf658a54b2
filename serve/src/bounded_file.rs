//! Reads regular files, up to a maximum size.

use lunatic_watch::open_regular;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Reads a file, or fails if it is larger than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it is larger than {limit} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Reads a text file, or fails if it is larger than `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| {
        let message = format!("it is not UTF-8: {error}");
        io::Error::new(ErrorKind::InvalidData, message)
    })
}
