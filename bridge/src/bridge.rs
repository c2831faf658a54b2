//! A module that is ready to be called.

use crate::error::InstanceError;
use crate::file;
use crate::pool::{Call, Pool};
use crate::{Answer, Argument, CallError, LoadError};
use async_io::Timer;
use futures_lite::FutureExt;
use futures_lite::future::{block_on, pending};
use lunatic_vm::{BuildError, Limit, Module, Stdio, Vm};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A module that is ready to be called. Cheap to clone. Any number of threads can call it
/// concurrently.
///
/// Calls wait while all instances are busy. With one instance, which is the default, calls run one
/// after another, and whatever a function leaves in memory is there for the next call. With [more
/// instances](Builder::instances), a call can run on any of them, and each has its own memory. If a
/// call traps, reaches a limit or is abandoned, its instance is discarded, and the next call gets a
/// new one.
///
/// Every call has a blocking and an asynchronous form. Dropping the future terminates the call. A
/// blocking call that finds an idle instance starts on the calling thread, which is much faster than
/// waking another thread. If the function waits, or takes longer than a tick or two, it continues on
/// the machine's threads. Asynchronous calls run only there, so they never block an executor.
///
/// ```
/// use lunatic_bridge::{Bridge, CallError};
/// use std::time::Duration;
///
/// let module = br#"(module
///     (memory (export "memory") 1)
///     (func (export "spin") (param i32 i32) (result i32) (loop br 0) (i32.const 0))
///     (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length)))"#;
/// let bridge = Bridge::builder().time(Duration::from_millis(50)).from_bytes(module)?;
/// assert!(matches!(bridge.call::<_, ()>("spin", &()), Err(CallError::TimedOut(_))));
/// assert_eq!(bridge.call::<_, Vec<u32>>("echo", &[1, 2, 3])?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bridge {
    pool: Pool,
    time: Option<Duration>,
    /// This field is last, so that the machine outlives the instances running on it.
    vm: Vm,
}

/// Configures a bridge.
#[derive(Clone, Debug)]
pub struct Builder {
    vm: Option<Vm>,
    instances: usize,
    time: Option<Duration>,
    compute: u64,
    memory: Option<u64>,
    index: Option<u32>,
    allowed: Vec<String>,
    start_timeout: Duration,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            vm: None,
            instances: 1,
            time: None,
            compute: u64::MAX,
            memory: None,
            index: None,
            allowed: Vec::new(),
            start_timeout: Duration::from_secs(10),
        }
    }
}

impl Builder {
    /// Runs the instances on the given machine. By default, all bridges in a program share one.
    pub fn vm(mut self, vm: Vm) -> Builder {
        self.vm = Some(vm);
        self
    }

    /// Sets how many calls are served concurrently, each by an instance with its own memory. The
    /// default is 1.
    ///
    /// # Panics
    ///
    /// Panics if the number is 0.
    pub fn instances(mut self, instances: usize) -> Builder {
        assert!(instances > 0, "a bridge needs at least one instance");
        self.instances = instances;
        self
    }

    /// Sets how long a call may take, including the time it waits for an instance. The default is
    /// unlimited.
    pub fn time(mut self, time: Duration) -> Builder {
        self.time = Some(time);
        self
    }

    /// Limits how much a call may compute, in units of 100,000 wasm instructions. A call that
    /// reaches the limit always ends at the same point. Counting instructions slows the code down.
    /// The default is unlimited.
    pub fn compute(mut self, units: u64) -> Builder {
        self.compute = units;
        self
    }

    /// Limits the memory of each instance, in bytes. The default is 256 MiB.
    pub fn memory(mut self, bytes: u64) -> Builder {
        self.memory = Some(bytes);
        self
    }

    /// Writes arguments to the given address, overwriting the memory there, for modules that expect
    /// arguments at a fixed address. By default, arguments get their own memory. This setting does
    /// not affect modules that export `lunatic_alloc`, because they allocate their own argument
    /// memory.
    pub fn index(mut self, index: u32) -> Builder {
        self.index = Some(index);
        self
    }

    /// Grants the host functions whose `namespace::name` starts with the given prefix, such as
    /// `wasi_snapshot_preview1::`. By default, none are granted. Functions print to standard error,
    /// and their standard input is empty.
    pub fn allow(mut self, prefix: &str) -> Builder {
        self.allowed.push(prefix.to_string());
        self
    }

    /// Sets how long an instance may take to start, that is, to return from its start function and
    /// from `_initialize`. The default is 10 s.
    pub fn start_within(mut self, time: Duration) -> Builder {
        self.start_timeout = time;
        self
    }

    /// Creates a bridge from a module in a file, in binary or text format. Blocks while the module
    /// compiles, which can take anywhere from milliseconds to seconds.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the file cannot be read, is not a module or cannot be instantiated.
    pub fn from_file(&self, path: impl AsRef<Path>) -> Result<Bridge, LoadError> {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        self.make(&name(path), &bytes)
    }

    /// Creates a bridge from a module in binary or text format.
    ///
    /// # Errors
    ///
    /// The same as [`from_file`](Self::from_file).
    pub fn from_bytes(&self, bytes: &[u8]) -> Result<Bridge, LoadError> {
        self.make("module", bytes)
    }

    pub(crate) fn has_several_instances(&self) -> bool {
        self.instances > 1
    }

    pub(crate) fn make(&self, name: &str, bytes: &[u8]) -> Result<Bridge, LoadError> {
        let vm = match &self.vm {
            Some(vm) => vm.clone(),
            None => shared_machine()?,
        };
        let mut config = vm.config();
        config.limit(Limit::Compute, self.compute);
        if let Some(bytes) = self.memory {
            config.limit(Limit::Memory, bytes);
        }
        for prefix in &self.allowed {
            config.allow(prefix);
        }
        // The host program may need standard input and output for itself, for example to speak a
        // protocol.
        config.stdin(Stdio::Null).stdout(Stdio::Stderr);
        let module = vm.module(name, bytes)?;
        let pool = Pool::new(
            module,
            vm.environment(config),
            self.index,
            self.instances,
            self.start_timeout,
        );
        match block_on(pool.start()) {
            Ok(()) => Ok(Bridge {
                pool,
                time: self.time,
                vm,
            }),
            Err(CallError::Instance(error)) => Err(error.into()),
            Err(CallError::Ended(exit)) => Err(InstanceError::Ended(exit).into()),
            Err(other) => unreachable!("no function was called: {other}"),
        }
    }
}

/// A call that is in the queue.
pub(crate) struct Begun {
    call: Call,
    limit: Option<Within>,
}

impl Begun {
    /// Runs the function on the current thread, unless it takes long, and then waits for the answer,
    /// but no longer than the time limit.
    pub(crate) fn run(
        self,
        vm: &Vm,
    ) -> impl Future<Output = Result<Answer, CallError>> + Send + use<> {
        limited(self.limit, self.call.run(vm))
    }

    /// Runs the function on the machine's threads, and waits for the answer, but no longer than the
    /// time limit.
    pub(crate) fn hand_over(self) -> impl Future<Output = Result<Answer, CallError>> + Send {
        limited(self.limit, self.call.hand_over())
    }
}

async fn limited(
    limit: Option<Within>,
    call: impl Future<Output = Result<Answer, CallError>>,
) -> Result<Answer, CallError> {
    match limit {
        None => call.await,
        Some(limit) => limit.of(call).await,
    }
}

/// A time limit that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Within {
    began: Instant,
    time: Duration,
}

impl Within {
    pub(crate) fn from_now(time: Duration) -> Within {
        Within {
            began: Instant::now(),
            time,
        }
    }

    /// Drops a call if the time is over before it returns.
    pub(crate) async fn of<E: From<CallError>>(
        self,
        call: impl Future<Output = Result<Answer, E>>,
    ) -> Result<Answer, E> {
        let Within { began, time } = self;
        let time_is_over = async {
            match began.checked_add(time) {
                Some(end) => Timer::at(end).await,
                None => pending().await,
            };
            Err(CallError::TimedOut(time).into())
        };
        call.or(time_is_over).await
    }
}

/// Returns the name of the module in a file, for use in reports.
pub(crate) fn name(file: &Path) -> Cow<'_, str> {
    file.file_stem()
        .map_or("module".into(), |name| name.to_string_lossy())
}

/// Returns the machine shared by all bridges that do not have their own. It lives for as long as
/// the program. While idle, it costs only address space.
fn shared_machine() -> Result<Vm, BuildError> {
    static SHARED: Mutex<Option<Vm>> = Mutex::new(None);
    let mut shared = SHARED
        .lock()
        .expect("no code panics while it holds this lock");
    if let Some(vm) = &*shared {
        return Ok(vm.clone());
    }
    Ok(shared.insert(Vm::builder().build()?).clone())
}

impl Bridge {
    /// Returns a builder with the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Creates a bridge from a module in a file; see [`Builder::from_file`].
    ///
    /// # Errors
    ///
    /// The same as [`Builder::from_file`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Bridge, LoadError> {
        Bridge::builder().from_file(path)
    }

    /// Creates a bridge from a module; see [`Builder::from_bytes`].
    ///
    /// # Errors
    ///
    /// The same as [`Builder::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Bridge, LoadError> {
        Bridge::builder().from_bytes(bytes)
    }

    /// Calls a function with a value and returns its answer. Both are passed as JSON: in an
    /// argument, NaN and the infinities become `null`; in a result, the guest library reports them
    /// as an error.
    ///
    /// # Errors
    ///
    /// The [`CallError`] says what went wrong. The bridge remains usable.
    pub fn call<A, R>(&self, function: &str, argument: &A) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.invoke(function, Argument::json(argument)?)?.json()
    }

    /// Calls a function with an image, given as its bytes and its size in pixels.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    pub fn call_image<R: DeserializeOwned>(
        &self,
        function: &str,
        bytes: &[u8],
        width: u32,
        height: u32,
    ) -> Result<R, CallError> {
        self.invoke(function, Argument::image(bytes, width, height))?
            .json()
    }

    /// Calls a function with bytes and returns the bytes of its answer.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    pub fn call_bytes(&self, function: &str, bytes: &[u8]) -> Result<Vec<u8>, CallError> {
        self.invoke(function, Argument::Bytes(bytes.to_vec()))
            .map(Answer::into_bytes)
    }

    /// Calls a function with any argument and waits for its answer.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    pub fn invoke(&self, function: &str, argument: Argument) -> Result<Answer, CallError> {
        let begun = Begun {
            limit: self.time.map(Within::from_now),
            call: self.pool.call_patiently(function, argument),
        };
        block_on(begun.run(&self.vm))
    }

    /// Calls a function with any argument. Dropping the future terminates the call.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    pub async fn invoke_async(
        &self,
        function: &str,
        argument: Argument,
    ) -> Result<Answer, CallError> {
        self.begin(function, argument, self.time).hand_over().await
    }

    /// Begins a call, which is in the queue by the time this method returns. Its time limit, if
    /// there is one, begins now.
    pub(crate) fn begin(
        &self,
        function: &str,
        argument: Argument,
        time: Option<Duration>,
    ) -> Begun {
        Begun {
            limit: time.map(Within::from_now),
            call: self.pool.call(function, argument),
        }
    }

    /// Calls a function with a time limit that replaces the bridge's own. Dropping the future
    /// terminates the call.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    pub async fn invoke_within(
        &self,
        time: Duration,
        function: &str,
        argument: Argument,
    ) -> Result<Answer, CallError> {
        self.begin(function, argument, Some(time)).hand_over().await
    }

    /// Returns the time limit for calls that do not have their own.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.time
    }

    /// Returns the machine that the instances run on.
    pub(crate) fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Waits until everything that functions have printed so far has been written.
    pub fn flush_output(&self) {
        // Only writes to standard output can fail, and functions do not print there.
        let _ = block_on(self.vm.flush_output());
    }

    /// Returns the module.
    pub fn module(&self) -> &Module {
        self.pool.module()
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("module", self.module())
            .finish_non_exhaustive()
    }
}
