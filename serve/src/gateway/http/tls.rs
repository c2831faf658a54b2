//! TLS using rustls, with certificates from files that are checked for changes before each
//! handshake.

use crate::{TlsFiles, bounded_file};
use lunatic_watch::Fingerprint;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The maximum size of a certificate or key file, in bytes. Any chain that clients accept is much
/// smaller.
const MAX_FILE_SIZE: u64 = 256 << 10;

/// A server's certificates and key, as read from files.
pub(super) struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    /// The state of the files when last read, whether or not they are usable.
    stamps: [Option<Fingerprint>; 2],
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files. Blocks until they have been read.
    ///
    /// # Errors
    ///
    /// The error says which file is missing or malformed, or that the two files do not match.
    pub(super) fn new(files: &TlsFiles) -> io::Result<Tls> {
        let stamps = stamps(files);
        let config = read(files)?;
        Ok(Tls(Arc::new(Inner {
            files: files.clone(),
            current: Mutex::new(Current { stamps, config }),
        })))
    }

    /// Performs the handshake with a client, using the current certificates. If the files have
    /// changed but are not usable, logs a warning and keeps using the previous certificates.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let inner = self.0.clone();
        let config = tokio::task::spawn_blocking(move || inner.config())
            .await
            .map_err(io::Error::other)?;
        TlsAcceptor::from(config).accept(stream).await
    }
}

impl Inner {
    fn config(&self) -> Arc<ServerConfig> {
        let stamps = stamps(&self.files);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.stamps != stamps {
            // Files that are not usable are logged only once.
            current.stamps = stamps;
            match read(&self.files) {
                Ok(config) => {
                    log::info!(
                        "the certificates in {} were reloaded",
                        self.files.certificates.display()
                    );
                    current.config = config;
                }
                Err(error) => log::warn!("the previous certificates stay in use: {error}"),
            }
        }
        current.config.clone()
    }
}

fn stamps(files: &TlsFiles) -> [Option<Fingerprint>; 2] {
    [&files.certificates, &files.key].map(|path| Some(Fingerprint::of(&path.metadata().ok()?)))
}

fn read(files: &TlsFiles) -> io::Result<Arc<ServerConfig>> {
    let text = read_file(&files.certificates)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| malformed(&files.certificates, &error))?;
    if certificates.is_empty() {
        return Err(malformed(&files.certificates, &"no certificate found"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read_file(&files.key)?);
    let key = key.map_err(|error| malformed(&files.key, &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("the provider supports these TLS versions");
    let config = builder
        .with_no_client_auth()
        .with_single_cert(certificates, key);
    let mut config = config.map_err(|error| {
        let (certificates, key) = (files.certificates.display(), files.key.display());
        io::Error::new(
            ErrorKind::InvalidInput,
            format!("{certificates} and {key} cannot be used: {error}"),
        )
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    bounded_file::read(path, MAX_FILE_SIZE).map_err(named)
}

fn malformed(path: &Path, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("{} does not contain usable PEM: {what}", path.display()),
    )
}
