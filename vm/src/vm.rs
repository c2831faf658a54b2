//! The handle to a machine, and how a machine is set up.

use crate::cache::Cache;
use crate::compiler::Compiler;
use crate::console::Console;
use crate::engine::{self, Capacity, Ceilings, Engines, Profile};
use crate::environment::{Catalogue, Config};
use crate::host::{self, Host};
use crate::machine::{Environment, Machine, Process};
use crate::module::{Component, Module, ModuleError};
use crate::run;
use crate::scheduler::Scheduler;
use lunatic_process::Pid;
use std::any::Any;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How many ticks a slice lasts by default.
const DEFAULT_SLICE: u64 = 1;

/// A machine: cores that run processes, and everything that these share.
///
/// Cheap to clone. When the last clone is dropped, all processes are killed, the threads end, and
/// what programs have written to the standard streams is flushed. Environments and processes that
/// are still held are then useless.
#[derive(Clone)]
pub struct Vm {
    machine: Arc<Machine>,
    /// Ends the machine with the last handle. Environments and running processes hold the machine
    /// too, so its end cannot be tied to that.
    _end: Arc<EndOnDrop>,
}

/// Ends the machine when it is dropped.
struct EndOnDrop(Arc<Machine>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.close();
        // A process that spins notices its end at a tick, and if ticks are made by hand nobody
        // makes them any more.
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
        // The host program may end after this.
        futures_lite::future::block_on(Console::get().flush());
    }
}

/// Why a machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operating system has no threads.
    #[error("the machine's threads could not be started: {0}")]
    Threads(#[from] std::io::Error),
    /// The tick is too short or too long.
    #[error("a tick of {0:?} is not possible: ticks are from {least:?} to {most:?}", least = VmBuilder::TICKS.start(), most = VmBuilder::TICKS.end())]
    Tick(Duration),
    /// The slice is too short or too long.
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
    /// Sets how many processes run at the same time; by default, as many as the computer has cores.
    pub fn workers(mut self, workers: usize) -> VmBuilder {
        self.workers = Some(workers);
        self
    }

    /// Sets how many processes can be alive at the same time; by default, as many as the computer
    /// has room for.
    pub fn slots(mut self, slots: u32) -> VmBuilder {
        self.slots = Some(slots.max(1));
        self
    }

    /// Sets the layout of memories and stacks in the address space. By default, the first 3,072
    /// processes of modules that are alive at the same time are [`Profile::Fast`] and the others
    /// [`Profile::Dense`].
    pub fn profile(mut self, profile: Profile) -> VmBuilder {
        self.profile = Some(profile);
        self
    }

    /// The possible ticks. With shorter ones the machine would do little else, and longer ones
    /// delay a kill.
    pub const TICKS: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);

    /// How many ticks a slice can last.
    pub const SLICES: RangeInclusive<u64> = 1..=1_000;

    /// Sets the time from one tick to the next, which must be in [`VmBuilder::TICKS`]; 1 ms by
    /// default.
    ///
    /// Every tick checks whether a process that computes was killed, and whether its slice is over.
    pub fn tick(mut self, tick: Duration) -> VmBuilder {
        self.tick = Some(tick);
        self
    }

    /// Sets how many ticks a process computes until others get a turn, which must be in
    /// [`VmBuilder::SLICES`]; 1 by default.
    ///
    /// Longer slices cost less if many processes compute a lot, and make each wait longer for its
    /// turn. A process that is woken waits for the slice of the running one; a kill does not.
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

    /// Drives ticks only by [`Vm::beat`], for tests of what depends on them.
    pub fn manual_ticks(mut self) -> VmBuilder {
        self.is_manual = true;
        self
    }

    /// Sets where compiled code is kept; by default, nowhere.
    pub fn cache(mut self, cache: Cache) -> VmBuilder {
        self.cache = Some(cache);
        self
    }

    /// Adds host functions of the embedder.
    pub fn host(mut self, host: Host) -> VmBuilder {
        self.host = host;
        self
    }

    /// Makes the machine and starts its threads.
    ///
    /// # Errors
    ///
    /// If there are no threads, if wasmtime cannot be set up, for example because there is too
    /// little address space, and if the tick or the slice is out of range.
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
        let link: engine::Link = Box::new(move |engine| Ok(Box::new(host::link(engine, &own)?)));
        let engines = Arc::new(Engines::new(link, Ceilings::new(self.profile, self.slots)));

        let tokio = tokio_handle()?;
        // A waker that a clock or a socket still holds keeps parts of the scheduler alive, which
        // must not keep the engines' address space alive.
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
        let scheduler = scheduler.build()?;
        let cache = self.cache.unwrap_or_else(Cache::none);
        let compiler = Compiler::new(engines, cache, scheduler.spawner());
        let catalogue = Catalogue::new(names);
        let machine = Arc::new(Machine::new(compiler, scheduler, catalogue, slice));
        Ok(Vm {
            _end: Arc::new(EndOnDrop(machine.clone())),
            machine,
        })
    }
}

/// How many threads can wait for files. They are started as needed and end when they are no longer
/// used.
///
/// A file on a disk answers soon, so that a few would do. But a process that opens a named pipe
/// waits for the other side, perhaps forever, and holds a thread meanwhile even if it is killed,
/// since an operating system does not give up such a call. So this is how many processes can wait
/// for named pipes before all others wait for their files. Guests cannot make such pipes; whoever
/// grants a directory that has some to untrusted programs limits their processes to less.
const MAX_BLOCKING_THREADS: usize = 512;

/// Returns the handle of the process's tokio runtime, which is started when it is first needed.
///
/// `wasmtime-wasi` waits there for time and files. It has one thread, so an embedder can reuse it
/// for a little I/O of its own, but must not block or compute there.
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
        // If two threads come here at once, the second runtime is thrown away without waiting,
        // since the thread may belong to a runtime of the host program.
        if let Err(runtime) = RUNTIME.set(runtime) {
            runtime.shutdown_background();
        }
    }
    Ok(RUNTIME.get().expect("it was set above").handle())
}

impl Vm {
    /// Begins to set up a machine.
    pub fn builder() -> VmBuilder {
        VmBuilder::default()
    }

    /// Checks and compiles a module, from the binary or the text format. `name` is for reports.
    ///
    /// Takes milliseconds to seconds, on this thread.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] if the bytes are not a module, or import what nothing provides.
    pub fn module(&self, name: &str, bytes: &[u8]) -> Result<Module, ModuleError> {
        run::load_module(&self.machine.compiler, name, bytes)
    }

    /// Checks and compiles a component, from the binary or the text format. `name` is for reports.
    ///
    /// Takes milliseconds to seconds, on this thread.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] if the bytes are not a component, or import what nothing provides.
    pub fn component(&self, name: &str, bytes: &[u8]) -> Result<Component, ModuleError> {
        run::load_component(&self.machine.compiler, name, bytes)
    }

    /// Returns a configuration that grants nothing yet.
    pub fn config(&self) -> Config {
        Config::new(self.machine.catalogue.nothing())
    }

    /// Makes an environment.
    pub fn environment(&self, config: Config) -> Environment {
        Environment::outermost(&self.machine, config)
    }

    /// Returns the environment that a process of this machine lives in.
    pub fn environment_of(&self, process: &Process) -> Environment {
        Environment::of(&self.machine, process)
    }

    /// Finds a living process.
    pub fn process(&self, pid: Pid) -> Option<Process> {
        self.machine.process(pid)
    }

    /// Returns all living processes, in no order. It is not a snapshot of one moment.
    pub fn processes(&self) -> Vec<Process> {
        self.machine.processes()
    }

    /// Returns what the machine and its programs count, in the text format of Prometheus.
    ///
    /// The machine counts processes alive, spawned and ended, with the kind of their end, and what
    /// was put into mailboxes. Each program counts what it likes with `lunatic::metrics`, labelled
    /// with the number of its environment, for as long as that is held or has processes. This
    /// visits every process, which takes microseconds for each.
    ///
    /// ```
    /// let vm = lunatic_vm::Vm::builder().build()?;
    /// let text = vm.metrics();
    /// assert!(text.lines().any(|line| line == "lunatic_machine_processes 0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> String {
        let processes = self.machine.processes();
        let mail = || {
            let mail = processes
                .iter()
                .map(|process| process.cell().next_sequence());
            mail.sum()
        };
        self.machine.metrics.text(processes.len() as u64, mail)
    }

    /// Returns how many processes the machine has room for on this computer, and what limits them.
    /// It asks the kernel, which takes a fraction of a millisecond.
    pub fn capacity(&self) -> Capacity {
        self.machine.engines.capacity()
    }

    /// Waits for a future on this thread, which must not be one of the machine's.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures_lite::future::block_on(future)
    }

    /// Waits until everything that programs have written to the standard streams of this process is
    /// written, or cannot be.
    ///
    /// A thread of its own writes output. A host program that ends before this, and before the
    /// machine is dropped, which does the same, loses what is on the way. This waits for as long as
    /// the terminal or the pipe behind the streams takes nothing.
    pub async fn flush_output(&self) {
        Console::get().flush().await;
    }

    /// Makes a tick, which ends the slices that have lasted long enough. With
    /// [`VmBuilder::manual_ticks`], nothing else does.
    pub fn beat(&self) {
        self.machine.scheduler.beat();
    }

    /// Whether nothing runs and nothing is ready, so that every process waits for something
    /// outside.
    pub fn is_idle(&self) -> bool {
        self.machine.scheduler.is_idle()
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
            let module = vm.module("wait", guest).expect("the module is valid");
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
            let deadline = Instant::now() + Duration::from_secs(60);
            while machine.strong_count() > 0 {
                assert!(
                    Instant::now() < deadline,
                    "the machine is held by {}",
                    machine.strong_count()
                );
                std::thread::yield_now();
            }
        }
    }
}
