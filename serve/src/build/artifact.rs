//! What a recipe produced: a file of wasm.

use super::error::BuildError;
use crate::bounded_file;
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
    /// Makes an artifact without external sources.
    pub(super) fn new(path: &Path) -> Artifact {
        Artifact {
            path: path.to_path_buf(),
            external_sources: Vec::new(),
        }
    }
}

/// Reads a file of wasm.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    bounded_file::read(path, MAX_WASM).map_err(|error| BuildError::Read {
        path: path.to_path_buf(),
        error,
    })
}
