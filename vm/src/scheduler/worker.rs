//! The workers: threads that run ready tasks, take them from each other and sleep when there are
//! none.
//!
//! What they share is one queue per worker, a queue for tasks that come from other threads, and the
//! list of sleepers. A worker that has tasks touches only its own queue, whose lock nobody else
//! wants unless he has nothing to do.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::task::Waker;

use async_task::{Builder, Runnable, ScheduleInfo, WithInfo};
use crossbeam_utils::CachePadded;

use super::WorkerCounts;
use super::group::{Group, VirtualTime};
use super::idle::Idle;
use super::queue::{Level, Rules, RunQueue, Taken};
use super::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, Parker, Unparker, count, lock};
use super::task::{self, Contained, Task, contain, discard, take_spent};
use super::ticker::{Clock, Ticker};

/// What is called on every worker's thread before it runs its first task.
pub(super) type StartHook = Box<dyn Fn() -> Box<dyn Any> + Send + Sync>;

/// How a task, a worker or a handle holds the scheduler.
///
/// Every worker has such an anchor of its own and the tasks that it spawns share that: spawning and
/// finishing a task count references on the worker's cache line, not on one of all workers.
pub(super) type Anchor = Arc<Arc<Shared>>;

thread_local! {
    /// Which thread of which scheduler this is.
    static HERE: Cell<Option<Place>> = const { Cell::new(None) };
    /// The anchor of the worker that this thread is.
    static ANCHOR: OnceCell<Anchor> = const { OnceCell::new() };
    /// The parked task that this thread makes ready right now.
    static RESUMED: Cell<Resumed> = const { Cell::new(Resumed::Nobody) };
}

/// Makes a parked task ready and returns it; `None` where it is ready or gone already.
fn resume(waker: Waker) -> Option<Runnable<Group>> {
    RESUMED.set(Resumed::Expected);
    waker.wake();
    match RESUMED.replace(Resumed::Nobody) {
        Resumed::Here(task) => Some(task),
        Resumed::Expected | Resumed::Nobody => None,
    }
}

/// Hands a task that became ready to whoever resumes it on this thread; gives it back where nobody does.
fn hand_over(task: Runnable<Group>) -> Option<Runnable<Group>> {
    let Ok(resumed) = RESUMED.try_with(|resumed| resumed.replace(Resumed::Nobody)) else { return Some(task) };
    match resumed {
        Resumed::Expected => {
            RESUMED.set(Resumed::Here(task));
            None
        }
        other => {
            RESUMED.set(other);
            Some(task)
        }
    }
}

/// What has become of a task that is being resumed.
enum Resumed {
    /// None is.
    Nobody,
    /// It is not ready yet.
    Expected,
    /// It is ready.
    Here(Runnable<Group>),
}

/// A group may be ahead by so many slices on each worker, and still has its woken tasks run before others' spent ones: each
/// worker may just have run one that spent its slice, and a woken task is to be as prompt then as at any time.
const LEAD: u64 = 2;

/// A thread of one of perhaps many schedulers in this program.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The address of the scheduler, which is its own as long as the thread holds it.
    scheduler: usize,
    /// None on the ticker's thread.
    worker: Option<usize>,
}

/// What a push did beside storing the task.
enum Pushed {
    /// The owner will come to it.
    Kept,
    /// There was nothing for others to take, and now there is: see whether one sleeps.
    Offered,
    /// The queue is closed.
    Refused(Task),
}

/// A run queue behind its lock, with what it offers written outside.
struct Queue {
    tasks: Mutex<RunQueue<Task>>,
    /// What [`RunQueue::offered`] said after the last change; written under the lock.
    offered: AtomicUsize,
}

impl Queue {
    fn new(tasks: RunQueue<Task>) -> Self {
        Self { tasks: Mutex::new(tasks), offered: AtomicUsize::new(0) }
    }

    /// Changes the queue; answers also whether it now offers tasks and did not before.
    ///
    /// Only that step from none to some can find a sleeper that has to be called: nobody goes to
    /// sleep while a queue offers something, and whoever was woken for the first task calls the
    /// next worker if there are more (see `Own::find_work`).
    fn change<T>(&self, change: impl FnOnce(&mut RunQueue<Task>) -> T) -> (T, bool) {
        let mut tasks = lock(&self.tasks);
        let result = change(&mut tasks);
        let offered = tasks.offered();
        // Relaxed: written only under the lock, and who calls or sleeps has a fence in between (see
        // `Idle`).
        let before = self.offered.load(Ordering::Relaxed);
        if before != offered {
            self.offered.store(offered, Ordering::Relaxed);
        }
        drop(tasks);
        (result, before == 0 && offered > 0)
    }

    fn offered(&self) -> usize {
        self.offered.load(Ordering::Relaxed)
    }

    fn push(&self, level: Level, task: Runnable<Group>) -> Pushed {
        self.settle(|tasks| tasks.push(level, task, Runnable::metadata, Task::Ready))
    }

    /// Puts back what stands for the task that its worker took last.
    fn park(&self, task: Task) -> Pushed {
        self.settle(|tasks| tasks.park(task))
    }

    fn settle(&self, push: impl FnOnce(&mut RunQueue<Task>) -> Result<(), Task>) -> Pushed {
        match self.change(push) {
            (Ok(()), false) => Pushed::Kept,
            (Ok(()), true) => Pushed::Offered,
            (Err(task), _) => Pushed::Refused(task),
        }
    }

    fn close(&self) {
        let (tasks, _) = self.change(RunQueue::close);
        discard(tasks);
    }
}

/// What others see of a worker.
struct Worker {
    queue: Queue,
    unparker: Unparker,
    tasks_run: AtomicU64,
    tasks_stolen: AtomicU64,
    slices_spent: AtomicU64,
    parks: AtomicU64,
}

/// What all threads of a scheduler share.
pub(super) struct Shared {
    workers: Box<[CachePadded<Worker>]>,
    /// Tasks made ready by other threads than the workers.
    injected: CachePadded<Queue>,
    idle: CachePadded<Idle>,
    ticker: CachePadded<Ticker>,
    clock: Clock,
    /// Set once: workers leave after the task they run.
    stopping: AtomicBool,
    /// Workers whose threads have not left yet.
    present: AtomicUsize,
}

impl Shared {
    pub(super) fn new(unparkers: Vec<Unparker>, ticker: Ticker, clock: Clock, slice: u64) -> Self {
        let idle = Idle::new(unparkers.len());
        let lead = LEAD * slice.saturating_mul(clock.period()).saturating_mul(unparkers.len() as u64);
        let rules = Arc::new(Rules { slice, lead, time: VirtualTime::default() });
        let workers = unparkers.into_iter().map(|unparker| {
            CachePadded::new(Worker {
                queue: Queue::new(RunQueue::of_worker(&rules)),
                unparker,
                tasks_run: AtomicU64::new(0),
                tasks_stolen: AtomicU64::new(0),
                slices_spent: AtomicU64::new(0),
                parks: AtomicU64::new(0),
            })
        });
        Self {
            workers: workers.collect(),
            injected: CachePadded::new(Queue::new(RunQueue::of_nobody(&rules))),
            idle: CachePadded::new(idle),
            ticker: CachePadded::new(ticker),
            clock,
            stopping: AtomicBool::new(false),
            present: AtomicUsize::new(0),
        }
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// Returns the time by which groups are charged, in nanoseconds.
    fn now(&self) -> u64 {
        self.clock.now(&self.ticker)
    }

    pub(super) fn counts(&self) -> Vec<WorkerCounts> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = self.workers.iter().map(|worker| WorkerCounts {
            tasks_run: read(&worker.tasks_run),
            tasks_stolen: read(&worker.tasks_stolen),
            slices_spent: read(&worker.slices_spent),
            parks: read(&worker.parks),
        });
        counts.collect()
    }

    /// Says how many workers sleep.
    pub(super) fn sleepers(&self) -> usize {
        self.idle.parked()
    }

    /// Says whether no worker is awake.
    pub(super) fn everybody_sleeps(&self) -> bool {
        self.sleepers() == self.workers.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.everybody_sleeps()
            && self.injected.offered() == 0
            && (!self.clock.ticks_by_itself() || self.ticker.is_asleep())
    }

    /// Lets the clock beat once, and has a sleeper take what waits behind a worker that is busy.
    pub(super) fn beat(&self) {
        self.ticker.beat();
        let mut left_waiting = false;
        for worker in &self.workers {
            let ((), offers) = worker.queue.change(RunQueue::note_beat);
            left_waiting |= offers;
        }
        if left_waiting {
            self.wake_one();
        }
    }

    /// Tells all workers to leave after the task they run.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.unparker.unpark();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Counts a worker whose thread is about to start.
    pub(super) fn expect_worker(&self) {
        self.present.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a worker out; with the last one the scheduler takes no more tasks and the clock
    /// stops.
    pub(super) fn lose_worker(&self) {
        if self.present.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.injected.close();
            self.ticker.stop();
        }
    }

    /// Says whether the calling thread is a worker of this scheduler, or its ticker.
    pub(super) fn owns_this_thread(&self) -> bool {
        HERE.get().is_some_and(|place| place.scheduler == self.address())
    }

    /// Marks the calling thread as one of this scheduler's.
    pub(super) fn own_this_thread(&self, worker: Option<usize>) {
        HERE.set(Some(Place { scheduler: self.address(), worker }));
    }

    /// Which worker of this scheduler the calling thread is.
    fn here(&self) -> Option<usize> {
        let place = HERE.get()?;
        if place.scheduler != self.address() {
            return None;
        }
        place.worker
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Puts a ready task where it will be found.
    ///
    /// On a worker's thread that is the worker's own queue: a process that is sent a message runs
    /// next where the message was written. `async-task` reports a task that became ready while it
    /// ran at the end of its run, on the thread that ran it, so that the note left by `end_slice`
    /// is this task's own.
    fn schedule(&self, task: Runnable<Group>, woken_while_running: bool) {
        let Some(task) = hand_over(task) else { return };
        let mut level = Level::Woken;
        if woken_while_running
            && let Some(here) = self.here()
            && take_spent()
        {
            count(&self.workers[here].slices_spent);
            level = Level::Spent;
        }
        self.put(level, task);
    }

    fn put(&self, level: Level, task: Runnable<Group>) {
        let queue = self.here().map_or(&*self.injected, |here| &self.workers[here].queue);
        self.settle(queue.push(level, task));
    }

    /// Does what is left to do after a push.
    fn settle(&self, pushed: Pushed) {
        match pushed {
            Pushed::Kept => {}
            Pushed::Offered => self.wake_one(),
            Pushed::Refused(task) => discard([task]),
        }
    }

    /// Wakes a sleeper for work that was just published, if that needs anybody.
    fn wake_one(&self) {
        let Some(worker) = self.idle.call_one() else {
            return;
        };
        self.workers[worker].unparker.unpark();
        self.ticker.rouse();
    }

    /// Says whether there are tasks that a worker without any may take.
    fn has_offers(&self) -> bool {
        self.injected.offered() > 0 || self.workers.iter().any(|worker| worker.queue.offered() > 0)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Scheduler")
            .field("workers", &self.workers.len())
            .field("idle", &*self.idle)
            .field("ticker", &*self.ticker)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

/// Makes a task of a future and has it run, without a handle.
pub(super) fn spawn(anchor: &Anchor, group: &Group, future: impl Future<Output = ()> + Send + 'static) {
    let nearest = match anchor.here() {
        // The variable is gone if the destructor of another one calls this.
        Some(_) => ANCHOR.try_with(|own| own.get().cloned()).ok().flatten(),
        None => None,
    };
    let held = nearest.unwrap_or_else(|| Arc::clone(anchor));
    let schedule = move |task, info: ScheduleInfo| held.schedule(task, info.woken_while_running);
    let builder = Builder::new().metadata(group.clone());
    let (runnable, task) = builder.spawn(|_| Contained::new(future), WithInfo(schedule));
    task.detach();
    anchor.put(Level::New, runnable);
}

/// The side of a worker that only its own thread sees.
struct Own<'a> {
    shared: &'a Shared,
    index: usize,
    parker: Parker,
    /// The beat that this worker last saw.
    beat: u64,
    /// Where the next search begins, so that neighbours are not always robbed first.
    next_victim: usize,
    /// Tasks on their way from one queue to another; no two locks are held at once.
    taken: Vec<Taken<Task>>,
}

/// The body of a worker's thread.
pub(super) fn work(anchor: Anchor, index: usize, parker: Parker, start: &StartHook) {
    let shared: &Shared = &anchor;
    let own_anchor = Arc::new(Arc::clone(&*anchor));
    ANCHOR.with(|own| own.set(own_anchor)).expect("a thread is one worker once");
    shared.own_this_thread(Some(index));
    // Kept until the last future of this worker is dropped, whose destructor may need it.
    let _guard = contain("the start hook of a scheduler", AssertUnwindSafe(start));
    let mut own = Own { shared, index, parker, beat: 0, next_victim: index, taken: Vec::new() };
    own.run_until_stopped();
    shared.workers[index].queue.close();
    shared.lose_worker();
}

impl<'a> Own<'a> {
    fn run_until_stopped(&mut self) {
        while !self.shared.is_stopping() {
            let beat = self.shared.ticker.beats();
            if beat != self.beat {
                self.beat = beat;
                self.even_out();
            }
            if self.shared.injected.offered() > 0 {
                self.take_injected();
            }
            match self.queue().change(|tasks| tasks.pop(beat, || self.shared.now())) {
                (Some(Task::Ready(task)), _) => self.run(task),
                (Some(Task::Parked(waker)), _) => {
                    if let Some(task) = resume(waker) {
                        self.run(task);
                    }
                }
                (None, _) => self.find_work(),
            }
        }
    }

    fn run(&self, task: Runnable<Group>) {
        count(&self.me().tasks_run);
        if let Some(waker) = task::run(task) {
            count(&self.me().slices_spent);
            self.shared.settle(self.queue().park(Task::Parked(waker)));
        }
        // A note of a task that did not go on is nobody's.
        take_spent();
    }

    /// Returns with tasks in the own queue, or when the scheduler stops.
    fn find_work(&mut self) {
        let shared = self.shared;
        shared.idle.start_search();
        while !self.search() {
            shared.idle.lie_down(self.index);
            if (shared.has_offers() || shared.is_stopping()) && shared.idle.get_up(self.index) {
                shared.ticker.rouse();
            } else {
                count(&self.me().parks);
                self.parker.park();
            }
            if shared.is_stopping() {
                return;
            }
        }
        if shared.idle.end_search() && shared.has_offers() {
            shared.wake_one();
        }
    }

    /// Looks once everywhere.
    fn search(&mut self) -> bool {
        if self.shared.injected.offered() > 0 && self.take_injected() {
            return true;
        }
        for _ in 1..self.shared.workers.len() {
            let victim = self.pick_victim();
            if victim.offered() == 0 {
                continue;
            }
            victim.change(|tasks| tasks.take(tasks.offered(), &mut self.taken));
            if self.keep_stolen() {
                return true;
            }
        }
        false
    }

    /// Takes this worker's share of what came from outside, at least one task.
    fn take_injected(&mut self) -> bool {
        let workers = self.shared.workers.len();
        let taken = &mut self.taken;
        self.shared.injected.change(|tasks| tasks.take(tasks.len().div_ceil(workers), taken));
        self.keep_taken()
    }

    /// Once in a beat: takes from another worker half of what he has more.
    ///
    /// Without this, two workers that never run dry could keep ten spinning tasks on one core and
    /// one on the other for ever.
    fn even_out(&mut self) {
        if self.shared.workers.len() == 1 {
            return;
        }
        let victim = self.pick_victim();
        if victim.offered() <= self.queue().offered() {
            return;
        }
        let (length, _) = self.queue().change(|tasks| tasks.len());
        victim.change(|tasks| tasks.take_surplus(length, &mut self.taken));
        self.keep_stolen();
    }

    fn keep_stolen(&mut self) -> bool {
        let stolen = &self.me().tasks_stolen;
        stolen.store(stolen.load(Ordering::Relaxed) + self.taken.len() as u64, Ordering::Relaxed);
        self.keep_taken()
    }

    /// Moves what was taken into the own queue; answers whether there was anything.
    fn keep_taken(&mut self) -> bool {
        if self.taken.is_empty() {
            return false;
        }
        let queue = &self.shared.workers[self.index].queue;
        let ((), offers) = queue.change(|tasks| tasks.append(&mut self.taken));
        if offers {
            self.shared.wake_one();
        }
        true
    }

    /// The queue of another worker, a different one each time. There must be another one.
    fn pick_victim(&mut self) -> &'a Queue {
        let workers = self.shared.workers.len();
        self.next_victim = (self.next_victim + 1) % workers;
        if self.next_victim == self.index {
            self.next_victim = (self.next_victim + 1) % workers;
        }
        &self.shared.workers[self.next_victim].queue
    }

    fn me(&self) -> &Worker {
        &self.shared.workers[self.index]
    }

    fn queue(&self) -> &Queue {
        &self.me().queue
    }
}
