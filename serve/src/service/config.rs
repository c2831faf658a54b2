//! The configuration of a service.

use super::options::DeployLimits;
use super::storage::StorageSettings;
use super::token::Token;
use crate::{HttpLimits, Settings, TlsFiles};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// The configuration of a [`Service`](crate::Service), as plain data.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The address for invoking functions. 127.0.0.1:8000 by default.
    pub invoke: SocketAddr,
    /// The address for deploying functions. 127.0.0.1:8002 by default. A token is required if other
    /// computers can reach the address.
    pub deploy: SocketAddr,
    /// If set, both addresses accept only TLS.
    pub tls: Option<TlsFiles>,
    /// Limits for clients that invoke functions.
    pub limits: HttpLimits,
    /// Where functions are stored. `./module-store` by default.
    pub storage: StorageSettings,
    /// The token required to deploy. Without one, anyone who can reach the address may deploy.
    pub token: Option<Token>,
    /// The default settings for functions, used for everything that a deploy does not request.
    pub defaults: Settings,
    /// The most that a deploy can request.
    pub deploy_limits: DeployLimits,
    /// The maximum size of a function's wasm, in bytes. 64 MiB by default.
    pub size: u64,
    /// The maximum number of concurrent deploys, each with its wasm in memory. 8 by default.
    pub deploys: NonZeroUsize,
    /// The maximum number of further deploys that wait without having been read. Any more are
    /// refused. 64 by default.
    pub waiting: usize,
    /// The maximum number of concurrent compilations. Half the number of cores by default.
    pub compiles: NonZeroUsize,
    /// How long compiling may take. Two minutes by default.
    pub compile_time: Duration,
    /// How long a client may take to send its wasm. Five minutes by default.
    pub upload_time: Duration,
    /// The number of versions to keep per function. 10 by default.
    pub versions: NonZeroUsize,
    /// The maximum number of deployed functions. 10,000 by default.
    pub functions: NonZeroUsize,
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
            deploy_limits: DeployLimits::default(),
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
