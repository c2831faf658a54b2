//! Functions stored in a bucket on S3 or an S3-compatible service.

use super::error::{StorageError, StoredError};
use bytes::Bytes;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{ErrorKind, HttpTransporter, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

/// The timeout for a single request, and the maximum number of attempts.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const TRIES: usize = 4;

pub(in crate::service) struct Bucket(Operator);

impl Bucket {
    /// Creates a client for the bucket. Nothing is sent yet.
    pub(super) fn open(options: &BTreeMap<String, String>) -> Result<Bucket, StorageError> {
        // The client uses the default cryptography provider. The host program may already have
        // installed a different one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        HttpTransporter::install_default(ReqwestTransport::default());
        let options = options
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        let timeout = TimeoutLayer::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_io_timeout(REQUEST_TIMEOUT);
        let operator = Operator::from_iter::<services::S3>(options).map_err(failed)?;
        Ok(Bucket(
            operator
                .layer(timeout)
                .layer(RetryLayer::new().with_max_times(TRIES)),
        ))
    }

    pub(super) async fn list(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        let entries = self.0.list(directory).await.map_err(failed)?;
        let name = |entry: opendal::Entry| entry.path().strip_prefix(directory).map(str::to_string);
        Ok(entries.into_iter().filter_map(name).collect())
    }

    pub(super) async fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, StoredError> {
        let absent = |error: opendal::Error| match error.kind() {
            ErrorKind::NotFound => StoredError::Missing,
            _ => failed(error).into(),
        };
        let size = self.0.stat(path).await.map_err(absent)?.content_length();
        if size > most {
            return Err(StoredError::Changed);
        }
        Ok(self.0.read(path).await.map_err(absent)?.to_vec())
    }

    pub(super) async fn write(&self, path: &str, bytes: Bytes) -> Result<(), StorageError> {
        self.0.write(path, bytes).await.map(drop).map_err(failed)
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), StorageError> {
        self.0.delete(path).await.map_err(failed)
    }
}

/// Keeps only the innermost cause, because that is what a user can act on. The text around it is
/// about OpenDAL itself.
fn failed(error: opendal::Error) -> StorageError {
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    StorageError::Failed(cause.to_string())
}
