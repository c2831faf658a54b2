//! The instances of a module, and the calls that wait for them.
//!
//! An instance is a process that takes one call after the other from a queue that all share. It ends when a call ends it or
//! when a caller gives up, and is followed by another where calls wait. So nothing runs that nobody called for, and one
//! caller's trap is no other's.

use crate::error::InstanceError;
use crate::instance::Instance;
use crate::{Answer, Argument, CallError};
use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_channel::oneshot;
use futures_lite::FutureExt;
use lunatic_vm::{Environment, Exit, Live, Module, Process};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

/// What an instance is asked to do.
enum Work {
    /// Nothing: that it answers says that there is one.
    Begin,
    Call {
        function: String,
        argument: Argument,
    },
}

/// Work on its way.
struct Job {
    work: Work,
    /// Its other end is dropped by a caller who has given up.
    reply: oneshot::Sender<Result<Answer, CallError>>,
    /// The instance that took the work, for a caller who gets no reply.
    taken: Arc<OnceLock<Process>>,
}

/// The instances of one module. They end when the last handle to the pool is gone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    module: Module,
    environment: Environment,
    index: Option<u32>,
    /// The only sender: without it the instances have nothing to wait for.
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    /// Instances that wait for work, or are about to.
    idle: Arc<AtomicUsize>,
    /// Instances alive.
    alive: Mutex<usize>,
    /// At most so many of them.
    most: usize,
    /// Each is killed that has not begun after so long.
    patience: Duration,
}

impl Pool {
    pub(crate) fn new(
        module: Module,
        environment: Environment,
        index: Option<u32>,
        most: usize,
        patience: Duration,
    ) -> Pool {
        let (jobs, queue) = async_channel::unbounded();
        let (idle, alive) = (Arc::default(), Mutex::default());
        Pool(Arc::new(Inner { module, environment, index, jobs, queue, idle, alive, most, patience }))
    }

    pub(crate) fn module(&self) -> &Module {
        &self.0.module
    }

    /// Has an instance call a function. Dropping the future ends the call, and the instance that is at it.
    pub(crate) async fn call(&self, function: &str, argument: Argument) -> Result<Answer, CallError> {
        self.ask(Work::Call { function: function.to_string(), argument }).await
    }

    /// Waits until there is an instance, to see whether one can be made.
    pub(crate) async fn begin(&self) -> Result<(), CallError> {
        self.ask(Work::Begin).await.map(drop)
    }

    async fn ask(&self, work: Work) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        let taken = Arc::new(OnceLock::new());
        let job = Job { work, reply, taken: taken.clone() };
        self.0.jobs.try_send(job).unwrap_or_else(|_| unreachable!("the pool holds both ends of its queue"));
        Inner::recruit(&self.0);
        match answer.await {
            Ok(answer) => answer,
            // The instance that had the call is gone without a word: it was killed.
            Err(_) => Err(CallError::Ended(match taken.get() {
                Some(instance) => instance.exited().await,
                None => Exit::Killed,
            })),
        }
    }
}

impl Inner {
    /// Makes one more instance where more work waits than instances do, and there may be more of them.
    fn recruit(inner: &Arc<Inner>) {
        {
            let mut alive = inner.alive();
            if inner.queue.len() <= inner.idle.load(Ordering::SeqCst) || *alive >= inner.most {
                return;
            }
            *alive += 1;
            inner.idle.fetch_add(1, Ordering::SeqCst);
        }
        let has_begun = Arc::new(AtomicBool::new(false));
        let server = Server {
            instance: Instance::new(&inner.module, inner.index),
            queue: inner.queue.clone(),
            idle: inner.idle.clone(),
            has_begun: has_begun.clone(),
        };
        let drive = inner.environment.drive(&inner.module, inner.module.name(), |live| Box::pin(server.serve(live)));
        match drive {
            Ok(process) => {
                let patience = inner.patience;
                let inner = Arc::downgrade(inner);
                smol::spawn(watch(inner, process, has_begun, patience)).detach();
            }
            Err(error) => {
                inner.idle.fetch_sub(1, Ordering::SeqCst);
                inner.left(&Err(InstanceError::Refused(Arc::new(error))));
            }
        }
    }

    /// Counts an instance out. Where it never was one, and there is no other, those who wait are told why.
    fn left(&self, was_one: &Result<(), InstanceError>) {
        let is_last = {
            let mut alive = self.alive();
            *alive -= 1;
            *alive == 0
        };
        if let (Err(error), true) = (was_one, is_last) {
            while let Ok(job) = self.queue.try_recv() {
                // A caller who has given up does not want to know.
                let _ = job.reply.send(Err(CallError::Instance(error.clone())));
            }
        }
    }

    fn alive(&self) -> MutexGuard<'_, usize> {
        self.alive.lock().expect("nothing panics while it holds this lock")
    }
}

/// Waits for the end of an instance, and has another made where work waits.
///
/// An instance that never begins would keep those waiting who want to call it, and a core busy.
async fn watch(inner: Weak<Inner>, instance: Process, has_begun: Arc<AtomicBool>, patience: Duration) {
    let has_ended = async { Some(instance.exited().await) };
    let is_late = async {
        Timer::after(patience).await;
        None
    };
    let error = match has_ended.or(is_late).await {
        Some(exit) => InstanceError::Ended(exit),
        None if has_begun.load(Ordering::SeqCst) => InstanceError::Ended(instance.exited().await),
        None => {
            instance.kill();
            instance.exited().await;
            InstanceError::Late(patience)
        }
    };
    let Some(inner) = inner.upgrade() else { return };
    if has_begun.load(Ordering::SeqCst) {
        inner.left(&Ok(()));
    } else {
        inner.idle.fetch_sub(1, Ordering::SeqCst);
        inner.left(&Err(error));
    }
    Inner::recruit(&inner);
}

/// What one instance does from its beginning to its end.
struct Server {
    instance: Instance,
    queue: Receiver<Job>,
    idle: Arc<AtomicUsize>,
    has_begun: Arc<AtomicBool>,
}

/// Counts an instance as idle until it is dropped.
struct Idle(Arc<AtomicUsize>);

impl Idle {
    fn new(idle: &Arc<AtomicUsize>) -> Idle {
        idle.fetch_add(1, Ordering::SeqCst);
        Idle(idle.clone())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    async fn serve(mut self, live: &mut Live) -> Exit {
        if let Err(exit) = self.instance.begin(live).await {
            return exit;
        }
        self.has_begun.store(true, Ordering::SeqCst);
        // Who made it has counted it as idle already.
        let mut idle = Idle(self.idle.clone());
        loop {
            let received = self.queue.recv().await;
            drop(idle);
            let Ok(job) = received else { return Exit::Normal };
            if let Err(exit) = self.work(live, job).await {
                return exit;
            }
            idle = Idle::new(&self.idle);
        }
    }

    /// Does what is asked for. `Err` where the instance cannot go on.
    async fn work(&mut self, live: &mut Live, job: Job) -> Result<(), Exit> {
        let Job { work, mut reply, taken } = job;
        if reply.is_canceled() {
            return Ok(());
        }
        let _ = taken.set(live.process().clone());
        let answer = match work {
            Work::Begin => Ok(Answer::Bytes(Vec::new())),
            Work::Call { function, argument } => {
                let answered = async { Some(self.instance.call(live, &function, &argument).await) };
                let given_up = async {
                    reply.cancellation().await;
                    None
                };
                // An instance that was stopped in the middle is not called again.
                answered.or(given_up).await.ok_or(Exit::Killed)?
            }
        };
        let ended = match &answer {
            Err(CallError::Ended(exit)) => Err(exit.clone()),
            _ => Ok(()),
        };
        // A caller may give up at the last moment.
        let _ = reply.send(answer);
        ended
    }
}
