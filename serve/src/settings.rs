//! What a function may use, and how its requests are served.

use crate::outbound::OutboundRule;
use lunatic_vm::{Access, Config, Limit, PreopenError, Vm};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// What a function may use, and how its requests are served: plain data, from a project file or the service's defaults.
/// Debugged, it does not tell what variables and secrets are.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// How instances serve requests.
    pub policy: Policy,
    /// Bytes of memory of each process. 256 MiB unless told otherwise.
    pub memory: u64,
    /// Units of compute of each request, of 100,000 instructions each. Not limited unless told otherwise, as counting costs
    /// up to half the speed.
    pub compute: Option<u64>,
    /// Processes alive at the same time, of all requests together.
    pub processes: u64,
    /// How long a request may take, until its answer has been sent.
    pub deadline: Duration,
    /// Bytes of a request's body.
    pub body: u64,
    /// Requests at the same time; others wait a little, and are turned away then.
    pub requests: NonZeroUsize,
    /// What is granted beside what every function has: beginnings of `namespace::name`.
    pub namespaces: Vec<String>,
    /// Hosts that may be called over HTTP.
    pub outbound: Vec<OutboundRule>,
    /// Whether the allowed hosts may have addresses of private networks and of this computer.
    pub private_addresses: bool,
    /// Directories.
    pub directories: Vec<Directory>,
    /// Environment variables, secrets among them.
    pub variables: Vec<(String, String)>,
    /// What `rvm:lambda/host` tells as the client's secret.
    pub client_secret: Option<String>,
}

/// How instances serve requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each request has an instance of its own.
    #[default]
    Fresh,
    /// At most so many instances serve one request after the other. One that fails is replaced.
    Pool(NonZeroUsize),
    /// One instance serves one request after the other, and what it keeps in its memory stays.
    Single,
}

/// A directory of the host under a path of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub host: PathBuf,
    /// What the function calls it.
    pub guest: String,
    /// What may be done below it.
    pub access: Access,
}

/// Settings cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A directory cannot be granted.
    #[error(transparent)]
    Directory(#[from] PreopenError),
    /// No function of the machine has a name that begins so.
    #[error("the namespace `{}` grants nothing: no function of the machine has a name that begins so", lunatic_vm::printable(.0))]
    Namespace(String),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            policy: Policy::Fresh,
            memory: 256 << 20,
            compute: None,
            processes: 10_000,
            deadline: Duration::from_secs(30),
            body: 10 << 20,
            requests: NonZeroUsize::new(1024).expect("it is not zero"),
            namespaces: Vec::new(),
            outbound: Vec::new(),
            private_addresses: false,
            directories: Vec::new(),
            variables: Vec::new(),
            client_secret: None,
        }
    }
}

/// What every function has: clocks, random bytes, output, and the way to its caller. Files are not among them: without a
/// directory there is nothing that these functions could open.
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
    /// Returns the description of the environment that the function's processes live in.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], where a directory cannot be opened or a namespace does not exist.
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
            .limit(Limit::Processes, self.processes);
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
