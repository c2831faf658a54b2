//! Where deployed functions are kept: their wasm, each under its hash, and of each function a manifest.
//!
//! ```text
//! blobs/HASH.wasm        never changed once it is there
//! functions/NAME.json    replaced as a whole
//! ```
//!
//! A deploy stores the wasm and then the manifest, and what no manifest names is deleted after that. So wherever it is cut
//! off, a function is what it was or what it is to be, and what is left over is deleted at the next start.

use super::manifest::{Manifest, ManifestError};
use crate::Name;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{Buffer, ErrorKind, HttpTransporter, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const BLOBS: &str = "blobs/";
const FUNCTIONS: &str = "functions/";

/// Where files are written before they get their names, below the directory of the storage.
const UNFINISHED: &str = "unfinished";

/// Locked while a service uses the directory.
const LOCK: &str = "lock";

/// The largest manifest that is read.
const MANIFEST_SIZE: u64 = 4 << 20;

/// How long one step of something that is far away may take, and how often it is tried.
const STEP_TIME: Duration = Duration::from_secs(60);
const TRIES: usize = 4;

/// Where deployed functions are kept.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageSettings {
    /// In a directory, which is made where there is none.
    Directory(PathBuf),
    /// In memory: a restart loses them.
    Memory,
    /// In a bucket of S3, or of a service that speaks like it, by OpenDAL's options: `bucket`, `root`, `region`, `endpoint`,
    /// `access_key_id` and others. One service at a time may use it, which nothing checks.
    S3(BTreeMap<String, String>),
}

/// The storage cannot be used, or not now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// It cannot be opened.
    #[error("the storage in {place} cannot be used: {why}")]
    Open {
        /// Where it is.
        place: String,
        /// Why it cannot be.
        why: String,
    },
    /// Another service uses it.
    #[error(
        "another `lunatic serve` uses the storage in {0}; give this one a directory of its own"
    )]
    InUse(String),
    /// There is no room.
    #[error("the storage is full: {0}")]
    Full(String),
    /// It failed.
    #[error("the storage failed: {0}")]
    Failed(String),
}

/// Stored functions.
pub(super) struct Storage {
    operator: Operator,
    /// Where it is one: what was renamed in it has to be made to last.
    directory: Option<PathBuf>,
    /// Held as long as the storage is used.
    lock: Mutex<Option<File>>,
}

/// What is stored cannot be read or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoredError {
    #[error("it is not there")]
    Missing,
    #[error("its bytes are not those that were stored: their hash is another")]
    Changed,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl StorageSettings {
    /// Returns where it is, for people. Secrets are not shown.
    fn place(&self) -> String {
        match self {
            StorageSettings::Directory(directory) => format!("`{}`", directory.display()),
            StorageSettings::Memory => "memory".to_string(),
            StorageSettings::S3(options) => {
                format!(
                    "the bucket `{}`",
                    options.get("bucket").map_or("", String::as_str)
                )
            }
        }
    }
}

impl Storage {
    /// Opens it, and makes it where it can be made. Needs a tokio runtime.
    pub(super) async fn open(settings: &StorageSettings) -> Result<Storage, StorageError> {
        let unusable = |error: &dyn Error| StorageError::Open {
            place: settings.place(),
            why: reason(error),
        };
        let storage = match settings {
            StorageSettings::Directory(directory) => {
                let lock = prepare(directory).map_err(|error| unusable(&error))?;
                if let Err(error) = lock.try_lock() {
                    return Err(match error {
                        std::fs::TryLockError::WouldBlock => StorageError::InUse(settings.place()),
                        std::fs::TryLockError::Error(error) => unusable(&error),
                    });
                }
                clear(&directory.join(UNFINISHED)).map_err(|error| unusable(&error))?;
                let unfinished = directory.join(UNFINISHED);
                let path = |path: &Path| path.to_str().map(str::to_string);
                let (Some(root), Some(unfinished)) = (path(directory), path(&unfinished)) else {
                    return Err(unusable(&io::Error::other("its path is not UTF-8")));
                };
                let service = services::Fs::default()
                    .root(&root)
                    .atomic_write_dir(&unfinished);
                let operator = Operator::new(service).map_err(|error| unusable(&error))?;
                Storage {
                    operator,
                    directory: Some(directory.clone()),
                    lock: Mutex::new(Some(lock)),
                }
            }
            StorageSettings::Memory => {
                let operator =
                    Operator::new(services::Memory::default()).map_err(|error| unusable(&error))?;
                Storage {
                    operator,
                    directory: None,
                    lock: Mutex::default(),
                }
            }
            StorageSettings::S3(options) => {
                // Its client takes the provider of cryptography that is set for the program; another one may be set already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                HttpTransporter::install_default(ReqwestTransport::default());
                let options = options
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone()));
                let operator = Operator::from_iter::<services::S3>(options)
                    .map_err(|error| unusable(&error))?;
                let operator = operator
                    .layer(
                        TimeoutLayer::new()
                            .with_timeout(STEP_TIME)
                            .with_io_timeout(STEP_TIME),
                    )
                    .layer(RetryLayer::new().with_max_times(TRIES));
                Storage {
                    operator,
                    directory: None,
                    lock: Mutex::default(),
                }
            }
        };
        // Whether it can be read is to be known now and not with the first deploy.
        storage
            .operator
            .list(FUNCTIONS)
            .await
            .map_err(|error| unusable(&error))?;
        Ok(storage)
    }

    /// Lets another service use it. This one does not change it any longer.
    pub(super) fn release(&self) {
        self.lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Returns the names under which manifests are stored. They may be no names of functions.
    pub(super) async fn names(&self) -> Result<Vec<String>, StorageError> {
        self.list(FUNCTIONS, ".json").await
    }

    /// Reads what is stored of a function.
    pub(super) async fn manifest(&self, name: &str) -> Result<Manifest, StoredError> {
        let path = format!("{FUNCTIONS}{name}.json");
        let bytes = self.read(&path, MANIFEST_SIZE).await?;
        Ok(Manifest::parse(&bytes)?)
    }

    /// Stores what is to be known of a function; whatever was known before is replaced at once.
    pub(super) async fn put_manifest(
        &self,
        name: &Name,
        manifest: &Manifest,
    ) -> Result<(), StorageError> {
        self.write(FUNCTIONS, &format!("{name}.json"), manifest.text().into())
            .await
    }

    /// Forgets a function.
    pub(super) async fn delete_manifest(&self, name: &str) -> Result<(), StorageError> {
        self.delete(FUNCTIONS, &format!("{name}.json")).await
    }

    /// Reads wasm of at most so many bytes.
    pub(super) async fn blob(&self, hash: blake3::Hash, size: u64) -> Result<Vec<u8>, StoredError> {
        let bytes = self.read(&format!("{BLOBS}{hash}.wasm"), size).await?;
        if blake3::hash(&bytes) != hash {
            return Err(StoredError::Changed);
        }
        Ok(bytes)
    }

    /// Stores wasm under its hash. What is there already may be damaged, and is replaced.
    pub(super) async fn put_blob(
        &self,
        hash: blake3::Hash,
        bytes: bytes::Bytes,
    ) -> Result<(), StorageError> {
        self.write(BLOBS, &format!("{hash}.wasm"), bytes.into())
            .await
    }

    /// Deletes the wasm that is stored under none of these hashes. What cannot be deleted stays for the next time.
    pub(super) async fn keep_blobs(
        &self,
        hashes: &HashSet<blake3::Hash>,
    ) -> Result<(), StorageError> {
        for stored in self.list(BLOBS, ".wasm").await? {
            if !blake3::Hash::from_hex(&stored).is_ok_and(|hash| hashes.contains(&hash)) {
                self.delete(BLOBS, &format!("{stored}.wasm")).await?;
            }
        }
        Ok(())
    }

    /// Deletes wasm.
    pub(super) async fn delete_blob(&self, hash: blake3::Hash) -> Result<(), StorageError> {
        self.delete(BLOBS, &format!("{hash}.wasm")).await
    }

    async fn list(&self, directory: &str, ending: &str) -> Result<Vec<String>, StorageError> {
        let entries = self.operator.list(directory).await.map_err(failed)?;
        let name = |entry: opendal::Entry| {
            Some(
                entry
                    .path()
                    .strip_prefix(directory)?
                    .strip_suffix(ending)?
                    .to_string(),
            )
        };
        Ok(entries.into_iter().filter_map(name).collect())
    }

    async fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, StoredError> {
        let absent = |error: opendal::Error| match error.kind() {
            ErrorKind::NotFound => StoredError::Missing,
            _ => failed(error).into(),
        };
        let size = self
            .operator
            .stat(path)
            .await
            .map_err(absent)?
            .content_length();
        if size > most {
            return Err(StoredError::Changed);
        }
        Ok(self.operator.read(path).await.map_err(absent)?.to_vec())
    }

    async fn write(&self, directory: &str, name: &str, bytes: Buffer) -> Result<(), StorageError> {
        if let Err(error) = self
            .operator
            .write(&format!("{directory}{name}"), bytes)
            .await
        {
            // What it had written already would take room until the next start. Nobody else is writing.
            if let Some(root) = &self.directory {
                let unfinished = root.join(UNFINISHED);
                let _ = tokio::task::spawn_blocking(move || clear(&unfinished)).await;
            }
            return Err(failed(error));
        }
        self.settle(directory).await
    }

    async fn delete(&self, directory: &str, name: &str) -> Result<(), StorageError> {
        self.operator
            .delete(&format!("{directory}{name}"))
            .await
            .map_err(failed)?;
        self.settle(directory).await
    }

    /// Makes names that were given and taken last, where these are files: OpenDAL does so with what is in the files alone.
    async fn settle(&self, directory: &str) -> Result<(), StorageError> {
        let Some(root) = &self.directory else {
            return Ok(());
        };
        let path = root.join(directory);
        let settled = tokio::task::spawn_blocking(move || File::open(path)?.sync_all()).await;
        let settled = settled.unwrap_or_else(|error| Err(io::Error::other(error)));
        settled.map_err(|error| StorageError::Failed(error.to_string()))
    }
}

/// Makes the directories, which nobody but their owner can read, since what is stored may be secret. Returns what is locked.
fn prepare(directory: &Path) -> io::Result<File> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    for part in ["", BLOBS, FUNCTIONS, UNFINISHED] {
        builder.create(directory.join(part))?;
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(LOCK))?;
    File::open(directory)?.sync_all()?;
    if let Some(parent) = directory.canonicalize()?.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(lock)
}

/// Deletes what a service that was cut off had not finished.
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

fn failed(error: opendal::Error) -> StorageError {
    let why = reason(&error);
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge,
        ) = kind
        {
            return StorageError::Full(why);
        }
        cause = error.source();
    }
    StorageError::Failed(why)
}

/// Returns the innermost cause, which is what a user can do something about: what OpenDAL says around it is about itself.
fn reason(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

impl std::fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options may hold a key.
        f.write_str(&self.place())
    }
}
