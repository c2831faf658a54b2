//! What a service does and allows.

use super::options::DeployLimits;
use super::storage::StorageSettings;
use super::token::Token;
use crate::{HttpLimits, Settings, TlsFiles};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// What a [`Service`](crate::Service) does and allows: plain data.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The address for invoking functions. 127.0.0.1:8000 by default.
    pub invoke: SocketAddr,
    /// The address for deploying functions. 127.0.0.1:8002 by default. One that other computers can
    /// reach needs a token.
    pub deploy: SocketAddr,
    /// Makes both addresses speak TLS only.
    pub tls: Option<TlsFiles>,
    /// What clients that invoke functions may do.
    pub limits: HttpLimits,
    /// Where functions are stored. `./module-store` by default.
    pub storage: StorageSettings,
    /// The token that deploying needs. Without one, everybody who can reach the address may deploy.
    pub token: Option<Token>,
    /// The settings of functions, except for those that a deploy asks for.
    pub defaults: Settings,
    /// The most that a deploy can ask for.
    pub deploy_limits: DeployLimits,
    /// The largest wasm of a function, in bytes. 64 MiB by default.
    pub size: u64,
    /// Deploys at the same time, each with its wasm in memory. 8 by default.
    pub deploys: NonZeroUsize,
    /// Deploys that wait for these, without being read. Others are refused. 64 by default.
    pub waiting: usize,
    /// Deploys that compile at the same time. By default half as many as there are cores.
    pub compiles: NonZeroUsize,
    /// How long compiling may take. Two minutes by default.
    pub compile_time: Duration,
    /// How long a client may take to send its wasm. Five minutes by default.
    pub upload_time: Duration,
    /// Versions that are kept of a function. 10 by default.
    pub versions: NonZeroUsize,
    /// Functions that can be deployed. 10,000 by default.
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
