//! The output of a recipe: a wasm file.

use super::error::BuildError;
use crate::bounded_file;
use std::path::{Path, PathBuf};

/// The maximum size of a wasm file to read, in bytes.
const MAX_WASM: u64 = 256 << 20;

/// A wasm file that was built.
pub(super) struct Artifact {
    pub(super) path: PathBuf,
    /// Sources outside the function's own directory.
    pub(super) external_sources: Vec<PathBuf>,
}

impl Artifact {
    /// Creates an artifact without external sources.
    pub(super) fn new(path: &Path) -> Artifact {
        Artifact {
            path: path.to_path_buf(),
            external_sources: Vec::new(),
        }
    }
}

/// Reads a wasm file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    bounded_file::read(path, MAX_WASM).map_err(|error| BuildError::Read {
        path: path.to_path_buf(),
        error,
    })
}
