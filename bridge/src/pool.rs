//! The instances of a module, and the calls that wait for them.
//!
//! An instance is a process that takes one call after the other from a queue that all share. It ends when a call ends it or
//! when a caller gives up, and is followed by another where calls wait. So nothing runs that nobody called for, and one
//! caller's trap is no other's.

use crate::error::InstanceError;
use crate::instance::Instance;
use crate::{Answer, Argument, CallError};
use async_channel::{Receiver, Sender};
use async_executor::Executor;
use async_io::Timer;
use futures_channel::oneshot;
use futures_lite::FutureExt;
use futures_lite::future::{block_on, pending};
use lunatic_vm::{Environment, Exit, Live, Module, Process};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// So many calls wait for an instance at most. Those that were given up count until an instance would have served them.
const MAX_WAITING: usize = 1 << 16;

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
    order: Arc<Order>,
    /// Its other end is dropped by a caller who has given up.
    reply: oneshot::Sender<Result<Answer, CallError>>,
}

/// What a caller and the instance that serves the call both know of it.
struct Order {
    /// Until an instance takes it, or the caller gives up: an argument is not kept for nobody.
    work: Mutex<Option<Work>>,
    /// The instance that took the work, for a caller who gets no reply.
    taken: OnceLock<Process>,
}

impl Order {
    fn take(&self) -> Option<Work> {
        self.work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A caller who waits; takes the work back when it is dropped.
struct Waiting {
    order: Arc<Order>,
    answer: oneshot::Receiver<Result<Answer, CallError>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.order.take());
    }
}

impl Waiting {
    async fn answer(mut self) -> Result<Answer, CallError> {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            // The instance that had the call is gone without a word: it was killed.
            Err(_) => Err(CallError::Ended(match self.order.taken.get() {
                Some(instance) => instance.exited().await,
                None => Exit::Killed,
            })),
        }
    }
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
        Pool(Arc::new(Inner {
            module,
            environment,
            index,
            jobs,
            queue,
            idle,
            alive,
            most,
            patience,
        }))
    }

    pub(crate) fn module(&self) -> &Module {
        &self.0.module
    }

    /// Has an instance call a function. The call has its place in the queue when this returns, and the future waits for the
    /// answer. Dropping it ends the call, and the instance that is at it.
    pub(crate) fn call(
        &self,
        function: &str,
        argument: Argument,
    ) -> impl Future<Output = Result<Answer, CallError>> + Send + use<> {
        self.ask(Work::Call {
            function: function.to_string(),
            argument,
        })
    }

    /// Waits until there is an instance, to see whether one can be made.
    pub(crate) async fn begin(&self) -> Result<(), CallError> {
        self.ask(Work::Begin).await.map(drop)
    }

    fn ask(&self, work: Work) -> impl Future<Output = Result<Answer, CallError>> + Send + use<> {
        let waiting = self.enqueue(work);
        async { waiting?.answer().await }
    }

    fn enqueue(&self, work: Work) -> Result<Waiting, CallError> {
        if self.0.queue.len() >= MAX_WAITING {
            return Err(CallError::Busy(MAX_WAITING));
        }
        let (reply, answer) = oneshot::channel();
        let order = Arc::new(Order {
            work: Mutex::new(Some(work)),
            taken: OnceLock::new(),
        });
        let job = Job {
            order: order.clone(),
            reply,
        };
        self.0
            .jobs
            .try_send(job)
            .unwrap_or_else(|_| unreachable!("the pool holds both ends of its queue"));
        Inner::recruit(&self.0);
        Ok(Waiting { order, answer })
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
        let drive = inner
            .environment
            .drive(&inner.module, inner.module.name(), |live| {
                Box::pin(server.serve(live))
            });
        match drive {
            Ok(process) => {
                let patience = inner.patience;
                let inner = Arc::downgrade(inner);
                look_after(watch(inner, process, has_begun, patience));
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
        self.alive
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

/// Runs what watches an instance on a thread of its own. An executor that is anybody else's may be held up by a blocking call
/// that waits for just that.
fn look_after(watching: impl Future<Output = ()> + Send + 'static) {
    static EXECUTOR: Executor<'static> = Executor::new();
    static THREAD: Once = Once::new();
    THREAD.call_once(|| {
        let run = || block_on(EXECUTOR.run(pending::<()>()));
        let thread = std::thread::Builder::new().name("lunatic-calls".to_string());
        thread
            .spawn(run)
            .expect("the system has room for one thread");
    });
    EXECUTOR.spawn(watching).detach();
}

/// Waits for the end of an instance, and has another made where work waits.
///
/// An instance that never begins would keep those waiting who want to call it, and a core busy.
async fn watch(
    inner: Weak<Inner>,
    instance: Process,
    has_begun: Arc<AtomicBool>,
    patience: Duration,
) {
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
            let Ok(job) = received else {
                return Exit::Normal;
            };
            if let Err(exit) = self.work(live, job).await {
                return exit;
            }
            idle = Idle::new(&self.idle);
        }
    }

    /// Does what is asked for. `Err` where the instance cannot go on.
    async fn work(&mut self, live: &mut Live, job: Job) -> Result<(), Exit> {
        let Job { order, mut reply } = job;
        // Set first, for a caller who sees that the work was taken and gets no reply.
        let _ = order.taken.set(live.process().clone());
        let Some(work) = order.take() else {
            return Ok(());
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use lunatic_vm::Vm;

    const SPIN: &[u8] = br#"(module
        (memory (export "memory") 1)
        (func (export "spin") (param i32 i32) (result i32) (loop br 0) (i32.const 0)))"#;

    fn pool() -> (Vm, Pool) {
        let vm = Vm::builder()
            .workers(1)
            .build()
            .expect("the machine can be set up");
        let module = vm.module("spin", SPIN).expect("the module is one");
        let pool = Pool::new(
            module,
            vm.environment(vm.config()),
            None,
            1,
            Duration::from_secs(60),
        );
        (vm, pool)
    }

    #[test]
    fn a_call_that_is_given_up_before_an_instance_takes_it_keeps_no_argument() {
        let (_vm, pool) = pool();
        block_on(pool.begin()).expect("an instance can be made");
        let spinning = pool.call("spin", Argument::Bytes(Vec::new()));
        while !pool.0.queue.is_empty() {
            std::thread::yield_now();
        }
        drop(pool.call("spin", Argument::Bytes(vec![1; 1000])));
        let job = pool
            .0
            .queue
            .try_recv()
            .expect("the only instance is at another call");
        assert!(job.order.take().is_none());
        drop(spinning);
    }

    #[test]
    fn no_more_calls_wait_than_there_may() {
        let (_vm, pool) = pool();
        block_on(pool.begin()).expect("an instance can be made");
        let _spinning = pool.call("spin", Argument::Bytes(Vec::new()));
        while !pool.0.queue.is_empty() {
            std::thread::yield_now();
        }
        for _ in 0..MAX_WAITING {
            drop(pool.call("spin", Argument::Bytes(Vec::new())));
        }
        let error =
            block_on(pool.call("spin", Argument::Bytes(Vec::new()))).expect_err("there is no room");
        assert!(matches!(error, CallError::Busy(MAX_WAITING)), "{error}");
    }
}
