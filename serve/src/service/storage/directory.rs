//! Functions stored in a directory. Each file is replaced atomically and durably.
//!
//! A file is written under a temporary name, synced and renamed, and its directory is synced too.
//! After a crash, there is therefore either the old file or the new one.

use super::error::{StorageError, StoredError};
use super::settings::StorageSettings;
use bytes::Bytes;
use lunatic_watch::open_regular;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tempfile::NamedTempFile;

/// Where files are written before they are renamed.
const UNFINISHED: &str = "unfinished";

/// Locked while a service uses the directory.
const LOCK: &str = "lock";

pub(in crate::service) struct Directory {
    root: PathBuf,
    /// Held while the directory is in use.
    lock: Mutex<Option<File>>,
}

impl Directory {
    /// Creates the directories, takes the lock, and deletes unfinished files left behind by a
    /// service that crashed.
    pub(super) fn open(root: &Path, directories: &[&str]) -> Result<Directory, StorageError> {
        let settings = StorageSettings::Directory(root.to_path_buf());
        let unusable = |error: io::Error| StorageError::open(&settings, error);
        let lock = prepare(root, directories).map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StorageError::InUse(settings.place()),
            TryLockError::Error(error) => unusable(error),
        })?;
        clear(&root.join(UNFINISHED)).map_err(unusable)?;
        Ok(Directory {
            root: root.to_path_buf(),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Releases the lock.
    pub(super) fn release(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.take();
    }

    pub(super) async fn list(&self, directory: &'static str) -> Result<Vec<String>, StorageError> {
        let path = self.root.join(directory);
        let names = blocking(move || {
            let name = |entry: io::Result<std::fs::DirEntry>| {
                entry.map(|entry| entry.file_name().into_string().ok())
            };
            let names = std::fs::read_dir(path)?.map(name);
            names.filter_map(Result::transpose).collect()
        });
        names.await.map_err(failed)
    }

    pub(super) async fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, StoredError> {
        let path = self.root.join(path);
        let read = blocking(move || {
            let mut bytes = Vec::new();
            let file = open_regular(&path)?;
            file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        match read.await {
            Ok(bytes) if bytes.len() as u64 > most => Err(StoredError::Changed),
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoredError::Missing),
            Err(error) => Err(failed(error).into()),
        }
    }

    pub(super) async fn write(&self, path: String, bytes: Bytes) -> Result<(), StorageError> {
        let (unfinished, path) = (self.root.join(UNFINISHED), self.root.join(path));
        let written = blocking(move || {
            // The file is deleted if it is dropped before it is renamed.
            let mut file = NamedTempFile::new_in(unfinished)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            sync_parent(&path)
        });
        written.await.map_err(failed)
    }

    pub(super) async fn delete(&self, path: String) -> Result<(), StorageError> {
        let path = self.root.join(path);
        let deleted = blocking(move || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            sync_parent(&path)
        });
        deleted.await.map_err(failed)
    }
}

/// Runs disk I/O on a thread that is allowed to block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn failed(error: io::Error) -> StorageError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StorageError::Full(error.to_string())
        }
        _ => StorageError::Failed(error.to_string()),
    }
}

/// Makes the creation or deletion of a name durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().expect("every file is inside the root");
    File::open(parent)?.sync_all()
}

/// Creates the directories, readable only by their owner because the stored data may be sensitive.
/// Returns the file to lock.
fn prepare(root: &Path, directories: &[&str]) -> io::Result<File> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    for directory in ["", UNFINISHED].iter().chain(directories) {
        builder.create(root.join(directory))?;
        // A symlink could point outside the storage directory.
        let path = root.join(directory.trim_end_matches('/'));
        if !directory.is_empty() && path.symlink_metadata()?.is_symlink() {
            let message = format!("`{}` is a symbolic link", path.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
    }
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // If the lock file turns out to be a FIFO, opening it must not block.
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed());
    }
    let lock = options.open(root.join(LOCK))?;
    File::open(root)?.sync_all()?;
    if let Some(parent) = root.canonicalize()?.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(lock)
}

/// Deletes everything in a directory.
fn clear(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
