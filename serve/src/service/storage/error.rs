//! Why a storage cannot be used, or something in it cannot be read.

use super::settings::StorageSettings;
use crate::service::manifest::ManifestError;

/// The storage cannot be used, or not now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// It cannot be opened.
    #[error("the storage in {place} cannot be used: {why}")]
    Open {
        /// Where it is.
        place: String,
        /// Why it cannot be used.
        why: String,
    },
    /// Another service uses it.
    #[error(
        "another `lunatic serve` uses the storage in {0}; give this one a directory of its own"
    )]
    InUse(String),
    /// It is full.
    #[error("the storage is full: {0}")]
    Full(String),
    /// It failed.
    #[error("the storage failed: {0}")]
    Failed(String),
}

/// A stored file cannot be read, or is damaged.
#[derive(Debug, thiserror::Error)]
pub(in crate::service) enum StoredError {
    #[error("it is missing")]
    Missing,
    #[error("its bytes are not those that were stored: their hash differs")]
    Changed,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl StorageError {
    /// Makes an error of why a storage cannot be opened.
    pub(super) fn open(settings: &StorageSettings, why: impl ToString) -> StorageError {
        StorageError::Open {
            place: settings.place(),
            why: why.to_string(),
        }
    }
}
