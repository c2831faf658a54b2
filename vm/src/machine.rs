//! A machine's processes, names and programs, and how they interact.

mod domain;
mod process;
mod program;

pub(crate) use domain::Domain;
pub(crate) use process::Role;
pub use process::{Process, SendError};

use crate::compile_limits::CompileLimits;
use crate::compiler::Compiler;
use crate::engine::{Code, EngineKind, Engines, Shortage};
use crate::environment::{
    Catalogue, Config, Descriptors, HostMemory, Limits, Name, Quota, RegistryError, ResourceSize,
};
use crate::metrics::Metrics;
use crate::observe;
use crate::scheduler::Scheduler;
use lunatic_abi::Limit;
use lunatic_net::dns::Resolver;
use lunatic_process::{Exit, LimitReached, Notices, Pid, PidSource, Table};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// This machine's node id, as seen by guests.
pub(crate) const THIS_NODE: u64 = 0;

/// State shared by all parts of a machine.
pub(crate) struct Machine {
    pub(crate) engines: Arc<Engines>,
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) scheduler: Scheduler,
    pub(crate) pids: PidSource,
    pub(crate) resolver: Resolver,
    pub(crate) metrics: Metrics,
    pub(crate) catalogue: Arc<Catalogue>,
    /// The limits on compiling code that is not the host's own.
    pub(crate) compile_limits: CompileLimits,
    /// Functions that return the sizes of the embedder's resources in components.
    pub(crate) resource_sizes: Box<[ResourceSize]>,
    /// The length of a time slice in ticks.
    pub(crate) slice: u64,
    descriptors: Arc<Descriptors>,
    /// The usage of each program.
    programs: Mutex<Vec<Weak<Quota>>>,
    processes: Table<process::Inner>,
    environments: AtomicU64,
    /// Set once the machine shuts down. A process that starts later is killed immediately.
    is_over: AtomicBool,
    /// Closed once the machine shuts down. Nothing is ever sent through this channel.
    over: async_channel::Receiver<()>,
    _open: async_channel::Sender<()>,
}

impl Machine {
    pub(crate) fn new(
        compiler: Compiler,
        scheduler: Scheduler,
        catalogue: Arc<Catalogue>,
        compile_limits: CompileLimits,
        resource_sizes: Box<[ResourceSize]>,
        slice: u64,
        descriptors: Descriptors,
    ) -> Machine {
        let (open, over) = async_channel::bounded(1);
        Machine {
            engines: compiler.engines.clone(),
            compiler: Arc::new(compiler),
            scheduler,
            pids: PidSource::new(),
            resolver: Resolver::default(),
            metrics: Metrics::new(),
            catalogue,
            compile_limits,
            resource_sizes,
            slice,
            descriptors: Arc::new(descriptors),
            programs: Mutex::default(),
            processes: Table::default(),
            environments: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            over,
            _open: open,
        }
    }

    /// Finds a live process.
    pub(crate) fn process(&self, pid: Pid) -> Option<Process> {
        self.processes.get(pid).map(Process::from_inner)
    }

    /// Returns the live processes, in no particular order.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let processes = self.processes.all().into_iter();
        processes.map(Process::from_inner).collect()
    }

    fn processes_of(&self, domain: &Domain) -> Vec<Process> {
        let program = domain.program().number();
        let mut processes = self.processes();
        processes.retain(|process| process.domain().program().number() == program);
        processes
    }

    /// Makes a new process visible, so that it can be found and receive messages.
    pub(crate) fn appear(&self, process: &Process) {
        process.domain().program().joined(process.pid());
        self.processes.insert(process.clone().into_inner());
        observe::appeared(&self.metrics);
    }

    /// Links `process`, which must be the currently running one, to another process. If the latter
    /// does not exist, it is treated as having just died.
    pub(crate) fn link(&self, process: &Process, pid: Pid, tag: i64) -> Result<(), LimitReached> {
        self.processes.link(process.cell(), pid, tag)
    }

    /// Links `process`, which must be the currently running one, to another process if the latter
    /// is alive.
    pub(crate) fn link_with_living(
        &self,
        process: &Process,
        pid: Pid,
        tag: i64,
    ) -> Result<(), LimitReached> {
        self.processes.link_with_living(process.cell(), pid, tag)
    }

    /// Removes the link between two processes.
    pub(crate) fn unlink(&self, process: &Process, pid: Pid) {
        self.processes.unlink(process.cell(), pid);
    }

    /// Makes `process` monitor another process, so that it is notified when the other process dies.
    /// A tag of 0 means that the notification has no tag.
    pub(crate) fn monitor(&self, process: &Process, pid: Pid, tag: i64) {
        self.processes.monitor(process.cell(), pid, tag);
    }

    /// Removes a monitor. Returns true if `process` had not been notified yet and now never will
    /// be.
    pub(crate) fn stop_monitoring(&self, process: &Process, pid: Pid, tag: i64) -> bool {
        self.processes.stop_monitoring(process.cell(), pid, tag)
    }

    /// Ends a process and releases its resources. Other processes are notified only after that, by
    /// [`Machine::tell`] and [`Machine::ended`].
    pub(crate) fn remove(&self, process: &Process, exit: Exit, release: impl FnOnce()) -> Notices {
        drop(process.take_names());
        self.processes.remove(process.cell(), exit, |exit, mail| {
            release();
            let journal = process.domain().journal();
            let named = (process.pid(), process.name());
            observe::exited(&self.metrics, journal, named, exit, mail);
        })
    }

    /// Notifies at most `most` processes that a process has ended. Returns whether there may be
    /// more to notify.
    pub(crate) fn tell(&self, notices: &mut Notices, most: usize) -> bool {
        self.processes.tell(notices, most)
    }

    /// Notifies the remaining processes, and everything else that waits for the process to end.
    pub(crate) fn ended(&self, process: &Process, mut notices: Notices) {
        self.tell(&mut notices, usize::MAX);
        notices.settle(process.cell());
        let (pid, domain) = (process.pid(), process.domain());
        if domain.program().is_ended_by(pid) {
            self.end(domain);
        }
        domain.program().left(pid);
        self.tell_the_last(domain);
    }

    /// Kills all processes of a program and prevents new ones from starting.
    fn end(&self, domain: &Domain) {
        domain.program().close();
        for process in self.processes_of(domain) {
            process.kill();
        }
    }

    /// If only one process of a program is left, notifies it that it is alone.
    fn tell_the_last(&self, domain: &Domain) {
        if let Some(last) = domain.program().last().and_then(|pid| self.process(pid)) {
            last.cell().on_alone();
        }
    }

    /// Returns whether the machine is shutting down.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits until the machine shuts down.
    pub(crate) async fn over(&self) {
        // Nothing is ever sent through the channel; it is only closed.
        let _ = self.over.recv().await;
    }

    /// Kills all processes, including those that start later.
    pub(crate) fn close(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        for process in self.processes() {
            process.kill();
        }
        // This wakes sleeping tasks, whose timers may be far in the future, so that they are
        // dropped now.
        self.over.close();
    }

    /// Records the usage of a new program.
    fn watch(&self, quota: &Arc<Quota>) {
        let mut programs = self.programs();
        // Programs that have ended are removed from time to time, so that the list's length stays
        // proportional to the number of programs.
        if programs.len().is_power_of_two() {
            programs.retain(|program| program.strong_count() > 0);
        }
        programs.push(Arc::downgrade(quota));
    }

    /// Returns whether this program holds at least as much memory as any other.
    pub(crate) fn is_greediest(&self, domain: &Domain) -> bool {
        let own = domain.quota().outermost().memory();
        let programs = self.programs();
        let mut others = programs.iter().filter_map(Weak::upgrade);
        others.all(|other| other.memory() <= own)
    }

    fn programs(&self) -> MutexGuard<'_, Vec<Weak<Quota>>> {
        self.programs
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn next_environment(&self) -> u64 {
        self.environments.fetch_add(1, Ordering::Relaxed)
    }
}

/// Determines which functions processes may call and how much they may use. Cheap to clone.
///
/// An environment is created from a [`Config`] and does not change afterwards. The host creates the
/// outermost environment. Processes can create nested environments, which have at most the rights
/// of the outer environment and count toward its limits.
#[derive(Clone)]
pub struct Environment(Arc<Inner>);

struct Inner {
    machine: Arc<Machine>,
    domain: Arc<Domain>,
}

/// The maximum nesting depth of environments. Usage is counted in an environment and in each
/// enclosing environment, and the innermost environment keeps all of them alive.
const MAX_DEPTH: u32 = 256;

/// Why a nested environment was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEnvironment {
    #[error(
        "environments can be nested at most {MAX_DEPTH} levels deep, and this one is already at that depth; spawn without a configuration"
    )]
    TooDeep,
    #[error("{0}")]
    Limit(LimitReached),
}

/// The size of an environment in host memory, excluding its configuration, in bytes.
const ENVIRONMENT: u64 = 2 << 10;

impl Environment {
    /// Creates an outermost environment, for the host.
    pub(crate) fn outermost(machine: &Arc<Machine>, config: Config) -> Environment {
        let descriptors = machine.descriptors.clone();
        let domain = Domain::outermost(machine.next_environment(), config, descriptors);
        Environment::of_program(machine, domain)
    }

    /// Creates an environment that the host holds and that has the same names as this environment.
    /// It is a separate program, with its own limits and output, and it ends separately.
    pub fn beside(&self, config: Config) -> Environment {
        let machine = self.machine();
        let descriptors = machine.descriptors.clone();
        let number = machine.next_environment();
        let domain = self.domain().beside(number, config, descriptors);
        Environment::of_program(machine, domain)
    }

    fn of_program(machine: &Arc<Machine>, domain: Domain) -> Environment {
        machine.watch(domain.quota());
        Environment::new(machine, Arc::new(domain))
    }

    fn new(machine: &Arc<Machine>, domain: Arc<Domain>) -> Environment {
        Environment(Arc::new(Inner {
            machine: machine.clone(),
            domain,
        }))
    }

    /// Creates an environment inside this one, which either has its own names or shares this one's.
    /// The new environment is charged to an account for as long as it exists.
    ///
    /// # Errors
    ///
    /// Returns [`NoEnvironment`] if this environment is already nested too deeply, or if the
    /// account has reached its limit.
    pub(crate) fn inner(
        &self,
        config: Config,
        has_own_names: bool,
        account: &HostMemory,
    ) -> Result<Environment, NoEnvironment> {
        if self.domain().quota().depth() >= MAX_DEPTH {
            return Err(NoEnvironment::TooDeep);
        }
        // The strings are stored twice: in the configuration and in the template for WASI contexts.
        let charge = account
            .charge(ENVIRONMENT + 2 * config.size())
            .map_err(NoEnvironment::Limit)?;
        let number = self.machine().next_environment();
        let mut domain = self.domain().inner(number, config, has_own_names);
        domain.is_paid_by(charge);
        Ok(Environment::new(self.machine(), Arc::new(domain)))
    }

    /// Returns the environment that a process lives in.
    pub(crate) fn of(machine: &Arc<Machine>, process: &Process) -> Environment {
        Environment::new(machine, process.domain().clone())
    }

    /// Returns the environment's number, which is unique in the machine.
    pub fn number(&self) -> u64 {
        self.domain().number()
    }

    /// Returns the environment's limits.
    pub fn limits(&self) -> &Limits {
        self.domain().limits()
    }

    /// Returns the current usage of a limit that applies per environment.
    pub fn used(&self, limit: Limit) -> u64 {
        self.domain().quota().used(limit)
    }

    /// Returns the account for memory that the host holds for this environment, excluding its
    /// processes.
    pub fn host_memory(&self) -> &HostMemory {
        self.domain().host_memory()
    }

    /// Returns what the machine currently refuses to do because memory is scarce; see
    /// [`Vm::shortage`](crate::Vm::shortage).
    pub fn shortage(&self) -> Shortage {
        self.machine().engines.pressure().shortage()
    }

    /// Kills all processes of the program that this environment belongs to, and prevents new ones
    /// from starting.
    pub fn end(&self) {
        self.machine().end(self.domain());
    }

    /// Lets the other processes of the program continue after the main process ends, so that they
    /// can shut down gracefully.
    pub fn outlive_main(&self) {
        self.domain().program().outlive_main();
    }

    /// Returns the live processes of the program that this environment belongs to, oldest first.
    /// The list is not an atomic snapshot.
    pub fn processes(&self) -> Vec<Process> {
        let machine = self.machine();
        let mut processes = machine.processes_of(self.domain());
        processes.sort_by_cached_key(|process| machine.pids.order(process.pid()));
        processes
    }

    /// Waits until all processes of the program have died.
    pub async fn ended(&self) {
        self.domain().program().ended().await;
    }

    /// Finds the process with the highest version among those that have the given name and a
    /// version satisfying the requirement.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::NotFound`] if there is no such process, and
    /// [`RegistryError::BadQuery`] if the query is not a version requirement.
    pub fn lookup(&self, name: &str, query: &str) -> Result<Pid, RegistryError> {
        self.domain().names().lookup(name, query)
    }

    /// Finds the most recently registered process that has the given name and a version satisfying
    /// the requirement.
    pub(crate) fn lookup_newest(&self, name: &str, query: &str) -> Result<Pid, RegistryError> {
        self.domain().names().newest(name, query)
    }

    /// Registers a process under a name.
    ///
    /// # Errors
    ///
    /// Returns a [`RegistryError`] if the name is taken, the process is dead or a limit is reached.
    pub(crate) fn register(
        &self,
        name: &Name,
        pid: Pid,
        registrar: Pid,
    ) -> Result<(), RegistryError> {
        let process = self
            .machine()
            .process(pid)
            .ok_or(RegistryError::NoProcess(pid))?;
        let (names, quota) = (self.domain().names(), self.domain().quota());
        process.add_name(|| names.register(name, pid, registrar, quota))
    }

    /// If the name is free, registers a new process and makes it visible.
    pub(crate) fn introduce(
        &self,
        process: &Process,
        name: &Name,
        registrar: Pid,
    ) -> Result<(), RegistryError> {
        let (names, quota) = (self.domain().names(), self.domain().quota());
        let appear = || self.machine().appear(process);
        process.add_name(|| names.register_new(name, process.pid(), registrar, quota, appear))
    }

    /// Releases a name.
    pub(crate) fn unregister(&self, name: &Name, caller: Pid) -> Result<(), RegistryError> {
        let names = self.domain().names();
        let holder = self.machine().process(names.holder(name, caller)?);
        if holder.is_some_and(|holder| holder.remove_name(names, name)) {
            return Ok(());
        }
        // The holder has died or another process has taken the name since the lookup.
        Err(RegistryError::NotFound(
            name.text().escape_debug().to_string(),
        ))
    }

    /// Records that a timer of this environment's program has fired or been cancelled.
    pub(crate) fn timer_ended(&self) {
        self.domain().program().timer_ended();
        self.machine().tell_the_last(self.domain());
    }

    /// Returns the kind of code that this environment's processes run.
    pub(crate) fn code(&self) -> Code {
        let limits = self.limits();
        if limits.get(Limit::Compute) == u64::MAX && limits.get(Limit::TotalCompute) == u64::MAX {
            Code::Plain
        } else {
            Code::Metered
        }
    }

    /// Returns the kind of engine for the next process that runs a module.
    pub(crate) fn kind_of_next(&self) -> EngineKind {
        self.machine().engines.kind_of_next(self.code())
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.0.machine
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.0.domain
    }

    /// Returns the role of processes that run here under a name.
    pub(crate) fn role(&self, name: &str) -> Arc<Role> {
        Arc::new(Role {
            name: name.into(),
            domain: self.0.domain.clone(),
        })
    }

    /// Creates a process that is not visible yet.
    pub(crate) fn new_process(&self, role: &Arc<Role>, parent: Option<Pid>) -> Process {
        let pid = self.machine().pids.next();
        Process::new(pid, parent, role.clone())
    }

    /// Returns another handle to the environment, which has its own count of references.
    ///
    /// Cloning a handle writes to memory that all of the handle's clones use. A parent that spawns
    /// many processes gives them clones of its own handle.
    pub(crate) fn anew(&self) -> Environment {
        Environment::new(self.machine(), self.0.domain.clone())
    }

    /// Returns whether both handles refer to the same environment.
    pub(crate) fn is_same(&self, other: &Environment) -> bool {
        Arc::ptr_eq(&self.0.domain, &other.0.domain)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({})", self.number())
    }
}
