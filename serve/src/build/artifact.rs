//! What a recipe produced: a file of wasm.

use super::error::BuildError;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest wasm that is read, in bytes.
const MAX_WASM: u64 = 256 << 20;

/// A file of wasm that was built.
pub(super) struct Artifact {
    pub(super) path: PathBuf,
    /// Sources outside the function's own directory.
    pub(super) external_sources: Vec<PathBuf>,
}

impl Artifact {
    /// An artifact whose sources all lie in the function's directory, or that has none.
    pub(super) fn new(path: &Path) -> Artifact {
        Artifact {
            path: path.to_path_buf(),
            external_sources: Vec::new(),
        }
    }
}

/// Reads a file of wasm, unless it is too large to be one.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    let unreadable = |error| BuildError::Read {
        path: path.to_path_buf(),
        error,
    };
    let mut bytes = Vec::new();
    let length = File::open(path)
        .and_then(|file| file.take(MAX_WASM + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if length as u64 > MAX_WASM {
        return Err(unreadable(io::Error::other(format!(
            "it is larger than {MAX_WASM} bytes"
        ))));
    }
    Ok(bytes)
}
