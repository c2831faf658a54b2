//! The instances of a module, and the calls that wait for an instance.
//!
//! An instance is a process that takes one call after another from a queue that all instances
//! share. An instance ends when a call ends it or when the caller gives up. If calls are waiting,
//! another instance replaces it. So no function runs unless a caller is waiting for it, and a trap
//! in one call does not affect other calls.

use crate::error::InstanceError;
use crate::instance::Instance;
use crate::{Answer, Argument, CallError};
use async_channel::{Receiver, Sender};
use async_executor::Executor;
use async_io::Timer;
use futures_channel::oneshot;
use futures_lite::FutureExt;
use futures_lite::future::{block_on, pending};
use lunatic_vm::{Crew, Environment, Exit, Live, Member, Module, Process};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// The maximum number of calls that wait for an instance. An abandoned call is counted until its
/// turn would have come.
const MAX_WAITING: usize = 1 << 16;

/// The work for an instance.
enum Work {
    /// Only send an answer, which proves that an instance could be created.
    Start,
    Call {
        function: String,
        argument: Argument,
    },
}

/// An entry of the queue.
struct Job {
    order: Arc<Order>,
    /// The sender of the answer. A caller that gives up drops the receiver.
    reply: oneshot::Sender<Result<Answer, CallError>>,
}

/// The state that a caller shares with the instance that serves its call.
struct Order {
    /// The work, until an instance takes it or the caller gives up. This way, no argument outlives
    /// its caller.
    work: Mutex<Option<Work>>,
    /// The instance that took the work, which a caller needs if it gets no reply.
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

/// A waiting caller. When this is dropped, the work is taken back.
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
            // The instance ended without a reply because it was killed.
            Err(_) => Err(CallError::Ended(match self.order.taken.get() {
                Some(instance) => instance.exited().await,
                None => Exit::Killed,
            })),
        }
    }
}

/// The instances of one module. They end when the last handle to the pool is dropped.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    module: Module,
    environment: Environment,
    index: Option<u32>,
    /// The only sender. Dropping it ends the instances.
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    crew: Arc<Crew>,
    /// The time after which an instance that has not started is killed.
    start_timeout: Duration,
}

impl Pool {
    pub(crate) fn new(
        module: Module,
        environment: Environment,
        index: Option<u32>,
        most: usize,
        start_timeout: Duration,
    ) -> Pool {
        let (jobs, queue) = async_channel::unbounded();
        Pool(Arc::new(Inner {
            module,
            environment,
            index,
            jobs,
            queue,
            crew: Crew::new(most),
            start_timeout,
        }))
    }

    pub(crate) fn module(&self) -> &Module {
        &self.0.module
    }

    /// Makes an instance call a function. The call is in the queue when this returns, and the
    /// future waits for the answer. Dropping the future ends the call and the instance that is
    /// serving it.
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

    /// Waits for an instance, to find out whether an instance can be created.
    pub(crate) async fn start(&self) -> Result<(), CallError> {
        self.ask(Work::Start).await.map(drop)
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
        self.0.jobs.try_send(job).unwrap_or_else(|_| {
            unreachable!(
                "the pool holds the queue's only sender and a receiver, and the queue is unbounded"
            )
        });
        Inner::recruit(&self.0);
        Ok(Waiting { order, answer })
    }
}

impl Inner {
    /// Creates one more instance if more jobs than instances are waiting, and the limit allows it.
    fn recruit(inner: &Arc<Inner>) {
        let Some(member) = inner.crew.admit(inner.queue.len()) else {
            return;
        };
        let server = Server {
            instance: Instance::new(&inner.module, inner.index),
            queue: inner.queue.clone(),
            member: member.clone(),
        };
        let drive = inner
            .environment
            .drive(&inner.module, inner.module.name(), |live| {
                Box::pin(server.serve(live))
            });
        match drive {
            Ok(process) => {
                let start_timeout = inner.start_timeout;
                let inner = Arc::downgrade(inner);
                supervise(watch(inner, process, member, start_timeout));
            }
            Err(error) => inner.left(&member, InstanceError::Refused(Arc::new(error))),
        }
    }

    /// Removes an instance from the count. If this instance never started and no other instance
    /// exists, all waiting callers get the error.
    fn left(&self, member: &Member, error: InstanceError) {
        if member.left() {
            while let Ok(job) = self.queue.try_recv() {
                // The caller may have given up.
                let _ = job.reply.send(Err(CallError::Instance(error.clone())));
            }
        }
    }
}

/// Runs a supervising future on a thread of its own. Any other executor may be blocked by a call
/// that waits for this future.
fn supervise(watching: impl Future<Output = ()> + Send + 'static) {
    static EXECUTOR: Executor<'static> = Executor::new();
    static THREAD: Once = Once::new();
    THREAD.call_once(|| {
        let run = || block_on(EXECUTOR.run(pending::<()>()));
        let thread = std::thread::Builder::new().name("lunatic-calls".to_string());
        thread
            .spawn(run)
            .expect("the system can start one more thread");
    });
    EXECUTOR.spawn(watching).detach();
}

/// Waits for an instance to end, and creates another instance if work is waiting.
async fn watch(inner: Weak<Inner>, instance: Process, member: Member, start_timeout: Duration) {
    let late = async {
        Timer::after(start_timeout).await;
    };
    let error = match member.ended(&instance, late).await {
        Err(None) => InstanceError::Late(start_timeout),
        Err(Some(exit)) => InstanceError::Ended(exit),
        // The instance started, so no caller gets this error.
        Ok(()) => InstanceError::Ended(Exit::Normal),
    };
    let Some(inner) = inner.upgrade() else { return };
    inner.left(&member, error);
    Inner::recruit(&inner);
}

/// The code that runs as an instance's process.
struct Server {
    instance: Instance,
    queue: Receiver<Job>,
    member: Member,
}

impl Server {
    async fn serve(mut self, live: &mut Live) -> Exit {
        if let Err(exit) = self.instance.initialize(live).await {
            return exit;
        }
        let mut idle = self.member.start();
        loop {
            let received = self.queue.recv().await;
            drop(idle);
            let Ok(job) = received else {
                return Exit::Normal;
            };
            if let Err(exit) = self.work(live, job).await {
                return exit;
            }
            idle = self.member.idle();
        }
    }

    /// Does a single job. Returns `Err` if the instance cannot continue.
    async fn work(&mut self, live: &mut Live, job: Job) -> Result<(), Exit> {
        let Job { order, mut reply } = job;
        // This is set first, for a caller that finds that the work was taken but gets no reply.
        let _ = order.taken.set(live.process().clone());
        let Some(work) = order.take() else {
            return Ok(());
        };
        let answer = match work {
            Work::Start => Ok(Answer::Bytes(Vec::new())),
            Work::Call { function, argument } => {
                let answered = async { Some(self.instance.call(live, &function, &argument).await) };
                let given_up = async {
                    reply.cancellation().await;
                    None
                };
                // An instance is not called again after it was interrupted.
                answered.or(given_up).await.ok_or(Exit::Killed)?
            }
        };
        let ended = match &answer {
            Err(CallError::Ended(exit)) => Err(exit.clone()),
            _ => Ok(()),
        };
        // The caller may have given up in the meantime.
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
            .expect("the machine starts");
        let module = vm.module("spin", SPIN).expect("the module is valid");
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
    fn a_call_abandoned_before_an_instance_takes_it_keeps_no_argument() {
        let (_vm, pool) = pool();
        block_on(pool.start()).expect("an instance can be created");
        let spinning = pool.call("spin", Argument::Bytes(Vec::new()));
        while !pool.0.queue.is_empty() {
            std::thread::yield_now();
        }
        drop(pool.call("spin", Argument::Bytes(vec![1; 1000])));
        let job = pool
            .0
            .queue
            .try_recv()
            .expect("the only instance is busy with another call");
        assert!(job.order.take().is_none());
        drop(spinning);
    }

    #[test]
    fn the_number_of_waiting_calls_is_limited() {
        let (_vm, pool) = pool();
        block_on(pool.start()).expect("an instance can be created");
        let _spinning = pool.call("spin", Argument::Bytes(Vec::new()));
        while !pool.0.queue.is_empty() {
            std::thread::yield_now();
        }
        for _ in 0..MAX_WAITING {
            drop(pool.call("spin", Argument::Bytes(Vec::new())));
        }
        let error = block_on(pool.call("spin", Argument::Bytes(Vec::new())))
            .expect_err("the queue is full");
        assert!(matches!(error, CallError::Busy(MAX_WAITING)), "{error}");
    }
}
