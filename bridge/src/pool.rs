//! A module's instances, and the calls that wait for them.
//!
//! An instance is a process that takes one call after another from a queue shared by all instances.
//! It ends when a call ends it or the caller gives up, and is then replaced if calls are waiting.
//! Thus a function runs only while a caller is waiting for it, and a trap in one call does not
//! affect others. A caller that blocks can run an idle instance on its own thread.

use crate::error::InstanceError;
use crate::instance::Instance;
use crate::queue::{Pushed, Queue, Seat};
use crate::{Answer, Argument, CallError};
use async_executor::Executor;
use async_io::Timer;
use futures_lite::FutureExt;
use futures_lite::future::{block_on, pending};
use lunatic_vm::{Crew, Environment, Exit, Live, Member, Module, Process, Vm};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// The maximum number of calls waiting for an instance. An abandoned call counts until its turn
/// would have come.
const MAX_WAITING: usize = 1 << 16;

/// How often a blocking caller looks for an idle instance before it goes to sleep. Altogether, this
/// takes about as long as going to sleep and being woken, which an instance that is almost done
/// makes unnecessary.
const PATIENCE: usize = 16;

/// What an instance has to do.
enum Work {
    /// Only send an answer, which proves that an instance could be created.
    Start,
    Call {
        function: String,
        argument: Argument,
    },
}

/// What a caller shares with the instance that serves its call.
struct Order {
    state: Mutex<State>,
    /// The instance that took the work. A caller needs it if there is no answer.
    taken: OnceLock<Process>,
}

struct State {
    step: Step,
    /// Wakes the caller, if it waits for the answer.
    caller: Option<Waker>,
    /// Wakes the instance, if it waits while the caller can still give up.
    instance: Option<Waker>,
}

/// How far a call has come.
enum Step {
    /// No instance has taken the work, so that arguments do not outlive their callers.
    Waiting(Work),
    /// An instance is working.
    Taken,
    Answered(Result<Answer, CallError>),
    /// The instance was dropped before it answered.
    Lost,
    /// The caller has its answer or has given up.
    Over,
}

impl Order {
    fn new(work: Work) -> Arc<Order> {
        Arc::new(Order {
            state: Mutex::new(State {
                step: Step::Waiting(work),
                caller: None,
                instance: None,
            }),
            taken: OnceLock::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the work, unless the caller has given up.
    fn take(&self) -> Option<Work> {
        let mut state = self.state();
        match mem::replace(&mut state.step, Step::Taken) {
            Step::Waiting(work) => Some(work),
            other => {
                state.step = other;
                None
            }
        }
    }

    /// Ends the instance's part, and wakes the caller.
    fn end(&self, step: Step) {
        let mut state = self.state();
        if let Step::Over = state.step {
            // The caller has given up, so nobody needs the answer.
            return;
        }
        state.step = step;
        let caller = state.caller.take();
        drop(state);
        if let Some(caller) = caller {
            caller.wake();
        }
    }

    /// Waits until the caller gives up.
    async fn given_up(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state();
            if let Step::Over = state.step {
                return Poll::Ready(());
            }
            state.instance = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// An entry in the queue.
struct Job {
    order: Arc<Order>,
    is_answered: bool,
}

impl Job {
    fn answer(mut self, answer: Result<Answer, CallError>) {
        self.is_answered = true;
        self.order.end(Step::Answered(answer));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.is_answered {
            self.order.end(Step::Lost);
        }
    }
}

/// A waiting caller. Dropping this withdraws the work, or ends the instance that is doing it.
struct Waiting {
    order: Arc<Order>,
    is_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.order.state();
        let step = mem::replace(&mut state.step, Step::Over);
        let instance = state.instance.take();
        drop(state);
        drop(step);
        if let Some(instance) = instance {
            instance.wake();
        }
    }
}

impl Waiting {
    async fn answer(mut self) -> Result<Answer, CallError> {
        let answer = std::future::poll_fn(|context| self.poll_answer(context)).await;
        match answer {
            Some(answer) => answer,
            // The instance was killed before it replied.
            None => Err(CallError::Ended(match self.order.taken.get() {
                Some(instance) => instance.exited().await,
                None => Exit::Killed,
            })),
        }
    }

    /// Waits for the answer. Returns `None` if there is none.
    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Answer, CallError>>> {
        let mut state = self.order.state();
        match mem::replace(&mut state.step, Step::Over) {
            Step::Answered(answer) => {
                self.is_over = true;
                Poll::Ready(Some(answer))
            }
            Step::Lost => {
                self.is_over = true;
                Poll::Ready(None)
            }
            other => {
                state.step = other;
                state.caller = Some(context.waker().clone());
                Poll::Pending
            }
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
    queue: Arc<Queue<Job>>,
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
        Pool(Arc::new(Inner {
            module,
            environment,
            index,
            queue: Queue::new(),
            crew: Crew::new(most),
            start_timeout,
        }))
    }

    pub(crate) fn module(&self) -> &Module {
        &self.0.module
    }

    /// Queues a call of a function.
    pub(crate) fn call(&self, function: &str, argument: Argument) -> Call {
        let function = function.to_string();
        self.ask(Work::Call { function, argument }, 0)
    }

    /// Queues a call of a function, like [`call`](Self::call). If all instances are busy, other
    /// threads are given a few chances to return one.
    pub(crate) fn call_patiently(&self, function: &str, argument: Argument) -> Call {
        let function = function.to_string();
        self.ask(Work::Call { function, argument }, PATIENCE)
    }

    /// Waits for an instance, to find out whether one can be created.
    pub(crate) async fn start(&self) -> Result<(), CallError> {
        self.ask(Work::Start, 0).hand_over().await.map(drop)
    }

    fn ask(&self, work: Work, patience: usize) -> Call {
        let order = Order::new(work);
        let waiting = Waiting {
            order: order.clone(),
            is_over: false,
        };
        let mut job = Job {
            order,
            is_answered: false,
        };
        for _ in 0..patience {
            match self.0.queue.give(job) {
                Ok(instance) => return Call(Ok((Some(instance), waiting))),
                Err(back) => job = back,
            }
            if !self.0.crew.is_full() {
                break;
            }
            thread::yield_now();
        }
        let instance = match self.0.queue.push(job, MAX_WAITING) {
            Ok(Pushed::Given(instance)) => Some(instance),
            Ok(Pushed::Waiting(untaken)) => {
                Inner::recruit(&self.0, untaken);
                None
            }
            Err(_) => return Call(Err(CallError::Busy(MAX_WAITING))),
        };
        Call(Ok((instance, waiting)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A call that is in the queue. If it was given to an idle instance, the instance has not been
/// woken yet.
#[must_use = "the instance must be woken"]
pub(crate) struct Call(Result<(Option<Waker>, Waiting), CallError>);

impl Call {
    /// Runs the instance on the current thread, unless it takes long, and then waits for the answer.
    /// Dropping the future terminates the call and the instance serving it.
    pub(crate) fn run(
        self,
        vm: &Vm,
    ) -> impl Future<Output = Result<Answer, CallError>> + Send + use<> {
        answer(self.wake(|instance| vm.run_woken(|| instance.wake())))
    }

    /// Leaves the instance to the machine's threads, and waits for the answer. Dropping the future
    /// terminates the call and the instance serving it.
    pub(crate) fn hand_over(
        self,
    ) -> impl Future<Output = Result<Answer, CallError>> + Send + use<> {
        answer(self.wake(Waker::wake))
    }

    fn wake(self, wake: impl FnOnce(Waker)) -> Result<Waiting, CallError> {
        let (instance, waiting) = self.0?;
        instance.map(wake);
        Ok(waiting)
    }
}

async fn answer(waiting: Result<Waiting, CallError>) -> Result<Answer, CallError> {
    waiting?.answer().await
}

impl Inner {
    /// Creates one more instance if there are more untaken jobs than idle instances and the limit
    /// permits it.
    fn recruit(inner: &Arc<Inner>, untaken: usize) {
        let Some(member) = inner.crew.admit(untaken) else {
            return;
        };
        let server = Server {
            instance: Instance::new(&inner.module, inner.index),
            seat: Seat::new(&inner.queue),
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
            while let Some(job) = self.queue.take() {
                job.answer(Err(CallError::Instance(error.clone())));
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
        let builder = thread::Builder::new().name("lunatic-calls".to_string());
        builder
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
    Inner::recruit(&inner, inner.queue.untaken());
}

/// The code that runs in an instance's process.
struct Server {
    instance: Instance,
    seat: Seat<Job>,
    member: Member,
}

impl Server {
    async fn serve(mut self, live: &mut Live) -> Exit {
        if let Err(exit) = self.instance.initialize(live).await {
            return exit;
        }
        let mut idle = self.member.start();
        loop {
            let Some(job) = self.seat.next(idle).await else {
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
        // Set first, for a caller that finds that the work has been taken but gets no reply.
        let _ = job.order.taken.set(live.process().clone());
        let Some(work) = job.order.take() else {
            return Ok(());
        };
        let answer = match work {
            Work::Start => Ok(Answer::Bytes(Vec::new())),
            Work::Call { function, argument } => {
                let answered = async { Some(self.instance.call(live, &function, &argument).await) };
                let given_up = async {
                    job.order.given_up().await;
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
        job.answer(answer);
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

    /// Begins a call that occupies the only instance until it is dropped.
    fn occupy(pool: &Pool) -> impl Future {
        block_on(pool.start()).expect("an instance can be created");
        let call = pool.call("spin", Argument::Bytes(Vec::new()));
        let order = match &call.0 {
            Ok((_, waiting)) => waiting.order.clone(),
            Err(error) => panic!("{error}"),
        };
        let spinning = call.hand_over();
        while order.taken.get().is_none() {
            thread::yield_now();
        }
        spinning
    }

    #[test]
    fn a_call_abandoned_before_an_instance_takes_it_keeps_no_argument() {
        let (_vm, pool) = pool();
        let spinning = occupy(&pool);
        drop(
            pool.call("spin", Argument::Bytes(vec![1; 1000]))
                .hand_over(),
        );
        let job = pool
            .0
            .queue
            .take()
            .expect("the only instance is busy with another call");
        assert!(job.order.take().is_none());
        drop(spinning);
    }

    #[test]
    fn the_number_of_waiting_calls_is_limited() {
        let (_vm, pool) = pool();
        let _spinning = occupy(&pool);
        for _ in 0..MAX_WAITING {
            drop(pool.call("spin", Argument::Bytes(Vec::new())).hand_over());
        }
        let call = pool.call("spin", Argument::Bytes(Vec::new()));
        let error = block_on(call.hand_over()).expect_err("the queue is full");
        assert!(matches!(error, CallError::Busy(MAX_WAITING)), "{error}");
    }
}
