//! The service, through which functions are deployed over HTTP, stored, and invoked by name.
//!
//! A [`Service`] has two addresses. The first is an ordinary gateway, where `/NAME/path` invokes a
//! function. At the second, authorised clients deploy functions, list them and read their logs. The
//! service itself does not decide what a function may do: that is up to the function's
//! [`Settings`](crate::Settings), some of which a deploy can request.

mod api;
mod config;
mod deploy;
mod guard;
pub(crate) mod manifest;
mod options;
mod refusal;
mod shared;
mod storage;
mod token;
mod upload;

pub use config::ServiceConfig;
pub use options::DeployLimits;
pub use shared::Skipped;
pub use storage::{StorageError, StorageSettings};
pub use token::{Token, TokenError};

use crate::gateway::http::setup::Handler;
use crate::private::PrivateDirectory;
use crate::runtime;
use crate::server::Mount;
use crate::{
    Functions, Gateway, HttpGateway, HttpLimits, Name, Protocol, Route, ServerBuilder, Target,
};
use shared::{RESERVED, Shared};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use storage::Storage;

/// How long a request to the service may take. This is long because clients can follow a log.
const REQUEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a service cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Without a token, other computers could deploy.
    #[error(
        "deploying on {0}, which other computers can reach, needs a token: use `--token-file` or set LUNATIC_TOKEN"
    )]
    NoToken(SocketAddr),
    /// The storage cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A function of the project has access to the storage.
    #[error("the function `{0}`: {1}")]
    Exposed(Name, PrivateDirectory),
    /// All deployed functions would have access to the storage.
    #[error("deployed functions: {0}")]
    ExposedByDefault(PrivateDirectory),
    /// No threads can be started.
    #[error("cannot start the threads for the service: {0}")]
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
    shared: Arc<Shared>,
    skipped: Vec<Skipped>,
}

impl Service {
    /// Opens the storage and starts serving the stored functions. Skips functions that cannot
    /// serve; see [`skipped`](Service::skipped). Blocks, so it must not be called from asynchronous
    /// code.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the storage cannot be read, or if other computers could deploy without a
    /// token.
    pub fn open(functions: &Functions, config: ServiceConfig) -> Result<Service, ServiceError> {
        if config.token.is_none() && !config.deploy.ip().to_canonical().is_loopback() {
            return Err(ServiceError::NoToken(config.deploy));
        }
        let handle = runtime::handle().map_err(ServiceError::Threads)?;
        let storage = handle.block_on(Storage::open(&config.storage))?;
        if let StorageSettings::Directory(directory) = &config.storage {
            functions
                .keep_private(directory)
                .map_err(|(function, error)| ServiceError::Exposed(function, error))?;
        }
        for directory in &config.defaults.directories {
            functions
                .check_directory(&directory.host)
                .map_err(ServiceError::ExposedByDefault)?;
        }
        let shared = Arc::new(Shared::new(functions.clone(), storage, config, handle));
        let skipped = handle.block_on(shared.load())?;
        for Skipped { name, why } in &skipped {
            log::warn!(
                "the stored function `{}` is not being served: {}",
                lunatic_vm::printable(name),
                lunatic_vm::printable(why)
            );
        }
        Ok(Service { shared, skipped })
    }

    /// Returns the stored functions that are not being served.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Returns the gateway that invokes functions.
    pub fn gateway(&self) -> Gateway {
        let config = &self.shared.config;
        let hint = match config.deploy.port() {
            0 => "functions are deployed at a different address".to_string(),
            _ => format!(
                "functions are deployed at a different address: POST to http://{}/deploy/NAME",
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

    /// Has a server listen on the service's addresses, under the names `invoke` and `deploy`.
    pub fn add_to(&self, server: ServerBuilder) -> ServerBuilder {
        let config = &self.shared.config;
        let mount = Mount {
            name: "deploy".into(),
            address: config.deploy,
            tls: config.tls.clone(),
            limits: HttpLimits::default(),
            handler: Handler {
                responder: api::responder(&self.shared),
                // The service limits body sizes itself.
                body: u64::MAX,
                deadline: REQUEST_TIME,
            },
        };
        server.gateway(self.gateway()).mount(mount)
    }

    /// Ends the responses to clients that follow a log, which would never end otherwise. Call this
    /// before stopping the server.
    pub fn drain(&self) {
        self.shared.is_ending.send_replace(true);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.drain();
        // A deploy that is interrupted here leaves either the old version or the new version in
        // place.
        self.shared.abort_tasks();
        // Requests that are still being answered may keep the rest of the service alive for a
        // moment.
        self.shared.storage.release();
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceConfig {
            invoke,
            deploy,
            storage,
            ..
        } = &self.shared.config;
        let mut service = f.debug_struct("Service");
        service
            .field("invoke", invoke)
            .field("deploy", deploy)
            .field("storage", storage)
            .finish_non_exhaustive()
    }
}
