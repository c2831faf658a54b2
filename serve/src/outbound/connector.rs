//! Connections to the hosts that functions call.
//!
//! A name is looked up for each connection, and the connection goes to an address that was looked at: what the name means a
//! moment later does not count.

use super::address::Reach;
use super::error::OutboundError;
use super::rule::{Destination, Host};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// The longest time that a connection may take to be there, with looking its host up and the handshake of TLS.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// How long looking a host up may take of that.
const LOOK_UP: Duration = Duration::from_secs(10);

/// How long at least one of several addresses is tried, before the next.
const ATTEMPT: Duration = Duration::from_secs(3);

/// So many addresses of one host are looked at.
const MOST_ADDRESSES: usize = 64;

/// So many connections a function may have.
pub(super) const CONNECTIONS: usize = 256;

/// The connections of all functions together: some of the files that this process may have open, so that its gateways and
/// its store keep the others.
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

/// Finds the addresses of a host.
#[derive(Clone)]
pub(super) struct LookUp {
    ask: Arc<Ask>,
    /// How long that may take.
    time: Duration,
}

type Ask =
    dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync;

/// Makes connections. A clone is the same one.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    private_addresses: bool,
    look_up: LookUp,
    connections: Arc<Semaphore>,
    /// Whom TLS believes, where it is not whom the web believes.
    trust: Option<Arc<ClientConfig>>,
}

/// Bytes both ways, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, as hyper wants it.
pub(super) struct Outgoing {
    stream: TokioIo<Box<dyn Stream>>,
    speaks_http2: bool,
    _counted: [OwnedSemaphorePermit; 2],
}

impl LookUp {
    /// Asks the system, which takes a thread for as long as it does not answer; the runtime has few.
    pub(super) fn of_system() -> LookUp {
        LookUp::within(LOOK_UP, |host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, 0)).await?;
                Ok(found
                    .map(|address| address.ip())
                    .take(MOST_ADDRESSES)
                    .collect())
            })
        })
    }

    pub(super) fn within(
        time: Duration,
        ask: impl Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> LookUp {
        LookUp {
            ask: Arc::new(ask),
            time,
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, OutboundError> {
        match timeout(self.time, (self.ask)(host.to_string())).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(OutboundError::Name(host.to_string(), error.to_string())),
            Err(_) => Err(OutboundError::NameTime(host.to_string(), self.time)),
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

    /// Whether no further connection can be made as long as those that there are stay.
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
            let late = |_| OutboundError::ConnectTime(LONGEST);
            timeout(LONGEST, inner.connect(&destination))
                .await
                .map_err(late)?
        })
    }
}

impl Inner {
    async fn connect(&self, destination: &Destination) -> Result<Outgoing, OutboundError> {
        let of_function = counted(&self.connections).await;
        let of_all = counted(&ALL_CONNECTIONS).await;
        let addresses = self.addresses(destination).await?;
        let stream = connect(&addresses, destination).await?;
        // What is written is a whole message, or as much of one as there is.
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
            _counted: [of_function, of_all],
        })
    }

    /// Returns the addresses of a host that may be connected to, in the order in which they are to be tried.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<IpAddr>, OutboundError> {
        let found = match &destination.host {
            Host::Address(address) => vec![*address],
            Host::Named(name) => self.look_up.addresses(name).await?,
        };
        let may = |address: &IpAddr| match Reach::of(*address) {
            Reach::Public => true,
            Reach::Private => self.private_addresses,
            Reach::Nowhere => false,
        };
        let allowed: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(may)
            .take(MOST_ADDRESSES)
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
            None => web().await,
        };
        let name = match &destination.host {
            Host::Named(name) => ServerName::try_from(name.clone()).map_err(|error| {
                OutboundError::Tls(format!("`{name}` cannot stand in a certificate: {error}"))
            })?,
            Host::Address(address) => ServerName::from(*address),
        };
        let encrypted = TlsConnector::from(trust).connect(name, stream).await;
        encrypted.map_err(|error| OutboundError::Tls(format!("{destination}: {error}")))
    }
}

async fn counted(connections: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    connections
        .clone()
        .acquire_owned()
        .await
        .expect("it is never closed")
}

/// Connects to the first of the addresses that lets itself be connected to.
async fn connect(
    addresses: &[IpAddr],
    destination: &Destination,
) -> Result<TcpStream, OutboundError> {
    let end = Instant::now() + LONGEST;
    let mut flaw = String::new();
    for (tried, &address) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = (left / (addresses.len() - tried) as u32).max(ATTEMPT);
        let address = SocketAddr::new(address, destination.port);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => flaw = format!("{address}: {error}"),
            Err(_) => flaw = format!("{address} did not answer within {share:?}"),
        }
    }
    Err(OutboundError::Connect(format!("{destination}: {flaw}")))
}

/// Believes whom the web believes, as of this library's version, and whom the file of `SSL_CERT_FILE` names besides.
async fn web() -> Arc<ClientConfig> {
    static WEB: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let make = async || {
        let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
            match tokio::fs::read(&path).await {
                Ok(text) => {
                    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
                    let (added, _) = roots.add_parsable_certificates(certificates);
                    log::info!(
                        "{added} authorities of {} are believed besides the web's",
                        path.display()
                    );
                }
                Err(error) => {
                    log::warn!("cannot read the authorities of {}: {error}", path.display())
                }
            }
        }
        believing(roots)
    };
    WEB.get_or_init(make).await.clone()
}

/// Returns how TLS is spoken with those who are believed.
pub(super) fn believing(roots: RootCertStore) -> Arc<ClientConfig> {
    // Named rather than taken from the process, where another library could have chosen another.
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // Shared by functions that must not learn of each other.
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
