//! The machine, and how it is set up.

use crate::cache::Cache;
use crate::compiler::Compiler;
use crate::component::Component;
use crate::console::Console;
use crate::engine::{Capacity, Ceilings, Engines, Profile};
use crate::environment::{Catalogue, Config, Environment};
use crate::host::{self, Host, Linkers};
use crate::metrics::Metrics;
use crate::module::{Module, ModuleError};
use crate::process::{Pid, PidSource, Process, Table};
use crate::scheduler::Scheduler;
use lunatic_net::dns::Resolver;
use std::any::Any;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How many ticks a slice lasts, unless the builder is told otherwise.
const DEFAULT_SLICE: u64 = 1;

/// A machine: cores that run processes, and everything that these share.
///
/// Cheap to clone. When the last clone is dropped, all processes are killed, the threads end, and what programs have written
/// to the standard streams is written out; environments and processes that are still held are of no use then.
#[derive(Clone)]
pub struct Vm {
    machine: Arc<Machine>,
    /// Ends the machine with the last handle. Processes hold the machine too, so its own end cannot depend on them.
    _end: Arc<End>,
}

/// What all parts of a machine share.
pub(crate) struct Machine {
    pub(crate) engines: Arc<Engines>,
    pub(crate) cache: Cache,
    pub(crate) processes: Table,
    pub(crate) pids: PidSource,
    pub(crate) resolver: Resolver,
    pub(crate) compiler: Compiler,
    pub(crate) metrics: Metrics,
    catalogue: Arc<Catalogue>,
    environments: AtomicU64,
    scheduler: Scheduler,
    /// How many ticks a slice lasts.
    slice: u64,
    /// Set when the machine ends: what begins from now on is killed at once.
    is_over: AtomicBool,
    /// Closed when the machine ends; nothing is ever sent.
    over: async_channel::Receiver<()>,
    _open: async_channel::Sender<()>,
}

struct End(Arc<Machine>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        for process in self.0.processes.all() {
            process.kill();
        }
        // Wakes what waits for a time that may be far away, so that it is dropped now.
        self.0.over.close();
        // A process that spins notices its end at a tick, and where ticks are made by hand nobody makes them any more.
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    self.0.engines.increment_epoch();
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            });
            self.0.scheduler.shutdown();
            is_over.store(true, Ordering::SeqCst);
        });
        // A host program may end after this.
        futures_lite::future::block_on(Console::get().flush());
    }
}

/// Why a machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operating system gave no thread.
    #[error("the machine's threads could not be started: {0}")]
    Threads(#[from] std::io::Error),
    /// The tick that was asked for is too short or too long.
    #[error("a tick of {0:?} is not possible: ticks are from {least:?} to {most:?}", least = VmBuilder::TICKS.start(), most = VmBuilder::TICKS.end())]
    Tick(Duration),
    /// The slice that was asked for is too short or too long.
    #[error("a slice of {0} ticks is not possible: slices are from {least} to {most} ticks", least = VmBuilder::SLICES.start(), most = VmBuilder::SLICES.end())]
    Slice(u64),
    /// Wasmtime does not run here.
    #[error("wasmtime could not be set up: {0}")]
    Engine(String),
}

/// Sets a machine up.
#[derive(Default)]
pub struct VmBuilder {
    workers: Option<usize>,
    tick: Option<Duration>,
    slice: Option<u64>,
    slots: Option<u32>,
    profile: Option<Profile>,
    is_manual: bool,
    cache: Option<Cache>,
    host: Host,
}

impl VmBuilder {
    /// Sets how many processes run at the same time; as many as the machine has cores, unless told otherwise.
    pub fn workers(mut self, workers: usize) -> VmBuilder {
        self.workers = Some(workers);
        self
    }

    /// Sets how many processes can be alive at the same time; as many as the computer has room for, unless told otherwise.
    pub fn slots(mut self, slots: u32) -> VmBuilder {
        self.slots = Some(slots.max(1));
        self
    }

    /// Sets how memories and stacks lie in the address space. Unless told otherwise, the first 3,072 processes of modules that
    /// are alive at the same time are [`Profile::Fast`] and the others [`Profile::Dense`].
    pub fn profile(mut self, profile: Profile) -> VmBuilder {
        self.profile = Some(profile);
        self
    }

    /// The ticks that there can be. With shorter ones the machine would do little else; a kill waits for longer ones.
    pub const TICKS: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);

    /// How many ticks a slice can last.
    pub const SLICES: RangeInclusive<u64> = 1..=1_000;

    /// Sets the time from one tick to the next; 1 ms unless told otherwise.
    ///
    /// With every tick it is seen whether a process that computes was killed, and whether its slice is over. Outside
    /// [`VmBuilder::TICKS`] no machine is built.
    pub fn tick(mut self, tick: Duration) -> VmBuilder {
        self.tick = Some(tick);
        self
    }

    /// Sets how many ticks a process computes until it gives the others a turn; 1 unless told otherwise.
    ///
    /// Longer slices cost less where many processes compute a lot, and make each wait longer for its turn. A process that is
    /// woken waits for the slice of the one that runs; a kill does not wait for a slice. Outside [`VmBuilder::SLICES`] no
    /// machine is built.
    ///
    /// ```
    /// use lunatic_vm::{BuildError, Vm};
    /// use std::time::Duration;
    ///
    /// let vm = Vm::builder().tick(Duration::from_micros(500)).slice(20).build()?;
    /// assert!(matches!(Vm::builder().slice(0).build(), Err(BuildError::Slice(0))));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn slice(mut self, ticks: u64) -> VmBuilder {
        self.slice = Some(ticks);
        self
    }

    /// Has the ticks made by [`Vm::beat`] alone: for tests of what depends on them.
    pub fn manual_ticks(mut self) -> VmBuilder {
        self.is_manual = true;
        self
    }

    /// Keeps compiled code; nowhere, unless told otherwise.
    pub fn cache(mut self, cache: Cache) -> VmBuilder {
        self.cache = Some(cache);
        self
    }

    /// Adds host functions of the embedder's own.
    pub fn host(mut self, host: Host) -> VmBuilder {
        self.host = host;
        self
    }

    /// Makes the machine and starts its threads.
    ///
    /// # Errors
    ///
    /// Where there are no threads or wasmtime cannot be set up, for example because there is too little address space, and
    /// where the tick or the slice is outside its range.
    pub fn build(self) -> Result<Vm, BuildError> {
        if let Some(tick) = self.tick.filter(|tick| !VmBuilder::TICKS.contains(tick)) {
            return Err(BuildError::Tick(tick));
        }
        let slice = self.slice.unwrap_or(DEFAULT_SLICE);
        if !VmBuilder::SLICES.contains(&slice) {
            return Err(BuildError::Slice(slice));
        }
        let engine_error = |error: wasmtime::Error| BuildError::Engine(format!("{error:#}"));
        let mut names = host::names().map_err(engine_error)?;
        names.extend(self.host.names());
        let own = self.host;
        let link: crate::engine::Link = Box::new(move |engine| Linkers::new(engine, &own));
        let engines = Arc::new(Engines::new(link, Ceilings::new(self.profile, self.slots)));

        let tokio = tokio_handle()?;
        // A waker that a clock or a socket has not let go of yet keeps parts of the scheduler, and must not keep the engines'
        // address space with them.
        let ticked = Arc::downgrade(&engines);
        let mut scheduler = Scheduler::builder()
            .slice(slice)
            .on_beat(move || {
                if let Some(engines) = ticked.upgrade() {
                    engines.increment_epoch();
                }
            })
            .on_worker_start(move || Box::new(tokio.enter()) as Box<dyn Any>);
        if let Some(workers) = self.workers {
            scheduler = scheduler.workers(workers);
        }
        if let Some(tick) = self.tick {
            scheduler = scheduler.period(tick);
        }
        if self.is_manual {
            scheduler = scheduler.manual_ticker();
        }
        let (open, over) = async_channel::bounded(1);
        let machine = Arc::new(Machine {
            engines,
            cache: self.cache.unwrap_or_else(Cache::none),
            processes: Table::new(),
            pids: PidSource::new(),
            resolver: Resolver::default(),
            compiler: Compiler::new(),
            metrics: Metrics::new(),
            catalogue: Catalogue::new(names),
            environments: AtomicU64::new(0),
            scheduler: scheduler.build()?,
            slice,
            is_over: AtomicBool::new(false),
            over,
            _open: open,
        });
        Ok(Vm {
            _end: Arc::new(End(machine.clone())),
            machine,
        })
    }
}

/// How many threads wait for files at most. There are as many as are in use, and they end when they are not.
///
/// A file on a disk is answered soon, so that few would do. But who opens a named pipe waits for the other side, perhaps for
/// ever, and holds a thread for as long, also when it is killed meanwhile: an operating system does not give such a call up.
/// So this is how many processes can wait for named pipes before all others wait for their files. Guests cannot make such
/// pipes; whoever grants a directory that has some to programs that are not trusted bounds their processes by less.
const MAX_BLOCKING_THREADS: usize = 512;

/// Returns the handle of the process's tokio runtime, which is started when it is first needed.
///
/// `wasmtime-wasi` waits there for time and files. It has one thread, so an embedder can reuse it for a little I/O of its own,
/// but must not block or compute there.
///
/// # Errors
///
/// If the system cannot start threads.
pub fn tokio_handle() -> std::io::Result<&'static tokio::runtime::Handle> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_name("lunatic-wasi")
            .enable_all()
            .build()?;
        // Where two threads come here at once, the second runtime is thrown away, without waiting: the thread may be one of a
        // runtime of the host program's.
        if let Err(runtime) = RUNTIME.set(runtime) {
            runtime.shutdown_background();
        }
    }
    Ok(RUNTIME.get().expect("it was just set").handle())
}

impl Vm {
    /// Begins to set a machine up.
    pub fn builder() -> VmBuilder {
        VmBuilder::default()
    }

    /// Checks and compiles a module, from the binary or the text format. `name` is for reports.
    ///
    /// Takes milliseconds to seconds, on this thread.
    ///
    /// # Errors
    ///
    /// [`ModuleError`], where the bytes are not a module or import what nothing provides.
    pub fn module(&self, name: &str, bytes: &[u8]) -> Result<Module, ModuleError> {
        Module::new(&self.machine, name, bytes)
    }

    /// Checks and compiles a component, from the binary or the text format. `name` is for reports.
    ///
    /// Takes milliseconds to seconds, on this thread.
    ///
    /// # Errors
    ///
    /// [`ModuleError`], where the bytes are not a component or import what nothing provides.
    pub fn component(&self, name: &str, bytes: &[u8]) -> Result<Component, ModuleError> {
        Component::new(&self.machine, name, bytes)
    }

    /// Returns a configuration that grants nothing yet.
    pub fn config(&self) -> Config {
        Config::new(self.machine.catalogue.nothing())
    }

    /// Makes an environment.
    pub fn environment(&self, config: Config) -> Environment {
        Environment::outermost(&self.machine, config)
    }

    /// Finds a living process.
    pub fn process(&self, pid: Pid) -> Option<Process> {
        self.machine.process(pid)
    }

    /// Returns all living processes, in no order. It is not a picture of one moment.
    pub fn processes(&self) -> Vec<Process> {
        self.machine.processes.all()
    }

    /// Returns what the machine and its programs count, in the text format of Prometheus.
    ///
    /// Of the machine: processes alive, spawned and ended, with how, and what was put into mailboxes. Of each program: what it
    /// counts with `lunatic::metrics`, labelled with the number of its environment, for as long as that is held or has processes.
    /// It looks at every process, which takes microseconds for each.
    ///
    /// ```
    /// let vm = lunatic_vm::Vm::builder().build()?;
    /// let text = vm.metrics();
    /// assert!(text.lines().any(|line| line == "lunatic_machine_processes 0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> String {
        self.machine.metrics.text(&self.machine.processes.all())
    }

    /// Returns how many processes the machine has room for on this computer, and what bounds them. It asks the kernel, which
    /// takes a fraction of a millisecond.
    pub fn capacity(&self) -> Capacity {
        self.machine.engines.capacity()
    }

    /// Waits for a future on this thread, which must not be one of the machine's.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures_lite::future::block_on(future)
    }

    /// Waits until everything that programs have written to the standard streams of this process is written, or cannot be.
    ///
    /// Output is written by a thread of its own; a host program ends after this, or after the machine was dropped, which does
    /// the same, or loses what was on the way. It waits for as long as the terminal or the pipe behind the streams takes nothing.
    pub async fn flush_output(&self) {
        Console::get().flush().await;
    }

    /// Makes a tick, which ends the slices that have lasted long enough. With [`VmBuilder::manual_ticks`] nothing else does.
    pub fn beat(&self) {
        self.machine.scheduler.beat();
    }

    /// Whether nothing runs and nothing is ready: every process waits for something outside.
    pub fn is_idle(&self) -> bool {
        self.machine.scheduler.is_idle()
    }
}

impl Machine {
    pub(crate) fn process(&self, pid: Pid) -> Option<Process> {
        self.processes.get(pid)
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Returns how many ticks a slice lasts.
    pub(crate) fn slice(&self) -> u64 {
        self.slice
    }

    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits for the machine's end.
    pub(crate) async fn over(&self) {
        // Only the end of the channel comes through it.
        let _ = self.over.recv().await;
    }

    pub(crate) fn next_environment(&self) -> u64 {
        self.environments.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_machine_whose_processes_have_databases_goes_when_it_is_dropped() {
        let guest = br#"(module
            (import "lunatic::sqlite" "open" (func $open (param i32 i32 i32) (result i64)))
            (import "lunatic::message" "receive" (func $receive (param i32 i32 i64) (result i32)))
            (memory (export "memory") 1)
            (func (export "wait")
                (drop (call $open (i32.const 0) (i32.const 0) (i32.const 8)))
                (drop (call $receive (i32.const 0) (i32.const 0) (i64.const -1)))))"#;
        for _ in 0..20 {
            let vm = Vm::builder()
                .slots(16)
                .build()
                .expect("the machine can be set up");
            let module = vm.module("wait", guest).expect("it is one");
            let mut config = vm.config();
            config.allow("");
            let environment = vm.environment(config);
            for _ in 0..8 {
                environment
                    .spawn(&module, "wait", &[])
                    .expect("there is room");
            }
            while !vm.is_idle() {
                std::thread::yield_now();
            }
            let machine = Arc::downgrade(&vm.machine);
            drop((module, environment, vm));
            // The databases are closed on other threads, which may hold what is left for a moment.
            let patience = Instant::now() + Duration::from_secs(60);
            while machine.strong_count() > 0 {
                assert!(
                    Instant::now() < patience,
                    "the machine is held by {}",
                    machine.strong_count()
                );
                std::thread::yield_now();
            }
        }
    }
}
