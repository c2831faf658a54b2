//! Where deployed functions are stored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where deployed functions are stored.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageSettings {
    /// In a directory, which is created if it does not exist.
    Directory(PathBuf),
    /// In memory. Functions are lost on restart.
    Memory,
    /// In a bucket on S3 or a compatible service, described by OpenDAL's options: `bucket`, `root`,
    /// `region`, `endpoint`, `access_key_id` and others. Requires the `s3` feature. Only one
    /// service at a time may use a bucket, but this is not enforced.
    S3(BTreeMap<String, String>),
}

impl From<PathBuf> for StorageSettings {
    /// `s3://BUCKET` or `s3://BUCKET/ROOT` is a bucket, whose other options come from the
    /// environment. Any other path is a directory.
    fn from(path: PathBuf) -> StorageSettings {
        let Some(location) = path.to_str().and_then(|text| text.strip_prefix("s3://")) else {
            return StorageSettings::Directory(path);
        };
        let (bucket, root) = location.split_once('/').unwrap_or((location, ""));
        let options = [("bucket", bucket), ("root", root)];
        let options = options.map(|(name, value)| (name.to_string(), value.to_string()));
        StorageSettings::S3(options.into())
    }
}

impl StorageSettings {
    /// Describes the location without revealing any secrets.
    pub(super) fn place(&self) -> String {
        match self {
            StorageSettings::Directory(directory) => format!("`{}`", directory.display()),
            StorageSettings::Memory => "memory".to_string(),
            StorageSettings::S3(options) => {
                let bucket = options.get("bucket").map_or("", String::as_str);
                format!("the bucket `{bucket}`")
            }
        }
    }
}

impl fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options may contain a key.
        f.write_str(&self.place())
    }
}
