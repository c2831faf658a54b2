//! The handle to a machine, and its builder.

use crate::cache::Cache;
use crate::compile_limits::CompileLimits;
use crate::compiler::{Compiler, Job};
use crate::console::Console;
use crate::engine::{self, Capacity, Ceilings, Engines, Profile, Shortage};
use crate::environment::{Catalogue, Config, Descriptors};
use crate::host::{self, Host};
use crate::machine::{Environment, Machine, Process};
use crate::module::{Component, Module, ModuleError};
use crate::run;
use crate::scheduler::Scheduler;
use lunatic_process::Pid;
use std::any::Any;
use std::fmt;
use std::ops::RangeInclusive;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The default length of a slice in ticks.
const DEFAULT_SLICE: u64 = 1;

/// A machine, which consists of threads that run processes, and of everything that the processes
/// share.
///
/// Cheap to clone. When the last clone is dropped, all processes are killed, the threads end, and
/// programs' output to the standard streams is flushed. After that, nothing can run in the
/// remaining environments.
#[derive(Clone)]
pub struct Vm {
    machine: Arc<Machine>,
    /// Ends the machine when the last handle is dropped. Environments and running processes also
    /// hold the machine, so its end cannot depend on its own reference count.
    _end: Arc<EndOnDrop>,
}

/// Ends the machine on drop.
struct EndOnDrop(Arc<Machine>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.close();
        // A process that computes in a loop notices its end only at a tick, and with manual ticks,
        // nothing else triggers ticks any more.
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
        // The host program may exit after this.
        futures_lite::future::block_on(Console::get().flush());
    }
}

/// Why a machine could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The machine's threads could not be started.
    #[error("the machine's threads could not be started: {0}")]
    Threads(#[from] std::io::Error),
    /// The tick is too short or too long.
    #[error("a tick of {0:?} is not possible: a tick must last from {least:?} to {most:?}", least = VmBuilder::TICKS.start(), most = VmBuilder::TICKS.end())]
    Tick(Duration),
    /// The slice is too short or too long.
    #[error("a slice of {0} ticks is not possible: a slice must last from {least} to {most} ticks", least = VmBuilder::SLICES.start(), most = VmBuilder::SLICES.end())]
    Slice(u64),
    /// Wasmtime does not run on this system.
    #[error("wasmtime could not be set up: {0}")]
    Engine(String),
}

/// Configures and creates a machine.
#[derive(Default)]
pub struct VmBuilder {
    workers: Option<usize>,
    tick: Option<Duration>,
    slice: Option<u64>,
    slots: Option<u32>,
    profile: Option<Profile>,
    descriptors: Option<u64>,
    memory: Option<u64>,
    is_manual: bool,
    cache: Option<Cache>,
    compiler: Option<Command>,
    compile_limits: CompileLimits,
    host: Host,
}

impl VmBuilder {
    /// Sets how many processes can run at the same time. The default is the number of the
    /// computer's cores.
    pub fn workers(mut self, workers: usize) -> VmBuilder {
        self.workers = Some(workers);
        self
    }

    /// Sets how many processes can be alive at once. By default, only the computer's resources
    /// limit their number.
    pub fn slots(mut self, slots: u32) -> VmBuilder {
        self.slots = Some(slots.max(1));
        self
    }

    /// Sets the maximum total number of operating system descriptors that the machine's guests
    /// hold: files, directories, sockets and the images of modules. The default is the number that
    /// the operating system allows this process (`ulimit -n`) when the machine is built, minus a
    /// small reserve. A program that already holds more than a quarter of the descriptors cannot
    /// use the last quarter.
    pub fn descriptors(mut self, descriptors: u64) -> VmBuilder {
        self.descriptors = Some(descriptors);
        self
    }

    /// Sets how much memory this operating system process may occupy, in bytes. By default, only
    /// the computer and the process's control groups (version 1 or 2) limit this memory.
    ///
    /// When less than an eighth of the memory is left, or less than 1 GiB if that is smaller, the
    /// machine begins to refuse work that needs more memory; see [`Shortage`].
    pub fn memory(mut self, bytes: u64) -> VmBuilder {
        self.memory = Some(bytes);
        self
    }

    /// Sets the layout of memories and stacks in the address space. By default, the first 3,072
    /// module processes that are alive at the same time use [`Profile::Fast`], and all further
    /// processes use [`Profile::Dense`].
    pub fn profile(mut self, profile: Profile) -> VmBuilder {
        self.profile = Some(profile);
        self
    }

    /// The permitted tick lengths. With shorter ticks, the machine would do little else than
    /// process ticks, and longer ticks would delay kills.
    pub const TICKS: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);

    /// The permitted slice lengths, in ticks.
    pub const SLICES: RangeInclusive<u64> = 1..=1_000;

    /// Sets the time from one tick to the next, which must be in [`VmBuilder::TICKS`]. The default
    /// is 1 ms.
    ///
    /// At every tick, each running process checks whether it was killed and whether its slice is
    /// over.
    pub fn tick(mut self, tick: Duration) -> VmBuilder {
        self.tick = Some(tick);
        self
    }

    /// Sets for how many ticks a process may compute before other processes get a turn. The number
    /// must be in [`VmBuilder::SLICES`]. The default is 1.
    ///
    /// Longer slices reduce overhead if many processes compute a lot, but make each process wait
    /// longer for its turn. A process that is woken waits until the slice of the running process is
    /// over. A kill does not wait for the end of a slice.
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

    /// Drives ticks only through [`Vm::beat`], for tests that depend on ticks.
    pub fn manual_ticks(mut self) -> VmBuilder {
        self.is_manual = true;
        self
    }

    /// Sets where compiled code is cached. By default, compiled code is not cached.
    pub fn cache(mut self, cache: Cache) -> VmBuilder {
        self.cache = Some(cache);
        self
    }

    /// Sets the command that compiles code that is not the host's own: modules that guests compile,
    /// and modules that are passed to [`Vm::client_module`]. The command must call
    /// [`compile_for_machine`](crate::compile_for_machine) and do nothing else.
    ///
    /// Each module is compiled by a separate process, which is ended if it takes too much time or
    /// memory, or if nothing is waiting for its result any more. The process returns native code,
    /// which the machine trusts. By default, modules are compiled in this process, and only
    /// [`VmBuilder::compile_limits`] bounds their compilation.
    pub fn compiler(mut self, command: Command) -> VmBuilder {
        self.compiler = Some(command);
        self
    }

    /// Sets the bounds on the code that is not the host's own; by default,
    /// [`CompileLimits::default`].
    pub fn compile_limits(mut self, limits: CompileLimits) -> VmBuilder {
        self.compile_limits = limits;
        self
    }

    /// Adds host functions of the embedder.
    pub fn host(mut self, host: Host) -> VmBuilder {
        self.host = host;
        self
    }

    /// Creates the machine and starts its threads.
    ///
    /// # Errors
    ///
    /// If threads cannot be started, if wasmtime cannot be set up (for example because there is too
    /// little address space), or if the tick or the slice is out of range.
    pub fn build(self) -> Result<Vm, BuildError> {
        if let Some(tick) = self.tick.filter(|tick| !VmBuilder::TICKS.contains(tick)) {
            return Err(BuildError::Tick(tick));
        }
        let slice = self.slice.unwrap_or(DEFAULT_SLICE);
        if !VmBuilder::SLICES.contains(&slice) {
            return Err(BuildError::Slice(slice));
        }
        let mut names = host::names();
        names.extend(self.host.names());
        let own = self.host;
        let link: engine::Link = Box::new(move |engine| Ok(Box::new(host::link(engine, &own)?)));
        let engines = Arc::new(Engines::new(
            link,
            &names,
            Ceilings::new(self.profile, self.slots, self.memory),
        ));

        let tokio = tokio_handle()?;
        // The reactor for timers and sockets is set up now, because it would panic if no
        // descriptors were left when a guest first waits.
        let _ = futures_lite::future::block_on(futures_lite::future::poll_once(
            async_io::Timer::after(Duration::ZERO),
        ));
        // A waker that is still held by a clock or a socket keeps parts of the scheduler alive.
        // These parts must not keep the engines' address space alive.
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
        let compiler = Compiler::new(engines, cache, self.compiler, scheduler.spawner());
        let catalogue = Catalogue::new(names);
        let descriptors = Descriptors::new(self.descriptors);
        let machine = Arc::new(Machine::new(
            compiler,
            scheduler,
            catalogue,
            self.compile_limits,
            slice,
            descriptors,
        ));
        Ok(Vm {
            _end: Arc::new(EndOnDrop(machine.clone())),
            machine,
        })
    }
}

/// The maximum number of threads that wait for files. The threads are started as needed and end
/// when they are no longer used.
///
/// A file on a disk responds quickly, so a few threads would suffice. But a process that opens a
/// named pipe waits for the other side of the pipe, perhaps indefinitely. The call occupies a
/// thread in the meantime, even if the process is killed, because the operating system does not
/// abort such a call. Therefore, once this many processes wait for named pipes, all other processes
/// have to wait to synchronize files, and components for all their files. Guests cannot create
/// named pipes. A host that grants untrusted programs a directory with named pipes should limit
/// these programs to fewer processes than this.
const MAX_BLOCKING_THREADS: usize = 512;

/// Returns the handle of the tokio runtime of this operating system process. The runtime is started
/// on first use.
///
/// `wasmtime-wasi` waits for timers and files in this runtime, and modules wait there for named
/// pipes and devices. The runtime has one thread, so an embedder can use it for a little I/O of its
/// own, but must not block or compute in it.
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
        // If two threads get here at the same time, the second runtime is shut down without
        // waiting, because this thread may belong to a runtime of the host program.
        if let Err(runtime) = RUNTIME.set(runtime) {
            runtime.shutdown_background();
        }
    }
    Ok(RUNTIME.get().expect("the runtime was set above").handle())
}

impl Vm {
    /// Returns a builder for a machine.
    pub fn builder() -> VmBuilder {
        VmBuilder::default()
    }

    /// Checks and compiles a module, in the binary or the text format. `name` is used in reports.
    ///
    /// This takes milliseconds to seconds on the calling thread.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] if the bytes are not a module, or if the machine does not provide one of its
    /// imports.
    pub fn module(&self, name: &str, bytes: &[u8]) -> Result<Module, ModuleError> {
        self.load_module(name, bytes, &Job::Own)
    }

    /// Checks and compiles a module that a client of the host provides. The module must be within
    /// [`VmBuilder::compile_limits`]. If [`VmBuilder::compiler`] is set, that command compiles the
    /// module and is stopped after `within`.
    ///
    /// # Errors
    ///
    /// The same as for [`Vm::module`], and [`ModuleError::Excessive`], [`ModuleError::TooLarge`] or
    /// [`ModuleError::Stopped`].
    pub fn client_module(
        &self,
        name: &str,
        bytes: &[u8],
        within: Duration,
    ) -> Result<Module, ModuleError> {
        self.load_module(name, bytes, &Job::client(within))
    }

    fn load_module(&self, name: &str, bytes: &[u8], job: &Job) -> Result<Module, ModuleError> {
        let Machine {
            compiler,
            compile_limits,
            ..
        } = &*self.machine;
        run::load_module(compiler, compile_limits, name, bytes, job, None)
    }

    /// Checks and compiles a component, in the binary or the text format. `name` is used in
    /// reports.
    ///
    /// This takes milliseconds to seconds on the calling thread.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] if the bytes are not a component, or if the machine does not provide one of
    /// its imports.
    pub fn component(&self, name: &str, bytes: &[u8]) -> Result<Component, ModuleError> {
        self.load_component(name, bytes, &Job::Own)
    }

    /// Checks and compiles a component that a client of the host provides, as
    /// [`Vm::client_module`] does for modules.
    ///
    /// # Errors
    ///
    /// The same as for [`Vm::client_module`].
    pub fn client_component(
        &self,
        name: &str,
        bytes: &[u8],
        within: Duration,
    ) -> Result<Component, ModuleError> {
        self.load_component(name, bytes, &Job::client(within))
    }

    fn load_component(
        &self,
        name: &str,
        bytes: &[u8],
        job: &Job,
    ) -> Result<Component, ModuleError> {
        let Machine {
            compiler,
            compile_limits,
            ..
        } = &*self.machine;
        run::load_component(compiler, compile_limits, name, bytes, job)
    }

    /// Returns a configuration that grants nothing yet.
    pub fn config(&self) -> Config {
        Config::new(self.machine.catalogue.nothing()).guarding(self.machine.compiler.cache())
    }

    /// Creates an environment.
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

    /// Returns all living processes, in no particular order. The result is not an atomic snapshot.
    pub fn processes(&self) -> Vec<Process> {
        self.machine.processes()
    }

    /// Returns the metrics of the machine and its programs, in Prometheus's text format.
    ///
    /// The machine counts the processes that are alive, that were spawned and that ended (by kind
    /// of exit), and the mail delivered to mailboxes. Programs record metrics of their own with
    /// `lunatic::metrics`. These are labelled with the number of the program's environment, and
    /// last as long as the environment is held or has processes. This call visits every process,
    /// which takes microseconds per process.
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

    /// Returns how many processes the machine has room for on this computer, and what limits that
    /// number. This call queries the kernel, which takes a fraction of a millisecond.
    pub fn capacity(&self) -> Capacity {
        self.machine.engines.capacity()
    }

    /// Returns what the machine currently refuses because memory is short.
    ///
    /// The machine itself refuses compilations, spawns and connections of guests. A host program
    /// that serves requests should refuse requests at [`Shortage::Requests`].
    pub fn shortage(&self) -> Shortage {
        self.machine.engines.pressure().shortage()
    }

    /// Waits for a future on this thread, which must not be one of the machine's threads.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures_lite::future::block_on(future)
    }

    /// Waits until all output of programs to the standard streams of this process has been written
    /// or has failed.
    ///
    /// # Errors
    ///
    /// Fails if standard output accepts no more bytes, with the error of the failed write.
    ///
    /// A dedicated thread writes output. A host program that exits without calling this method
    /// loses the output that has not been written yet. Dropping the machine has the same effect as
    /// calling this method. The call waits for as long as the terminal or the pipe behind the
    /// streams accepts no output.
    pub async fn flush_output(&self) -> std::io::Result<()> {
        Console::get()
            .flush()
            .await
            .map_or(Ok(()), |failed| Err(failed.into()))
    }

    /// Triggers a tick, which ends the slices that have lasted long enough. With
    /// [`VmBuilder::manual_ticks`], ticks happen only through this call.
    pub fn beat(&self) {
        self.machine.scheduler.beat();
    }

    /// Returns whether no process is running or ready to run, so that every process is waiting for
    /// an external event.
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
    fn a_dropped_machine_is_released_even_if_processes_have_databases() {
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
                .expect("the machine can be created");
            let module = vm.module("wait", guest).expect("the module is valid");
            let mut config = vm.config();
            config.allow("");
            let environment = vm.environment(config);
            for _ in 0..8 {
                environment
                    .spawn(&module, "wait", &[])
                    .expect("the machine has room for the process");
            }
            while !vm.is_idle() {
                std::thread::yield_now();
            }
            let machine = Arc::downgrade(&vm.machine);
            drop((module, environment, vm));
            // The databases are closed on other threads, which may hold handles to the machine for
            // a moment.
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
