//! Functions stored in memory, which are lost on restart.

use super::error::{StorageError, StoredError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The maximum total size of all files, in bytes.
const ROOM: u64 = 1 << 30;

/// A file's overhead in addition to its path and its contents, in bytes.
const FILE: u64 = 256;

/// Files by path.
pub(in crate::service) struct Memory {
    files: Mutex<BTreeMap<String, Bytes>>,
    room: u64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            files: Mutex::default(),
            room: ROOM,
        }
    }
}

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

    pub(super) fn write(&self, path: String, bytes: Bytes) -> Result<(), StorageError> {
        let mut files = self.files();
        let size = |(path, bytes): (&String, &Bytes)| FILE + (path.len() + bytes.len()) as u64;
        let others = files.iter().filter(|(other, _)| **other != path);
        if others.map(size).sum::<u64>() + size((&path, &bytes)) > self.room {
            let most = self.room >> 20;
            return Err(StorageError::Full(format!(
                "in memory, functions can take up at most {most} MiB; use a directory (`--storage`)"
            )));
        }
        files.insert(path, bytes);
        Ok(())
    }

    pub(super) fn delete(&self, path: &str) {
        self.files().remove(path);
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_size_of_files_in_memory_is_limited() {
        let memory = Memory {
            room: 2 * (FILE + 1_001),
            ..Memory::default()
        };
        let write = |path: &str, size| memory.write(path.into(), vec![0; size].into());
        write("a", 1_000).expect("this fills half of the space");
        write("b", 1_000).expect("this fills all of the space");
        write("b", 1_001).expect_err("this is one byte too many");
        write("c", 0).expect_err("each file takes up space");
        write("b", 900).expect("the file is replaced");
        memory.delete("a");
        write("c", 1_000).expect("deleting a file frees its space");
        assert_eq!(memory.list(""), ["b", "c"]);
        assert_eq!(memory.read("b").expect("it was not deleted").len(), 900);
    }
}
