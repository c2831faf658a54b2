//! Compiles modules and components, using the engines and the cache. Modules for guests are
//! compiled on a few dedicated threads shared by all programs or, if the embedder provides a
//! [command](helper), in a separate process.

mod helper;
mod worker;

pub use worker::compile as compile_for_machine;

use crate::cache::{Cache, Compiled, Share};
use crate::engine::{Engine, Engines};
use crate::scheduler::Spawner;
use async_channel::{Receiver, Sender};
use helper::Helper;
pub(crate) use helper::Stopped;
use lunatic_net::turns::Turns;
use std::borrow::Cow;
use std::num::NonZero;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The maximum number of concurrent compilations for guests. Any others wait.
const MAX_CONCURRENT: NonZero<usize> = NonZero::new(2).expect("2 is not 0");

/// How long compiling a guest's module in a separate process may take.
const GUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// The owner of background compilations.
const MACHINE: u64 = u64::MAX - 1;

/// Compiles modules and components.
pub(crate) struct Compiler {
    pub(crate) engines: Arc<Engines>,
    cache: Cache,
    helper: Option<Helper>,
    spawner: Spawner,
    /// The programs that may compile, and the programs that are waiting for a turn.
    turns: Arc<Mutex<Turns<Sender<Turn>>>>,
}

/// Whose code is compiled, and the time limit.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// The host's own code. There is no time limit.
    Own,
    /// Code from a client of the host.
    Client { until: Instant },
    /// Code from a guest. Once the channel is closed, nothing is waiting for the result.
    Guest {
        until: Instant,
        caller: Option<Receiver<()>>,
    },
}

impl Job {
    /// Returns a job for code from a client of the host.
    pub(crate) fn client(within: Duration) -> Job {
        Job::Client {
            until: Instant::now() + within,
        }
    }

    /// Returns a job for compiling the same code again later.
    pub(crate) fn again(&self) -> Job {
        match self {
            Job::Own => Job::Own,
            Job::Client { .. } => Job::client(GUEST_TIMEOUT),
            Job::Guest { .. } => Job::Guest {
                until: Instant::now() + GUEST_TIMEOUT,
                caller: None,
            },
        }
    }

    /// Returns whether the code is not the host's own. The compilation of such code is limited.
    pub(crate) fn is_foreign(&self) -> bool {
        !matches!(self, Job::Own)
    }

    fn share(&self) -> Share {
        match self {
            Job::Own | Job::Client { .. } => Share::Host,
            Job::Guest { .. } => Share::Guests,
        }
    }

    /// Returns the deadline, and a channel that is closed once nothing is waiting for the result.
    /// Returns `None` if the compilation is unlimited.
    fn bound(&self) -> Option<(Instant, Option<Receiver<()>>)> {
        match self {
            Job::Own => None,
            Job::Client { until } => Some((*until, None)),
            Job::Guest { until, caller } => Some((*until, caller.clone())),
        }
    }
}

/// A program's turn to compile. Ends on drop.
pub(crate) struct Turn {
    turns: Arc<Mutex<Turns<Sender<Turn>>>>,
    owner: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut owner = self.owner;
        loop {
            let next = lock(&self.turns).give_back(owner);
            let Some((next, waiting)) = next else { return };
            let turn = Turn {
                turns: self.turns.clone(),
                owner: next,
            };
            let Err(refused) = waiting.try_send(turn) else {
                return;
            };
            // The task that was waiting for this turn is gone. Dropping the turn here would make
            // `drop` call itself.
            std::mem::forget(refused);
            owner = next;
        }
    }
}

impl Compiler {
    pub(crate) fn new(
        engines: Arc<Engines>,
        cache: Cache,
        helper: Option<Command>,
        spawner: Spawner,
    ) -> Compiler {
        Compiler {
            engines,
            cache,
            helper: helper.map(Helper::new),
            spawner,
            turns: Arc::new(Mutex::new(Turns::new(MAX_CONCURRENT))),
        }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns the code for `bytes` and an engine, either from the cache or by compiling the output
    /// of `rewritten`.
    pub(crate) fn compile<'a, T: Compiled>(
        &self,
        engine: &Engine,
        job: &Job,
        bytes: &'a [u8],
        rewritten: impl FnOnce() -> Cow<'a, [u8]>,
    ) -> wasmtime::Result<T> {
        let compile = || match (&self.helper, job.bound()) {
            (Some(helper), Some((until, caller))) => {
                helper.compile(engine, &rewritten(), until, caller)
            }
            _ => T::compile(engine.wasmtime(), &rewritten()),
        };
        self.cache
            .load(engine.wasmtime(), job.share(), bytes, compile)
    }

    /// Removes code from the cache.
    pub(crate) fn forget(&self, engine: &Engine, job: &Job, bytes: &[u8]) {
        self.cache.forget(engine.wasmtime(), job.share(), bytes);
    }

    /// Waits until the program with the given number may compile.
    pub(crate) async fn turn(&self, program: u64) -> Turn {
        let (sender, turn) = async_channel::bounded(1);
        {
            let mut turns = lock(&self.turns);
            if turns.take(program) {
                return Turn {
                    turns: self.turns.clone(),
                    owner: program,
                };
            }
            // If this future is dropped, its channel is closed, and the turn goes to the next
            // program. Closed channels are removed each time the number of waiting channels
            // doubles.
            if turns.waiting(program).is_power_of_two() {
                turns.remove(program, Sender::is_closed);
            }
            turns.wait(program, sender);
        }
        turn.recv()
            .await
            .expect("a waiting sender is dropped only when its channel is closed")
    }

    /// Runs `work` in the background.
    pub(crate) fn run_detached(self: &Arc<Compiler>, work: impl FnOnce() + Send + 'static) {
        let compiler = self.clone();
        self.spawner.spawn(async move {
            let turn = compiler.turn(MACHINE).await;
            run(turn, |_| work()).await;
        });
    }
}

/// Runs `work` on a dedicated thread that exits afterwards, so idle threads do not accumulate.
///
/// Work that has begun keeps its turn until it is done, even if nothing is waiting for the result.
/// A process therefore cannot get more than its share by being killed and restarted. `work` is
/// passed a job that tells a separate compiler process when nothing is waiting any more.
pub(crate) async fn run<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce(Job) -> T + Send + 'static,
) -> T {
    let (done, result) = async_channel::bounded(1);
    let (_caller, is_gone) = async_channel::bounded(1);
    let job = Job::Guest {
        until: Instant::now() + GUEST_TIMEOUT,
        caller: Some(is_gone),
    };
    let work = move || {
        let _turn = turn;
        // The receiver may already be gone.
        let _ = done.try_send(work(job));
    };
    let work = Arc::new(Mutex::new(Some(work)));
    let taken = work.clone();
    let take = |work: &Mutex<Option<_>>| lock(work).take();
    let thread = Builder::new()
        .name("lunatic-compiler".into())
        .spawn(move || take(&taken).map(|work| work()));
    if thread.is_err()
        && let Some(work) = take(&work)
    {
        // The thread could not be started, so the current one does the work.
        work();
    }
    result
        .recv()
        .await
        .expect("the thread sends a result unless the work panicked")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
