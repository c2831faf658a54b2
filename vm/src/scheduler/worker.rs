//! The workers' threads: how tasks get to them, and how they run one after the other.
//!
//! Which task a thread runs, and when it sleeps, is the crew's business.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::task::Waker;

use async_task::{Builder, Runnable, ScheduleInfo, WithInfo};

use super::WorkerCounts;
use super::contain::contain;
use super::crew::{Crew, Hand, Pushed};
use super::group::Group;
use super::lane::Level;
use super::sync::{Arc, AtomicU64, AtomicUsize, Ordering, Parker, count};
use super::task::{self, Contained, Task, discard, take_spent};

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
    let Ok(resumed) = RESUMED.try_with(|resumed| resumed.replace(Resumed::Nobody)) else {
        return Some(task);
    };
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

/// A thread of one of perhaps many schedulers in this program.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The address of the scheduler, which is its own as long as the thread holds it.
    scheduler: usize,
    /// None on the ticker's thread.
    worker: Option<usize>,
}

/// What all threads of a scheduler share.
pub(super) struct Shared {
    crew: Crew<Task>,
    /// Workers whose threads have not left yet.
    present: AtomicUsize,
}

impl Shared {
    pub(super) fn new(crew: Crew<Task>) -> Self {
        Self {
            crew,
            present: AtomicUsize::new(0),
        }
    }

    pub(super) fn crew(&self) -> &Crew<Task> {
        &self.crew
    }

    pub(super) fn counts(&self) -> Vec<WorkerCounts> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = self.crew.seats.iter().map(|seat| WorkerCounts {
            tasks_run: read(&seat.tasks_run),
            tasks_stolen: read(&seat.tasks_stolen),
            slices_spent: read(&seat.slices_spent),
            parks: read(&seat.parks),
        });
        counts.collect()
    }

    /// Counts a worker whose thread is about to start.
    pub(super) fn expect_worker(&self) {
        self.present.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a worker out; with the last one the scheduler takes no more tasks and the clock
    /// stops.
    pub(super) fn lose_worker(&self) {
        if self.present.fetch_sub(1, Ordering::SeqCst) == 1 {
            discard(self.crew.injected.close());
            self.crew.ticker.stop();
        }
    }

    /// Says whether the calling thread is a worker of this scheduler, or its ticker.
    pub(super) fn owns_this_thread(&self) -> bool {
        HERE.get()
            .is_some_and(|place| place.scheduler == self.address())
    }

    /// Marks the calling thread as one of this scheduler's.
    pub(super) fn own_this_thread(&self, worker: Option<usize>) {
        HERE.set(Some(Place {
            scheduler: self.address(),
            worker,
        }));
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
            count(&self.crew.seats[here].slices_spent);
            level = Level::Spent;
        }
        self.put(level, task);
    }

    fn put(&self, level: Level, task: Runnable<Group>) {
        let queue = self
            .here()
            .map_or(&*self.crew.injected, |here| &self.crew.seats[here].queue);
        self.settle(queue.push(level, task, Runnable::metadata, Task::Ready));
    }

    fn settle(&self, pushed: Pushed<Task>) {
        if let Some(task) = self.crew.settle(pushed) {
            discard([task]);
        }
    }

    fn run(&self, hand: &Hand<'_, Task>, task: Runnable<Group>) {
        let seat = hand.seat();
        count(&seat.tasks_run);
        if let Some(waker) = task::run(task) {
            count(&seat.slices_spent);
            self.settle(seat.queue.park(Task::Parked(waker)));
        }
        // A note of a task that did not go on is nobody's.
        take_spent();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.crew.fmt(formatter)
    }
}

/// Makes a task of a future and has it run, without a handle.
pub(super) fn spawn(
    anchor: &Anchor,
    group: &Group,
    future: impl Future<Output = ()> + Send + 'static,
) {
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

/// The body of a worker's thread.
pub(super) fn work(anchor: Anchor, index: usize, parker: Parker, start: &StartHook) {
    let shared: &Shared = &anchor;
    let own_anchor = Arc::new(Arc::clone(&*anchor));
    ANCHOR
        .with(|own| own.set(own_anchor))
        .expect("a thread is one worker once");
    shared.own_this_thread(Some(index));
    // Kept until the last future of this worker is dropped, whose destructor may need it.
    let _guard = contain("the start hook of a scheduler", AssertUnwindSafe(start));
    let mut hand = Hand::new(&shared.crew, index, parker);
    while let Some(task) = hand.next() {
        let ready = match task {
            Task::Ready(task) => Some(task),
            Task::Parked(waker) => resume(waker),
        };
        if let Some(task) = ready {
            shared.run(&hand, task);
        }
    }
    discard(shared.crew.seats[index].queue.close());
    shared.lose_worker();
}
