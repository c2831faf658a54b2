//! Functions, their versions, and the table of all of them.

use crate::component::Instances;
use crate::gateway::http::Turnstile;
use crate::gateway::tcp::Program;
use crate::metrics::{FunctionMetrics, Metrics};
use crate::spark::{Kind, Spark};
use crate::{Log, Name, Outbound, Settings, SettingsError};
use lunatic_vm::{Component, Environment, Module, ModuleError, Stdio, Vm};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

/// A named function. What it runs can be replaced while it serves: a request is served wholly by the version that was there
/// when it came.
pub struct Function {
    shared: Arc<Shared>,
    current: RwLock<Arc<Version>>,
}

/// What all versions of a function share.
struct Shared {
    name: Name,
    /// Where they find the functions that they run themselves.
    table: Weak<Table>,
    log: Log,
    metrics: Arc<FunctionMetrics>,
    /// Requests that are inside, and those that wait.
    requests: Turnstile,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.log.close();
    }
}

/// What a function runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Code {
    /// A module that reads and writes bytes.
    Spark(Spark),
    /// A component that handles HTTP requests.
    Component(Component),
    /// A program of the machine, which is given connections.
    Program(Module),
}

/// One version of a function, ready to serve.
pub struct Version {
    shared: Arc<Shared>,
    /// Counted from 1, for each function.
    number: u64,
    hash: blake3::Hash,
    code: Code,
    settings: Settings,
    environment: Environment,
    outbound: Arc<Outbound>,
    /// The process that is given connections, where it is a program.
    program: Program,
    /// Those that outlive a request, where it is a component.
    instances: Instances,
}

/// Bytes are no function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// They are neither a module nor a component that can be run.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// They are code for one processor, which is never run as it is found.
    #[error(
        "this is compiled code, which is never accepted: give the wasm that it was compiled from"
    )]
    Precompiled,
    /// The module exports nothing to run.
    #[error("the module exports neither `_start` nor `main`: a function begins with one of them")]
    NoEntry,
    /// The component handles no requests.
    #[error(
        "the component does not export `wasi:http/incoming-handler@0.2`, which is how a component gets requests"
    )]
    NoHandler,
    /// What it may use cannot be had.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// The functions of a machine. Cheap to clone: all clones are the same table.
#[derive(Clone)]
pub struct Functions(Arc<Table>);

struct Table {
    vm: Vm,
    metrics: Metrics,
    functions: Mutex<BTreeMap<Name, Arc<Function>>>,
}

impl Code {
    /// Checks and compiles what a function runs, from wasm or wat. Blocks for as long as compiling takes.
    ///
    /// # Errors
    ///
    /// [`CodeError`] says why it is nothing to run.
    pub fn new(vm: &Vm, name: &str, bytes: &[u8]) -> Result<Code, CodeError> {
        if bytes.starts_with(b"\x7fELF") {
            return Err(CodeError::Precompiled);
        }
        if wasmparser::Parser::is_component(bytes) || wat_is_component(bytes) {
            let component = vm.component(name, bytes)?;
            if !crate::component::handles_requests(&component) {
                return Err(CodeError::NoHandler);
            }
            return Ok(Code::Component(component));
        }
        let module = vm.module(name, bytes)?;
        match crate::spark::kind(&module) {
            Kind::Spark(spark) => Ok(Code::Spark(spark)),
            Kind::Program => Ok(Code::Program(module)),
            Kind::Nothing => Err(CodeError::NoEntry),
        }
    }
}

/// Whether a text begins like a component's.
fn wat_is_component(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    text.trim_start()
        .strip_prefix('(')
        .is_some_and(|text| text.trim_start().starts_with("component"))
}

impl Version {
    /// Returns the name of the function.
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Returns which version it is, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the hash of the bytes that it was made from.
    pub fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// Returns what it runs.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Returns what it may use.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the process that is given connections.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Returns where its processes live.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the log of the function.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Returns what is counted of the function.
    pub(crate) fn metrics(&self) -> &Arc<FunctionMetrics> {
        &self.shared.metrics
    }

    /// Returns whom it may call over HTTP.
    pub(crate) fn outbound(&self) -> &Arc<Outbound> {
        &self.outbound
    }

    /// Returns its instances that outlive a request, where it is a component.
    pub(crate) fn instances(&self) -> &Instances {
        &self.instances
    }

    /// Returns the functions that it can run by name; `None` when they are being given up.
    pub(crate) fn functions(&self) -> Option<Functions> {
        self.shared.table.upgrade().map(Functions)
    }
}

impl Function {
    /// Returns its name.
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Returns its log, which all its versions share.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Returns the version that serves.
    pub fn version(&self) -> Arc<Version> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns where requests wait that are too many.
    pub(crate) fn requests(&self) -> &Turnstile {
        &self.shared.requests
    }

    /// Has another version serve the requests that come from now on; those that are being served end on theirs.
    fn replace(&self, version: Arc<Version>) {
        self.shared.log.replaced(version.number);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

impl Functions {
    /// Makes an empty table. The machine must have been built with [`add_to_host`](crate::add_to_host).
    pub fn new(vm: &Vm) -> Functions {
        Functions(Arc::new(Table {
            vm: vm.clone(),
            metrics: Metrics::new(),
            functions: Mutex::default(),
        }))
    }

    /// Returns the machine.
    pub fn vm(&self) -> &Vm {
        &self.0.vm
    }

    /// Returns what is counted of all functions.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns a function.
    pub fn get(&self, name: &str) -> Option<Arc<Function>> {
        self.table().get(name).cloned()
    }

    /// Returns all functions, by name.
    pub fn all(&self) -> Vec<Arc<Function>> {
        self.table().values().cloned().collect()
    }

    /// Adds a function, or has another version of it serve.
    ///
    /// # Errors
    ///
    /// Where the environment cannot be made. Then nothing has changed.
    pub fn put(
        &self,
        name: &Name,
        number: u64,
        hash: blake3::Hash,
        code: Code,
        settings: Settings,
    ) -> Result<Arc<Version>, SettingsError> {
        let version = self.prepare(name, number, hash, code, settings)?;
        self.serve(&version);
        Ok(version)
    }

    /// Makes a version that can be tried and does not serve yet. Of one function, one is prepared at a time.
    ///
    /// # Errors
    ///
    /// Where the environment cannot be made.
    pub(crate) fn prepare(
        &self,
        name: &Name,
        number: u64,
        hash: blake3::Hash,
        code: Code,
        settings: Settings,
    ) -> Result<Arc<Version>, SettingsError> {
        let shared = match self.get(name.as_str()) {
            Some(function) => function.shared.clone(),
            None => Arc::new(Shared {
                name: name.clone(),
                table: Arc::downgrade(&self.0),
                log: Log::new(name),
                metrics: self.0.metrics.of(name),
                requests: Turnstile::default(),
            }),
        };
        let mut config = settings.config(&self.0.vm)?;
        config
            .stdin(Stdio::Null)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null)
            .journal(shared.log.journal());
        let environment = self.0.vm.environment(config);
        let outbound = Arc::new(Outbound::new(
            &settings.outbound,
            settings.private_addresses,
        ));
        let (program, instances) = (Program::default(), Instances::default());
        Ok(Arc::new(Version {
            shared,
            number,
            hash,
            code,
            settings,
            environment,
            outbound,
            program,
            instances,
        }))
    }

    /// Has a version serve the requests that come from now on.
    pub(crate) fn serve(&self, version: &Arc<Version>) {
        let mut functions = self.table();
        if let Some(function) = functions.get(version.name()) {
            return function.replace(version.clone());
        }
        version.log().replaced(version.number);
        let function = Function {
            shared: version.shared.clone(),
            current: RwLock::new(version.clone()),
        };
        functions.insert(version.name().clone(), Arc::new(function));
    }

    /// Takes a function out. Requests that it is serving end as they would.
    pub fn remove(&self, name: &str) -> Option<Arc<Function>> {
        self.table().remove(name)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Function>>> {
        self.0
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", self.name())
            .finish_non_exhaustive()
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

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Functions").field(&self.all()).finish()
    }
}
