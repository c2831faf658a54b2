//! Why the storage, or something in it, cannot be used.

use super::settings::StorageSettings;
use crate::service::manifest::ManifestError;

/// Why the storage cannot be used, either permanently or right now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The storage cannot be opened.
    #[error("the storage in {place} cannot be used: {why}")]
    Open {
        /// The storage's location.
        place: String,
        /// Why it cannot be used.
        why: String,
    },
    /// Another service is using the storage.
    #[error(
        "another `lunatic serve` is using the storage in {0}; use a different directory for this one"
    )]
    InUse(String),
    /// The storage is full.
    #[error("the storage is full: {0}")]
    Full(String),
    /// The storage failed.
    #[error("the storage failed: {0}")]
    Failed(String),
}

/// Why a stored file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::service) enum StoredError {
    #[error("it is missing")]
    Missing,
    #[error("its bytes have changed since they were stored: their hash differs")]
    Changed,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl StorageError {
    /// Creates the error for storage that cannot be opened.
    pub(super) fn open(settings: &StorageSettings, why: impl ToString) -> StorageError {
        StorageError::Open {
            place: settings.place(),
            why: why.to_string(),
        }
    }
}
