//! Runs futures on all cores.
//!
//! A [`Scheduler`] is a fixed number of worker threads, each with its own queue of ready tasks, that take
//! tasks from each other when they run dry, and a ticker that beats while any of them is awake. It
//! knows nothing of processes, guests or messages: a task is a future without a result, and all that
//! it can say of itself is that its slice is over ([`spent`], [`end_slice`]).
//!
//! Which task runs next is decided in [two levels](Scheduler#order). The decisions are plain data
//! (`queue`), who sleeps is a small protocol (`idle`), and `worker` and `ticker` are the loops that follow them.

mod idle;
mod queue;
mod sync;
mod task;
mod ticker;
mod worker;

use std::any::Any;
use std::fmt;
use std::io;
use std::time::Duration;

pub use self::task::{Spent, end_slice, spent};

use self::sync::{Arc, Mutex, Parker, lock, thread};
use self::ticker::{Beat, Ticker};
use self::worker::{Anchor, Shared, StartHook};

/// The time between two beats unless the builder is told otherwise.
const DEFAULT_PERIOD: Duration = Duration::from_millis(1);

/// Runs futures on a fixed number of threads, until it is shut down or dropped.
///
/// # Order
///
/// Every worker has two queues, both first in, first out. In the first are *woken* tasks: new ones and those to which
/// something happened. In the second are *spent* tasks, which used up their slice and said so with [`spent`] or
/// [`end_slice`]. Woken tasks run first. So that they cannot starve the spent ones, a row of woken tasks ends with the
/// next beat (or after 1,024 of them), and one spent task runs. A task that was woken while it
/// ran, without being spent, is a woken task.
///
/// A woken task runs on the worker that woke it. Tasks made ready by other threads go through one small queue
/// that every worker looks at before each task. A worker without tasks takes half of another's, oldest first, and tasks keep their level;
/// a worker that has tasks evens out with one other per beat. A single task that waits for a busy worker stays
/// with it until the next beat: in a dialogue of two tasks, moving the one that was just woken to another core costs more
/// than it gains.
///
/// # Panics and blocking
///
/// A task that panics is dropped, the panic is logged, and nothing else ends; the same goes for its destructor. A task that blocks
/// its thread takes that worker away from all others; what it leaves behind in the queue is taken over at the next beat.
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
///     scheduler.spawn(async move { sender.send(number * number).expect("somebody adds them up") });
/// }
/// assert_eq!(receiver.iter().take(10).sum::<u32>(), 385);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Scheduler {
    spawner: Spawner,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Scheduler {
    /// Begins to set up a scheduler.
    pub fn builder() -> Builder {
        Builder {
            workers: None,
            period: Some(DEFAULT_PERIOD),
            beat: Box::new(|| {}),
            start: Box::new(|| Box::new(())),
        }
    }

    /// Runs a future to its end, beside all others.
    ///
    /// Never waits. There is no handle: whoever wants to know about the end has the future say so. After a
    /// [shutdown](Self::shutdown) the future is dropped at once, here.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn(future);
    }

    /// Gives out what can spawn and does not keep the scheduler running, to be held by tasks.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Lets the clock beat once, now and on this thread, as the ticker does every period.
    ///
    /// This is the whole clock of a scheduler built with [`Builder::manual_ticker`].
    pub fn beat(&self) {
        self.shared().beat();
    }

    /// Says how often the clock has beaten, which it does not while the scheduler is idle.
    pub fn beats(&self) -> u64 {
        self.shared().ticker().beats()
    }

    /// Says whether nothing runs, nothing is ready and every thread, the ticker's too, sleeps without a timeout.
    ///
    /// Once true it stays true until another thread spawns or wakes a task, or the scheduler is shut down. It becomes true
    /// at most one period after the last worker fell asleep.
    pub fn is_idle(&self) -> bool {
        self.shared().is_idle()
    }

    /// Says what each worker has done since it started, worker 0 first.
    ///
    /// The counters are read one after the other while they move on.
    pub fn counts(&self) -> Vec<WorkerCounts> {
        self.shared().counts()
    }

    /// Ends the scheduler: the threads stop and what they have not run is dropped.
    ///
    /// Each worker leaves after the task that it runs, which gets beats until then, and drops the ready tasks that
    /// it has left. This waits for all threads, unless it is called on one of them (in a task, in a hook): then it
    /// only tells them. Calling it twice does no harm; dropping the scheduler does the same.
    ///
    /// A task that *waits* is held by nothing but its wakers. It is dropped when the last of these is, or when one of them is
    /// used, on the thread that does so, which need not have what [`Builder::on_worker_start`] provides. It never runs
    /// again in either case. Who needs all futures gone wakes them all before (or ends them by their own means).
    pub fn shutdown(&self) {
        self.shared().stop();
        if self.shared().owns_this_thread() {
            return;
        }
        // Held while waiting, so that a second caller waits too. No thread of ours comes here.
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the scheduler panicked; this is a fault of the scheduler");
            }
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.spawner.anchor
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
/// A task that held the scheduler itself could be what drops it last, on one of its own threads.
#[derive(Clone)]
pub struct Spawner {
    anchor: Anchor,
}

impl Spawner {
    /// Runs a future to its end, like [`Scheduler::spawn`].
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
        worker::spawn(&self.anchor, future);
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Spawner")
    }
}

/// What one worker has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounts {
    /// How often it ran a task, once per slice.
    pub tasks_run: u64,
    /// Tasks that it took from other workers.
    pub tasks_stolen: u64,
    /// Slices that ended because they were used up.
    pub slices_spent: u64,
    /// How often it went to sleep for want of work.
    pub parks: u64,
}

/// Sets up a [`Scheduler`].
#[must_use = "nothing runs before `build`"]
pub struct Builder {
    /// None: one per core.
    workers: Option<usize>,
    /// None: the clock beats by hand.
    period: Option<Duration>,
    beat: Beat,
    start: StartHook,
}

impl Builder {
    /// Sets the number of worker threads; by default one for each core this program may use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets the time between two beats; by default one millisecond.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = Some(period);
        self
    }

    /// Leaves the clock to calls of [`Scheduler::beat`], for tests that must not depend on time.
    pub fn manual_ticker(mut self) -> Self {
        self.period = None;
        self
    }

    /// Sets what is called on every beat, on the ticker's thread.
    ///
    /// It should be quick. Beats come once a period while a worker is awake, the first one a period after the
    /// first worker woke, and not at all while the scheduler is idle; a ticker that was held up beats once and not once for each beat it missed.
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

    /// Sets what is called on every worker's thread before its first task.
    ///
    /// What it returns stays on that thread and is dropped with it, after the last task. This is the place to enter
    /// another library's runtime, whose guard cannot leave the thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use lunatic_vm::scheduler::Scheduler;
    ///
    /// thread_local!(static NAME: std::cell::Cell<&'static str> = const { std::cell::Cell::new("none") });
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
    pub fn on_worker_start(mut self, start: impl Fn() -> Box<dyn Any> + Send + Sync + 'static) -> Self {
        self.start = Box::new(start);
        self
    }

    /// Starts the threads, named `lunatic-worker-0` and so on, and `lunatic-ticker`.
    ///
    /// # Errors
    ///
    /// With no workers or a period of zero (`InvalidInput`), or when the system starts no more threads; those that
    /// did start are stopped again.
    pub fn build(self) -> io::Result<Scheduler> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => thread::available_parallelism()?.get(),
        };
        if workers == 0 {
            return Err(invalid("a scheduler of 0 workers runs nothing: give it at least 1"));
        }
        if self.period.is_some_and(|period| period.is_zero()) {
            return Err(invalid("a period of 0 never ends beating: give it at least a microsecond"));
        }

        let parkers: Vec<Parker> = (0..workers).map(|_| Parker::new()).collect();
        let unparkers = parkers.iter().map(Parker::unparker).collect();
        let ticker_parker = Parker::new();
        let ticker = Ticker::new(self.beat, ticker_parker.unparker());
        let shared = Arc::new(Shared::new(unparkers, ticker, self.period.is_some()));
        // Dropped on an early return, which stops the threads that have started.
        let scheduler = Scheduler {
            spawner: Spawner {
                anchor: Arc::new(Arc::clone(&shared)),
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
            let body = move || ticker::tick(&shared, &ticker_parker, period);
            scheduler.start_thread("lunatic-ticker".to_owned(), body)?;
        }
        Ok(scheduler)
    }
}

impl Scheduler {
    fn start_thread(&self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let builder = thread::Builder::new().name(name.clone());
        let thread = builder.spawn(body).map_err(|error| {
            let sentence = format!("cannot start the thread {name}: {error}; fewer workers may fit");
            io::Error::new(error.kind(), sentence)
        })?;
        lock(&self.threads).push(thread);
        Ok(())
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
