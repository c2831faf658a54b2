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
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The default slice length, in ticks.
const DEFAULT_SLICE: u64 = 1;

/// A machine: the threads that run processes, and everything that the processes share.
///
/// Cheap to clone. Dropping the last clone kills all processes, stops the threads, and flushes the
/// programs' output to the standard streams. After that, nothing can run in any environment that
/// still exists.
#[derive(Clone)]
pub struct Vm {
    machine: Arc<Machine>,
    /// Shuts the machine down when the last handle is dropped. Environments and running processes
    /// also hold the machine, so its own reference count cannot be used for this.
    _end: Arc<EndOnDrop>,
}

/// Shuts the machine down on drop.
struct EndOnDrop(Arc<Machine>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.close();
        // A process that computes in a loop notices that it was killed only at a tick, and with
        // manual ticks, nothing else triggers one at this point.
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
        // The host program may exit as soon as this returns.
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
    #[error("a tick must last from {least:?} to {most:?}, not {0:?}", least = VmBuilder::TICKS.start(), most = VmBuilder::TICKS.end())]
    Tick(Duration),
    /// The slice is too short or too long.
    #[error("a slice must last from {least} to {most} ticks, not {0}", least = VmBuilder::SLICES.start(), most = VmBuilder::SLICES.end())]
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
    /// Sets how many processes can run at the same time. The default is the number of CPU cores.
    pub fn workers(mut self, workers: usize) -> VmBuilder {
        self.workers = Some(workers);
        self
    }

    /// Sets how many processes can be alive at the same time. By default, this is limited only by
    /// the computer's resources.
    pub fn slots(mut self, slots: u32) -> VmBuilder {
        self.slots = Some(slots.max(1));
        self
    }

    /// Sets how many operating system descriptors the machine's guests can hold in total: files,
    /// directories, sockets and module images. The default is the number that the operating system
    /// allows this process (`ulimit -n`) when the machine is built, minus a small reserve. A
    /// program that already holds more than a quarter of the descriptors cannot use the last
    /// quarter.
    pub fn descriptors(mut self, descriptors: u64) -> VmBuilder {
        self.descriptors = Some(descriptors);
        self
    }

    /// Sets how much memory this operating system process may use, in bytes. By default, it is
    /// limited only by the computer's memory and the process's control groups (version 1 or 2).
    ///
    /// Once the remaining memory falls below an eighth of the total or below 1 GiB, whichever is
    /// smaller, the machine starts refusing work that needs more memory; see [`Shortage`].
    pub fn memory(mut self, bytes: u64) -> VmBuilder {
        self.memory = Some(bytes);
        self
    }

    /// Sets the layout of memories and stacks in the address space. By default, up to 3,072 live
    /// module processes use [`Profile::Fast`], and all others use [`Profile::Dense`].
    pub fn profile(mut self, profile: Profile) -> VmBuilder {
        self.profile = Some(profile);
        self
    }

    /// The permitted tick lengths. With shorter ticks, the machine would spend most of its time
    /// handling them; longer ticks would delay kills.
    pub const TICKS: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);

    /// The permitted slice lengths, in ticks.
    pub const SLICES: RangeInclusive<u64> = 1..=1_000;

    /// Sets the time between ticks. Must be within [`VmBuilder::TICKS`]. The default is 1 ms.
    ///
    /// At every tick, each running process checks whether it was killed and whether its slice is
    /// over.
    pub fn tick(mut self, tick: Duration) -> VmBuilder {
        self.tick = Some(tick);
        self
    }

    /// Sets how many ticks a process may compute for before other processes get a turn. Must be
    /// within [`VmBuilder::SLICES`]. The default is 1.
    ///
    /// Longer slices reduce overhead if many processes compute a lot, but make each process wait
    /// longer for its turn. A process that wakes up has to wait for the running process's slice to
    /// end. A kill does not.
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

    /// Makes [`Vm::beat`] the only source of ticks, for tests that depend on them.
    pub fn manual_ticks(mut self) -> VmBuilder {
        self.is_manual = true;
        self
    }

    /// Sets where compiled code is cached. By default, compiled code is not cached.
    pub fn cache(mut self, cache: Cache) -> VmBuilder {
        self.cache = Some(cache);
        self
    }

    /// Sets the command that compiles code from outside the host: modules compiled by guests, and
    /// modules passed to [`Vm::client_module`]. The command must call
    /// [`compile_for_machine`](crate::compile_for_machine) and do nothing else.
    ///
    /// Each module is compiled in a separate process, which is killed if it takes too much time or
    /// memory, or if nothing is waiting for its result any more. It returns native code, which the
    /// machine trusts. By default, modules are compiled in this process, bounded only by
    /// [`VmBuilder::compile_limits`].
    pub fn compiler(mut self, command: Command) -> VmBuilder {
        self.compiler = Some(command);
        self
    }

    /// Sets the limits for code from outside the host. The default is [`CompileLimits::default`].
    pub fn compile_limits(mut self, limits: CompileLimits) -> VmBuilder {
        self.compile_limits = limits;
        self
    }

    /// Adds the embedder's own host functions.
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
        let resource_sizes = own.resource_sizes();
        let link: engine::Link = Box::new(move |engine| Ok(Box::new(host::link(engine, &own)?)));
        let engines = Arc::new(Engines::new(
            link,
            &names,
            Ceilings::new(self.profile, self.slots, self.memory),
        ));

        let tokio = tokio_handle()?;
        // Set up the reactor for timers and sockets now: it would panic if there were no
        // descriptors left when a guest first waits.
        let _ = futures_lite::future::block_on(futures_lite::future::poll_once(
            async_io::Timer::after(Duration::ZERO),
        ));
        // A waker that is still held by a clock or a socket keeps parts of the scheduler alive.
        // They must not keep the engines' address space alive.
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
            resource_sizes,
            slice,
            descriptors,
        ));
        Ok(Vm {
            _end: Arc::new(EndOnDrop(machine.clone())),
            machine,
        })
    }
}

/// The maximum number of threads that wait for files. Threads are started as needed and stop when
/// they are no longer used.
///
/// Files on disk respond quickly, so a few threads would be enough for them. But a process that
/// opens a named pipe waits for the other side to open it, perhaps indefinitely. The call occupies
/// a thread the whole time, even if the process is killed, because the operating system does not
/// abort such a call. Therefore, once all these threads are waiting for named pipes, no other
/// process can sync a file, and no component can access files at all, until one of the threads is
/// free again. Guests cannot create named pipes. A host that grants untrusted programs a directory
/// with named pipes should limit these programs to fewer processes than there are threads.
const MAX_BLOCKING_THREADS: usize = 512;

/// Returns a handle to this operating system process's tokio runtime, which is started on first
/// use.
///
/// `wasmtime-wasi` waits for timers and files in this runtime, and modules wait there for named
/// pipes and devices. The runtime has a single thread, so an embedder can use it for a little I/O
/// of its own, but must not block it or do heavy computation in it.
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
        // waiting, because this thread may belong to one of the host program's runtimes.
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

    /// Validates and compiles a module in binary or text format. `name` is used in reports.
    ///
    /// Blocks the calling thread for anywhere from milliseconds to seconds.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] if the bytes are not a module, or if the machine does not provide one of its
    /// imports.
    pub fn module(&self, name: &str, bytes: &[u8]) -> Result<Module, ModuleError> {
        self.load_module(name, bytes, &Job::Own)
    }

    /// Validates and compiles a module supplied by one of the host's clients. The module must be
    /// within [`VmBuilder::compile_limits`]. If [`VmBuilder::compiler`] is set, that command
    /// compiles the module and is killed after `within`.
    ///
    /// # Errors
    ///
    /// The same errors as [`Vm::module`], plus [`ModuleError::Excessive`],
    /// [`ModuleError::TooLarge`] or [`ModuleError::Stopped`].
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

    /// Validates and compiles a component in binary or text format. `name` is used in reports.
    ///
    /// Blocks the calling thread for anywhere from milliseconds to seconds.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] if the bytes are not a component, or if the machine does not provide one of
    /// its imports.
    pub fn component(&self, name: &str, bytes: &[u8]) -> Result<Component, ModuleError> {
        self.load_component(name, bytes, &Job::Own)
    }

    /// Validates and compiles a component supplied by one of the host's clients, like
    /// [`Vm::client_module`].
    ///
    /// # Errors
    ///
    /// The same errors as [`Vm::client_module`].
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

    /// Looks up a live process.
    pub fn process(&self, pid: Pid) -> Option<Process> {
        self.machine.process(pid)
    }

    /// Returns all live processes, in no particular order. The result is not an atomic snapshot.
    pub fn processes(&self) -> Vec<Process> {
        self.machine.processes()
    }

    /// Returns the metrics of the machine and its programs, in Prometheus's text format.
    ///
    /// The machine counts live processes, spawned processes, exited processes (by kind of exit),
    /// and the mail delivered to mailboxes. Programs record their own metrics through
    /// `lunatic::metrics`. These are labelled with the number of the program's environment, and are
    /// kept for as long as the environment is held or has processes. This call visits every
    /// process, which takes microseconds per process.
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

    /// Tells the machine that the host program serves the files in a directory. If the directory
    /// contains the key of the [`Cache`], the cache is no longer used and the key is removed, as if
    /// the directory had been granted to a guest.
    ///
    /// # Errors
    ///
    /// If the directory cannot be opened.
    pub fn expose(&self, directory: &Path) -> io::Result<()> {
        let opened = File::open(directory)?;
        self.machine
            .compiler
            .cache()
            .granted(&opened, directory, false);
        Ok(())
    }

    /// Returns what the machine currently refuses because memory is scarce.
    ///
    /// The machine itself refuses guests' compilations, spawns and connections. A host program that
    /// serves requests should refuse them at [`Shortage::Requests`].
    pub fn shortage(&self) -> Shortage {
        self.machine.engines.pressure().shortage()
    }

    /// Runs a future to completion on the current thread, which must not be one of the machine's
    /// threads.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures_lite::future::block_on(future)
    }

    /// Calls `wake`, and gives the first process that this wakes a turn on the current thread,
    /// instead of on one of the machine's threads.
    ///
    /// A host thread that passes work to a process and waits for the result spends most of that
    /// time on being woken. This method avoids that for short work. The process can be killed and
    /// reaches its limits as usual, and if it ends, only the process ends. After a tick or two, or
    /// once it waits, the process continues on the machine's threads, so this method returns in time
    /// no matter what the process does.
    ///
    /// If the process is already running or queued, or if this method is called in a host function
    /// or in one of the host's closures that a process runs, this only calls `wake`.
    ///
    /// ```
    /// use lunatic_vm::{Exit, Val, Vm};
    ///
    /// let vm = Vm::builder().build()?;
    /// let module = vm.module("double", br#"(module (func (export "double") (param i32) (result i32) local.get 0 local.get 0 i32.add))"#)?;
    /// let (ask, asked) = async_channel::unbounded();
    /// let (answer, answered) = async_channel::unbounded();
    /// vm.environment(vm.config()).drive(&module, "doubler", |live| Box::pin(async move {
    ///     while let Ok(number) = asked.recv().await {
    ///         match live.call("double", &[Val::I32(number)]).await {
    ///             Ok(results) => answer.try_send(results[0].unwrap_i32()).expect("the channel is unbounded"),
    ///             Err(error) => return error.into_exit(),
    ///         }
    ///     }
    ///     Exit::Normal
    /// }))?;
    /// for number in 0..1000 {
    ///     vm.run_woken(|| ask.try_send(number).expect("the channel is unbounded"));
    ///     // Usually, the answer is already there.
    ///     assert_eq!(answered.recv_blocking(), Ok(2 * number));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_woken(&self, wake: impl FnOnce()) {
        self.machine.scheduler.run_woken(wake);
    }

    /// Waits until all program output to this process's standard streams has been written or has
    /// failed.
    ///
    /// # Errors
    ///
    /// The error from the failed write, if standard output no longer accepts bytes.
    ///
    /// Output is written by a dedicated thread. A host program that exits without calling this
    /// method loses any output that has not been written yet. Dropping the machine flushes output
    /// too. This call waits for as long as the terminal or pipe behind the streams is not accepting
    /// output.
    pub async fn flush_output(&self) -> std::io::Result<()> {
        Console::get()
            .flush()
            .await
            .map_or(Ok(()), |failed| Err(failed.into()))
    }

    /// Triggers a tick, which ends any slices that have lasted long enough. With
    /// [`VmBuilder::manual_ticks`], this is the only way to trigger one.
    pub fn beat(&self) {
        self.machine.scheduler.beat();
    }

    /// Returns whether the machine is idle: no process is running or ready to run, and all are
    /// waiting for external events.
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
