//! Connections to the hosts that functions call.
//!
//! A name is looked up for each connection, and the connection goes to the very address that was
//! checked, so it does not matter if the name resolves to a different address a moment later.

use super::address::Reach;
use super::error::OutboundError;
use super::rule::{Destination, Host};
use crate::bounded_file;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// How long connecting may take, including the lookup and the TLS handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of [`CONNECT_TIMEOUT`] the lookup may take.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The minimum time to try one of several addresses before moving on to the next.
const MIN_ATTEMPT: Duration = Duration::from_secs(3);

/// The maximum number of addresses considered per host.
const MAX_ADDRESSES: usize = 64;

/// The maximum size, in bytes, of a file of certificate authorities.
const MAX_AUTHORITIES: u64 = 16 << 20;

/// The maximum number of connections per function.
pub(super) const CONNECTIONS: usize = 256;

/// Limits the connections of all functions to a fraction of the files that this process may open,
/// because the gateways and the store need the rest.
static ALL_CONNECTIONS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    Arc::new(Semaphore::new(
        usize::try_from(files / 4)
            .unwrap_or(usize::MAX)
            .clamp(64, 16_384),
    ))
});

/// Limits how many lookups all functions may have in progress, because each lookup blocks a thread.
/// Further lookups wait.
static LOOK_UPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(16)));

/// Finds a host's addresses.
#[derive(Clone)]
pub(super) struct LookUp {
    resolve: Arc<Resolve>,
    timeout: Duration,
}

type Resolve =
    dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync;

/// Establishes connections. All clones refer to the same connector.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    private_addresses: bool,
    look_up: LookUp,
    connections: Arc<Semaphore>,
    /// The authorities that TLS trusts, if not the public web authorities.
    trust: Option<Arc<ClientConfig>>,
}

/// A bidirectional byte stream, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, with the traits that hyper requires.
pub(super) struct Outgoing {
    stream: TokioIo<Box<dyn Stream>>,
    speaks_http2: bool,
    _permits: [OwnedSemaphorePermit; 2],
}

impl LookUp {
    /// Uses the system resolver, which blocks a thread until it answers, even if the caller has
    /// stopped waiting.
    pub(super) fn of_system() -> LookUp {
        LookUp::within(LOOK_UP_TIMEOUT, |host| {
            Box::pin(async move {
                let permit = permit(&LOOK_UPS).await;
                let look_up = move || {
                    let _permit = permit;
                    (&*host, 0).to_socket_addrs()
                };
                let found = tokio::task::spawn_blocking(look_up).await??;
                Ok(found
                    .map(|address| address.ip())
                    .take(MAX_ADDRESSES)
                    .collect())
            })
        })
    }

    pub(super) fn within(
        timeout: Duration,
        resolve: impl Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> LookUp {
        LookUp {
            resolve: Arc::new(resolve),
            timeout,
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, OutboundError> {
        match timeout(self.timeout, (self.resolve)(host.to_string())).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(OutboundError::Name(host.to_string(), error.to_string())),
            Err(_) => Err(OutboundError::NameTime(host.to_string(), self.timeout)),
        }
    }
}

impl Connector {
    pub(super) fn new(
        private_addresses: bool,
        look_up: LookUp,
        trust: Option<Arc<ClientConfig>>,
    ) -> Connector {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        Connector(Arc::new(Inner {
            private_addresses,
            look_up,
            connections,
            trust,
        }))
    }

    #[cfg(test)]
    pub(super) async fn addresses(
        &self,
        destination: &Destination,
    ) -> Result<Vec<IpAddr>, OutboundError> {
        self.0.addresses(destination).await
    }

    /// Returns whether a connection must be closed before another one can be made.
    pub(super) fn is_full(&self) -> bool {
        self.0.connections.available_permits() == 0
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Outgoing;
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<Outgoing, OutboundError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OutboundError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let destination = Destination::of(&uri).map_err(OutboundError::Address)?;
            let late = |_| OutboundError::ConnectTime(CONNECT_TIMEOUT);
            timeout(CONNECT_TIMEOUT, inner.connect(&destination))
                .await
                .map_err(late)?
        })
    }
}

impl Inner {
    async fn connect(&self, destination: &Destination) -> Result<Outgoing, OutboundError> {
        let of_function = permit(&self.connections).await;
        let of_all = permit(&ALL_CONNECTIONS).await;
        let addresses = self.addresses(destination).await?;
        for &address in &addresses {
            let address = SocketAddr::new(address, destination.port);
            if lunatic_vm::is_reserved(address) {
                let host = destination.host.to_string();
                return Err(OutboundError::Reserved(host, address));
            }
        }
        let stream = connect(&addresses, destination).await?;
        // Each write is an entire message, or as much of it as is available.
        let _ = stream.set_nodelay(true);
        let (stream, speaks_http2): (Box<dyn Stream>, bool) = if destination.is_secure {
            let stream = self.encrypt(stream, destination).await?;
            let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            (Box::new(stream), speaks_http2)
        } else {
            (Box::new(stream), false)
        };
        Ok(Outgoing {
            stream: TokioIo::new(stream),
            speaks_http2,
            _permits: [of_function, of_all],
        })
    }

    /// Returns the host's addresses that may be connected to, in the order to try them.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<IpAddr>, OutboundError> {
        let found = match &destination.host {
            Host::Address(address) => vec![*address],
            Host::Named(name) => self.look_up.addresses(name).await?,
        };
        let is_allowed = |address: &IpAddr| match Reach::of(*address) {
            Reach::Public => true,
            Reach::Private => self.private_addresses,
            Reach::Nowhere => false,
        };
        let allowed: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(is_allowed)
            .take(MAX_ADDRESSES)
            .collect();
        match (found.first(), allowed.is_empty()) {
            (None, _) => Err(OutboundError::Name(
                destination.host.to_string(),
                "it has no address".to_string(),
            )),
            (Some(&address), true) => Err(OutboundError::Prohibited {
                host: destination.host.to_string(),
                address,
                is_private: Reach::of(address) == Reach::Private,
            }),
            (Some(_), false) => Ok(allowed),
        }
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
        destination: &Destination,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, OutboundError> {
        let trust = match &self.trust {
            Some(trust) => trust.clone(),
            None => web_config().await,
        };
        let name = match &destination.host {
            Host::Named(name) => ServerName::try_from(name.clone()).map_err(|error| {
                OutboundError::Tls(format!(
                    "`{name}` cannot be the name in a certificate: {error}"
                ))
            })?,
            Host::Address(address) => ServerName::from(*address),
        };
        let encrypted = TlsConnector::from(trust).connect(name, stream).await;
        encrypted.map_err(|error| OutboundError::Tls(format!("{destination}: {error}")))
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed")
}

/// Connects to the first address that accepts a connection.
async fn connect(
    addresses: &[IpAddr],
    destination: &Destination,
) -> Result<TcpStream, OutboundError> {
    let end = Instant::now() + CONNECT_TIMEOUT;
    let mut flaw = String::new();
    for (tried, &address) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = (left / (addresses.len() - tried) as u32).max(MIN_ATTEMPT);
        let address = SocketAddr::new(address, destination.port);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => flaw = format!("{address}: {error}"),
            Err(_) => flaw = format!("{address} did not answer within {share:?}"),
        }
    }
    Err(OutboundError::Connect(format!("{destination}: {flaw}")))
}

/// Trusts the public web authorities, as of this library's version, and those in the file named by
/// `SSL_CERT_FILE`.
async fn web_config() -> Arc<ClientConfig> {
    static WEB: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let make = async || {
        let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
            let read = {
                let path = path.clone();
                move || bounded_file::read(path.as_ref(), MAX_AUTHORITIES)
            };
            match tokio::task::spawn_blocking(read)
                .await
                .map_err(io::Error::other)
            {
                Ok(Ok(text)) => {
                    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
                    let (added, _) = roots.add_parsable_certificates(certificates);
                    log::info!(
                        "{added} authorities from {} are trusted in addition to the public web authorities",
                        path.display()
                    );
                }
                Ok(Err(error)) | Err(error) => {
                    log::warn!("cannot read the authorities in {}: {error}", path.display())
                }
            }
        }
        trusting(roots)
    };
    WEB.get_or_init(make).await.clone()
}

/// Returns a TLS configuration that trusts the given authorities.
pub(super) fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    // Passed explicitly, because another library could have set a different provider for the whole
    // process.
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("the provider supports these TLS versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // Sessions are not resumed, because this configuration is shared by functions that must not
    // learn about each other.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

impl Connection for Outgoing {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.speaks_http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl Read for Outgoing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl Write for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
