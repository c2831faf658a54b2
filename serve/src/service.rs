//! Deploy and invoke: functions that are uploaded over HTTP, stored, and called by name.
//!
//! A [`Service`] has two addresses. On the one, `/NAME/path` invokes a function; that is an ordinary gateway. On the other,
//! whoever may deploys functions, looks at them and at what they log. It holds no policy of its own: what a function may use
//! are its [`Settings`](crate::Settings), of which whoever deploys can ask for some.

mod api;
mod asked;
mod deploy;
mod guard;
mod manifest;
mod refusal;
mod storage;
mod token;
mod upload;

pub use asked::Most;
pub use storage::{StorageError, StorageSettings};
pub use token::{Token, TokenError};

use crate::server::Mount;
use crate::{
    Functions, Gateway, HttpGateway, HttpLimits, Name, Protocol, Route, ServerBuilder, Settings,
    Target, TlsFiles,
};
use manifest::Manifest;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use storage::Storage;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, watch};

/// The name that no deployed function has: who posts there meant the other address.
const RESERVED: &str = "deploy";

/// Threads for what blocks: files of the storage.
const BLOCKING_THREADS: usize = 8;

/// How long a request to the service may take, which is long for those who follow a log.
const REQUEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Those who follow logs at the same time.
const FOLLOWERS: usize = 64;

/// What a [`Service`] does and lets be done: plain data.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Where functions are invoked. 127.0.0.1:8000 unless told otherwise.
    pub invoke: SocketAddr,
    /// Where they are deployed. 127.0.0.1:8002 unless told otherwise. An address that others than this computer can reach
    /// needs a token.
    pub deploy: SocketAddr,
    /// With it, both speak TLS alone.
    pub tls: Option<TlsFiles>,
    /// What clients that invoke may do.
    pub limits: HttpLimits,
    /// Where functions are kept. `./module-store` unless told otherwise.
    pub storage: StorageSettings,
    /// What whoever deploys has to know. Without it everybody who reaches the address may.
    pub token: Option<Token>,
    /// What functions may use for which nothing else was asked.
    pub defaults: Settings,
    /// What can be asked for at most.
    pub most: Most,
    /// Bytes of wasm of a function. 64 MiB unless told otherwise.
    pub size: u64,
    /// Deploys at the same time. 8 unless told otherwise. Each has its wasm in memory.
    pub deploys: NonZeroUsize,
    /// Deploys that wait for these, none of which is read meanwhile; others are refused. 64 unless told otherwise.
    pub waiting: usize,
    /// Of these, how many compile at the same time. Half as many as there are cores, unless told otherwise.
    pub compiles: NonZeroUsize,
    /// How long compiling may take. Two minutes unless told otherwise.
    pub compile_time: Duration,
    /// How long the client may take to send its wasm. Five minutes unless told otherwise.
    pub upload_time: Duration,
    /// Versions of a function that are kept. 10 unless told otherwise.
    pub versions: NonZeroUsize,
    /// Functions that can be deployed. 10,000 unless told otherwise.
    pub functions: NonZeroUsize,
}

/// A service cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Everybody could deploy.
    #[error(
        "deploying on {0}, which others than this computer can reach, needs a token: give `--token-file` or set LUNATIC_TOKEN"
    )]
    NoToken(SocketAddr),
    /// The storage cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The system gives no threads.
    #[error("no threads for the service: {0}")]
    Threads(io::Error),
}

/// Functions that are deployed and invoked over HTTP.
///
/// ```
/// use lunatic_serve::{Functions, Server, Service, ServiceConfig, StorageSettings};
/// use lunatic_vm::{Host, Vm};
///
/// let mut host = Host::default();
/// lunatic_serve::add_to_host(&mut host);
/// let vm = Vm::builder().host(host).build()?;
///
/// let config = ServiceConfig {
///     invoke: "127.0.0.1:0".parse()?,
///     deploy: "127.0.0.1:0".parse()?,
///     storage: StorageSettings::Memory,
///     ..ServiceConfig::default()
/// };
/// let functions = Functions::new(&vm);
/// let service = Service::open(&functions, config)?;
/// let server = service.add_to(Server::builder(&functions)).start()?;
/// for listening in server.listening() {
///     println!("{} at http://{}", listening.name, listening.address);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Service {
    inner: Arc<Inner>,
    skipped: Vec<Skipped>,
    /// Of its own, so that what is stored takes no time from those who invoke. `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

/// A stored function that does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name, or what stands where a name should.
    pub name: String,
    /// Why it does not.
    pub why: String,
}

struct Inner {
    functions: Functions,
    storage: Storage,
    config: ServiceConfig,
    /// What is stored, by name.
    known: Mutex<BTreeMap<String, Record>>,
    /// Of one function, one thing is changed at a time.
    turns: Mutex<HashMap<Name, Arc<Semaphore>>>,
    /// Of the storage too: what one stores, another who cleans up does not see yet.
    change: Semaphore,
    deploys: Semaphore,
    /// Of deploys that wait too.
    accepted: Semaphore,
    compiles: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    /// Set when those who follow logs are to end.
    is_ending: watch::Sender<bool>,
    handle: Handle,
}

/// What is known of a stored function.
#[derive(Clone)]
struct Record {
    /// `None` where it cannot be read.
    manifest: Option<Arc<Manifest>>,
    /// Why it does not serve.
    broken: Option<String>,
}

impl Default for ServiceConfig {
    fn default() -> ServiceConfig {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let count = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        ServiceConfig {
            invoke: (Ipv4Addr::LOCALHOST, 8000).into(),
            deploy: (Ipv4Addr::LOCALHOST, 8002).into(),
            tls: None,
            limits: HttpLimits::default(),
            storage: StorageSettings::Directory(PathBuf::from("module-store")),
            token: None,
            defaults: Settings::default(),
            most: Most::default(),
            size: 64 << 20,
            deploys: count(8),
            waiting: 64,
            compiles: count(cores / 2),
            compile_time: Duration::from_secs(120),
            upload_time: Duration::from_secs(300),
            versions: count(10),
            functions: count(10_000),
        }
    }
}

impl Service {
    /// Opens the storage and has what is stored serve. What cannot is skipped: see [`skipped`](Service::skipped). Blocks for
    /// as long as that takes; must not be called from asynchronous code.
    ///
    /// # Errors
    ///
    /// [`ServiceError`], where the storage cannot be read at all or everybody could deploy.
    pub fn open(functions: &Functions, config: ServiceConfig) -> Result<Service, ServiceError> {
        if config.token.is_none() && !config.deploy.ip().to_canonical().is_loopback() {
            return Err(ServiceError::NoToken(config.deploy));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("service")
            .enable_all()
            .build()
            .map_err(ServiceError::Threads)?;
        let storage = runtime.block_on(Storage::open(&config.storage))?;
        let inner = Arc::new(Inner {
            functions: functions.clone(),
            storage,
            known: Mutex::default(),
            turns: Mutex::default(),
            change: Semaphore::new(1),
            deploys: Semaphore::new(config.deploys.get()),
            accepted: Semaphore::new(config.deploys.get() + config.waiting),
            compiles: Arc::new(Semaphore::new(config.compiles.get())),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            is_ending: watch::Sender::new(false),
            handle: runtime.handle().clone(),
            config,
        });
        let skipped = runtime.block_on(inner.load())?;
        for Skipped { name, why } in &skipped {
            log::warn!(
                "the stored function `{}` does not serve: {}",
                lunatic_vm::printable(name),
                lunatic_vm::printable(why)
            );
        }
        Ok(Service {
            inner,
            skipped,
            runtime: Some(runtime),
        })
    }

    /// Returns the stored functions that do not serve.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Returns the gateway on which functions are invoked.
    pub fn gateway(&self) -> Gateway {
        let config = &self.inner.config;
        let hint = match config.deploy.port() {
            0 => "functions are deployed on another address than they are invoked on".to_string(),
            _ => format!(
                "functions are deployed on another address: POST to http://{}/deploy/NAME",
                config.deploy
            ),
        };
        let routes = vec![
            Route {
                path: "/".into(),
                target: Target::Named,
            },
            Route {
                path: format!("/{RESERVED}"),
                target: Target::Notice(hint),
            },
        ];
        let http = HttpGateway {
            routes,
            tls: config.tls.clone(),
            limits: config.limits.clone(),
        };
        Gateway {
            name: "invoke".into(),
            address: config.invoke,
            protocol: Protocol::Http(http),
        }
    }

    /// Has a server listen on the service's addresses. It calls them `invoke` and `deploy`.
    pub fn add_to(&self, server: ServerBuilder) -> ServerBuilder {
        let config = &self.inner.config;
        let mount = Mount {
            name: "deploy".into(),
            address: config.deploy,
            tls: config.tls.clone(),
            limits: HttpLimits::default(),
            // The service counts what it reads itself.
            body: u64::MAX,
            deadline: REQUEST_TIME,
            handler: api::handler(&self.inner),
        };
        server.gateway(self.gateway()).mount(mount)
    }

    /// Ends the answers that never end by themselves, those to who follows a log. To be called before a server is stopped.
    pub fn drain(&self) {
        self.inner.is_ending.send_replace(true);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.drain();
        if let Some(runtime) = self.runtime.take() {
            // Wherever that cuts a deploy off, the function is what it was or what it is to be.
            runtime.shutdown_background();
            // Whoever is still answered keeps the rest for a moment.
            self.inner.storage.release();
        }
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is stored of a function.
    fn manifest(&self, name: &Name) -> Option<Arc<Manifest>> {
        self.known()
            .get(name.as_str())
            .and_then(|record| record.manifest.clone())
    }

    /// Returns the hashes of all wasm that is needed.
    fn needed(&self) -> HashSet<blake3::Hash> {
        let known = self.known();
        let manifests = known.values().filter_map(|record| record.manifest.as_ref());
        manifests
            .flat_map(|manifest| manifest.versions.iter().map(|version| version.hash))
            .collect()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceConfig {
            invoke,
            deploy,
            storage,
            ..
        } = &self.inner.config;
        let mut service = f.debug_struct("Service");
        service
            .field("invoke", invoke)
            .field("deploy", deploy)
            .field("storage", storage)
            .finish_non_exhaustive()
    }
}
