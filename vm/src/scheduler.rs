//! Runs futures on all cores.
//!
//! A [`Scheduler`] consists of a fixed number of worker threads and a clock that beats while any of
//! them is awake. Each worker has its own queue of ready tasks and steals tasks from other workers
//! when its queue is empty. The scheduler knows nothing about processes, guests or messages. A task
//! is a future that returns `()`, and all that a task can report to the scheduler is that its time
//! slice is over ([`spent`], [`end_slice`]).
//!
//! Which task runs next is decided in two steps: [first among groups, then within a
//! group](Scheduler#order). The modules that make these decisions operate on plain data (`group`,
//! `group_queue`, `queue`). A model-checked protocol (`idle`, `clock`, `pool`; see `vm/model`)
//! determines which threads sleep and which are woken. The threads in `worker` and `ticker` follow
//! it.

mod clock;
mod contain;
mod group;
mod group_queue;
mod idle;
mod lent;
mod pool;
mod queue;
mod slot;
mod state;
mod sync;
mod task;
mod ticker;
mod worker;

use std::any::Any;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

pub(crate) use self::lent::is_lent;

pub use self::group::{Group, Weight, WeightError};
pub use self::pool::WorkerCounts;
pub use self::task::{Spent, end_slice, spent};

use self::clock::{BeatHook, Clock, DEFAULT_PERIOD, Timing};
use self::pool::WorkerPool;
use self::sync::{Arc, Mutex, Parker, lock, thread};
use self::task::{Task, discard};
use self::worker::{Anchor, Shared, StartHook};

/// Runs futures on a fixed number of threads until it is shut down or dropped.
///
/// # Order
///
/// Every task belongs to a [`Group`]. Tasks spawned without a group share a default group.
///
/// *Within a group*, each worker has a queue for each of three kinds of tasks: *woken* tasks, whose
/// event has happened; *new* tasks; and *spent* tasks, whose slice is over and which reported this
/// with [`spent`] or [`end_slice`]. Woken tasks run first. While new tasks are quick, they
/// alternate with woken tasks. Once a new task uses half a slice, new tasks alternate with spent
/// tasks instead, until a new task is quick again; among a thousand of them, the oldest and the
/// newest take turns, so that a quick one does not have to wait for all the others. To keep woken
/// tasks from starving the others, a streak of them ends after a slice (or after 1,024 tasks), and
/// then one other task runs. A task that is woken while running, and does not report that its slice
/// is over, is treated as woken.
///
/// Woken and new tasks run in the order of their arrival. Spent tasks run in the order in which
/// their next turn is due, by the time that they used: each gets the same time, to within a few
/// slices. A slice ends at a beat no matter how short before the beat it began. A task that has
/// used less than half a slice when its slice ends is therefore only *interrupted*: as long as this
/// remains true, it does not wait until all other tasks have run, but takes turns with them.
///
/// *Among groups*, the workers' time is divided in proportion to [`Weight`], using start-time fair
/// queueing: the time used by a group's tasks is summed over all workers, and the group that has
/// had the least time relative to its weight runs next. Here too, woken tasks run first, provided
/// that their group is at most a few slices ahead of the others, and a streak of woken tasks ends
/// after a slice. A woken task therefore runs promptly even if other tasks in its group are busy
/// computing. A group does not get more than its share by having tasks that keep waking each other
/// or ten thousand tasks that compute. If only one group has tasks, and none of them is spent, time
/// is counted only once per beat. Idle groups do not accumulate credit.
///
/// A woken task runs on the worker that woke it. If it was woken by a running task of its own
/// group, it runs next, ahead of the tasks that are waiting in the worker's queues; only the first
/// task that a turn wakes does. A streak of such hand-overs ends at a beat, or after eight of them
/// while other tasks are waiting; the next task to run is then chosen as described above.
///
/// Tasks made ready by other threads go through a shared queue, which every worker checks before
/// running a task. An idle worker steals half of another worker's waiting tasks, those first that
/// would run first; each task stays in a queue of the same kind, and keeps the difference between
/// the time that it used and the time that the others used. A worker that has tasks balances its
/// queue with one other worker's per beat. If a busy worker has only one task waiting, that task
/// stays there until the next beat: when two tasks exchange messages, moving the one that was just
/// woken to another core costs more than it gains.
///
/// # Panics and blocking
///
/// If a task panics, it is dropped and the panic is logged; other tasks are not affected. The same
/// applies if the task's destructor panics. A task that blocks its thread makes that worker
/// unavailable to all other tasks; at the next beat, other workers take over the tasks in its
/// queue.
///
/// # Examples
///
/// ```
/// use lunatic_vm::scheduler::Scheduler;
/// use std::sync::mpsc::channel;
///
/// let scheduler = Scheduler::builder().workers(2).build()?;
/// let (sender, receiver) = channel();
/// for number in 1..=10 {
///     let sender = sender.clone();
///     scheduler.spawn(async move {
///         sender.send(number * number).expect("the receiver is still waiting");
///     });
/// }
/// assert_eq!(receiver.iter().take(10).sum::<u32>(), 385);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Scheduler {
    spawner: Spawner,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Scheduler {
    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
        Builder {
            workers: None,
            period: Some(DEFAULT_PERIOD),
            slice: 1,
            beat: Box::new(|| {}),
            start: Box::new(|| Box::new(())),
        }
    }

    /// Runs a future to completion, concurrently with all other tasks.
    ///
    /// This never blocks and does not return a handle. If the caller needs to know when the future
    /// completes, the future itself must report it. After a [shutdown](Self::shutdown), the future
    /// is dropped immediately, on the calling thread.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn(future);
    }

    /// Runs a future to completion as one of a group's tasks, like [`Spawner::spawn_in`].
    pub fn spawn_in(&self, group: &Group, future: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn_in(group, future);
    }

    /// Calls `wake`, and gives the first waiting task that this makes ready a turn on the calling
    /// thread instead of on a worker.
    ///
    /// This saves handing the task to another thread, and is meant for threads that would otherwise
    /// only wait for what the task does. Any other tasks that become ready are queued as usual. A
    /// task runs on only one thread at a time: one that is already queued or running is left to its
    /// worker. The turn lasts until the task waits or completes or its slice is over, in which case
    /// it continues on a worker. The clock beats in the meantime, and the time is charged to the
    /// task's group. The hook set by [`Builder::on_worker_start`] is called before the turn, and
    /// what it returns is dropped afterwards.
    ///
    /// On a worker, or inside another call of this method, this only calls `wake`. A
    /// [shutdown](Self::shutdown) does not wait for a turn in progress.
    ///
    /// # Examples
    ///
    /// ```
    /// use lunatic_vm::scheduler::Scheduler;
    /// use std::thread;
    ///
    /// let scheduler = Scheduler::builder().workers(1).build()?;
    /// let (ask, asked) = async_channel::unbounded::<u64>();
    /// let (answer, answered) = std::sync::mpsc::channel();
    /// scheduler.spawn(async move {
    ///     while let Ok(number) = asked.recv().await {
    ///         let reply = (number * number, thread::current().id());
    ///         answer.send(reply).expect("the caller is still waiting");
    ///     }
    /// });
    /// while !scheduler.is_idle() {
    ///     thread::yield_now();
    /// }
    /// scheduler.run_woken(|| ask.try_send(7).expect("the task is receiving"));
    /// assert_eq!(answered.recv(), Ok((49, thread::current().id())));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn run_woken(&self, wake: impl FnOnce()) {
        lent::run_woken(self.shared(), wake);
    }

    /// Returns a handle that can spawn tasks but does not keep the scheduler running. Tasks may
    /// hold such a handle.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Makes the clock beat once, immediately and on the calling thread. The ticker does the same
    /// every period.
    ///
    /// With [`Builder::manual_ticker`], only this method drives the clock.
    pub fn beat(&self) {
        discard(self.pool().beat());
    }

    /// Returns the number of beats so far. The clock does not beat on its own while the scheduler
    /// is idle.
    pub fn beats(&self) -> u64 {
        self.pool().clock.beats()
    }

    /// Returns whether the scheduler is idle: no task is running, no task is ready, and each of its
    /// threads, including the ticker, is sleeping without a timeout.
    ///
    /// Once idle, the scheduler stays idle until another thread spawns or wakes a task or shuts the
    /// scheduler down. It becomes idle at most one period after the last worker falls asleep.
    pub fn is_idle(&self) -> bool {
        self.pool().is_idle()
    }

    /// Returns the statistics of each worker since it started, beginning with worker 0.
    ///
    /// The counters are read one by one while they change, so the result is not a consistent
    /// snapshot.
    pub fn counts(&self) -> Vec<WorkerCounts> {
        self.shared().counts()
    }

    /// Shuts down the scheduler. Its threads exit, and the tasks that are ready to run are dropped.
    ///
    /// Each worker finishes polling its current task, drops its remaining ready tasks and exits.
    /// The clock keeps beating until the last worker has exited. This method waits for all threads
    /// to exit, unless it is called on one of them (in a task or a hook), in which case it only
    /// tells them to exit. Calling this method more than once is harmless. Dropping the scheduler
    /// has the same effect.
    ///
    /// A *waiting* task is held only by its wakers. It is dropped when its last waker is dropped or
    /// when any of its wakers is used, on the thread that drops or uses the waker. That thread may
    /// lack the state that [`Builder::on_worker_start`] provides, and it must not hold a lock that
    /// the future's destructor takes. Either way, the task never runs again. If all futures must be
    /// dropped by the time this method returns, end them by other means first.
    pub fn shutdown(&self) {
        self.pool().stop();
        if self.shared().owns_this_thread() {
            return;
        }
        // The lock is held while this thread waits, so that a second caller waits too. The
        // scheduler's own threads have returned above, so they cannot deadlock here.
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                log::error!("a scheduler thread panicked; this is a bug in the scheduler");
            }
        }
    }

    fn start_thread(&self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let builder = thread::Builder::new().name(name.clone());
        let thread = builder.spawn(body).map_err(|error| {
            let sentence =
                format!("cannot start the thread {name}: {error}; try using fewer workers");
            io::Error::new(error.kind(), sentence)
        })?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.spawner.anchor
    }

    fn pool(&self) -> &WorkerPool<Task> {
        self.shared().pool()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().fmt(formatter)
    }
}

/// A handle that spawns tasks onto a [`Scheduler`] but does not keep the scheduler running.
///
/// Tasks hold a spawner instead of the scheduler itself, so that the scheduler is not dropped on
/// one of its own threads.
#[derive(Clone)]
pub struct Spawner {
    anchor: Anchor,
    /// The group of tasks spawned without a group.
    group: Group,
}

impl Spawner {
    /// Runs a future to completion, like [`Scheduler::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// use lunatic_vm::scheduler::Scheduler;
    ///
    /// let scheduler = Scheduler::builder().workers(1).build()?;
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let spawner = scheduler.spawner();
    /// scheduler.spawn(async move {
    ///     spawner.spawn(async move {
    ///         sender.send("a child").expect("the receiver is still waiting");
    ///     });
    /// });
    /// assert_eq!(receiver.recv(), Ok("a child"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        worker::spawn(&self.anchor, &self.group, future);
    }

    /// Runs a future to completion as one of a group's tasks, which share the time that the group's
    /// weight gives them.
    ///
    /// Apart from that, this is like [`Scheduler::spawn`], which uses the default group.
    pub fn spawn_in(&self, group: &Group, future: impl Future<Output = ()> + Send + 'static) {
        worker::spawn(&self.anchor, group, future);
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Spawner")
    }
}

/// Sets up a [`Scheduler`].
#[must_use = "nothing runs before `build`"]
pub struct Builder {
    /// If `None`, there is one worker per core.
    workers: Option<usize>,
    /// If `None`, only [`Scheduler::beat`] drives the clock.
    period: Option<Duration>,
    /// The length of a slice, in beats.
    slice: u64,
    beat: BeatHook,
    start: StartHook,
}

impl Builder {
    /// Sets the number of worker threads. The default is one for each core that this program may
    /// use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets the time between two beats. The default is one millisecond.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = Some(period);
        self
    }

    /// Sets the length of a slice in beats. The default is one beat.
    ///
    /// Tasks end their slices themselves. This setting determines how long woken tasks may run in
    /// succession, and how far one group may get ahead of the others.
    pub fn slice(mut self, beats: u64) -> Self {
        self.slice = beats;
        self
    }

    /// Disables the ticker, so that only [`Scheduler::beat`] drives the clock. This is meant for
    /// tests that must not depend on time.
    pub fn manual_ticker(mut self) -> Self {
        self.period = None;
        self
    }

    /// Sets a hook that is called on every beat, on the thread that drives the clock (usually the
    /// ticker's).
    ///
    /// The hook should be quick. While a worker is awake, the clock beats once per period; the
    /// first beat comes one period after the first worker wakes. While the scheduler is idle, the
    /// clock does not beat. If the ticker is late, the clock beats once rather than catching up on
    /// missed beats.
    ///
    /// # Examples
    ///
    /// ```
    /// use lunatic_vm::scheduler::Scheduler;
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// let epoch = Arc::new(AtomicU64::new(0));
    /// let advanced = Arc::clone(&epoch);
    /// let scheduler = Scheduler::builder()
    ///     .workers(1)
    ///     .manual_ticker()
    ///     .on_beat(move || {
    ///         advanced.fetch_add(1, Ordering::Relaxed);
    ///     })
    ///     .build()?;
    /// scheduler.beat();
    /// assert_eq!(epoch.load(Ordering::Relaxed), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_beat(mut self, beat: impl Fn() + Send + Sync + 'static) -> Self {
        self.beat = Box::new(beat);
        self
    }

    /// Sets a hook that is called on each worker thread before its first task, and on other threads
    /// before each turn that they give a task with [`Scheduler::run_woken`].
    ///
    /// The hook's return value stays on that thread and is dropped after the worker's last task, or
    /// after the turn. Use this, for example, to enter another library's runtime if the guard must
    /// not leave the thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use lunatic_vm::scheduler::Scheduler;
    /// use std::cell::Cell;
    ///
    /// thread_local!(static NAME: Cell<&'static str> = const { Cell::new("none") });
    ///
    /// let scheduler = Scheduler::builder()
    ///     .workers(1)
    ///     .on_worker_start(|| Box::new(NAME.set("a worker")))
    ///     .build()?;
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// scheduler.spawn(async move {
    ///     sender.send(NAME.get()).expect("the receiver is still waiting");
    /// });
    /// assert_eq!(receiver.recv(), Ok("a worker"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_worker_start(
        mut self,
        start: impl Fn() -> Box<dyn Any> + Send + Sync + 'static,
    ) -> Self {
        self.start = Box::new(start);
        self
    }

    /// Starts the threads, which are named `lunatic-worker-0` and so on, and `lunatic-ticker`.
    ///
    /// # Errors
    ///
    /// Fails with `InvalidInput` if the number of workers, the period or the slice is zero. Also
    /// fails if the system refuses to start a thread, in which case the threads that have already
    /// started are stopped.
    pub fn build(self) -> io::Result<Scheduler> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => thread::available_parallelism()?.get(),
        };
        if workers == 0 {
            return Err(invalid(
                "a scheduler with 0 workers runs nothing: give it at least 1",
            ));
        }
        if self.period.is_some_and(|period| period.is_zero()) {
            return Err(invalid(
                "a clock with a period of 0 never stops beating: give it at least a microsecond",
            ));
        }

        if self.slice == 0 {
            return Err(invalid(
                "a slice of 0 beats is over before it begins: give it at least 1",
            ));
        }

        let parkers: Vec<Parker> = (0..workers).map(|_| Parker::new()).collect();
        let unparkers = parkers.iter().map(Parker::unparker).collect();
        let ticker_parker = Parker::new();
        let timing = self
            .period
            .map_or(Timing::Manual, |period| Timing::Measured {
                start: Instant::now(),
                period,
            });
        let clock = Clock::new(timing, self.beat, ticker_parker.unparker());
        let shared = Arc::new(Shared::new(
            WorkerPool::new(unparkers, clock, self.slice),
            self.start,
        ));
        // Returning early drops this scheduler, which stops the threads that have already started.
        let scheduler = Scheduler {
            spawner: Spawner {
                anchor: Arc::new(Arc::clone(&shared)),
                group: Group::new(Weight::default()),
            },
            threads: Mutex::new(Vec::with_capacity(workers + 1)),
        };

        for (index, parker) in parkers.into_iter().enumerate() {
            let anchor = Arc::clone(&scheduler.spawner.anchor);
            shared.expect_worker();
            let body = move || worker::work(anchor, index, parker);
            if let Err(error) = scheduler.start_thread(format!("lunatic-worker-{index}"), body) {
                shared.lose_worker();
                return Err(error);
            }
        }
        if let Some(period) = self.period {
            let body = move || {
                shared.own_this_thread();
                ticker::tick(shared.pool(), &ticker_parker, period);
            };
            scheduler.start_thread("lunatic-ticker".to_owned(), body)?;
        }
        Ok(scheduler)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("workers", &self.workers)
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

fn invalid(sentence: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, sentence)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::{Poll, Waker};

    use super::*;

    /// Returns a scheduler whose clock is driven only by the test.
    fn manual(workers: usize) -> Scheduler {
        let builder = Scheduler::builder().workers(workers).manual_ticker();
        builder.build().expect("a few threads can be started")
    }

    fn wait_until_idle(scheduler: &Scheduler) {
        while !scheduler.is_idle() {
            thread::yield_now();
        }
    }

    /// Sends a value when it is dropped.
    struct NotifyOnDrop<T: Send>(Sender<T>, Option<T>);

    impl<T: Send> NotifyOnDrop<T> {
        fn new(sender: &Sender<T>, word: T) -> Self {
            Self(sender.clone(), Some(word))
        }
    }

    impl<T: Send> Drop for NotifyOnDrop<T> {
        fn drop(&mut self) {
            let word = self.1.take().expect("a value is dropped only once");
            // The receiver may already have been dropped if the test is over.
            self.0.send(word).ok();
        }
    }

    /// Runs the script as a task on the only worker, so that all tasks it spawns are ready before
    /// any of them runs. Returns what these tasks sent, in order.
    fn order_of(
        script: impl FnOnce(Spawner, Sender<&'static str>) + Send + 'static,
    ) -> Vec<&'static str> {
        let scheduler = manual(1);
        let (sender, receiver) = channel();
        let spawner = scheduler.spawner();
        scheduler.spawn(async move { script(spawner, sender) });
        // The iterator ends once the last task drops its sender.
        receiver.iter().collect()
    }

    #[test]
    fn woken_tasks_run_before_spent_tasks() {
        let order = order_of(|spawner, sender| {
            let says = sender.clone();
            let inner = spawner.clone();
            spawner.spawn(async move {
                for turn in ["spends 1", "spends 2", "spends 3"] {
                    says.send(turn).expect("the test is receiving");
                    let says = says.clone();
                    inner.spawn(async move { says.send("is new").expect("the test is receiving") });
                    spent().await;
                }
            });
            let says = sender;
            spawner.spawn(async move {
                says.send("was first in line")
                    .expect("the test is receiving")
            });
        });
        let expected = [
            "spends 1",
            "was first in line",
            "is new",
            "spends 2",
            "is new",
            "spends 3",
            "is new",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn a_spent_task_runs_even_if_other_tasks_are_woken_forever() {
        let scheduler = manual(1);
        let (sender, receiver) = channel();
        let spawner = scheduler.spawner();
        scheduler.spawn(async move {
            let over = Arc::new(AtomicBool::new(false));
            for _ in 0..2 {
                let over = Arc::clone(&over);
                // These tasks are always ready and never end their slices.
                spawner.spawn(poll_fn(move |context| {
                    if over.load(Ordering::Relaxed) {
                        return Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                }));
            }
            for _ in 0..5 {
                spent().await;
            }
            over.store(true, Ordering::Relaxed);
            sender.send("five slices").expect("the test is receiving");
        });
        assert_eq!(receiver.recv(), Ok("five slices"));
        wait_until_idle(&scheduler);
        assert_eq!(scheduler.counts()[0].slices_spent, 5);
    }

    #[test]
    fn a_task_that_is_woken_while_running_runs_again_as_a_woken_task() {
        let scheduler = manual(1);
        let (sender, receiver) = channel();
        let (runs, running) = channel::<Waker>();
        let (woken, go_on) = channel();
        let mut turn = 0;
        scheduler.spawn(poll_fn(move |context| {
            turn += 1;
            if turn == 2 {
                sender.send("ran again").expect("the test is receiving");
                return Poll::Ready(());
            }
            runs.send(context.waker().clone())
                .expect("the test is receiving");
            // The task blocks here until the test's thread has woken it.
            go_on
                .recv()
                .expect("the test wakes the task and then sends");
            Poll::Pending
        }));
        running.recv().expect("the task has started").wake();
        woken.send(()).expect("the task is receiving");
        assert_eq!(receiver.recv(), Ok("ran again"));
        wait_until_idle(&scheduler);
        assert_eq!(scheduler.counts()[0].slices_spent, 0);
        assert_eq!(scheduler.counts()[0].tasks_run, 2);
    }

    #[test]
    fn end_slice_in_a_task_that_ends_does_not_affect_the_next_task() {
        let order = order_of(|spawner, sender| {
            let says = sender.clone();
            spawner.spawn(async move {
                spent().await;
                says.send("spent").expect("the test is receiving");
            });
            spawner.spawn(async { end_slice() });
            let mut turn = 0;
            spawner.spawn(poll_fn(move |context| {
                turn += 1;
                if turn == 2 {
                    sender.send("woken").expect("the test is receiving");
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            }));
        });
        assert_eq!(order, ["woken", "spent"]);
    }

    /// Sends the task's waker to another task or thread, and returns once the task is woken.
    async fn be_woken_by(receiver: &Sender<Waker>) {
        let mut handed_over = false;
        poll_fn(|context| {
            if handed_over {
                return Poll::Ready(());
            }
            handed_over = true;
            let waker = context.waker().clone();
            receiver.send(waker).expect("the waker's receiver exists");
            Poll::Pending
        })
        .await;
    }

    /// Wakes the task while it is running, without ending its slice.
    async fn yield_once() {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn no_task_is_lost_or_run_by_two_workers_at_once() {
        const TASKS: usize = 2_000;
        const TURNS: usize = 20;
        for workers in [2, 3, 4] {
            let scheduler = manual(workers);
            let turns = Arc::new(AtomicUsize::new(0));
            let (sender, ends) = channel();
            let (outside, wakers) = channel();
            let spawner = scheduler.spawner();
            let counted = Arc::clone(&turns);
            // A single task spawns all the others, so that the other workers get tasks only by
            // stealing.
            scheduler.spawn(async move {
                for number in 0..TASKS {
                    let turns = Arc::clone(&counted);
                    let (end, outside) = (NotifyOnDrop::new(&sender, number), outside.clone());
                    let busy = AtomicBool::new(false);
                    spawner.spawn(async move {
                        let _end = end;
                        for turn in 0..TURNS {
                            assert!(
                                !busy.swap(true, Ordering::SeqCst),
                                "two workers are running task {number} at the same time"
                            );
                            turns.fetch_add(1, Ordering::Relaxed);
                            busy.store(false, Ordering::SeqCst);
                            match (number + turn) % 3 {
                                0 => spent().await,
                                1 => be_woken_by(&outside).await,
                                _ => yield_once().await,
                            }
                        }
                    });
                }
            });
            wakers.iter().for_each(Waker::wake);
            let mut ended: Vec<usize> = ends.iter().collect();
            ended.sort_unstable();
            assert_eq!(ended, (0..TASKS).collect::<Vec<_>>());
            assert_eq!(
                turns.load(Ordering::Relaxed),
                TASKS * TURNS,
                "with {workers} workers"
            );
        }
    }

    #[test]
    fn a_task_behind_a_busy_worker_is_stolen_at_the_next_beat() {
        let scheduler = manual(2);
        let spawner = scheduler.spawner();
        let (says, heard) = channel();
        let (ran, has_run) = channel();
        scheduler.spawn(async move {
            spawner.spawn(async move { ran.send(()).expect("the busy task is receiving") });
            says.send("busy").expect("the test is receiving");
            // This task blocks its worker until the task that is queued behind it has run.
            has_run.recv().expect("the task behind it has run");
            says.send("done").expect("the test is receiving");
        });
        assert_eq!(heard.recv(), Ok("busy"));
        // The other worker goes to sleep even though a task is waiting, because a worker's only
        // waiting task is not offered.
        while scheduler.pool().idle.parked() == 0 {
            thread::yield_now();
        }
        assert!(heard.try_recv().is_err());
        scheduler.beat();
        assert_eq!(heard.recv(), Ok("done"));
        let stolen: u64 = scheduler
            .counts()
            .iter()
            .map(|worker| worker.tasks_stolen)
            .sum();
        assert_eq!(stolen, 1);
    }

    /// Spawns a task that counts its turns and waits in between. Returns its waker's receiver.
    fn counting(scheduler: &Scheduler, sender: &Sender<thread::ThreadId>) -> Receiver<Waker> {
        let (outside, wakers) = channel();
        let sender = sender.clone();
        scheduler.spawn(async move {
            loop {
                be_woken_by(&outside).await;
                let here = thread::current().id();
                sender.send(here).expect("the test is receiving");
            }
        });
        wait_until_idle(scheduler);
        wakers
    }

    /// Spawns a task that waits, and must not run after a shutdown. Returns its waker, and what it
    /// sends when it is dropped.
    fn waiting_until_shutdown(scheduler: &Scheduler) -> (Waker, Receiver<&'static str>) {
        let (sender, dropped) = channel();
        let (outside, wakers) = channel();
        let notifier = NotifyOnDrop::new(&sender, "dropped");
        scheduler.spawn(async move {
            let _notifier = notifier;
            be_woken_by(&outside).await;
            panic!("ran after shutdown");
        });
        let waker = wakers.recv().expect("the task sends its waker");
        (waker, dropped)
    }

    #[test]
    fn a_woken_task_runs_on_the_thread_that_lends_itself() {
        let scheduler = manual(1);
        let (sender, turns) = channel();
        let wakers = counting(&scheduler, &sender);
        let others = counting(&scheduler, &sender);
        let next = |wakers: &Receiver<Waker>| wakers.recv().expect("the task sends its waker");
        let (first, second) = (next(&wakers), next(&others));
        // Only the first task that is woken runs here.
        scheduler.run_woken(|| {
            first.wake();
            second.wake();
        });
        let here = thread::current().id();
        let ran: Vec<_> = turns.iter().take(2).collect();
        assert_eq!(ran.iter().filter(|&&thread| thread == here).count(), 1);
        // Inside another call, the task goes where the outer call sends it.
        let first = next(&wakers);
        scheduler.run_woken(|| scheduler.run_woken(|| first.wake()));
        assert_eq!(turns.recv(), Ok(here));
        // A thread that is lent by another scheduler is not lent again.
        let other = manual(1);
        let elsewhere = counting(&other, &sender);
        let (first, elsewhere) = (next(&wakers), next(&elsewhere));
        scheduler.run_woken(|| other.run_woken(|| elsewhere.wake()));
        assert_ne!(turns.recv(), Ok(here));
        scheduler.run_woken(|| first.wake());
        assert_eq!(turns.recv(), Ok(here));
        wait_until_idle(&scheduler);
    }

    #[test]
    fn a_task_that_is_lent_a_thread_continues_on_a_worker_once_its_slice_is_over() {
        let started = Arc::new(AtomicUsize::new(0));
        let hooked = Arc::clone(&started);
        let (sender, turns) = channel();
        let scheduler = Scheduler::builder()
            .workers(1)
            .manual_ticker()
            .on_worker_start(move || Box::new(hooked.fetch_add(1, Ordering::SeqCst)))
            .build()
            .expect("a few threads can be started");
        let (outside, wakers) = channel();
        scheduler.spawn(async move {
            for end in 0..3 {
                be_woken_by(&outside).await;
                let before = thread::current().id();
                match end {
                    0 => spent().await,
                    1 => {
                        end_slice();
                        yield_once().await;
                    }
                    _ => yield_once().await,
                }
                let turn = (before, thread::current().id());
                sender.send(turn).expect("the test is receiving");
            }
        });
        wait_until_idle(&scheduler);
        for turn in 1..=3 {
            let waker = wakers.recv().expect("the task sends its waker");
            scheduler.run_woken(|| waker.wake());
            let (before, after) = turns.recv().expect("the task runs");
            assert_eq!(before, thread::current().id());
            assert_ne!(after, before);
            // The worker called the hook once.
            assert_eq!(started.load(Ordering::SeqCst), 1 + turn);
            wait_until_idle(&scheduler);
        }
        // A slice that a task ended elsewhere is not counted as a worker's.
        assert_eq!(scheduler.counts()[0].slices_spent, 0);
    }

    #[test]
    fn a_panic_on_a_lent_thread_ends_only_the_task() {
        let scheduler = manual(1);
        let (outside, wakers) = channel();
        scheduler.spawn(async move {
            be_woken_by(&outside).await;
            panic!("on purpose");
        });
        let waker = wakers.recv().expect("the task sends its waker");
        wait_until_idle(&scheduler);
        scheduler.run_woken(|| waker.wake());
        assert!(scheduler.is_idle());
        // If the closure panics, the task that it woke is not lost.
        let (sender, turns) = channel();
        let wakers = counting(&scheduler, &sender);
        let waker = wakers.recv().expect("the task sends its waker");
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            scheduler.run_woken(|| {
                waker.wake();
                panic!("on purpose");
            })
        }));
        assert!(caught.is_err());
        assert_ne!(turns.recv(), Ok(thread::current().id()));
    }

    #[test]
    fn the_clock_beats_while_a_thread_is_lent_and_its_group_is_charged() {
        let beats = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&beats);
        let scheduler = Scheduler::builder()
            .workers(1)
            .on_beat(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .expect("a few threads can be started");
        let group = Group::new(Weight::default());
        let (outside, wakers) = channel();
        scheduler.spawn_in(&group, async move {
            be_woken_by(&outside).await;
            let began = beats.load(Ordering::SeqCst);
            while beats.load(Ordering::SeqCst) < began + 5 {
                std::hint::spin_loop();
            }
        });
        let waker = wakers.recv().expect("the task sends its waker");
        wait_until_idle(&scheduler);
        let before = group.tag();
        scheduler.run_woken(|| waker.wake());
        assert!(group.tag() >= before.later(5 * scheduler.pool().clock.period()));
        wait_until_idle(&scheduler);
    }

    #[test]
    fn no_task_is_lost_or_run_twice_at_once_while_threads_are_lent() {
        const TASKS: usize = 50;
        const TURNS: usize = 400;
        let scheduler = manual(2);
        let (outside, wakers) = channel::<Waker>();
        let (sender, ends) = channel();
        let turns = Arc::new(AtomicUsize::new(0));
        for number in 0..TASKS {
            let (end, outside) = (NotifyOnDrop::new(&sender, number), outside.clone());
            let turns = Arc::clone(&turns);
            let busy = AtomicBool::new(false);
            scheduler.spawn(async move {
                let _end = end;
                for turn in 0..TURNS {
                    assert!(
                        !busy.swap(true, Ordering::SeqCst),
                        "two threads are running task {number} at the same time"
                    );
                    turns.fetch_add(1, Ordering::Relaxed);
                    busy.store(false, Ordering::SeqCst);
                    match (number + turn) % 4 {
                        0 => spent().await,
                        1 => yield_once().await,
                        _ => be_woken_by(&outside).await,
                    }
                }
            });
        }
        drop((outside, sender));
        let wakers = Mutex::new(wakers);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let waker = lock(&wakers).recv();
                        let Ok(waker) = waker else { return };
                        let early = waker.clone();
                        scheduler.run_woken(|| waker.wake());
                        // This wakes the task a second time, wherever it is.
                        early.wake();
                    }
                });
            }
        });
        assert_eq!(ends.iter().count(), TASKS);
        assert_eq!(turns.load(Ordering::Relaxed), TASKS * TURNS);
    }

    #[test]
    fn a_task_that_is_woken_after_shutdown_does_not_run_on_a_lent_thread() {
        let scheduler = manual(1);
        let (waker, dropped) = waiting_until_shutdown(&scheduler);
        scheduler.shutdown();
        scheduler.run_woken(|| waker.wake());
        assert_eq!(dropped.try_recv(), Ok("dropped"));
    }

    #[test]
    fn a_woken_task_behind_a_busy_worker_is_stolen_at_the_next_beat() {
        let scheduler = manual(2);
        let (says, heard) = channel();
        let (ran, has_run) = channel();
        let (outside, wakers) = channel();
        scheduler.spawn(async move {
            be_woken_by(&outside).await;
            ran.send(()).expect("the busy task is receiving");
        });
        let waker = wakers.recv().expect("the task sends its waker");
        wait_until_idle(&scheduler);
        scheduler.spawn(async move {
            waker.wake();
            says.send("busy").expect("the test is receiving");
            // This task blocks its worker, which it has handed over, until the woken task has run.
            has_run.recv().expect("the woken task has run");
            says.send("done").expect("the test is receiving");
        });
        assert_eq!(heard.recv(), Ok("busy"));
        while scheduler.pool().idle.parked() == 0 {
            thread::yield_now();
        }
        assert!(heard.try_recv().is_err());
        scheduler.beat();
        assert_eq!(heard.recv(), Ok("done"));
    }

    #[test]
    fn a_woken_task_runs_next_but_a_streak_of_hand_overs_ends_while_others_wait() {
        const TURNS: usize = 20;
        let scheduler = manual(1);
        let (says, heard) = channel();
        // Two tasks that keep waking each other.
        let pair = Arc::new(Mutex::new([None, None]));
        for own in 0..2 {
            let (pair, says) = (Arc::clone(&pair), says.clone());
            let mut turns = 0;
            scheduler.spawn(poll_fn(move |context| {
                let mut wakers = lock(&pair);
                let own_waker = wakers[own].get_or_insert_with(|| context.waker().clone());
                assert!(own_waker.will_wake(context.waker()));
                if turns > 0 {
                    says.send("pair").expect("the test is receiving");
                    let other: Option<Waker> = wakers[1 - own].clone();
                    drop(wakers);
                    other.expect("both tasks have had a turn").wake();
                }
                turns += 1;
                if turns > TURNS {
                    return Poll::Ready(());
                }
                Poll::Pending
            }));
        }
        let (outside, wakers) = channel();
        scheduler.spawn(async move {
            be_woken_by(&outside).await;
            says.send("waits").expect("the test is receiving");
        });
        let waker = wakers.recv().expect("the task sends its waker");
        wait_until_idle(&scheduler);
        scheduler.spawn(async move {
            let first = lock(&pair)[0].clone();
            first.expect("both tasks have had a turn").wake();
            waker.wake();
        });
        let order: Vec<_> = heard.iter().collect();
        assert_eq!(order.len(), 2 * TURNS + 1);
        assert_eq!(order.iter().position(|&word| word == "waits"), Some(8));
    }

    #[test]
    fn a_task_of_another_group_is_not_handed_over_to() {
        let scheduler = manual(1);
        let (says, heard) = channel();
        let (outside, wakers) = channel();
        let other = Group::new(Weight::default());
        for (group, word) in [(Some(&other), "other group"), (None, "own group")] {
            let (says, outside) = (says.clone(), outside.clone());
            let task = async move {
                be_woken_by(&outside).await;
                says.send(word).expect("the test is receiving");
            };
            match group {
                Some(group) => scheduler.spawn_in(group, task),
                None => scheduler.spawn(task),
            }
            wait_until_idle(&scheduler);
        }
        let waiting: Vec<Waker> = wakers.iter().take(2).collect();
        scheduler.spawn(async move { waiting.into_iter().for_each(Waker::wake) });
        drop((says, outside));
        assert_eq!(
            heard.iter().collect::<Vec<_>>(),
            ["own group", "other group"]
        );
    }

    #[test]
    fn a_task_that_a_stopped_worker_was_handed_over_to_is_dropped() {
        let scheduler = Arc::new(manual(1));
        let (waker, dropped) = waiting_until_shutdown(&scheduler);
        let own = Arc::clone(&scheduler);
        scheduler.spawn(async move {
            waker.wake();
            own.shutdown();
        });
        assert_eq!(dropped.recv(), Ok("dropped"));
    }

    #[test]
    fn the_clock_does_not_beat_while_every_task_is_waiting() {
        let hooked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&hooked);
        let scheduler = Scheduler::builder()
            .workers(2)
            .period(Duration::from_nanos(1))
            .on_beat(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .expect("a few threads can be started");
        let mut seen = 0;
        for _ in 0..3 {
            let (outside, wakers) = channel();
            for _ in 0..100 {
                let outside = outside.clone();
                scheduler.spawn(async move { be_woken_by(&outside).await });
            }
            drop(outside);
            let waiting: Vec<Waker> = wakers.iter().take(100).collect();
            wait_until_idle(&scheduler);
            let beats = hooked.load(Ordering::SeqCst);
            assert_eq!(beats, scheduler.beats());
            assert!(beats >= seen);
            // If the clock were still running, it would beat many times in the meantime.
            (0..1_000).for_each(|_| thread::yield_now());
            assert_eq!(hooked.load(Ordering::SeqCst), beats);
            seen = beats;
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    #[test]
    fn the_clock_beats_while_a_task_runs_even_after_shutdown() {
        let beats = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&beats);
        let scheduler = Scheduler::builder()
            .workers(1)
            .on_beat(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .expect("a few threads can be started");
        let (sender, started) = channel();
        scheduler.spawn(async move {
            sender.send(()).expect("the test is receiving");
            // This imitates a guest that never yields on its own.
            while beats.load(Ordering::SeqCst) < 5 {
                std::hint::spin_loop();
            }
        });
        started.recv().expect("the task has started");
        scheduler.shutdown();
        assert!(scheduler.beats() >= 5);
    }

    #[test]
    fn a_panic_ends_only_its_own_task_and_not_the_worker() {
        struct PanicsOnDrop;
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                panic!("on purpose, in a destructor");
            }
        }
        let scheduler = manual(1);
        let (sender, receiver) = channel();
        let dropped = NotifyOnDrop::new(&sender, "dropped");
        scheduler.spawn(async move {
            let _dropped = dropped;
            panic!("on purpose");
        });
        scheduler.spawn(async { std::panic::panic_any(PanicsOnDrop) });
        let last = PanicsOnDrop;
        scheduler.spawn(async move { drop(last) });
        let abandoned = PanicsOnDrop;
        scheduler.spawn(async move {
            pending::<()>().await;
            drop(abandoned);
        });
        scheduler.spawn(async move { sender.send("still here").expect("the test is receiving") });
        assert_eq!(
            receiver.iter().collect::<Vec<_>>(),
            ["dropped", "still here"]
        );
    }

    #[test]
    fn a_task_without_wakers_is_dropped() {
        let scheduler = manual(1);
        let (sender, dropped) = channel();
        let notifier = NotifyOnDrop::new(&sender, "dropped");
        scheduler.spawn(async move {
            let _notifier = notifier;
            pending::<()>().await;
        });
        drop(sender);
        assert_eq!(dropped.recv(), Ok("dropped"));
    }

    #[test]
    fn shutdown_drops_each_ready_future_once_and_runs_none_of_them() {
        let scheduler = Arc::new(manual(1));
        let (sender, dropped) = channel();
        let (says, heard) = channel();
        let (go_on, told) = channel();
        let (own, spawner) = (Arc::clone(&scheduler), scheduler.spawner());
        let inside = sender.clone();
        scheduler.spawn(async move {
            for number in 0..50 {
                let notifier = NotifyOnDrop::new(&inside, number);
                spawner.spawn(async move {
                    let _notifier = notifier;
                    panic!("ran after shutdown");
                });
            }
            says.send("ready").expect("the test is receiving");
            told.recv().expect("the test tells the task to continue");
            own.shutdown();
        });
        assert_eq!(heard.recv(), Ok("ready"));
        for number in 50..100 {
            let notifier = NotifyOnDrop::new(&sender, number);
            scheduler.spawn(async move {
                let _notifier = notifier;
                panic!("ran after shutdown");
            });
        }
        go_on.send(()).expect("the task is receiving");
        scheduler.shutdown();
        let mut numbers: Vec<i32> = dropped.try_iter().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());

        let late = NotifyOnDrop::new(&sender, 100);
        scheduler.spawn(async move { drop(late) });
        assert_eq!(dropped.try_recv(), Ok(100));
        assert_eq!(scheduler.counts()[0].tasks_run, 1);
    }

    #[test]
    fn a_task_that_is_waiting_at_shutdown_is_dropped_when_it_is_woken() {
        let scheduler = manual(2);
        let (waker, dropped) = waiting_until_shutdown(&scheduler);
        scheduler.shutdown();
        assert!(dropped.try_recv().is_err());
        waker.wake();
        assert_eq!(dropped.try_recv(), Ok("dropped"));
    }

    #[test]
    fn dropping_a_long_chain_of_tasks_does_not_overflow_the_stack() {
        const LENGTH: usize = 100_000;
        let scheduler = manual(1);
        let (sender, dropped) = channel();
        let (outside, wakers) = channel();
        let (last, first) = channel();
        let spawner = scheduler.spawner();
        scheduler.spawn(async move {
            let mut previous: Option<Waker> = None;
            for number in 0..LENGTH {
                let (held, outside) = (previous.take(), outside.clone());
                let notifier = NotifyOnDrop::new(&sender, number);
                spawner.spawn(async move {
                    let _held = (held, notifier);
                    be_woken_by(&outside).await;
                });
                // The new task runs first, because this task is spent.
                spent().await;
                previous = Some(wakers.recv().expect("the task sends its waker"));
            }
            last.send(previous).expect("the test is receiving");
        });
        let first = first.recv().expect("the chain is built");
        scheduler.shutdown();
        drop(first);
        assert_eq!(dropped.try_iter().count(), LENGTH);
    }

    #[test]
    fn a_task_may_drop_its_own_scheduler() {
        let scheduler = manual(2);
        let spawner = scheduler.spawner();
        let (sender, receiver) = channel();
        spawner.spawn(async move {
            drop(scheduler);
            sender.send("went on").expect("the test is receiving");
        });
        assert_eq!(receiver.recv(), Ok("went on"));
    }

    #[test]
    fn each_worker_keeps_the_start_hooks_return_value_until_it_exits() {
        let (sender, ends) = channel();
        let sender = Mutex::new(sender);
        let name = || thread::current().name().map(str::to_owned);
        let scheduler = Scheduler::builder()
            .workers(2)
            .manual_ticker()
            .on_worker_start(move || Box::new(NotifyOnDrop::new(&lock(&sender), name())))
            .build()
            .expect("a few threads can be started");
        wait_until_idle(&scheduler);
        assert!(ends.try_recv().is_err());
        scheduler.shutdown();
        let mut names: Vec<_> = ends.try_iter().flatten().collect();
        names.sort_unstable();
        assert_eq!(names, ["lunatic-worker-0", "lunatic-worker-1"]);
    }

    #[test]
    fn invalid_settings_are_rejected_with_a_helpful_message() {
        let check = |builder: Builder, expected: &str| {
            let error = builder.build().expect_err("the settings are invalid");
            assert_eq!(error.to_string(), expected);
        };
        check(
            Scheduler::builder().workers(0),
            "a scheduler with 0 workers runs nothing: give it at least 1",
        );
        check(
            Scheduler::builder().period(Duration::ZERO),
            "a clock with a period of 0 never stops beating: give it at least a microsecond",
        );
    }
}
