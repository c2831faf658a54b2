//! Storage for deployed functions: their wasm, keyed by hash, and a manifest for each function.
//!
//! ```text
//! blobs/HASH.wasm        never changed once it is stored
//! functions/NAME.json    replaced atomically
//! ```
//!
//! A deploy first stores the wasm, then the manifest, and then deletes any wasm that is not
//! referenced by a manifest. No matter where a deploy is interrupted, the function therefore has
//! either its old version or its new one, and the next start deletes any leftovers.

#[cfg(feature = "s3")]
mod bucket;
mod directory;
mod error;
mod memory;
mod settings;

use super::manifest::Manifest;
use crate::Name;
#[cfg(feature = "s3")]
use bucket::Bucket;
use bytes::Bytes;
use directory::Directory;
use memory::Memory;
use std::collections::HashSet;

pub use error::StorageError;
pub(super) use error::StoredError;
pub use settings::StorageSettings;

const BLOBS: &str = "blobs/";
const FUNCTIONS: &str = "functions/";

/// The maximum size of a manifest to read, in bytes.
const MANIFEST_SIZE: u64 = 4 << 20;

/// Stored functions.
pub(super) enum Storage {
    Directory(Directory),
    Memory(Memory),
    #[cfg(feature = "s3")]
    Bucket(Bucket),
}

impl Storage {
    /// Opens the storage, creating it if it does not exist. Requires a tokio runtime.
    pub(super) async fn open(settings: &StorageSettings) -> Result<Storage, StorageError> {
        let storage = match settings {
            StorageSettings::Directory(path) => {
                Storage::Directory(Directory::open(path, &[BLOBS, FUNCTIONS])?)
            }
            StorageSettings::Memory => Storage::Memory(Memory::default()),
            #[cfg(feature = "s3")]
            StorageSettings::S3(options) => Storage::Bucket(Bucket::open(options)?),
            #[cfg(not(feature = "s3"))]
            StorageSettings::S3(_) => {
                return Err(StorageError::open(
                    settings,
                    "this build does not include S3 support; rebuild with `--features s3`",
                ));
            }
        };
        // Report unreadable storage now, not at the first deploy.
        match storage.list(FUNCTIONS).await {
            Ok(_) => Ok(storage),
            Err(StorageError::Failed(why)) => Err(StorageError::open(settings, why)),
            Err(error) => Err(error),
        }
    }

    /// Releases the storage so that another service can use it.
    pub(super) fn release(&self) {
        if let Storage::Directory(directory) = self {
            directory.release();
        }
    }

    /// Returns the names that manifests are stored under, which are not necessarily valid function
    /// names.
    pub(super) async fn names(&self) -> Result<Vec<String>, StorageError> {
        self.names_in(FUNCTIONS, ".json").await
    }

    /// Reads a function's manifest.
    pub(super) async fn manifest(&self, name: &str) -> Result<Manifest, StoredError> {
        let path = format!("{FUNCTIONS}{name}.json");
        let bytes = self.read(&path, MANIFEST_SIZE).await?;
        Ok(Manifest::parse(&bytes)?)
    }

    /// Replaces a function's manifest.
    pub(super) async fn put_manifest(
        &self,
        name: &Name,
        manifest: &Manifest,
    ) -> Result<(), StorageError> {
        self.write(format!("{FUNCTIONS}{name}.json"), manifest.text().into())
            .await
    }

    /// Deletes a function's manifest.
    pub(super) async fn delete_manifest(&self, name: &str) -> Result<(), StorageError> {
        self.delete(format!("{FUNCTIONS}{name}.json")).await
    }

    /// Reads the wasm with the given hash, or fails if it is larger than `size` bytes.
    pub(super) async fn blob(&self, hash: blake3::Hash, size: u64) -> Result<Vec<u8>, StoredError> {
        let bytes = self.read(&format!("{BLOBS}{hash}.wasm"), size).await?;
        if blake3::hash(&bytes) != hash {
            return Err(StoredError::Changed);
        }
        Ok(bytes)
    }

    /// Stores wasm under its hash, replacing any existing file, which may be damaged.
    pub(super) async fn put_blob(
        &self,
        hash: blake3::Hash,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        self.write(format!("{BLOBS}{hash}.wasm"), bytes).await
    }

    /// Deletes all wasm except the wasm with these hashes.
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

    /// Deletes the wasm with the given hash.
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

    /// Reads a file, or fails if it is larger than `most` bytes and thus not the one that was
    /// stored.
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
            Storage::Memory(files) => files.write(path, bytes),
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
