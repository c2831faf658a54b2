//! Functions stored in memory, which are lost on restart.

use super::error::StoredError;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files by path.
#[derive(Default)]
pub(in crate::service) struct Memory(Mutex<BTreeMap<String, Bytes>>);

impl Memory {
    pub(super) fn list(&self, directory: &str) -> Vec<String> {
        let files = self.files();
        let names = files.keys().filter_map(|path| path.strip_prefix(directory));
        names.map(str::to_string).collect()
    }

    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, StoredError> {
        let files = self.files();
        Ok(files.get(path).ok_or(StoredError::Missing)?.to_vec())
    }

    pub(super) fn write(&self, path: String, bytes: Bytes) {
        self.files().insert(path, bytes);
    }

    pub(super) fn delete(&self, path: &str) {
        self.files().remove(path);
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
