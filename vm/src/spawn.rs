//! Spawns processes: admits, links and starts them.

pub(crate) mod request;

use crate::engine::{Ceiling, EngineKind, Shortage};
use crate::environment::{Name, QuotaAnchor, RegistryError, Share};
use crate::guest::{Guest, MemoryShare, Origin, Setting};
use crate::machine::{Environment, Process, Role, SendError};
use crate::module::{Component, EntryError, Module, ModuleError, Requirements};
use crate::observe;
use crate::run::{
    self, Body, Endpoint, LinkError, Linked, Live, LiveComponent, Parameters, Shares, Template,
};
use lunatic_abi::{Errno, Limit};
use lunatic_process::{Exit, LimitReached, Message, Pid, Signal};
use std::pin::Pin;
use std::sync::Arc;
use wasmtime::{Val, component};

/// Why a process was not spawned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The module does not export the function, or the function takes different parameters.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The environment has reached a limit.
    #[error("{0}")]
    Limit(LimitReached),
    /// There is no capacity for another process.
    #[error(transparent)]
    Ceiling(Ceiling),
    /// The module could not be compiled for this environment.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The program or the machine is shutting down.
    #[error("the program is ending; new processes cannot be spawned")]
    Ending,
    /// The component imports one of the embedder's interfaces, which the environment does not
    /// grant.
    #[error("the environment does not grant `{0}`, which the component imports")]
    NotGranted(String),
    /// The process's first message cannot be delivered.
    #[error(transparent)]
    Message(SendError),
    /// The module could not be linked.
    #[error("the module cannot be linked: {0}")]
    Link(String),
    /// The process cannot be registered under its name.
    #[error(transparent)]
    Name(RegistryError),
}

impl SpawnError {
    /// Returns the error code that guests receive.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            SpawnError::Entry(EntryError::NoFunction { .. }) => Errno::NoFunction,
            SpawnError::Entry(EntryError::BadParameters { .. }) => Errno::BadParameters,
            SpawnError::Limit(_) | SpawnError::Module(ModuleError::Limit(_)) => Errno::LimitReached,
            SpawnError::Ceiling(_) => Errno::Exhausted,
            SpawnError::Module(_) | SpawnError::Link(_) => Errno::BadModule,
            SpawnError::NotGranted(_) => Errno::NotGranted,
            SpawnError::Message(error) => error.errno(),
            SpawnError::Name(error) => error.errno(),
            SpawnError::Ending => Errno::Other,
        }
    }
}

/// Options that take effect before a new process's first instruction.
#[derive(Default)]
pub(crate) struct SpawnOptions<'a> {
    /// The process that spawns the new process.
    pub(crate) parent: Option<Pid>,
    /// The process to link the new process to, and the tag used to notify that process of a
    /// failure.
    pub(crate) link: Option<(&'a Process, i64)>,
    /// The first message in the new process's mailbox.
    pub(crate) message: Option<Message>,
    /// Set if the new process is the main process. The program ends when its main process does.
    pub(crate) is_main: bool,
    /// The name to register the process under. If the name is taken, the process is not spawned.
    pub(crate) name: Option<NewName<'a>>,
}

/// A name for a process that is being spawned.
pub(crate) struct NewName<'a> {
    /// The environment to register the name in.
    pub(crate) environment: &'a Environment,
    pub(crate) name: &'a Name,
    pub(crate) registrar: Pid,
}

/// A new process's share of its environment's quota.
struct Admitted {
    process: Share<1>,
    memory: MemoryShare,
}

/// The number of bytes that the host may hold for an instance without counting them.
const INCLUDED: u64 = 16 << 10;

impl Environment {
    /// Spawns a process that runs an exported function.
    ///
    /// Returns immediately; the process runs when a core is free. However, if the environment
    /// limits compute and the module has not been spawned in such an environment before, the module
    /// is compiled first, on the calling thread.
    ///
    /// # Errors
    ///
    /// Returns a [`SpawnError`] that says what is missing or which limit is reached. Later failures
    /// are reported by the process's [`Exit`].
    pub fn spawn(
        &self,
        module: &Module,
        function: &str,
        parameters: &[Val],
    ) -> Result<Process, SpawnError> {
        self.spawn_with(module, function, parameters, SpawnOptions::default())
    }

    /// Spawns the program's main process, which runs an exported function. When the main process
    /// dies, all other processes of the program are killed, as if by [`Environment::end`]. While
    /// the main process is alive, the remaining processes are not notified that they are alone.
    ///
    /// # Errors
    ///
    /// The same as for [`Environment::spawn`].
    pub fn spawn_main(
        &self,
        module: &Module,
        function: &str,
        parameters: &[Val],
    ) -> Result<Process, SpawnError> {
        let options = SpawnOptions {
            is_main: true,
            ..SpawnOptions::default()
        };
        self.spawn_with(module, function, parameters, options)
    }

    fn spawn_with(
        &self,
        module: &Module,
        function: &str,
        parameters: &[Val],
        options: SpawnOptions<'_>,
    ) -> Result<Process, SpawnError> {
        self.spawn_first(module, function, parameters.into(), options)
            .map(|(process, _)| process)
    }

    /// Spawns a process that runs an exported function. Also returns what the process has in common
    /// with others that run the same function.
    pub(crate) fn spawn_first(
        &self,
        module: &Module,
        function: &str,
        parameters: Parameters,
        options: SpawnOptions<'_>,
    ) -> Result<(Process, Arc<Template>), SpawnError> {
        let entry = module.entry_point(function)?;
        module.check_parameters(entry, &parameters)?;
        let setting = Setting::new(self.clone(), Origin::Module(module.clone()));
        let admitted = self.admit(function, &setting)?;
        let linked = self.link(module)?;
        if let Some(kind) = self.machine().engines.kind_of_many(self.code()) {
            module.compile_ahead(kind);
        }
        let template = Arc::new(Template::new(Arc::new(setting), function, linked, entry));
        let process = self.start_alike(&template, parameters, options, admitted)?;
        Ok((process, template))
    }

    fn start_alike(
        &self,
        template: &Arc<Template>,
        parameters: Parameters,
        options: SpawnOptions<'_>,
        admitted: Admitted,
    ) -> Result<Process, SpawnError> {
        let body = Body::Function {
            template: template.clone(),
            parameters,
        };
        let (setting, role) = (template.setting(), template.role());
        self.start(setting, role, options, admitted, template.kind(), body)
    }

    /// Spawns a process that is driven by a host closure. The closure receives a live instance of
    /// the module, can call its functions and access its memory, and returns the process's exit.
    ///
    /// # Errors
    ///
    /// The same as for [`Environment::spawn`].
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
        self.launch(name, Origin::Module(module.clone()), || {
            let linked = self.link(module)?;
            let drive = Box::new(drive);
            Ok((linked.kind, Body::Host { linked, drive }))
        })
    }

    /// Spawns a process that runs a component's `wasi:cli/run`.
    ///
    /// # Errors
    ///
    /// The same as for [`Environment::spawn`]. A component whose initial memory exceeds
    /// [`Limit::Memory`](crate::Limit::Memory) reaches that limit.
    pub fn spawn_component(&self, component: &Component) -> Result<Process, SpawnError> {
        self.launch("wasi:cli/run", Origin::Component(component.clone()), || {
            let (kind, pre) = self.link_component(component)?;
            Ok((kind, Body::Command { pre }))
        })
    }

    /// Like [`Environment::drive`], but for an instance of a component.
    ///
    /// # Errors
    ///
    /// The same as for [`Environment::spawn_component`].
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
        self.launch(name, Origin::Component(component.clone()), || {
            let (kind, pre) = self.link_component(component)?;
            let drive = Box::new(drive);
            Ok((kind, Body::HostComponent { pre, drive }))
        })
    }

    /// Creates a process without a guest, which the host can use to send and receive messages.
    /// `name` is used in reports.
    ///
    /// # Errors
    ///
    /// Fails if the environment has reached its process limit or is shutting down.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint, SpawnError> {
        let quota = Arc::new(self.domain().quota().clone());
        let admitted = self.admit_to(name, &Requirements::default(), &quota)?;
        let process = self.new_process(&self.role(name), None);
        self.machine().appear(&process);
        Ok(Endpoint::new(self, process, admitted.process))
    }

    /// Admits, links and starts a process.
    fn launch(
        &self,
        name: &str,
        origin: Origin,
        link: impl FnOnce() -> Result<(EngineKind, Body), SpawnError>,
    ) -> Result<Process, SpawnError> {
        let setting = Arc::new(Setting::new(self.clone(), origin));
        let admitted = self.admit(name, &setting)?;
        let (kind, body) = link()?;
        let (role, options) = (self.role(name), SpawnOptions::default());
        self.start(&setting, &role, options, admitted, kind, body)
    }

    fn admit(&self, name: &str, setting: &Setting) -> Result<Admitted, SpawnError> {
        self.admit_to(name, setting.origin().requirements(), setting.quota())
    }

    /// Checks the limits that apply to a new process, and counts the process and its memory toward
    /// them.
    fn admit_to(
        &self,
        name: &str,
        required: &Requirements,
        quota: &QuotaAnchor,
    ) -> Result<Admitted, SpawnError> {
        if self.is_over() {
            return Err(SpawnError::Ending);
        }
        let limits = self.limits();
        // A small amount per process is not counted, because the process limit bounds the total.
        let host = (3 * name.len() as u64)
            .saturating_add(self.domain().context_size())
            .saturating_add(required.host)
            .saturating_sub(INCLUDED);
        for (limit, wanted) in [
            (Limit::Memory, required.memory),
            (Limit::TableElements, required.table_elements),
            (Limit::HostMemory, host),
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
        quota.check_compute().map_err(SpawnError::Limit)?;
        let process = Share::new(quota, [(Limit::Processes, 1)]);
        let memory = [
            (Limit::TotalMemory, required.memory),
            (Limit::TotalHostMemory, host),
        ];
        Ok(Admitted {
            process: process.map_err(SpawnError::Limit)?,
            memory: Share::new(quota, memory).map_err(SpawnError::Limit)?,
        })
    }

    fn link(&self, module: &Module) -> Result<Arc<Linked>, SpawnError> {
        run::link(module, self.kind_of_next(), self.domain().grants()).map_err(
            |error| match error {
                LinkError::Module(error) => SpawnError::Module(error),
                LinkError::Link(error) => SpawnError::Link(format!("{error:#}")),
            },
        )
    }

    fn link_component(
        &self,
        component: &Component,
    ) -> Result<(EngineKind, component::InstancePre<Guest>), SpawnError> {
        // The WASI context determines which parts of WASI are granted. An interface that the
        // embedder adds is granted or denied as a unit.
        let grants = self.domain().grants();
        let denied =
            |import: &&str| !import.starts_with("wasi:") && !grants.allows_interface(import);
        if let Some(import) = component.imports().find(denied) {
            return Err(SpawnError::NotGranted(import.to_string()));
        }
        let code = self.code();
        let pre = run::link_component(component, code)?;
        Ok((EngineKind::Component(code), pre.clone()))
    }

    /// Creates the process, makes it visible and passes it to the scheduler.
    fn start(
        &self,
        setting: &Arc<Setting>,
        role: &Arc<Role>,
        options: SpawnOptions<'_>,
        admitted: Admitted,
        kind: EngineKind,
        body: Body,
    ) -> Result<Process, SpawnError> {
        let machine = self.machine();
        let shortage = machine.engines.shortage_at_spawn();
        if shortage >= Shortage::GreedySpawns && machine.is_greediest(self.domain()) {
            let left = machine.engines.pressure().left();
            return Err(SpawnError::Ceiling(Ceiling::Share(left >> 20)));
        }
        let reservation = machine
            .engines
            .take(kind, setting.origin().memories())
            .map_err(SpawnError::Ceiling)?;
        let process = self.new_process(role, options.parent);
        if let Some(message) = options.message {
            process
                .deliver(message)
                .map_err(|(_, error)| SpawnError::Message(error))?;
        }
        if options.is_main {
            self.domain().program().ends_with(process.pid());
        }
        match options.name {
            Some(NewName {
                environment,
                name,
                registrar,
            }) => environment
                .introduce(&process, name, registrar)
                .map_err(SpawnError::Name)?,
            None => machine.appear(&process),
        }
        // The process can already be killed here, but it does not die until its first turn.
        if let Some((parent, tag)) = options.link {
            process.cell().signal(Signal::Link {
                pid: parent.pid(),
                tag: 0,
            });
            parent.cell().signal(Signal::Link {
                pid: process.pid(),
                tag,
            });
        }
        if self.is_over() {
            // The program or the machine shut down in the meantime, and may already have killed all
            // of its processes.
            process.kill();
        }
        observe::spawned(process.pid(), &role.name, setting.origin().name());
        let shares = Shares {
            process: admitted.process,
            memory: admitted.memory,
            reservation,
        };
        let life = run::run(setting.clone(), process.clone(), shares, body);
        machine
            .scheduler
            .spawn_in(self.domain().program().group(), life);
        Ok(process)
    }

    /// Returns whether the program or the machine is shutting down.
    fn is_over(&self) -> bool {
        self.domain().program().is_over() || self.machine().is_over()
    }
}

/// Spawns a process like others that were spawned from the same template.
///
/// # Errors
///
/// The same as for [`Environment::spawn`].
pub(crate) fn spawn_alike(
    template: &Arc<Template>,
    parameters: Parameters,
    options: SpawnOptions<'_>,
) -> Result<Process, SpawnError> {
    template
        .module()
        .check_parameters(template.entry(), &parameters)?;
    let environment = template.environment();
    let admitted = environment.admit(template.function(), template.setting())?;
    environment.start_alike(template, parameters, options, admitted)
}
