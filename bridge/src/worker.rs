//! A supervised bridge that reloads its module when the file changes.

mod watch;

use crate::bridge::{Begun, Within};
use crate::file::read_regular;
use crate::{Answer, Argument, Bridge, Builder, CallError, LoadError};
use async_channel::{Receiver, Sender};
use async_io::Timer;
use async_lock::RwLock;
use futures_lite::future::block_on;
use lunatic_vm::restart::{Backoff, Decision, Intensity, Restarts};
use lunatic_vm::{Exit, Module, Vm};
use lunatic_watch::StopOnDrop;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use watch::Changes;

/// The functions that pass a module's state to its next version. The first returns bytes, and the
/// second takes them.
const SAVE: &str = "lunatic_save";
const RESTORE: &str = "lunatic_restore";

/// How long each of these two functions may take.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of events queued per subscriber. If there are more, the oldest are dropped.
const MAX_EVENTS: usize = 1024;

/// A supervised bridge to a module in a file, which is reloaded when it changes.
///
/// Crashed instances are replaced after increasing delays; if they crash too often, the worker
/// stops until its file changes. When the file's contents change, the new version is first compiled
/// and instantiated. It takes over only if that succeeds and it has all of the previous version's
/// functions, so a bad file changes nothing. Calls in progress finish on the version they started
/// on. If both versions support it, the state is handed over: the result of the old version's
/// `lunatic_save` is passed to the new version's `lunatic_restore`, and calls wait until this is
/// done. If there is more than one instance, there is no single state, so nothing is handed over.
///
/// Cheap to clone. Watching stops when the last clone is dropped.
///
/// ```
/// use lunatic_bridge::Worker;
///
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("echo.wat");
/// # std::fs::write(&file, r#"(module
/// #     (memory (export "memory") 1)
/// #     (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length)))"#)?;
/// let worker = Worker::start(&file)?;
/// assert_eq!(worker.call::<_, String>("echo", "hello")?, "hello");
/// assert_eq!(worker.version(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
    /// Stops watching the file when dropped.
    _stop: Arc<StopOnDrop>,
}

/// Configures a worker.
#[derive(Clone, Debug)]
pub struct WorkerBuilder {
    bridge: Builder,
    intensity: Intensity,
    backoff: Backoff,
    required: Option<Vec<String>>,
}

/// Something that happened to a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A new version of the file has taken over.
    Reloaded {
        /// How many versions there were before this one.
        version: u64,
    },
    /// The file has changed, but the previous version stays in use.
    Refused {
        /// The reason.
        reason: String,
    },
    /// A call crashed its instance.
    Crashed {
        /// The file's version.
        version: u64,
        /// How the instance ended.
        exit: Exit,
    },
    /// Instances crashed too often. Calls fail until the file changes.
    Stopped,
}

/// The reason why a call to a worker did not return a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The worker has stopped.
    #[error("instances of `{}` crashed too often, so the worker has stopped until the file changes", .0.display())]
    Stopped(PathBuf),
}

struct Shared {
    file: PathBuf,
    builder: WorkerBuilder,
    /// Locked for writing while a new version takes over.
    current: RwLock<Current>,
    started: Instant,
    crashes: Mutex<Restarts>,
    /// The hash of the contents that were most recently refused, if they could be read, and the
    /// reason. These contents are not tried or reported again.
    refused: Mutex<Option<(Option<blake3::Hash>, String)>>,
    subscribers: Mutex<Vec<Sender<Event>>>,
}

/// The version in use.
struct Current {
    bridge: Bridge,
    version: u64,
    /// The hash of the file's contents.
    hash: blake3::Hash,
    /// After a crash, when the next call may start.
    not_before: Option<Instant>,
    has_stopped: bool,
}

impl Default for WorkerBuilder {
    fn default() -> WorkerBuilder {
        WorkerBuilder {
            bridge: Builder::default(),
            intensity: Intensity {
                restarts: 10,
                within: Duration::from_secs(60),
            },
            backoff: Backoff {
                immediate: 1,
                first: Duration::from_millis(10),
                most: Duration::from_secs(1),
            },
            required: None,
        }
    }
}

impl WorkerBuilder {
    /// Sets how bridges are created.
    pub fn bridge(mut self, builder: Builder) -> WorkerBuilder {
        self.bridge = builder;
        self
    }

    /// Sets how often instances may crash before the worker stops. The default is 10 crashes a
    /// minute.
    pub fn intensity(mut self, intensity: Intensity) -> WorkerBuilder {
        self.intensity = intensity;
        self
    }

    /// Sets how long calls wait after a crash. By default, they do not wait after the first crash.
    /// After further crashes, they wait 10 ms, increasing to at most one second.
    pub fn backoff(mut self, backoff: Backoff) -> WorkerBuilder {
        self.backoff = backoff;
        self
    }

    /// Rejects versions of the file that do not export the given functions. By default, a version
    /// must have the functions of the previous version, with the same types.
    pub fn requires<'a>(mut self, functions: impl IntoIterator<Item = &'a str>) -> WorkerBuilder {
        self.required = Some(functions.into_iter().map(String::from).collect());
        self
    }

    /// Starts a worker. Blocks while the module compiles, which can take anywhere from milliseconds
    /// to seconds.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the file cannot be read, is not a module, cannot be instantiated, or lacks
    /// a function.
    pub fn start(self, file: impl AsRef<Path>) -> Result<Worker, LoadError> {
        let file = std::path::absolute(&file).map_err(|error| LoadError::File {
            path: file.as_ref().to_path_buf(),
            error,
        })?;
        // The file is watched before it is read, so that no change is missed.
        let (changes, stop) = Changes::of(&file);
        let bytes = read_regular(&file)?;
        let bridge = self.load(&file, &bytes, None)?;
        let current = Current {
            bridge,
            version: 0,
            hash: blake3::hash(&bytes),
            not_before: None,
            has_stopped: false,
        };
        let shared = Arc::new(Shared {
            file,
            started: Instant::now(),
            crashes: Mutex::new(self.restarts()),
            builder: self,
            current: RwLock::new(current),
            refused: Mutex::default(),
            subscribers: Mutex::default(),
        });
        let reloaded = Arc::downgrade(&shared);
        let react = move || match reloaded.upgrade() {
            Some(shared) => {
                shared.reload();
                true
            }
            None => false,
        };
        changes.each(react).map_err(|error| LoadError::File {
            path: shared.file.clone(),
            error,
        })?;
        Ok(Worker {
            shared,
            _stop: Arc::new(stop),
        })
    }

    fn restarts(&self) -> Restarts {
        Restarts::new(self.intensity, self.backoff)
    }

    /// Creates the bridge for a version, if that version has the required functions.
    fn load(
        &self,
        file: &Path,
        bytes: &[u8],
        before: Option<&Module>,
    ) -> Result<Bridge, LoadError> {
        let bridge = self.bridge.make(&crate::bridge::name(file), bytes)?;
        let missing = |wanted: &str| {
            Err(LoadError::Missing {
                wanted: wanted.to_string(),
                exported: bridge.module().functions().map(String::from).collect(),
            })
        };
        match (&self.required, before) {
            (Some(required), _) => {
                for wanted in required {
                    if bridge.module().function(wanted).is_none() {
                        return missing(wanted);
                    }
                }
            }
            (None, Some(before)) => {
                for wanted in before.functions() {
                    match (bridge.module().function(wanted), before.function(wanted)) {
                        (None, _) => return missing(wanted),
                        (Some(now), Some(then)) if now.to_string() != then.to_string() => {
                            return Err(LoadError::Changed {
                                function: wanted.to_string(),
                                now: now.to_string(),
                                then: then.to_string(),
                            });
                        }
                        _ => {}
                    }
                }
            }
            (None, None) => {}
        }
        Ok(bridge)
    }
}

impl Worker {
    /// Returns a builder with the defaults.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// Starts a worker; see [`WorkerBuilder::start`].
    ///
    /// # Errors
    ///
    /// The same as [`WorkerBuilder::start`].
    pub fn start(file: impl AsRef<Path>) -> Result<Worker, LoadError> {
        Worker::builder().start(file)
    }

    /// Calls a function with a value and returns its answer. Like [`Bridge::call`].
    ///
    /// # Errors
    ///
    /// The [`WorkerError`] says what went wrong.
    pub fn call<A, R>(&self, function: &str, argument: &A) -> Result<R, WorkerError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        Ok(self.invoke(function, Argument::json(argument)?)?.json()?)
    }

    /// Calls a function with an image. Like [`Bridge::call_image`].
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
    ) -> Result<R, WorkerError> {
        let image = Argument::image(bytes, width, height);
        Ok(self.invoke(function, image)?.json()?)
    }

    /// Calls a function with any argument and waits for its answer.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    pub fn invoke(&self, function: &str, argument: Argument) -> Result<Answer, WorkerError> {
        block_on(self.invoke_limited(function, argument, Bridge::time, Begun::run))
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
    ) -> Result<Answer, WorkerError> {
        let hand_over = |call: Begun, _: &Vm| call.hand_over();
        self.invoke_limited(function, argument, Bridge::time, hand_over)
            .await
    }

    /// Calls a function with the time limit that `time` chooses for the bridge in use. `run` waits
    /// for the answer.
    async fn invoke_limited<F: Future<Output = Result<Answer, CallError>>>(
        &self,
        function: &str,
        argument: Argument,
        time: impl Fn(&Bridge) -> Option<Duration>,
        run: impl FnOnce(Begun, &Vm) -> F,
    ) -> Result<Answer, WorkerError> {
        let (version, call, vm) = loop {
            let not_before = {
                let current = self.shared.current.read().await;
                if current.has_stopped {
                    return Err(WorkerError::Stopped(self.shared.file.clone()));
                }
                match current.not_before.filter(|&then| then > Instant::now()) {
                    Some(not_before) => not_before,
                    // The call enters the queue before another version can take over, so its effect
                    // on the state is not lost when the state is handed over.
                    None => {
                        let bridge = &current.bridge;
                        let call = bridge.begin(function, argument, time(bridge));
                        break (current.version, call, bridge.vm().clone());
                    }
                }
            };
            Timer::at(not_before).await;
        };
        let answer = run(call, &vm).await;
        if let Err(CallError::Ended(exit)) = &answer {
            self.shared.crashed(version, exit.clone()).await;
        }
        Ok(answer?)
    }

    /// Calls a function with a time limit that replaces the bridge's own and may be shorter or
    /// longer. Dropping the future terminates the call.
    ///
    /// # Errors
    ///
    /// The same as [`call`](Self::call).
    pub async fn invoke_within(
        &self,
        time: Duration,
        function: &str,
        argument: Argument,
    ) -> Result<Answer, WorkerError> {
        // The limit includes the delay after a crash.
        let hand_over = |call: Begun, _: &Vm| call.hand_over();
        let call = self.invoke_limited(function, argument, |_| None, hand_over);
        Within::from_now(time).of(call).await
    }

    /// Waits until everything that functions have printed so far has been written.
    pub fn flush_output(&self) {
        self.shared.current.read_blocking().bridge.flush_output();
    }

    /// Returns how many versions of the file there were before the one in use.
    pub fn version(&self) -> u64 {
        self.shared.current.read_blocking().version
    }

    /// Returns the file's path.
    pub fn file(&self) -> &Path {
        &self.shared.file
    }

    /// Subscribes to all later events. If more than 1,024 events are waiting, the oldest are
    /// dropped.
    pub fn events(&self) -> Receiver<Event> {
        let (events, received) = async_channel::bounded(MAX_EVENTS);
        let mut subscribers = self
            .shared
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.push(events);
        received
    }
}

impl Shared {
    /// Records a crash and decides how to continue.
    async fn crashed(&self, version: u64, exit: Exit) {
        self.notify(&Event::Crashed { version, exit });
        let mut current = self.current.write().await;
        // Another version may have taken over in the meantime.
        if current.version != version || current.has_stopped {
            return;
        }
        let now = Instant::now();
        let decision = {
            let mut crashes = self.crashes.lock().unwrap_or_else(PoisonError::into_inner);
            crashes.on_failure(now.saturating_duration_since(self.started))
        };
        match decision {
            Decision::Restart { after } => current.not_before = now.checked_add(after),
            Decision::GiveUp => {
                current.has_stopped = true;
                drop(current);
                self.notify(&Event::Stopped);
            }
        }
    }

    /// Reads the file and, if its contents are new and valid, switches to them.
    fn reload(&self) {
        let bytes = match read_regular(&self.file) {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(None, error.to_string()),
        };
        let hash = blake3::hash(&bytes);
        let (before, version) = {
            let current = self.current.read_blocking();
            if current.hash == hash {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return;
            }
            (current.bridge.clone(), current.version + 1)
        };
        if self.has_refused(hash) {
            return;
        }
        let bridge = match self.builder.load(&self.file, &bytes, Some(before.module())) {
            Ok(bridge) => bridge,
            Err(error) => return self.refuse(Some(hash), error.to_string()),
        };
        {
            // Calls wait while this lock is held, until it is known which version serves them.
            let mut current = self.current.write_blocking();
            if let Err(error) = self.hand_over(&before, &bridge) {
                drop(current);
                return self.refuse(
                    Some(hash),
                    format!("the state cannot be handed over: {error}"),
                );
            }
            *current = Current {
                bridge,
                version,
                hash,
                not_before: None,
                has_stopped: false,
            };
            *self.crashes.lock().unwrap_or_else(PoisonError::into_inner) = self.builder.restarts();
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        log::info!(
            "version {version} of `{}` has taken over",
            self.file.display()
        );
        self.notify(&Event::Reloaded { version });
    }

    fn has_refused(&self, hash: blake3::Hash) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused
            .as_ref()
            .is_some_and(|(refused, _)| *refused == Some(hash))
    }

    /// Reports why a version does not take over.
    fn refuse(&self, hash: Option<blake3::Hash>, reason: String) {
        let refusal = Some((hash, reason.clone()));
        if std::mem::replace(
            &mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner),
            refusal.clone(),
        ) == refusal
        {
            return;
        }
        log::warn!(
            "`{}` has changed, but the previous version stays in use: {reason}",
            self.file.display()
        );
        self.notify(&Event::Refused { reason });
    }

    /// Hands the state of one version to the next, if both support it.
    fn hand_over(&self, before: &Bridge, after: &Bridge) -> Result<(), CallError> {
        let has = |bridge: &Bridge, function| bridge.module().function(function).is_some();
        if self.builder.bridge.has_several_instances() || !has(before, SAVE) || !has(after, RESTORE)
        {
            return Ok(());
        }
        // There is one queue and one instance, so saving waits for the calls in progress.
        let saved =
            block_on(before.invoke_within(HANDOVER_TIMEOUT, SAVE, Argument::Bytes(Vec::new())))?;
        block_on(after.invoke_within(
            HANDOVER_TIMEOUT,
            RESTORE,
            Argument::Bytes(saved.into_bytes()),
        ))
        .map(drop)
    }

    fn notify(&self, event: &Event) {
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.force_send(event.clone()).is_ok());
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("file", &self.shared.file)
            .finish_non_exhaustive()
    }
}
