//! The worker pool: which worker takes which task, which workers sleep, and when they are woken.
//!
//! The shared state consists of each worker's queue, a queue for tasks from other threads, and the
//! list of sleepers. If no tasks arrive from other threads, a worker that has tasks takes only its
//! own queue's lock between two beats, and contends for it only with workers that have run out of
//! tasks. If a task wakes another and then waits, the worker takes no lock at all: it is handed over
//! to the other task through a slot beside the queue. This module does not know what a task is or
//! how it runs, so that a model checker can explore every thread interleaving (`vm/model`).

use std::fmt;
use std::mem;

use crossbeam_utils::CachePadded;

use super::clock::Clock;
use super::group::{Group, VirtualTime};
use super::idle::Idle;
use super::queue::{Level, Rules, RunQueue, Taken};
use super::slot::{Raw, Slot};
use super::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, Parker, Unparker, count, lock,
};

/// How far ahead of the other groups a group may get, in slices per worker, before its woken tasks
/// stop running ahead of other groups' spent tasks. Each worker may just have run one of the
/// group's tasks for an entire slice, which should not delay the group's woken tasks.
const LEAD: u64 = 2;

/// The number of hand-overs in succession while other tasks are waiting in the worker's queue. The
/// next task is then chosen from the queue, so a task there waits for a few turns longer than it
/// would if every woken task joined the end of the queue.
const MAX_HAND_OVERS: u32 = 8;

/// What a pool's queues hold.
pub(super) trait Entry: Sized {
    /// A task that is ready to run.
    type Ready: Raw;

    /// Returns the entry of a ready task.
    fn ready(task: Self::Ready) -> Self;

    /// Returns the group of a ready task.
    fn group(task: &Self::Ready) -> &Group;
}

/// The outcome of pushing a task.
pub(super) enum Pushed<T> {
    /// The task is stored, and the queue's owner will run it.
    Kept,
    /// The task is stored. The queue now has tasks for other workers to take, and did not before,
    /// so a sleeping worker may have to be woken.
    Offered,
    /// The queue is closed, and the task is returned.
    Refused(T),
}

/// A run queue behind a lock. What it offers to other workers is stored outside the lock.
pub(super) struct SharedQueue<T: Entry> {
    /// The task that its worker runs next, if it was woken by the running task. The queue for tasks
    /// from other threads does not use this.
    slot: Slot<T::Ready>,
    tasks: Mutex<RunQueue<T>>,
    /// The number of tasks offered after the last change. Written only while the lock is held.
    offered: AtomicUsize,
    /// Whether tasks were waiting after the last change, but none was offered. Written only while
    /// the lock is held.
    withholds: AtomicBool,
}

impl<T: Entry> SharedQueue<T> {
    fn new(tasks: RunQueue<T>) -> Self {
        Self {
            slot: Slot::new(),
            tasks: Mutex::new(tasks),
            offered: AtomicUsize::new(0),
            withholds: AtomicBool::new(false),
        }
    }

    /// Changes the queue. Returns the result of `change`, and whether the queue now offers tasks
    /// but did not before.
    ///
    /// A wake-up can be required only when the number of offered tasks changes from zero. Workers
    /// do not go to sleep while a queue offers tasks, and the worker that is woken for the first
    /// task wakes another if there are more (see `LocalWorker::find_work`).
    fn change<R>(&self, change: impl FnOnce(&mut RunQueue<T>) -> R) -> (R, bool) {
        let mut tasks = lock(&self.tasks);
        let result = change(&mut tasks);
        let offered = self.present_offer(&tasks);
        let withholds = offered == 0 && tasks.len() > 0;
        // Relaxed ordering suffices: the number is written only under the lock, and every thread
        // that wakes others or goes to sleep executes a fence in between (see `Idle`).
        let before = self.offered.load(Ordering::Relaxed);
        if before != offered {
            self.offered.store(offered, Ordering::Relaxed);
        }
        if self.withholds.load(Ordering::Relaxed) != withholds {
            self.withholds.store(withholds, Ordering::Relaxed);
        }
        drop(tasks);
        (result, before == 0 && offered > 0)
    }

    /// Returns the number of tasks that another worker may take now. A queue's only task stays with
    /// its owner if the owner would run it next, but not if another task is in the slot.
    fn present_offer(&self, tasks: &RunQueue<T>) -> usize {
        match tasks.offered() {
            0 if self.slot.is_full() => tasks.len().min(1),
            offered => offered,
        }
    }

    /// Returns whether no tasks were waiting after the last change.
    fn was_empty(&self) -> bool {
        self.offered() == 0 && !self.withholds.load(Ordering::Relaxed)
    }

    fn offered(&self) -> usize {
        self.offered.load(Ordering::Relaxed)
    }

    /// Appends a ready task to its level, like [`RunQueue::push`].
    pub(super) fn push(&self, level: Level, task: T::Ready) -> Pushed<T> {
        self.push_with(|tasks| tasks.push(level, task, T::group, T::ready))
    }

    /// Makes a task that the running task has woken run next, if the slot is empty. Otherwise,
    /// appends it to the queue.
    ///
    /// Only the queue's owner may call this method, while it is running a task of the same group.
    pub(super) fn hand_over(&self, task: T::Ready) -> Pushed<T> {
        if let Err(task) = self.slot.put(task) {
            return self.push(Level::Woken, task);
        }
        // The owner does not run the queue's only task next any more.
        if self.withholds.load(Ordering::Relaxed) && self.change(|_| ()).1 {
            return Pushed::Offered;
        }
        Pushed::Kept
    }

    /// Moves the task in the slot to the queue, behind all other woken tasks. If the queue is
    /// closed, returns the task.
    fn empty_slot(&self, tasks: &mut RunQueue<T>) -> Option<T> {
        let task = self.slot.take()?;
        tasks.push(Level::Woken, task, T::group, T::ready).err()
    }

    /// Queues the entry of a task whose slice is over on a thread that is not a worker.
    pub(super) fn push_spent(&self, group: &Group, entry: T) -> Pushed<T> {
        self.push_with(|tasks| {
            tasks.push(
                Level::Spent,
                (group, entry),
                |(group, _)| group,
                |(_, entry)| entry,
            )
        })
    }

    /// Queues the entry of the running task, like [`RunQueue::park`].
    pub(super) fn park(&self, task: T, was_handed_over: bool, now: u64) -> Pushed<T> {
        self.push_with(|tasks| tasks.park(task, was_handed_over, now))
    }

    fn push_with(&self, push: impl FnOnce(&mut RunQueue<T>) -> Result<(), T>) -> Pushed<T> {
        match self.change(push) {
            (Ok(()), false) => Pushed::Kept,
            (Ok(()), true) => Pushed::Offered,
            (Err(task), _) => Pushed::Refused(task),
        }
    }

    /// Makes the queue reject new tasks, and returns the remaining tasks so that they can be
    /// dropped outside the lock.
    pub(super) fn close(&self) -> impl Iterator<Item = T> + use<T> {
        let ((last, tasks), _) = self.change(|tasks| (self.slot.take(), tasks.close()));
        last.map(T::ready).into_iter().chain(tasks)
    }
}

/// A worker as seen by other threads.
pub(super) struct Worker<T: Entry> {
    pub(super) queue: SharedQueue<T>,
    unparker: Unparker,
    pub(super) tasks_run: AtomicU64,
    tasks_stolen: AtomicU64,
    pub(super) slices_spent: AtomicU64,
    parks: AtomicU64,
}

/// The statistics of a worker since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCounts {
    /// The number of times that the worker ran a task. A task counts once for each slice.
    pub tasks_run: u64,
    /// The number of tasks that the worker stole from other workers.
    pub tasks_stolen: u64,
    /// The number of slices that tasks used up on this worker.
    pub slices_spent: u64,
    /// The number of times that the worker went to sleep for lack of work.
    pub parks: u64,
}

impl<T: Entry> Worker<T> {
    pub(super) fn counts(&self) -> WorkerCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerCounts {
            tasks_run: read(&self.tasks_run),
            tasks_stolen: read(&self.tasks_stolen),
            slices_spent: read(&self.slices_spent),
            parks: read(&self.parks),
        }
    }
}

/// A scheduler's workers and their shared state.
pub(super) struct WorkerPool<T: Entry> {
    pub(super) workers: Box<[CachePadded<Worker<T>>]>,
    /// Tasks made ready by threads other than the workers.
    pub(super) injected: CachePadded<SharedQueue<T>>,
    pub(super) idle: CachePadded<Idle>,
    pub(super) clock: CachePadded<Clock>,
    rules: Arc<Rules>,
    /// Set once, to tell the workers to exit after their current tasks.
    stopping: AtomicBool,
}

impl<T: Entry> WorkerPool<T> {
    pub(super) fn new(unparkers: Vec<Unparker>, clock: Clock, slice: u64) -> Self {
        let idle = Idle::new(unparkers.len());
        let slice_time = slice.saturating_mul(clock.period());
        let lead = LEAD * slice_time.saturating_mul(unparkers.len() as u64);
        let rules = Arc::new(Rules {
            slice,
            slice_time,
            lead,
            time: VirtualTime::default(),
        });
        let workers = unparkers.into_iter().map(|unparker| {
            CachePadded::new(Worker {
                queue: SharedQueue::new(RunQueue::of_worker(&rules)),
                unparker,
                tasks_run: AtomicU64::new(0),
                tasks_stolen: AtomicU64::new(0),
                slices_spent: AtomicU64::new(0),
                parks: AtomicU64::new(0),
            })
        });
        Self {
            workers: workers.collect(),
            injected: CachePadded::new(SharedQueue::new(RunQueue::without_owner(&rules))),
            idle: CachePadded::new(idle),
            clock: CachePadded::new(clock),
            rules,
            stopping: AtomicBool::new(false),
        }
    }

    /// Returns whether every worker is asleep and no other thread is running a task.
    pub(super) fn all_asleep(&self) -> bool {
        self.idle.is_at_rest(self.workers.len())
    }

    /// Counts the calling thread, which is not a worker, as running a task. The clock beats until
    /// [`end_lending`](Self::end_lending) is called.
    pub(super) fn start_lending(&self) {
        self.idle.start_lending();
        self.clock.rouse();
    }

    /// Ends what [`start_lending`](Self::start_lending) started, and charges the task's group if
    /// the clock has beaten since `beat`.
    ///
    /// The time is counted in whole beats, because most tasks run here for a fraction of a beat,
    /// and reading the clock twice would be a noticeable part of that. On average, this is exact.
    pub(super) fn end_lending(&self, group: &Group, beat: u64) {
        self.idle.end_lending();
        let beats = self.clock.beats() - beat;
        if beats > 0 {
            let used = beats.saturating_mul(self.clock.period());
            group.charge(used, &self.rules.time);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.all_asleep() && self.injected.offered() == 0 && self.clock.is_at_rest()
    }

    /// Sleeps while nothing runs. Called only on the ticker thread.
    pub(super) fn sleep_through_idleness(&self, parker: &Parker) {
        self.clock.sleep_while(|| self.all_asleep(), parker);
    }

    /// Makes the clock beat once. If tasks are waiting behind busy workers, wakes a sleeping worker
    /// to take them. Returns the tasks that were handed over on a worker that exited in the
    /// meantime.
    ///
    /// A beat moves the tasks in the slots to the queues. A streak of hand-overs therefore ends with
    /// the beat, and no task is stuck in the slot of a busy worker.
    #[must_use = "refused tasks must be dropped with `discard`"]
    pub(super) fn beat(&self) -> Vec<T> {
        self.clock.beat();
        let mut refused = Vec::new();
        let mut left_waiting = false;
        for worker in &self.workers {
            let queue = &worker.queue;
            let (late, offers) = queue.change(|tasks| {
                let late = queue.empty_slot(tasks);
                tasks.note_beat();
                late
            });
            refused.extend(late);
            left_waiting |= offers;
        }
        if left_waiting {
            self.wake_one();
        }
        refused
    }

    /// Tells all workers to exit after their current tasks.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.unparker.unpark();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Wakes a worker if the outcome of a push requires it. Returns the task if the push was
    /// refused.
    #[must_use = "a refused task must be dropped with `discard`"]
    pub(super) fn finish_push(&self, pushed: Pushed<T>) -> Option<T> {
        match pushed {
            Pushed::Kept => None,
            Pushed::Offered => {
                self.wake_one();
                None
            }
            Pushed::Refused(task) => Some(task),
        }
    }

    /// Wakes a sleeping worker for newly published work, unless a worker is already searching.
    fn wake_one(&self) {
        let Some(worker) = self.idle.pick_sleeper() else {
            return;
        };
        self.workers[worker].unparker.unpark();
        self.clock.rouse();
    }

    /// Returns whether there are tasks that an idle worker could take.
    fn has_offers(&self) -> bool {
        self.injected.offered() > 0 || self.workers.iter().any(|worker| worker.queue.offered() > 0)
    }
}

impl<T: Entry> fmt::Debug for WorkerPool<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Scheduler")
            .field("workers", &self.workers.len())
            .field("idle", &*self.idle)
            .field("clock", &*self.clock)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

/// The part of a worker that is accessed only by the worker's own thread.
pub(super) struct LocalWorker<'a, T: Entry> {
    pool: &'a WorkerPool<T>,
    index: usize,
    parker: Parker,
    /// The last beat that this worker observed.
    beat: u64,
    /// The number of hand-overs since a task was last popped, not counting those for which no other
    /// task had to wait.
    hand_overs: u32,
    /// The beat at which the turn of the last task popped ended. `None` until it has ended.
    ended: Option<u64>,
    /// The worker whose queue was visited last. The next search continues after it, so that tasks
    /// are not always stolen from the same neighbour.
    next_victim: usize,
    /// Tasks on their way from one queue to another. They are stored here so that two locks are
    /// never held at the same time.
    taken: Vec<Taken<T>>,
}

impl<'a, T: Entry> LocalWorker<'a, T> {
    pub(super) fn new(pool: &'a WorkerPool<T>, index: usize, parker: Parker) -> Self {
        Self {
            pool,
            index,
            parker,
            beat: 0,
            hand_overs: 0,
            ended: None,
            next_victim: index,
            taken: Vec::new(),
        }
    }

    /// Returns the next task for this worker, sleeping until there is one. Returns `None` when the
    /// pool is stopping.
    pub(super) fn next(&mut self) -> Option<T> {
        while !self.pool.is_stopping() {
            let beat = self.pool.clock.beats();
            self.ended.get_or_insert(beat);
            if beat != self.beat {
                self.beat = beat;
                self.even_out();
            } else if let Some(task) = self.take_handed_over() {
                return Some(T::ready(task));
            }
            if self.pool.injected.offered() > 0 {
                self.take_injected();
            }
            let task = self.pop(beat);
            if task.is_some() {
                return task;
            }
            self.find_work();
        }
        None
    }

    /// Takes the task that was handed over by the last one, unless it is the turn of the tasks in
    /// the queue.
    fn take_handed_over(&mut self) -> Option<T::Ready> {
        let queue = self.queue();
        if !queue.slot.is_full() {
            return None;
        }
        if !queue.was_empty() {
            if self.hand_overs == MAX_HAND_OVERS {
                return None;
            }
            self.hand_overs += 1;
        }
        queue.slot.take()
    }

    /// Returns whether the running task was handed over while other tasks were waiting.
    pub(super) fn was_handed_over(&self) -> bool {
        self.hand_overs > 0
    }

    /// Takes the task that the queue chooses.
    fn pop(&mut self, beat: u64) -> Option<T> {
        let (hand_overs, ended) = (mem::take(&mut self.hand_overs), self.ended.take());
        let (pool, queue) = (self.pool, self.queue());
        let mut reading = None;
        let mut now = || *reading.get_or_insert_with(|| pool.clock.now());
        let (task, _) = queue.change(|tasks| {
            let refused = queue.empty_slot(tasks);
            debug_assert!(refused.is_none(), "only this worker closes its queue");
            tasks.note_turns(hand_overs, ended.unwrap_or(beat), &mut now);
            tasks.pop(beat, &mut now)
        });
        task
    }

    /// Searches for work, sleeping in between. Returns when this worker's queue has tasks or the
    /// pool is stopping.
    fn find_work(&mut self) {
        let pool = self.pool;
        pool.idle.start_search();
        while !self.search() {
            pool.idle.fall_asleep(self.index);
            if (pool.has_offers() || pool.is_stopping()) && pool.idle.cancel_sleep(self.index) {
                pool.clock.rouse();
            } else {
                count(&self.worker().parks);
                self.parker.park();
            }
            if pool.is_stopping() {
                return;
            }
        }
        if pool.idle.end_search() && pool.has_offers() {
            pool.wake_one();
        }
    }

    /// Looks into every other queue once. Returns whether it found any tasks.
    fn search(&mut self) -> bool {
        if self.pool.injected.offered() > 0 && self.take_injected() {
            return true;
        }
        for _ in 1..self.pool.workers.len() {
            let victim = self.pick_victim();
            if victim.offered() == 0 {
                continue;
            }
            victim.change(|tasks| tasks.take(victim.present_offer(tasks), &mut self.taken));
            if self.keep_stolen() {
                return true;
            }
        }
        false
    }

    /// Takes this worker's share of the injected tasks, which is at least one task. Returns whether
    /// there were any.
    fn take_injected(&mut self) -> bool {
        let workers = self.pool.workers.len();
        let taken = &mut self.taken;
        self.pool
            .injected
            .change(|tasks| tasks.take(tasks.len().div_ceil(workers), taken));
        self.keep_taken()
    }

    /// Takes half of another worker's surplus. This happens once per beat.
    ///
    /// Otherwise, two workers that always have tasks could stay imbalanced indefinitely, with ten
    /// busy tasks on one core and a single busy task on the other.
    fn even_out(&mut self) {
        if self.pool.workers.len() == 1 {
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
        let stolen = &self.worker().tasks_stolen;
        stolen.store(
            stolen.load(Ordering::Relaxed) + self.taken.len() as u64,
            Ordering::Relaxed,
        );
        self.keep_taken()
    }

    /// Moves the taken tasks into this worker's queue. Returns whether there were any.
    fn keep_taken(&mut self) -> bool {
        if self.taken.is_empty() {
            return false;
        }
        let queue = &self.pool.workers[self.index].queue;
        let ((), offers) = queue.change(|tasks| tasks.append(&mut self.taken));
        if offers {
            self.pool.wake_one();
        }
        true
    }

    /// Returns another worker's queue. Successive calls cycle through all other workers. There must
    /// be at least two workers.
    fn pick_victim(&mut self) -> &'a SharedQueue<T> {
        let workers = self.pool.workers.len();
        self.next_victim = (self.next_victim + 1) % workers;
        if self.next_victim == self.index {
            self.next_victim = (self.next_victim + 1) % workers;
        }
        &self.pool.workers[self.next_victim].queue
    }

    pub(super) fn worker(&self) -> &'a Worker<T> {
        &self.pool.workers[self.index]
    }

    fn queue(&self) -> &'a SharedQueue<T> {
        &self.worker().queue
    }
}
