//! Runs futures on all cores.
//!
//! A [`Scheduler`] consists of a fixed number of worker threads, each with its own queue of ready
//! tasks, which take tasks from each other when they run dry, and a clock that beats while any of
//! them is awake. It knows nothing about processes, guests or messages: a task is a future without
//! a result, and the only thing it can tell the scheduler is that its slice is over ([`spent`],
//! [`end_slice`]).
//!
//! Which task runs next is decided [among groups, and within each](Scheduler#order). These
//! decisions are plain data (`group`, `group_queue`, `queue`). Which threads sleep and which are
//! woken is determined by a model-checked protocol (`idle`, `clock`, `pool`; see `vm/model`), which
//! the threads in `worker` and `ticker` follow.

mod clock;
mod contain;
mod group;
mod group_queue;
mod idle;
mod pool;
mod queue;
mod sync;
mod task;
mod ticker;
mod worker;

use std::any::Any;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

pub use self::group::{Group, Weight, WeightError};
pub use self::pool::WorkerCounts;
pub use self::task::{Spent, end_slice, spent};

use self::clock::{BeatHook, Clock, DEFAULT_PERIOD, Timing};
use self::pool::WorkerPool;
use self::sync::{Arc, Mutex, Parker, lock, thread};
use self::task::Task;
use self::worker::{Anchor, Shared, StartHook};

/// Runs futures on a fixed number of threads until it is shut down or dropped.
///
/// # Order
///
/// Every task belongs to a [`Group`]; those spawned without one form a group of their own.
///
/// *Within a group*, a worker has three FIFO queues: *woken* tasks, to which something happened,
/// *new* ones, and *spent* ones, which used up their slice and reported this with [`spent`] or
/// [`end_slice`]. Woken tasks run first, in turn with new ones as long as these are quick; after a
/// new task that ran until a beat, new tasks take turns with the spent ones instead, until one is
/// quick again. To keep woken tasks from starving the others, a streak of them ends after a slice
/// (or after 1,024 tasks), and one of the others runs. A task that was woken while it ran, without
/// being spent, counts as woken.
///
/// *Among groups*, the workers' time is divided by [`Weight`], by start-time fair queueing: the
/// time used by a group's tasks is counted over all workers, and the group that has had the least
/// time relative to its weight is next. Here too woken tasks come first, as long as their group is
/// no more than a few slices ahead of the others, and a streak of them ends after a slice. So a
/// woken task runs promptly even if its group computes, and a group whose tasks keep waking each
/// other, or that has ten thousand computing tasks, gets no more than its share. If one group runs
/// alone, time is counted only once per beat. An idle group accumulates no credit.
///
/// A woken task runs on the worker that woke it. Tasks made ready by other threads go through one
/// small queue that every worker checks before each task. A worker without tasks takes half of
/// those that wait at another, oldest first, and tasks keep their level; a worker that has tasks
/// balances its queue with one other per beat. A single task that waits for a busy worker stays
/// with it until the next beat: when two tasks exchange messages, moving the one just woken to
/// another core costs more than it gains.
///
/// # Panics and blocking
///
/// A task that panics is dropped, the panic is logged, and nothing else ends; the same applies if
/// its destructor panics. A task that blocks its thread makes that worker unavailable to all
/// others; the tasks left in the worker's queue are taken over at the next beat.
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
///         sender.send(number * number).expect("the receiver adds them up");
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

    /// Runs a future to completion, concurrently with all others.
    ///
    /// Never waits. There is no handle; to learn when the future ends, have it report this. After a
    /// [shutdown](Self::shutdown) the future is dropped immediately, on this thread.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn(future);
    }

    /// Runs a future to completion as one of a group's tasks, like [`Spawner::spawn_in`].
    pub fn spawn_in(&self, group: &Group, future: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn_in(group, future);
    }

    /// Returns a handle that can spawn without keeping the scheduler running, for tasks to hold.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Makes the clock beat once, now and on this thread, as the ticker does every period.
    ///
    /// With [`Builder::manual_ticker`], this is the only thing that drives the clock.
    pub fn beat(&self) {
        self.pool().beat();
    }

    /// Returns how often the clock has beaten. It stands still while the scheduler is idle.
    pub fn beats(&self) -> u64 {
        self.pool().clock.beats()
    }

    /// Returns whether nothing runs, nothing is ready and every thread, including the ticker,
    /// sleeps without a timeout.
    ///
    /// Once true, this stays true until another thread spawns or wakes a task, or the scheduler is
    /// shut down. It becomes true at most one period after the last worker fell asleep.
    pub fn is_idle(&self) -> bool {
        self.pool().is_idle()
    }

    /// Returns each worker's statistics since it started, worker 0 first.
    ///
    /// The counters are read one by one while they change, so they are not one consistent snapshot.
    pub fn counts(&self) -> Vec<WorkerCounts> {
        self.shared().counts()
    }

    /// Ends the scheduler: the threads stop, and tasks that have not run are dropped.
    ///
    /// Each worker exits after its current task, for which the clock keeps beating until then, and
    /// drops its remaining ready tasks. This waits for all threads, unless it is called on one of
    /// them (in a task or a hook): then it only tells them to stop. Calling it twice does no harm;
    /// dropping the scheduler has the same effect.
    ///
    /// A task that *waits* is held only by its wakers. It is dropped when the last waker is dropped
    /// or when one is used, on the thread that drops or uses it. That thread need not have what
    /// [`Builder::on_worker_start`] provides, and must not hold a lock that the future's destructor
    /// takes. The task never runs again in either case. If all futures must be gone when this
    /// returns, end them beforehand by other means.
    pub fn shutdown(&self) {
        self.pool().stop();
        if self.shared().owns_this_thread() {
            return;
        }
        // The lock is held while waiting, so that a second caller waits too. The scheduler's own
        // threads never get here.
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the scheduler panicked; this is a bug in the scheduler");
            }
        }
    }

    fn start_thread(&self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let builder = thread::Builder::new().name(name.clone());
        let thread = builder.spawn(body).map_err(|error| {
            let sentence =
                format!("cannot start the thread {name}: {error}; fewer workers may fit");
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

/// Spawns onto a [`Scheduler`] without keeping it running.
///
/// If a task held the scheduler itself, it might drop the last handle on one of the scheduler's own
/// threads.
#[derive(Clone)]
pub struct Spawner {
    anchor: Anchor,
    /// The group for tasks spawned without one.
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
    ///     spawner.spawn(async move { sender.send("a child").expect("the test waits") });
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
    /// Otherwise like [`Scheduler::spawn`], whose tasks form a group of their own.
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
    /// `None`: one per core.
    workers: Option<usize>,
    /// `None`: the clock is driven only by [`Scheduler::beat`].
    period: Option<Duration>,
    /// In beats.
    slice: u64,
    beat: BeatHook,
    start: StartHook,
}

impl Builder {
    /// Sets the number of worker threads. By default there is one for each core that this program
    /// may use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets the time between two beats. By default it is one millisecond.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = Some(period);
        self
    }

    /// Sets how many beats a slice lasts. By default it is one.
    ///
    /// Tasks end their slices themselves. This setting determines how long the scheduler lets woken
    /// tasks run in succession, and how far it lets groups get ahead of each other.
    pub fn slice(mut self, beats: u64) -> Self {
        self.slice = beats;
        self
    }

    /// Leaves the clock to [`Scheduler::beat`], for tests that must not depend on time.
    pub fn manual_ticker(mut self) -> Self {
        self.period = None;
        self
    }

    /// Sets a hook that is called on every beat, on the ticker's thread.
    ///
    /// The hook should be quick. Beats come once per period while a worker is awake, the first one
    /// a period after the first worker woke, and not at all while the scheduler is idle. A ticker
    /// that was delayed beats once rather than once for each missed beat.
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

    /// Sets a hook that is called on every worker's thread before its first task.
    ///
    /// The hook's return value stays on that thread and is dropped after its last task. This is the
    /// place to enter another library's runtime, whose guard must not leave the thread.
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
    /// scheduler.spawn(async move { sender.send(NAME.get()).expect("the test waits") });
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

    /// Starts the threads, named `lunatic-worker-0` and so on, and `lunatic-ticker`.
    ///
    /// # Errors
    ///
    /// If the number of workers, the period or the slice is zero (`InvalidInput`), or if the system
    /// refuses to start a thread; threads that have started are stopped again.
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
        let shared = Arc::new(Shared::new(WorkerPool::new(unparkers, clock, self.slice)));
        // Dropped on an early return, which stops the threads that have started.
        let scheduler = Scheduler {
            spawner: Spawner {
                anchor: Arc::new(Arc::clone(&shared)),
                group: Group::new(Weight::default()),
            },
            threads: Mutex::new(Vec::with_capacity(workers + 1)),
        };

        let start = Arc::new(self.start);
        for (index, parker) in parkers.into_iter().enumerate() {
            let (anchor, start) = (Arc::clone(&scheduler.spawner.anchor), Arc::clone(&start));
            shared.expect_worker();
            let body = move || worker::work(anchor, index, parker, &start);
            if let Err(error) = scheduler.start_thread(format!("lunatic-worker-{index}"), body) {
                shared.lose_worker();
                return Err(error);
            }
        }
        if let Some(period) = self.period {
            let body = move || {
                shared.own_this_thread(None);
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
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Poll, Waker};

    use super::*;

    /// A scheduler whose clock is driven only by the test.
    fn manual(workers: usize) -> Scheduler {
        let builder = Scheduler::builder().workers(workers).manual_ticker();
        builder.build().expect("a few threads can be started")
    }

    fn wait_until_idle(scheduler: &Scheduler) {
        while !scheduler.is_idle() {
            thread::yield_now();
        }
    }

    /// Sends a word on drop.
    struct NotifyOnDrop<T: Send>(Sender<T>, Option<T>);

    impl<T: Send> NotifyOnDrop<T> {
        fn new(sender: &Sender<T>, word: T) -> Self {
            Self(sender.clone(), Some(word))
        }
    }

    impl<T: Send> Drop for NotifyOnDrop<T> {
        fn drop(&mut self) {
            let word = self.1.take().expect("a value is dropped only once");
            // The test may have ended already.
            self.0.send(word).ok();
        }
    }

    /// Runs the script on the only worker, so that all tasks it spawns are ready before any of them
    /// runs, and returns what its tasks said, in order.
    fn order_of(
        script: impl FnOnce(Spawner, Sender<&'static str>) + Send + 'static,
    ) -> Vec<&'static str> {
        let scheduler = manual(1);
        let (sender, receiver) = channel();
        let spawner = scheduler.spawner();
        scheduler.spawn(async move { script(spawner, sender) });
        // Ends when the last task has dropped its sender.
        receiver.iter().collect()
    }

    #[test]
    fn woken_tasks_run_before_spent_ones() {
        let order = order_of(|spawner, sender| {
            let says = sender.clone();
            let inner = spawner.clone();
            spawner.spawn(async move {
                for turn in ["spends 1", "spends 2", "spends 3"] {
                    says.send(turn).expect("the test listens");
                    let says = says.clone();
                    inner.spawn(async move { says.send("is new").expect("the test listens") });
                    spent().await;
                }
            });
            let says = sender;
            spawner.spawn(async move { says.send("was first in line").expect("the test listens") });
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
    fn a_spent_task_runs_although_others_wake_each_other_forever() {
        let scheduler = manual(1);
        let (sender, receiver) = channel();
        let spawner = scheduler.spawner();
        scheduler.spawn(async move {
            let over = Arc::new(AtomicBool::new(false));
            for _ in 0..2 {
                let over = Arc::clone(&over);
                // Always ready, never spent.
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
            sender.send("five slices").expect("the test listens");
        });
        assert_eq!(receiver.recv(), Ok("five slices"));
        wait_until_idle(&scheduler);
        assert_eq!(scheduler.counts()[0].slices_spent, 5);
    }

    #[test]
    fn a_task_woken_while_it_runs_runs_again_as_a_woken_one() {
        let scheduler = manual(1);
        let (sender, receiver) = channel();
        let (runs, running) = channel::<Waker>();
        let (woken, go_on) = channel();
        let mut turn = 0;
        scheduler.spawn(poll_fn(move |context| {
            turn += 1;
            if turn == 2 {
                sender.send("ran again").expect("the test listens");
                return Poll::Ready(());
            }
            runs.send(context.waker().clone())
                .expect("the test listens");
            // Blocks in the middle of the task until another thread has woken the task.
            go_on.recv().expect("the test wakes");
            Poll::Pending
        }));
        running.recv().expect("the task runs").wake();
        woken.send(()).expect("the task waits");
        assert_eq!(receiver.recv(), Ok("ran again"));
        wait_until_idle(&scheduler);
        assert_eq!(scheduler.counts()[0].slices_spent, 0);
        assert_eq!(scheduler.counts()[0].tasks_run, 2);
    }

    #[test]
    fn a_note_of_a_task_that_ends_does_not_apply_to_the_next_one() {
        let order = order_of(|spawner, sender| {
            let says = sender.clone();
            spawner.spawn(async move {
                spent().await;
                says.send("spent").expect("the test listens");
            });
            spawner.spawn(async { end_slice() });
            let mut turn = 0;
            spawner.spawn(poll_fn(move |context| {
                turn += 1;
                if turn == 2 {
                    sender.send("woken").expect("the test listens");
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            }));
        });
        assert_eq!(order, ["woken", "spent"]);
    }

    /// Sends the task's waker away and returns once it has been used.
    async fn be_woken_by(somebody: &Sender<Waker>) {
        let mut handed_over = false;
        poll_fn(|context| {
            if handed_over {
                return Poll::Ready(());
            }
            handed_over = true;
            let waker = context.waker().clone();
            somebody.send(waker).expect("somebody listens");
            Poll::Pending
        })
        .await;
    }

    /// Wakes the task while it runs, without ending its slice.
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
            // All tasks are spawned from one task, so that the other workers get tasks only by
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
                                "two workers run task {number}"
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
    fn a_task_behind_a_busy_worker_stays_until_the_next_beat_and_no_longer() {
        let scheduler = manual(2);
        let spawner = scheduler.spawner();
        let (says, heard) = channel();
        let (ran, has_run) = channel();
        scheduler.spawn(async move {
            spawner.spawn(async move { ran.send(()).expect("the busy task waits") });
            says.send("busy").expect("the test listens");
            // Blocks its worker until the task behind it has run.
            has_run.recv().expect("the task behind runs");
            says.send("done").expect("the test listens");
        });
        assert_eq!(heard.recv(), Ok("busy"));
        // The other worker sleeps although a task waits, since the task was not offered.
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

    #[test]
    fn the_clock_stands_still_while_every_task_waits() {
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
            // A clock that kept running would beat many times in the meantime.
            (0..1_000).for_each(|_| thread::yield_now());
            assert_eq!(hooked.load(Ordering::SeqCst), beats);
            seen = beats;
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    #[test]
    fn the_clock_beats_while_a_task_runs_even_after_shutdown_was_called() {
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
            sender.send(()).expect("the test listens");
            // Like a guest that never yields by itself.
            while beats.load(Ordering::SeqCst) < 5 {
                std::hint::spin_loop();
            }
        });
        started.recv().expect("the task starts");
        scheduler.shutdown();
        assert!(scheduler.beats() >= 5);
    }

    #[test]
    fn a_panic_ends_one_task_and_no_worker() {
        struct PanicsInTheEnd;
        impl Drop for PanicsInTheEnd {
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
        scheduler.spawn(async { std::panic::panic_any(PanicsInTheEnd) });
        let last = PanicsInTheEnd;
        scheduler.spawn(async move { drop(last) });
        let abandoned = PanicsInTheEnd;
        scheduler.spawn(async move {
            pending::<()>().await;
            drop(abandoned);
        });
        scheduler.spawn(async move { sender.send("still here").expect("the test listens") });
        assert_eq!(
            receiver.iter().collect::<Vec<_>>(),
            ["dropped", "still here"]
        );
    }

    #[test]
    fn a_task_that_nobody_can_wake_is_dropped() {
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
    fn shutdown_drops_each_ready_future_once_and_runs_none() {
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
            says.send("ready").expect("the test listens");
            told.recv().expect("the test goes on");
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
        go_on.send(()).expect("the task waits");
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
    fn a_task_that_waits_at_shutdown_is_dropped_when_it_is_woken() {
        let scheduler = manual(2);
        let (sender, dropped) = channel();
        let (outside, wakers) = channel();
        let notifier = NotifyOnDrop::new(&sender, "dropped");
        scheduler.spawn(async move {
            let _notifier = notifier;
            be_woken_by(&outside).await;
            panic!("ran after shutdown");
        });
        let waker = wakers.recv().expect("the task waits");
        scheduler.shutdown();
        assert!(dropped.try_recv().is_err());
        waker.wake();
        assert_eq!(dropped.try_recv(), Ok("dropped"));
    }

    #[test]
    fn dropping_a_long_chain_of_tasks_that_hold_each_other_does_not_overflow_the_stack() {
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
                // The new task is woken so that it runs first.
                spent().await;
                previous = Some(wakers.recv().expect("the task waits"));
            }
            last.send(previous).expect("the test listens");
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
            sender.send("went on").expect("the test listens");
        });
        assert_eq!(receiver.recv(), Ok("went on"));
    }

    #[test]
    fn each_worker_keeps_what_the_start_hook_returns_to_its_end() {
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
    fn a_scheduler_that_could_not_run_is_refused_with_a_remedy() {
        let check = |builder: Builder, expected: &str| {
            let error = builder.build().expect_err("it could not run");
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
