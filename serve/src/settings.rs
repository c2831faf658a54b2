//! Functions' settings.

use crate::PrivateDirectory;
use crate::outbound::rule::OutboundRule;
use lunatic_vm::{Access, Config, Limit, PreopenError, Vm};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// A function's settings: what the function may do and how its requests are served. They are plain
/// data, from a project file or a service's defaults. The debug output leaves out the values of
/// variables and secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// How instances serve requests.
    pub policy: Policy,
    /// The memory limit of each process, in bytes. 256 MiB by default.
    pub memory: u64,
    /// The compute limit of each request, in units of 100,000 instructions. Unlimited by default,
    /// because counting instructions can reduce the speed by up to half.
    pub compute: Option<u64>,
    /// The maximum number of live processes, across all requests.
    pub processes: u64,
    /// How much memory the machine may hold for each process besides the process's own, in bytes.
    /// 64 MiB by default.
    pub host_memory: u64,
    /// How much memory the machine may hold for all of the function's processes besides their own,
    /// in bytes. 1 GiB by default.
    pub total_host_memory: u64,
    /// The maximum number of operating system descriptors that all of the function's processes may
    /// hold: files, directories and sockets. 10,000 by default.
    pub descriptors: u64,
    /// How long a request may take, including sending its response.
    pub deadline: Duration,
    /// The maximum size of a request's body, in bytes.
    pub body: u64,
    /// The maximum number of concurrent requests. Any more wait for a short time and are then
    /// refused.
    pub requests: NonZeroUsize,
    /// Host functions to grant in addition to those that every function has, as prefixes of
    /// `namespace::name`.
    pub namespaces: Vec<String>,
    /// Hosts that the function may call over HTTP.
    pub outbound: Vec<OutboundRule>,
    /// Whether the hosts in `outbound` may resolve to addresses in private networks or on this
    /// computer.
    pub private_addresses: bool,
    /// Directories that the function may use.
    pub directories: Vec<Directory>,
    /// Environment variables, including secrets.
    pub variables: Vec<(String, String)>,
    /// The client's secret, which `rvm:lambda/host` returns.
    pub client_secret: Option<String>,
}

/// How instances serve requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each request gets its own instance.
    #[default]
    Fresh,
    /// Up to the given number of instances each serve one request after another. An instance that
    /// fails is replaced.
    Pool(NonZeroUsize),
    /// One instance serves one request after another and keeps its memory between requests.
    Single,
}

/// A host directory, and the path at which the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The directory's path on the host.
    pub host: PathBuf,
    /// The directory's path as seen by the guest.
    pub guest: String,
    /// What the guest may do in the directory.
    pub access: Access,
}

/// Why settings cannot be granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A directory cannot be granted.
    #[error(transparent)]
    Directory(#[from] PreopenError),
    /// A directory contains a service's storage, or is inside it.
    #[error(transparent)]
    Private(#[from] PrivateDirectory),
    /// No host function's name begins with this prefix.
    #[error("the namespace `{}` grants nothing: the machine does not have any functions with this prefix", lunatic_vm::printable(.0))]
    Namespace(String),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            policy: Policy::Fresh,
            memory: 256 << 20,
            compute: None,
            processes: 10_000,
            host_memory: 64 << 20,
            total_host_memory: 1 << 30,
            descriptors: 10_000,
            deadline: Duration::from_secs(30),
            body: 10 << 20,
            requests: NonZeroUsize::new(1024).expect("1024 is not zero"),
            namespaces: Vec::new(),
            outbound: Vec::new(),
            private_addresses: false,
            directories: Vec::new(),
            variables: Vec::new(),
            client_secret: None,
        }
    }
}

/// The host functions that every function has: for clocks, random bytes, output, and communication
/// with the function's caller. None of them can access files unless a directory is granted.
const GRANTED: [&str; 7] = [
    "wasi_snapshot_preview1::",
    "wasi_unstable::",
    "wasi:cli",
    "lunatic::spark::",
    "embly::",
    "env::_",
    "rvm:lambda/host",
];

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&str> = self
            .variables
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        f.debug_struct("Settings")
            .field("policy", &self.policy)
            .field("memory", &self.memory)
            .field("compute", &self.compute)
            .field("processes", &self.processes)
            .field("host_memory", &self.host_memory)
            .field("total_host_memory", &self.total_host_memory)
            .field("descriptors", &self.descriptors)
            .field("deadline", &self.deadline)
            .field("body", &self.body)
            .field("requests", &self.requests)
            .field("namespaces", &self.namespaces)
            .field("outbound", &self.outbound)
            .field("private_addresses", &self.private_addresses)
            .field("directories", &self.directories)
            .field("variables", &variables)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Returns the configuration of the environment that the function's processes run in.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if a directory cannot be opened or a namespace does not exist.
    pub fn config(&self, vm: &Vm) -> Result<Config, SettingsError> {
        let mut config = vm.config();
        for namespace in GRANTED {
            config.allow(namespace);
        }
        if !self.directories.is_empty() {
            config.allow("wasi:filesystem");
        }
        for namespace in &self.namespaces {
            if !config.knows(namespace) {
                return Err(SettingsError::Namespace(namespace.clone()));
            }
            config.allow(namespace);
        }
        config
            .limit(Limit::Memory, self.memory)
            .limit(Limit::Compute, self.compute.unwrap_or(u64::MAX))
            .limit(Limit::Processes, self.processes)
            .limit(Limit::HostMemory, self.host_memory)
            .limit(Limit::TotalHostMemory, self.total_host_memory)
            .limit(Limit::Descriptors, self.descriptors);
        for Directory {
            host,
            guest,
            access,
        } in &self.directories
        {
            config.preopen(host, guest, *access)?;
        }
        for (name, value) in &self.variables {
            config.variable(name, value);
        }
        Ok(config)
    }
}
