//! A module's instances, and the calls that wait for them.
//!
//! An instance is a process that takes one call after another from a queue shared by all instances.
//! It ends when a call ends it or the caller gives up, and is then replaced if calls are waiting.
//! Thus a function runs only while a caller is waiting for it, and a trap in one call does not
//! affect others.

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

/// The maximum number of calls waiting for an instance. An abandoned call counts until its turn
/// would have come.
const MAX_WAITING: usize = 1 << 16;

/// What an instance has to do.
enum Work {
    /// Only send an answer, which proves that an instance could be created.
    Start,
    Call {
        function: String,
        argument: Argument,
    },
}

/// An entry in the queue.
struct Job {
    order: Arc<Order>,
    /// Sends the answer. A caller that gives up drops the receiver.
    reply: oneshot::Sender<Result<Answer, CallError>>,
}

/// What a caller shares with the instance that serves its call.
struct Order {
    /// The work, until an instance takes it or the caller gives up, so that arguments do not
    /// outlive their callers.
    work: Mutex<Option<Work>>,
    /// The instance that took the work. A caller needs it if there is no reply.
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

/// A waiting caller. Dropping this withdraws the work.
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
            // The instance was killed before it replied.
            Err(_) => Err(CallError::Ended(match self.order.taken.get() {
                Some(instance) => instance.exited().await,
                None => Exit::Killed,
            })),
        }
    }
}

/// A module's instances. They end when the last handle to the pool is dropped.
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
    /// How long an instance may take to start before it is killed.
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

    /// Has an instance call a function. The call is in the queue by the time this method returns,
    /// and the future waits for the answer. Dropping the future terminates the call and the
    /// instance serving it.
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

    /// Waits for an instance, to find out whether one can be created.
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
    /// Creates one more instance if there are more waiting jobs than waiting instances and the
    /// limit permits it.
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

    /// Removes an instance from the count. If it never started and there are no other instances,
    /// all waiting callers get the error.
    fn left(&self, member: &Member, error: InstanceError) {
        if member.left() {
            while let Ok(job) = self.queue.try_recv() {
                // The caller may have given up.
                let _ = job.reply.send(Err(CallError::Instance(error.clone())));
            }
        }
    }
}

/// Runs a supervising future on its own thread. Any other executor may be blocked by a call that
/// waits for this future.
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

/// Waits for an instance to end, and creates another one if work is waiting.
async fn watch(inner: Weak<Inner>, instance: Process, member: Member, start_timeout: Duration) {
    let late = async {
        Timer::after(start_timeout).await;
    };
    let error = match member.ended(&instance, late).await {
        Err(None) => InstanceError::Late(start_timeout),
        Err(Some(exit)) => InstanceError::Ended(exit),
        // The instance did start, so no caller gets this error.
        Ok(()) => InstanceError::Ended(Exit::Normal),
    };
    let Some(inner) = inner.upgrade() else { return };
    inner.left(&member, error);
    Inner::recruit(&inner);
}

/// The code that runs in an instance's process.
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
        // Set first, for a caller that finds that the work has been taken but gets no reply.
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
                // An instance that was interrupted is not called again.
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
