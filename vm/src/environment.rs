//! Environments: what processes may use and call, and where they are spawned.
//!
//! An [`Environment`] is made from a [`Config`] and does not change afterwards. A host makes the outermost one; processes
//! make further ones inside it, which have at most its rights and count towards its bounds.

mod config;
mod grants;
mod limits;
mod program;
mod quota;
mod wasi;

pub use config::Config;
pub(crate) use config::Permissions;
pub(crate) use grants::{Catalogue, Grants};
pub use limits::Limits;
pub(crate) use program::Program;
pub(crate) use quota::{Permit, Quota};
pub use wasi::{Access, PreopenError, Stdio};
pub(crate) use wasi::{Given, MAX_RANDOM, Wasi, WasiTemplate};

use crate::component::Component;
use crate::engine::{Ceiling, Code, Engine, Kind};
use crate::host::{Guest, Origin};
use crate::journal::Journal;
use crate::module::{EntryError, LinkError, Linked, Module, ModuleError, Requirements};
use crate::process::run::{self, Body, Permits};
use crate::process::{
    Endpoint, Exit, LimitReached, Live, LiveComponent, Message, Pid, Process, SendError, Signal,
};
use crate::registry::{Name, Registration, Registry, RegistryError};
use crate::vm::Machine;
use lunatic_abi::Limit;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use wasmtime::{Val, component};

/// What processes may use and call. Cheap to clone.
#[derive(Clone)]
pub struct Environment(Arc<Inner>);

struct Inner {
    number: u64,
    machine: Arc<Machine>,
    config: Config,
    wasi: WasiTemplate,
    names: Arc<Mutex<Registry>>,
    quota: Arc<Quota>,
    program: Arc<Program>,
}

/// Why a process was not spawned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The module has no such function, or it takes other parameters.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A bound of the environment is reached.
    #[error("{0}")]
    Limit(LimitReached),
    /// As many processes are alive as the machine or the computer can hold.
    #[error(transparent)]
    Ceiling(Ceiling),
    /// The module could not be compiled for this environment.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The program is ending, or the machine is.
    #[error("the program is ending; nothing new is spawned")]
    Ending,
    /// The component imports an interface of the embedder's that the environment does not grant.
    #[error("the environment does not grant `{0}`, which the component imports")]
    NotGranted(String),
    /// The process's first message cannot be delivered.
    #[error(transparent)]
    Message(SendError),
    /// The module could not be linked.
    #[error("the module cannot be linked: {0}")]
    Link(String),
    /// The process was to have a name, and cannot.
    #[error(transparent)]
    Name(RegistryError),
}

/// So many environments can lie inside each other. What is used inside is counted in each of those around it, and all of them
/// stay as long as the innermost.
const MAX_DEPTH: u32 = 256;

/// Why an environment was not made inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "environments can be made inside each other {MAX_DEPTH} deep, which this one is; spawn without a configuration"
)]
pub(crate) struct TooDeep;

/// What is so before a new process's first instruction.
#[derive(Default)]
pub(crate) struct Birth<'a> {
    /// The process that it is linked with, and the tag with which that one is told of its failure.
    pub(crate) link: Option<(&'a Process, i64)>,
    /// What lies in its mailbox.
    pub(crate) message: Option<Message>,
    /// Set where the program ends with it.
    pub(crate) is_main: bool,
    /// What it is registered under; where somebody has the name, it is not born.
    pub(crate) name: Option<Naming<'a>>,
}

/// A name for a process that is not born yet.
pub(crate) struct Naming<'a> {
    /// Whose names it is one of.
    pub(crate) environment: &'a Environment,
    pub(crate) name: &'a Name,
    pub(crate) registrar: Pid,
}

impl Environment {
    /// Makes an environment that the host holds.
    pub(crate) fn outermost(machine: &Arc<Machine>, config: Config) -> Environment {
        let number = machine.next_environment();
        let program = Arc::new(Program::new(number, &config));
        Environment::make(machine, number, config, None, program, Arc::default())
    }

    /// Makes an environment inside this one, with names of its own or with this one's.
    ///
    /// # Errors
    ///
    /// [`TooDeep`], where too many are around this one.
    pub(crate) fn inner(
        &self,
        mut config: Config,
        names_of_its_own: bool,
    ) -> Result<Environment, TooDeep> {
        if self.0.quota.depth() >= MAX_DEPTH {
            return Err(TooDeep);
        }
        config.restrict_to(&self.0.config);
        let number = self.0.machine.next_environment();
        let names = if names_of_its_own {
            Arc::default()
        } else {
            self.0.names.clone()
        };
        let (outer, program) = (Some(self.0.quota.clone()), self.0.program.clone());
        Ok(Environment::make(
            &self.0.machine,
            number,
            config,
            outer,
            program,
            names,
        ))
    }

    fn make(
        machine: &Arc<Machine>,
        number: u64,
        config: Config,
        outer: Option<Arc<Quota>>,
        program: Arc<Program>,
        names: Arc<Mutex<Registry>>,
    ) -> Environment {
        let quota = Arc::new(Quota::new(config.limits, outer));
        let wasi = WasiTemplate::new(&config, number, &quota);
        Environment(Arc::new(Inner {
            number,
            machine: machine.clone(),
            config,
            wasi,
            names,
            quota,
            program,
        }))
    }

    /// Returns the environment's number, which no other environment of the machine has.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Returns its bounds.
    pub fn limits(&self) -> &Limits {
        &self.0.config.limits
    }

    /// Returns how much of a bound that is counted per environment is in use.
    pub fn used(&self, limit: Limit) -> u64 {
        self.0.quota.used(limit)
    }

    /// Spawns an exported function as a process.
    ///
    /// Returns at once; the process runs when a core is free. Where the environment limits compute and the module was not
    /// spawned in such an environment before, it is compiled first, on this thread.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] says what is missing or which bound is reached. What goes wrong later is the process's [`Exit`].
    pub fn spawn(
        &self,
        module: &Module,
        function: &str,
        parameters: &[Val],
    ) -> Result<Process, SpawnError> {
        self.spawn_with(module, function, parameters, Birth::default())
    }

    /// Spawns an exported function as the process that the program ends with: when it is dead, all other processes that
    /// this environment led to are killed, as by [`Environment::end`], and none of them is told before that it is the last.
    ///
    /// # Errors
    ///
    /// As [`Environment::spawn`].
    pub fn spawn_main(
        &self,
        module: &Module,
        function: &str,
        parameters: &[Val],
    ) -> Result<Process, SpawnError> {
        self.spawn_with(
            module,
            function,
            parameters,
            Birth {
                is_main: true,
                ..Birth::default()
            },
        )
    }

    pub(crate) fn spawn_with(
        &self,
        module: &Module,
        function: &str,
        parameters: &[Val],
        birth: Birth<'_>,
    ) -> Result<Process, SpawnError> {
        module.check_entry(function, parameters)?;
        let permits = self.admit(module.requirements())?;
        let (engine, linked) = self.link(module)?;
        if let Some(kind) = self.0.machine.engines.kind_of_many(self.code()) {
            module.compile_ahead(kind);
        }
        let body = Body::Function {
            linked,
            name: function.into(),
            parameters: parameters.into(),
        };
        self.start(
            function,
            permits,
            engine,
            Origin::Module(module.clone()),
            body,
            birth,
        )
    }

    /// Spawns a process whose life a host closure drives: it gets a live instance of the module, calls its functions, reads
    /// and writes its memory, and the process ends with what the closure returns.
    ///
    /// # Errors
    ///
    /// As [`Environment::spawn`].
    ///
    /// ```
    /// use lunatic_vm::{Exit, Val, Vm};
    ///
    /// let vm = Vm::builder().build()?;
    /// let module = vm.module("double", br#"(module (func (export "double") (param i32) (result i32) local.get 0 local.get 0 i32.add))"#)?;
    /// let environment = vm.environment(vm.config());
    /// let process = environment.drive(&module, "doubler", |live| Box::pin(async move {
    ///     for number in 1..=1000 {
    ///         match live.call("double", &[Val::I32(number)]).await {
    ///             Ok(results) => assert_eq!(results[0].i32(), Some(2 * number)),
    ///             Err(error) => return error.into_exit(),
    ///         }
    ///     }
    ///     Exit::Normal
    /// }))?;
    /// assert!(vm.block_on(process.exited()).is_normal());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drive<F>(&self, module: &Module, name: &str, drive: F) -> Result<Process, SpawnError>
    where
        F: for<'a> FnOnce(&'a mut Live) -> Pin<Box<dyn Future<Output = Exit> + Send + 'a>>
            + Send
            + 'static,
    {
        let permits = self.admit(module.requirements())?;
        let (engine, linked) = self.link(module)?;
        let body = Body::Host {
            linked,
            drive: Box::new(drive),
        };
        self.start(
            name,
            permits,
            engine,
            Origin::Module(module.clone()),
            body,
            Birth::default(),
        )
    }

    /// Spawns a component as a process: runs its `wasi:cli/run`.
    ///
    /// # Errors
    ///
    /// As [`Environment::spawn`]. Where the component begins with more memory than there may be, the limit says how much.
    pub fn spawn_component(&self, component: &Component) -> Result<Process, SpawnError> {
        let permits = self.admit(component.requirements())?;
        let (engine, pre) = self.link_component(component)?;
        let body = Body::Command { pre };
        self.start(
            "wasi:cli/run",
            permits,
            engine,
            Origin::Component(component.clone()),
            body,
            Birth::default(),
        )
    }

    /// Spawns a process whose life a host closure drives, as [`Environment::drive`] does, with an instance of a component.
    ///
    /// # Errors
    ///
    /// As [`Environment::spawn_component`].
    pub fn drive_component<F>(
        &self,
        component: &Component,
        name: &str,
        drive: F,
    ) -> Result<Process, SpawnError>
    where
        F: for<'a> FnOnce(&'a mut LiveComponent) -> Pin<Box<dyn Future<Output = Exit> + Send + 'a>>
            + Send
            + 'static,
    {
        let permits = self.admit(component.requirements())?;
        let (engine, pre) = self.link_component(component)?;
        let body = Body::HostComponent {
            pre,
            drive: Box::new(drive),
        };
        self.start(
            name,
            permits,
            engine,
            Origin::Component(component.clone()),
            body,
            Birth::default(),
        )
    }

    /// Makes a process without a guest, for the host to send and receive through. `name` is for reports.
    ///
    /// # Errors
    ///
    /// Where the environment has as many processes as it may, or is ending.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint, SpawnError> {
        let (permit, _) = self.admit(&Requirements::default())?;
        let process = Process::new(self.0.machine.pids.next(), name, self.clone());
        self.appear(&process);
        Ok(Endpoint::new(process, permit))
    }

    fn link<'a>(&self, module: &'a Module) -> Result<(&'a Engine, Arc<Linked>), SpawnError> {
        module
            .link(self.kind_of_next(), self.grants())
            .map_err(|error| match error {
                LinkError::Module(error) => SpawnError::Module(error),
                LinkError::Link(error) => SpawnError::Link(format!("{error:#}")),
            })
    }

    fn link_component<'a>(
        &self,
        component: &'a Component,
    ) -> Result<(&'a Engine, component::InstancePre<Guest>), SpawnError> {
        // What WASI gives is decided by the context; what the embedder adds is there or not.
        let denied =
            |import: &&str| !import.starts_with("wasi:") && !self.grants().allows_interface(import);
        if let Some(import) = component.imports().find(denied) {
            return Err(SpawnError::NotGranted(import.to_string()));
        }
        let (engine, pre) = component.compiled(self.code())?;
        Ok((engine, pre.clone()))
    }

    fn start(
        &self,
        name: &str,
        permits: (Permit, Permit),
        engine: &Engine,
        origin: Origin,
        body: Body,
        birth: Birth<'_>,
    ) -> Result<Process, SpawnError> {
        let inner = &*self.0;
        let memories = match &origin {
            Origin::Module(module) => module.requirements().memories,
            Origin::Component(_) => 1,
        };
        let slot = inner
            .machine
            .engines
            .take(engine.kind(), memories)
            .map_err(SpawnError::Ceiling)?;

        let pid = inner.machine.pids.next();
        let process = Process::new(pid, name, self.clone());
        if let Some(message) = birth.message {
            process
                .deliver(message)
                .map_err(|(_, error)| SpawnError::Message(error))?;
        }
        if birth.is_main {
            inner.program.ends_with(pid);
        }
        match birth.name {
            Some(naming) => naming
                .environment
                .introduce(&process, naming)
                .map_err(SpawnError::Name)?,
            None => self.appear(&process),
        }
        // Whoever knows the process by now can kill it, but it dies only on its first turn.
        if let Some((parent, tag)) = birth.link {
            process.signal(Signal::Link {
                pid: parent.pid(),
                tag: 0,
            });
            parent.signal(Signal::Link { pid, tag });
        }
        if inner.program.is_over() || inner.machine.is_over() {
            // It ended meanwhile, perhaps after all its processes were killed.
            process.kill();
        }
        crate::observe::spawned(&process, &origin);
        let (counted, memory) = permits;
        let permits = Permits {
            process: counted,
            memory,
            slot,
        };
        let life = run::run(process.clone(), permits, engine, origin, body);
        inner
            .machine
            .scheduler()
            .spawn_in(inner.program.group(), life);
        Ok(process)
    }

    /// Makes a new process one that can be found and sent to.
    fn appear(&self, process: &Process) {
        self.0.program.joined(process.pid());
        self.0.machine.processes.insert(process.clone());
        crate::observe::appeared(process);
    }

    /// Checks the bounds that a new process meets, and counts it.
    fn admit(&self, required: &Requirements) -> Result<(Permit, Permit), SpawnError> {
        let inner = &*self.0;
        if inner.program.is_over() || inner.machine.is_over() {
            return Err(SpawnError::Ending);
        }
        let limits = self.limits();
        for (limit, wanted) in [
            (Limit::Memory, required.memory),
            (Limit::TableElements, required.table_elements),
        ] {
            let allowed = limits.get(limit);
            if wanted > allowed {
                return Err(SpawnError::Limit(LimitReached {
                    limit,
                    allowed,
                    wanted: Some(wanted),
                }));
            }
        }
        inner.quota.check_compute().map_err(SpawnError::Limit)?;
        let process = inner
            .quota
            .permit(Limit::Processes, 1)
            .map_err(SpawnError::Limit)?;
        let memory = inner
            .quota
            .permit(Limit::TotalMemory, required.memory)
            .map_err(SpawnError::Limit)?;
        Ok((process, memory))
    }

    /// Returns which code the processes of this environment run.
    pub(crate) fn code(&self) -> Code {
        let limits = self.limits();
        if limits.get(Limit::Compute) == u64::MAX && limits.get(Limit::TotalCompute) == u64::MAX {
            Code::Plain
        } else {
            Code::Metered
        }
    }

    /// Returns which engine the next process of a module runs in.
    pub(crate) fn kind_of_next(&self) -> Kind {
        self.0.machine.engines.kind_of_next(self.code())
    }

    /// Kills all processes of the program that this environment belongs to, and lets no new one begin.
    pub fn end(&self) {
        self.0.program.end(&self.0.machine);
    }

    /// Returns the living processes of the program that this environment belongs to, in no order. It is not a picture of one
    /// moment.
    pub fn processes(&self) -> Vec<Process> {
        self.0.program.processes(&self.0.machine)
    }

    /// Waits until no process of the program is alive.
    pub async fn ended(&self) {
        self.0.program.ended().await;
    }

    /// Registers a process under a name.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], where the name is taken, the process dead or the bound reached.
    pub(crate) fn register(
        &self,
        name: &Name,
        process: Pid,
        registrar: Pid,
    ) -> Result<(), RegistryError> {
        let owner = self
            .0
            .machine
            .process(process)
            .ok_or(RegistryError::NoProcess(process))?;
        let registration = Registration {
            environment: self.clone(),
            name: name.clone(),
        };
        let registered = owner.with_name(registration, || {
            let mut names = self.names();
            if names.holds(name, process) {
                return Ok(false);
            }
            self.enter_name(&mut names, name, process, registrar)?;
            Ok(true)
        });
        registered.unwrap_or(Err(RegistryError::NoProcess(process)))
    }

    /// Registers a new process and makes it appear, if nobody is found under the name.
    fn introduce(&self, process: &Process, naming: Naming<'_>) -> Result<(), RegistryError> {
        let Naming {
            name, registrar, ..
        } = naming;
        let registration = Registration {
            environment: self.clone(),
            name: name.clone(),
        };
        let registered = process.with_name(registration, || {
            let mut names = self.names();
            if let Ok(holder) = names.lookup(name.text(), "*") {
                return Err(RegistryError::Taken(name.text().to_string(), holder));
            }
            self.enter_name(&mut names, name, process.pid(), registrar)?;
            // Still locked: who finds the name finds the process too, and what it sends arrives.
            process.environment().appear(process);
            Ok(true)
        });
        registered.unwrap_or(Err(RegistryError::NoProcess(process.pid())))
    }

    /// Counts a name, and registers a process under it.
    fn enter_name(
        &self,
        names: &mut Registry,
        name: &Name,
        process: Pid,
        registrar: Pid,
    ) -> Result<(), RegistryError> {
        self.0
            .quota
            .charge(Limit::Names, 1)
            .map_err(RegistryError::Limit)?;
        names
            .register(name, process, registrar)
            .inspect_err(|_| self.0.quota.release(Limit::Names, 1))
    }

    /// Takes a name back.
    pub(crate) fn unregister(&self, name: &Name, caller: Pid) -> Result<(), RegistryError> {
        let holder = self.names().holder(name, caller)?;
        let registration = Registration {
            environment: self.clone(),
            name: name.clone(),
        };
        let was_held = self
            .0
            .machine
            .process(holder)
            .is_some_and(|holder| holder.without_name(&registration));
        // Where it was not, the holder died or another was quicker, since it was looked up.
        if was_held {
            Ok(())
        } else {
            Err(RegistryError::NotFound(
                name.text().escape_debug().to_string(),
            ))
        }
    }

    /// Finds the process with the highest version under a name that satisfies a requirement.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] and [`RegistryError::BadQuery`].
    pub fn lookup(&self, name: &str, query: &str) -> Result<Pid, RegistryError> {
        self.names().lookup(name, query)
    }

    /// Finds the process that was registered last under a name with a version that satisfies a requirement.
    pub(crate) fn lookup_newest(&self, name: &str, query: &str) -> Result<Pid, RegistryError> {
        self.names().newest(name, query)
    }

    /// Removes a name that a process was registered under here, which is where it was counted.
    pub(crate) fn remove_name(&self, name: &Name, pid: Pid) {
        if self.names().remove(name, pid) {
            self.0.quota.release(Limit::Names, 1);
        }
    }

    /// Whether a name means the same in another environment.
    pub(crate) fn shares_names_with(&self, other: &Environment) -> bool {
        Arc::ptr_eq(&self.0.names, &other.0.names)
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.0
            .names
            .lock()
            .expect("nothing panics while it holds the names")
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.0.machine
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.0.config.journal.as_ref()
    }

    pub(crate) fn grants(&self) -> &Grants {
        &self.0.config.grants
    }

    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.0.quota
    }

    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.0.program
    }

    pub(crate) fn wasi(&self) -> &WasiTemplate {
        &self.0.wasi
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({})", self.0.number)
    }
}
