//! The workers as a crew: who takes which task, who sleeps, and who is woken for what.
//!
//! What they share is one queue per worker, a queue for tasks that come from other threads, and the
//! list of sleepers. A worker that has tasks touches only its own queue, whose lock nobody else
//! wants unless he has nothing to do. What a task is and how it runs is not known here, so that a
//! model checker can go through all that threads do to each other (`vm/model`).

use std::fmt;

use crossbeam_utils::CachePadded;

use super::group::{Group, VirtualTime};
use super::idle::Idle;
use super::queue::{Level, Rules, RunQueue, Taken};
use super::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, Parker, Unparker, count, lock,
};
use super::ticker::{Clock, Ticker};

/// A group may be ahead by so many slices on each worker, and still has its woken tasks run before others' spent ones: each
/// worker may just have run one that spent its slice, and a woken task is to be as prompt then as at any time.
const LEAD: u64 = 2;

/// What a push did beside storing the task.
pub(super) enum Pushed<T> {
    /// The owner will come to it.
    Kept,
    /// There was nothing for others to take, and now there is: see whether one sleeps.
    Offered,
    /// The queue is closed.
    Refused(T),
}

/// A run queue behind its lock, with what it offers written outside.
pub(super) struct Queue<T> {
    tasks: Mutex<RunQueue<T>>,
    /// What [`RunQueue::offered`] said after the last change; written under the lock.
    offered: AtomicUsize,
}

impl<T> Queue<T> {
    fn new(tasks: RunQueue<T>) -> Self {
        Self {
            tasks: Mutex::new(tasks),
            offered: AtomicUsize::new(0),
        }
    }

    /// Changes the queue; answers also whether it now offers tasks and did not before.
    ///
    /// Only that step from none to some can find a sleeper that has to be called: nobody goes to
    /// sleep while a queue offers something, and whoever was woken for the first task calls the
    /// next worker if there are more (see `Hand::find_work`).
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut RunQueue<T>) -> R) -> (R, bool) {
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

    /// Puts a task, which comes as what knows its group, at the end of its level.
    pub(super) fn push<K>(
        &self,
        level: Level,
        task: K,
        group: impl Fn(&K) -> &Group,
        wrap: impl FnOnce(K) -> T,
    ) -> Pushed<T> {
        self.settle(|tasks| tasks.push(level, task, group, wrap))
    }

    /// Puts back what stands for the task that its worker took last.
    pub(super) fn park(&self, task: T) -> Pushed<T> {
        self.settle(|tasks| tasks.park(task))
    }

    fn settle(&self, push: impl FnOnce(&mut RunQueue<T>) -> Result<(), T>) -> Pushed<T> {
        match self.change(push) {
            (Ok(()), false) => Pushed::Kept,
            (Ok(()), true) => Pushed::Offered,
            (Err(task), _) => Pushed::Refused(task),
        }
    }

    /// Takes no more tasks; hands over those that are left, to be dropped without the lock.
    pub(super) fn close(&self) -> impl Iterator<Item = T> + use<T> {
        let (tasks, _) = self.change(RunQueue::close);
        tasks
    }
}

/// What others see of a worker.
pub(super) struct Seat<T> {
    pub(super) queue: Queue<T>,
    unparker: Unparker,
    pub(super) tasks_run: AtomicU64,
    pub(super) tasks_stolen: AtomicU64,
    pub(super) slices_spent: AtomicU64,
    pub(super) parks: AtomicU64,
}

/// What all workers share.
pub(super) struct Crew<T> {
    pub(super) seats: Box<[CachePadded<Seat<T>>]>,
    /// Tasks made ready by other threads than the workers.
    pub(super) injected: CachePadded<Queue<T>>,
    pub(super) idle: CachePadded<Idle>,
    pub(super) ticker: CachePadded<Ticker>,
    clock: Clock,
    /// Set once: workers leave after the task they run.
    stopping: AtomicBool,
}

impl<T> Crew<T> {
    pub(super) fn new(unparkers: Vec<Unparker>, ticker: Ticker, clock: Clock, slice: u64) -> Self {
        let idle = Idle::new(unparkers.len());
        let lead = LEAD
            * slice
                .saturating_mul(clock.period())
                .saturating_mul(unparkers.len() as u64);
        let rules = Arc::new(Rules {
            slice,
            lead,
            time: VirtualTime::default(),
        });
        let seats = unparkers.into_iter().map(|unparker| {
            CachePadded::new(Seat {
                queue: Queue::new(RunQueue::of_worker(&rules)),
                unparker,
                tasks_run: AtomicU64::new(0),
                tasks_stolen: AtomicU64::new(0),
                slices_spent: AtomicU64::new(0),
                parks: AtomicU64::new(0),
            })
        });
        Self {
            seats: seats.collect(),
            injected: CachePadded::new(Queue::new(RunQueue::of_nobody(&rules))),
            idle: CachePadded::new(idle),
            ticker: CachePadded::new(ticker),
            clock,
            stopping: AtomicBool::new(false),
        }
    }

    /// Returns the time by which groups are charged, in nanoseconds.
    fn now(&self) -> u64 {
        self.clock.now(&self.ticker)
    }

    /// Says whether no worker is awake.
    pub(super) fn everybody_sleeps(&self) -> bool {
        self.idle.parked() == self.seats.len()
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
        for seat in &self.seats {
            let ((), offers) = seat.queue.change(RunQueue::note_beat);
            left_waiting |= offers;
        }
        if left_waiting {
            self.wake_one();
        }
    }

    /// Tells all workers to leave after the task they run.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for seat in &self.seats {
            seat.unparker.unpark();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Does what is left to do after a push; gives back a task that was refused.
    #[must_use = "a task that is refused has to be dropped with care"]
    pub(super) fn settle(&self, pushed: Pushed<T>) -> Option<T> {
        match pushed {
            Pushed::Kept => None,
            Pushed::Offered => {
                self.wake_one();
                None
            }
            Pushed::Refused(task) => Some(task),
        }
    }

    /// Wakes a sleeper for work that was just published, if that needs anybody.
    fn wake_one(&self) {
        let Some(worker) = self.idle.call_one() else {
            return;
        };
        self.seats[worker].unparker.unpark();
        self.ticker.rouse();
    }

    /// Says whether there are tasks that a worker without any may take.
    fn has_offers(&self) -> bool {
        self.injected.offered() > 0 || self.seats.iter().any(|seat| seat.queue.offered() > 0)
    }
}

impl<T> fmt::Debug for Crew<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Scheduler")
            .field("workers", &self.seats.len())
            .field("idle", &*self.idle)
            .field("ticker", &*self.ticker)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

/// The side of a worker that only its own thread sees.
pub(super) struct Hand<'a, T> {
    crew: &'a Crew<T>,
    index: usize,
    parker: Parker,
    /// The beat that this worker last saw.
    beat: u64,
    /// Where the next search begins, so that neighbours are not always robbed first.
    next_victim: usize,
    /// Tasks on their way from one queue to another; no two locks are held at once.
    taken: Vec<Taken<T>>,
}

impl<'a, T> Hand<'a, T> {
    pub(super) fn new(crew: &'a Crew<T>, index: usize, parker: Parker) -> Self {
        Self {
            crew,
            index,
            parker,
            beat: 0,
            next_victim: index,
            taken: Vec::new(),
        }
    }

    /// Returns what this worker runs next; sleeps while there is nothing. `None` when the crew is told to leave.
    pub(super) fn next(&mut self) -> Option<T> {
        while !self.crew.is_stopping() {
            let beat = self.crew.ticker.beats();
            if beat != self.beat {
                self.beat = beat;
                self.even_out();
            }
            if self.crew.injected.offered() > 0 {
                self.take_injected();
            }
            let (task, _) = self
                .queue()
                .change(|tasks| tasks.pop(beat, || self.crew.now()));
            if task.is_some() {
                return task;
            }
            self.find_work();
        }
        None
    }

    /// Returns with tasks in the own queue, or when the scheduler stops.
    fn find_work(&mut self) {
        let crew = self.crew;
        crew.idle.start_search();
        while !self.search() {
            crew.idle.lie_down(self.index);
            if (crew.has_offers() || crew.is_stopping()) && crew.idle.get_up(self.index) {
                crew.ticker.rouse();
            } else {
                count(&self.seat().parks);
                self.parker.park();
            }
            if crew.is_stopping() {
                return;
            }
        }
        if crew.idle.end_search() && crew.has_offers() {
            crew.wake_one();
        }
    }

    /// Looks once everywhere.
    fn search(&mut self) -> bool {
        if self.crew.injected.offered() > 0 && self.take_injected() {
            return true;
        }
        for _ in 1..self.crew.seats.len() {
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
        let workers = self.crew.seats.len();
        let taken = &mut self.taken;
        self.crew
            .injected
            .change(|tasks| tasks.take(tasks.len().div_ceil(workers), taken));
        self.keep_taken()
    }

    /// Once in a beat: takes from another worker half of what he has more.
    ///
    /// Without this, two workers that never run dry could keep ten spinning tasks on one core and
    /// one on the other for ever.
    fn even_out(&mut self) {
        if self.crew.seats.len() == 1 {
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
        let stolen = &self.seat().tasks_stolen;
        stolen.store(
            stolen.load(Ordering::Relaxed) + self.taken.len() as u64,
            Ordering::Relaxed,
        );
        self.keep_taken()
    }

    /// Moves what was taken into the own queue; answers whether there was anything.
    fn keep_taken(&mut self) -> bool {
        if self.taken.is_empty() {
            return false;
        }
        let queue = &self.crew.seats[self.index].queue;
        let ((), offers) = queue.change(|tasks| tasks.append(&mut self.taken));
        if offers {
            self.crew.wake_one();
        }
        true
    }

    /// The queue of another worker, a different one each time. There must be another one.
    fn pick_victim(&mut self) -> &'a Queue<T> {
        let workers = self.crew.seats.len();
        self.next_victim = (self.next_victim + 1) % workers;
        if self.next_victim == self.index {
            self.next_victim = (self.next_victim + 1) % workers;
        }
        &self.crew.seats[self.next_victim].queue
    }

    pub(super) fn seat(&self) -> &'a Seat<T> {
        &self.crew.seats[self.index]
    }

    fn queue(&self) -> &'a Queue<T> {
        &self.seat().queue
    }
}
