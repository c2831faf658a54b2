//! Worker threads: how tasks reach a worker, and how it runs them one after another.
//!
//! The pool decides which task each thread runs and when it sleeps.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::task::Waker;

use async_task::{Builder, Runnable, ScheduleInfo, WithInfo};

use super::contain::contain;
use super::group::Group;
use super::group_queue::Level;
use super::pool::{LocalWorker, Pushed, WorkerCounts, WorkerPool};
use super::sync::{Arc, AtomicUsize, Ordering, Parker, count};
use super::task::{self, Contained, Task, discard, take_spent};

/// The hook that is called on each worker thread before its first task.
pub(super) type StartHook = Box<dyn Fn() -> Box<dyn Any> + Send + Sync>;

/// How a task, a worker or a handle keeps a scheduler alive.
///
/// Each worker has its own anchor, shared by the tasks that it spawns. Spawning or finishing a task
/// therefore touches a reference count on the worker's own cache line, rather than one that all
/// workers contend for.
pub(super) type Anchor = Arc<Arc<Shared>>;

thread_local! {
    /// The scheduler that this thread belongs to, and the thread's role there.
    static CURRENT: Cell<Option<CurrentThread>> = const { Cell::new(None) };
    /// This thread's anchor, if it is a worker.
    static ANCHOR: OnceCell<Anchor> = const { OnceCell::new() };
    /// The parked task that this thread is making ready.
    static RESUMED: Cell<Resumed> = const { Cell::new(Resumed::Nothing) };
}

/// Makes a parked task ready and returns it. Returns `None` if the task is already ready or no
/// longer exists.
fn resume(waker: Waker) -> Option<Runnable<Group>> {
    RESUMED.set(Resumed::Expected);
    waker.wake();
    match RESUMED.replace(Resumed::Nothing) {
        Resumed::Here(task) => Some(task),
        Resumed::Expected | Resumed::Nothing => None,
    }
}

/// If [`resume`] is waiting for a task on this thread, passes it a task that became ready.
/// Otherwise returns the task.
fn hand_over(task: Runnable<Group>) -> Option<Runnable<Group>> {
    let Ok(resumed) = RESUMED.try_with(|resumed| resumed.replace(Resumed::Nothing)) else {
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

/// The state of a resumption.
enum Resumed {
    /// Nothing is being resumed.
    Nothing,
    /// The task has been woken, but has not been handed over yet.
    Expected,
    /// The task is ready and has been handed over.
    Here(Runnable<Group>),
}

/// A thread's scheduler and role. A program may have several schedulers.
#[derive(Clone, Copy, Debug)]
struct CurrentThread {
    /// The address of the scheduler's shared state, which is unique because the thread keeps that
    /// state alive.
    scheduler: usize,
    /// `None` on the ticker thread.
    worker: Option<usize>,
}

/// State shared by all threads of a scheduler.
pub(super) struct Shared {
    pool: WorkerPool<Task>,
    /// The number of workers whose threads have not exited.
    present: AtomicUsize,
}

impl Shared {
    pub(super) fn new(pool: WorkerPool<Task>) -> Self {
        Self {
            pool,
            present: AtomicUsize::new(0),
        }
    }

    pub(super) fn pool(&self) -> &WorkerPool<Task> {
        &self.pool
    }

    pub(super) fn counts(&self) -> Vec<WorkerCounts> {
        let workers = self.pool.workers.iter();
        workers.map(|worker| worker.counts()).collect()
    }

    /// Counts a worker whose thread is about to start.
    pub(super) fn expect_worker(&self) {
        self.present.fetch_add(1, Ordering::SeqCst);
    }

    /// Removes a worker from the count. Removing the last worker stops the clock and makes the
    /// scheduler reject new tasks.
    pub(super) fn lose_worker(&self) {
        if self.present.fetch_sub(1, Ordering::SeqCst) == 1 {
            discard(self.pool.injected.close());
            self.pool.clock.stop();
        }
    }

    /// Returns whether the calling thread is one of this scheduler's workers or its ticker.
    pub(super) fn owns_this_thread(&self) -> bool {
        CURRENT
            .get()
            .is_some_and(|current| current.scheduler == self.address())
    }

    /// Marks the calling thread as belonging to this scheduler.
    pub(super) fn own_this_thread(&self, worker: Option<usize>) {
        CURRENT.set(Some(CurrentThread {
            scheduler: self.address(),
            worker,
        }));
    }

    /// Returns the calling thread's index among this scheduler's workers.
    fn here(&self) -> Option<usize> {
        let current = CURRENT.get()?;
        if current.scheduler != self.address() {
            return None;
        }
        current.worker
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Puts a ready task into the queue appropriate for the calling thread.
    ///
    /// On a worker thread, this is the worker's own queue: a process that receives a message runs
    /// next on the core where the message was written. If a task is woken while it is running,
    /// `async-task` calls this on the same thread once the poll returns, so a recorded call to
    /// `end_slice` was made by this task.
    fn schedule(&self, task: Runnable<Group>, woken_while_running: bool) {
        let Some(task) = hand_over(task) else { return };
        let mut level = Level::Woken;
        if woken_while_running
            && let Some(here) = self.here()
            && take_spent()
        {
            count(&self.pool.workers[here].slices_spent);
            level = Level::Spent;
        }
        self.put(level, task);
    }

    fn put(&self, level: Level, task: Runnable<Group>) {
        let queue = self
            .here()
            .map_or(&*self.pool.injected, |here| &self.pool.workers[here].queue);
        self.finish_push(queue.push(level, task, Runnable::metadata, Task::Ready));
    }

    fn finish_push(&self, pushed: Pushed<Task>) {
        if let Some(task) = self.pool.finish_push(pushed) {
            discard([task]);
        }
    }

    fn run(&self, local: &LocalWorker<'_, Task>, task: Runnable<Group>) {
        let worker = local.worker();
        count(&worker.tasks_run);
        if let Some(waker) = task::run(task) {
            count(&worker.slices_spent);
            self.finish_push(worker.queue.park(Task::Parked(waker)));
        }
        // If the task called `end_slice` but then completed or began to wait, the next task must
        // not be affected.
        take_spent();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(formatter)
    }
}

/// Spawns a future as a detached task.
pub(super) fn spawn(
    anchor: &Anchor,
    group: &Group,
    future: impl Future<Output = ()> + Send + 'static,
) {
    let nearest = match anchor.here() {
        // If this is called from the destructor of another thread-local variable, this one may
        // already have been destroyed.
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

/// The body of a worker thread.
pub(super) fn work(anchor: Anchor, index: usize, parker: Parker, start: &StartHook) {
    let shared: &Shared = &anchor;
    let own_anchor = Arc::new(Arc::clone(&*anchor));
    ANCHOR
        .with(|own| own.set(own_anchor))
        .expect("a thread becomes a worker only once");
    shared.own_this_thread(Some(index));
    // The guard is kept until this worker's last future has been dropped, because destructors may
    // need it.
    let _guard = contain("the start hook of a scheduler", AssertUnwindSafe(start));
    let mut local = LocalWorker::new(&shared.pool, index, parker);
    while let Some(task) = local.next() {
        let ready = match task {
            Task::Ready(task) => Some(task),
            Task::Parked(waker) => resume(waker),
        };
        if let Some(task) = ready {
            shared.run(&local, task);
        }
    }
    discard(shared.pool.workers[index].queue.close());
    shared.lose_worker();
}
