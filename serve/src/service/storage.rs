//! Where deployed functions are kept: their wasm, each under its hash, and of each function a manifest.
//!
//! ```text
//! blobs/HASH.wasm        never changed once it is there
//! functions/NAME.json    replaced as a whole
//! ```
//!
//! A deploy stores the wasm and then the manifest, and what no manifest names is deleted after that. So wherever it is cut
//! off, a function is what it was or what it is to be, and what is left over is deleted at the next start.

#[cfg(feature = "s3")]
mod bucket;
mod directory;
mod memory;

use super::manifest::{Manifest, ManifestError};
use crate::Name;
#[cfg(feature = "s3")]
use bucket::Bucket;
use bytes::Bytes;
use directory::Directory;
use memory::Memory;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

const BLOBS: &str = "blobs/";
const FUNCTIONS: &str = "functions/";

/// The largest manifest that is read.
const MANIFEST_SIZE: u64 = 4 << 20;

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
pub(super) enum Storage {
    Directory(Directory),
    Memory(Memory),
    #[cfg(feature = "s3")]
    Bucket(Bucket),
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
    /// Opens the storage, creating it if it does not exist. Needs a tokio runtime.
    pub(super) async fn open(settings: &StorageSettings) -> Result<Storage, StorageError> {
        let storage = match settings {
            StorageSettings::Directory(path) => Storage::Directory(Directory::open(path)?),
            StorageSettings::Memory => Storage::Memory(Memory::default()),
            #[cfg(feature = "s3")]
            StorageSettings::S3(options) => Storage::Bucket(Bucket::open(options)?),
            #[cfg(not(feature = "s3"))]
            StorageSettings::S3(_) => {
                return Err(unusable(
                    settings,
                    "this build has no S3 client; build it with `--features s3`",
                ));
            }
        };
        // A storage that cannot be read is an error now, not at the first deploy.
        match storage.list(FUNCTIONS).await {
            Ok(_) => Ok(storage),
            Err(StorageError::Failed(why)) => Err(unusable(settings, why)),
            Err(error) => Err(error),
        }
    }

    /// Lets another service use the storage, which this one no longer changes.
    pub(super) fn release(&self) {
        if let Storage::Directory(directory) = self {
            directory.release();
        }
    }

    /// Returns the names under which manifests are stored. They may be no names of functions.
    pub(super) async fn names(&self) -> Result<Vec<String>, StorageError> {
        self.names_in(FUNCTIONS, ".json").await
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
        self.write(format!("{FUNCTIONS}{name}.json"), manifest.text().into())
            .await
    }

    /// Forgets a function.
    pub(super) async fn delete_manifest(&self, name: &str) -> Result<(), StorageError> {
        self.delete(format!("{FUNCTIONS}{name}.json")).await
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
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        self.write(format!("{BLOBS}{hash}.wasm"), bytes).await
    }

    /// Deletes the wasm that is stored under none of these hashes. What cannot be deleted stays for the next time.
    pub(super) async fn keep_blobs(
        &self,
        hashes: &HashSet<blake3::Hash>,
    ) -> Result<(), StorageError> {
        for stored in self.names_in(BLOBS, ".wasm").await? {
            if !blake3::Hash::from_hex(&stored).is_ok_and(|hash| hashes.contains(&hash)) {
                self.delete(format!("{BLOBS}{stored}.wasm")).await?;
            }
        }
        Ok(())
    }

    /// Deletes wasm.
    pub(super) async fn delete_blob(&self, hash: blake3::Hash) -> Result<(), StorageError> {
        self.delete(format!("{BLOBS}{hash}.wasm")).await
    }

    async fn names_in(
        &self,
        directory: &'static str,
        extension: &str,
    ) -> Result<Vec<String>, StorageError> {
        let files = self.list(directory).await?;
        let name = |file: &String| file.strip_suffix(extension).map(str::to_string);
        Ok(files.iter().filter_map(name).collect())
    }

    async fn list(&self, directory: &'static str) -> Result<Vec<String>, StorageError> {
        match self {
            Storage::Directory(files) => files.list(directory).await,
            Storage::Memory(files) => Ok(files.list(directory)),
            #[cfg(feature = "s3")]
            Storage::Bucket(files) => files.list(directory).await,
        }
    }

    /// Reads a file of at most `most` bytes; a larger one is not what was stored.
    async fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, StoredError> {
        match self {
            Storage::Directory(files) => files.read(path, most).await,
            Storage::Memory(files) => files.read(path),
            #[cfg(feature = "s3")]
            Storage::Bucket(files) => files.read(path, most).await,
        }
    }

    async fn write(&self, path: String, bytes: Bytes) -> Result<(), StorageError> {
        match self {
            Storage::Directory(files) => files.write(path, bytes).await,
            Storage::Memory(files) => {
                files.write(path, bytes);
                Ok(())
            }
            #[cfg(feature = "s3")]
            Storage::Bucket(files) => files.write(&path, bytes).await,
        }
    }

    /// Deletes a file, if it exists.
    async fn delete(&self, path: String) -> Result<(), StorageError> {
        match self {
            Storage::Directory(files) => files.delete(path).await,
            Storage::Memory(files) => {
                files.delete(&path);
                Ok(())
            }
            #[cfg(feature = "s3")]
            Storage::Bucket(files) => files.delete(&path).await,
        }
    }
}

fn unusable(settings: &StorageSettings, why: impl ToString) -> StorageError {
    StorageError::Open {
        place: settings.place(),
        why: why.to_string(),
    }
}

impl std::fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options may hold a key.
        f.write_str(&self.place())
    }
}
