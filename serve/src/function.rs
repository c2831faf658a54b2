//! A version of a function: everything that gateways, sparks and components need to serve requests.

use crate::component::instances::Instances;
use crate::kill_on_drop::KillOnDrop;
use crate::metrics::{FunctionMetrics, Metrics};
use crate::program::Program;
use crate::{Code, Log, Name, Outbound, Settings, SettingsError};
use lunatic_vm::{Environment, Exit, SpawnError, Stdio, Vm};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a version may take to become ready for its first request.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why a version cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryOutError {
    /// No process can be spawned.
    #[error(transparent)]
    Spawn(SpawnError),
    /// The process exited while it was starting.
    #[error("the function {0}")]
    Ended(Exit),
    /// The process did not start in time.
    #[error("it was not ready within {START_TIMEOUT:?}")]
    Late,
}

async fn ended() -> Exit {
    Exit::Normal
}

/// A version of a function that is ready to serve.
pub struct Version {
    shared: Arc<Shared>,
    /// The version number. Each function's versions are numbered from 1.
    number: u64,
    hash: blake3::Hash,
    code: Code,
    settings: Settings,
    environment: Environment,
    outbound: Arc<Outbound>,
    /// The process that receives connections, if the code is a program.
    program: Program,
    /// The instances that outlive a single request, if the code is a component.
    instances: Instances,
}

/// The state shared by all of a function's versions.
pub(crate) struct Shared {
    pub(crate) name: Name,
    pub(crate) log: Log,
    metrics: Arc<FunctionMetrics>,
}

impl Shared {
    pub(crate) fn new(name: &Name, metrics: &Metrics) -> Shared {
        Shared {
            name: name.clone(),
            log: Log::new(name),
            metrics: metrics.of(name),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.log.close();
    }
}

impl Version {
    pub(crate) fn new(
        vm: &Vm,
        shared: Arc<Shared>,
        number: u64,
        hash: blake3::Hash,
        code: Code,
        settings: Settings,
    ) -> Result<Version, SettingsError> {
        let mut config = settings.config(vm)?;
        config
            .stdin(Stdio::Null)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null)
            .journal(shared.log.journal());
        let outbound = Outbound::new(&settings.outbound, settings.private_addresses);
        Ok(Version {
            shared,
            number,
            hash,
            code,
            settings,
            environment: vm.environment(config),
            outbound: Arc::new(outbound),
            program: Program::default(),
            instances: Instances::default(),
        })
    }

    /// Starts a process once, up to the point where it is ready for its first request.
    pub(crate) async fn try_out(&self) -> Result<(), TryOutError> {
        let (name, environment) = ("start", &self.environment);
        let started = match &self.code {
            Code::Spark(spark) => environment.drive(spark.module(), name, |_| Box::pin(ended())),
            Code::Program(module) => environment.drive(module, name, |_| Box::pin(ended())),
            Code::Component(component) => {
                environment.drive_component(component, name, |_| Box::pin(ended()))
            }
        };
        let process = KillOnDrop::new(started.map_err(TryOutError::Spawn)?);
        match tokio::time::timeout(START_TIMEOUT, process.process().exited()).await {
            Ok(Exit::Normal) => Ok(()),
            Ok(exit) => Err(TryOutError::Ended(exit)),
            Err(_) => Err(TryOutError::Late),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the function's name.
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Returns the version number, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the hash of the bytes this version was created from.
    pub fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// Returns the code that this version runs.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Returns the version's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the environment that the version's processes run in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the function's log.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Returns the function's metrics.
    pub(crate) fn metrics(&self) -> &Arc<FunctionMetrics> {
        &self.shared.metrics
    }

    /// Returns the client for the hosts this version may call over HTTP.
    pub(crate) fn outbound(&self) -> &Arc<Outbound> {
        &self.outbound
    }

    /// Returns the process that receives connections, if the code is a program.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the instances that outlive a single request, if the code is a component.
    pub(crate) fn instances(&self) -> &Instances {
        &self.instances
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("name", self.name())
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
