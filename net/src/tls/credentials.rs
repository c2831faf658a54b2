//! A server's identity and a client's trust, read from certificates and keys in PEM format.

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, LazyLock};

/// The maximum size of PEM input, in bytes. Certificate chains that peers accept are much smaller.
pub const MAX_PEM_SIZE: usize = 256 * 1024;

/// A server's certificates and key.
#[derive(Clone)]
pub struct Identity {
    pub(super) config: Arc<ServerConfig>,
}

impl Identity {
    /// Reads a server's certificate chain, starting with the server's own certificate, and its key
    /// in PKCS #8, PKCS #1 or SEC 1 format. If there are several keys, the first one is used.
    /// Anything else in the PEM input is ignored.
    ///
    /// Checks that the key matches the certificate, which takes up to a millisecond.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with a message that says what is missing, malformed, too large or
    /// mismatched.
    ///
    /// ```
    /// use lunatic_net::tls::Identity;
    ///
    /// let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a valid name");
    /// Identity::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())?;
    ///
    /// let error = Identity::from_pem(b"nothing", b"neither").expect_err("this is not PEM");
    /// assert_eq!(error.to_string(), "the PEM text contains no certificate");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> io::Result<Identity> {
        let certificates = read_certificates(certificates)?;
        check_size(key)?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| malformed("private key", &error))?;
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions");
        let config = builder
            .with_no_client_auth()
            .with_single_cert(certificates, key);
        let mut config =
            config.map_err(|error| invalid(format!("the certificate cannot be used: {error}")))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Identity {
            config: Arc::new(config),
        })
    }
}

impl fmt::Debug for Identity {
    /// Hides the contents, because they include a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The authorities that may issue a server's certificate.
#[derive(Clone)]
pub struct Trust {
    pub(super) config: Arc<ClientConfig>,
}

impl Trust {
    /// Trusts the web's certificate authorities: Mozilla's list, in the version included in
    /// `webpki-roots`.
    pub fn web() -> Trust {
        static WEB: LazyLock<Trust> =
            LazyLock::new(|| Trust::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()));
        WEB.clone()
    }

    /// Trusts only the authorities whose certificates are in the given PEM strings. Each string
    /// must contain at least one certificate. A server's own certificate may serve as its
    /// authority.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with a message that says what is missing, malformed or too large.
    pub fn only<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> io::Result<Trust> {
        let mut roots = RootCertStore::empty();
        for text in texts {
            for certificate in read_certificates(text)? {
                let added = roots.add(certificate);
                added.map_err(|error| {
                    invalid(format!(
                        "the certificate cannot be used as an authority: {error}"
                    ))
                })?;
            }
        }
        Ok(Trust::new(roots))
    }

    fn new(roots: RootCertStore) -> Trust {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        // Callers that share this trust must not learn about each other, so no sessions are kept.
        config.resumption = rustls::client::Resumption::disabled();
        Trust {
            config: Arc::new(config),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// Returns the crypto provider. The process-wide default is not used, because another library might
/// have installed a different one.
fn provider() -> Arc<CryptoProvider> {
    static RING: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(ring::default_provider()));
    RING.clone()
}

fn read_certificates(text: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    check_size(text)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err(malformed("certificate", &pem::Error::NoItemsFound)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(malformed("certificate", &error)),
    }
}

fn check_size(text: &[u8]) -> io::Result<()> {
    if text.len() > MAX_PEM_SIZE {
        return Err(invalid(format!(
            "the PEM text has {} bytes; at most {MAX_PEM_SIZE} are allowed",
            text.len()
        )));
    }
    Ok(())
}

fn malformed(what: &str, error: &pem::Error) -> io::Error {
    invalid(match error {
        pem::Error::NoItemsFound => format!("the PEM text contains no {what}"),
        error => format!("the PEM text of a {what} is malformed: {error}"),
    })
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what)
}
