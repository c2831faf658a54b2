//! Worker threads: how tasks reach a worker, and how it runs them one after another.
//!
//! The pool decides which task each thread runs and when it sleeps.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::panic::AssertUnwindSafe;

use super::contain::contain;
use super::group::Group;
use super::group_queue::Level;
use super::lent;
use super::pool::{LocalWorker, Pushed, WorkerCounts, WorkerPool};
use super::sync::{Arc, AtomicUsize, Ordering, Parker, count};
use super::task::{Ready, Task, Turn, discard, running_group, take_spent};

/// The hook that is called on each worker thread before its first task.
pub(super) type StartHook = Box<dyn Fn() -> Box<dyn Any> + Send + Sync>;

/// How a task, a worker or a handle keeps a scheduler alive.
///
/// Each worker has its own anchor, shared by the tasks that it spawns. Spawning or finishing a task
/// therefore touches a reference count on the worker's own cache line, rather than one that all
/// workers contend for.
pub(super) type Anchor = Arc<Arc<Shared>>;

thread_local! {
    /// The address of the shared state of the scheduler that this thread belongs to, or 0. It is
    /// unique because the thread keeps that state alive. A program may have several schedulers.
    static OWNER: Cell<usize> = const { Cell::new(0) };
    /// Set if this thread is a worker.
    static HERE: OnceCell<Here> = const { OnceCell::new() };
}

/// The worker whose thread this is.
struct Here {
    anchor: Anchor,
    index: usize,
}

impl Here {
    fn is_of(&self, shared: &Shared) -> bool {
        self.anchor.address() == shared.address()
    }

    fn wake(&self, task: Ready) {
        let queue = &self.anchor.pool.workers[self.index].queue;
        self.anchor
            .finish_push(if running_group() == Some(task.group().number()) {
                queue.hand_over(task)
            } else {
                queue.push(Level::Woken, task)
            });
    }
}

/// Queues a task that was woken, on the thread that woke it.
///
/// On a worker thread, the task stays with the worker: a process that receives a message runs next
/// on the core where the message was written. If it was woken by a task of its own group, that
/// task's worker is handed over to it.
pub(super) fn schedule(task: Ready) {
    let mut task = Some(task);
    // If this is called from the destructor of another thread-local variable, this one may already
    // have been destroyed. The task is then queued as on any other thread.
    let _ = HERE.try_with(|here| {
        if let Some(here) = here.get()
            && let Some(task) = task.take_if(|task| here.is_of(task.anchor()))
        {
            here.wake(task);
        }
    });
    if let Some(task) = task.and_then(lent::hand_over) {
        // Once it is queued, the task may run and be freed at any time, so it no longer keeps the
        // scheduler alive.
        let anchor = Arc::clone(task.anchor());
        anchor.put(None, Level::Woken, task);
    }
}

/// State shared by all threads of a scheduler.
pub(super) struct Shared {
    pool: WorkerPool<Task>,
    start: StartHook,
    /// The number of workers whose threads have not exited.
    present: AtomicUsize,
}

impl Shared {
    pub(super) fn new(pool: WorkerPool<Task>, start: StartHook) -> Self {
        Self {
            pool,
            start,
            present: AtomicUsize::new(0),
        }
    }

    pub(super) fn pool(&self) -> &WorkerPool<Task> {
        &self.pool
    }

    pub(super) fn start(&self) -> &StartHook {
        &self.start
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
        OWNER.get() == self.address()
    }

    /// Returns whether the calling thread belongs to any scheduler.
    pub(super) fn is_thread_owned() -> bool {
        OWNER.get() != 0
    }

    /// Marks the calling thread as belonging to this scheduler.
    pub(super) fn own_this_thread(&self) {
        OWNER.set(self.address());
    }

    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Puts a ready task into a worker's queue or, if `worker` is `None`, into the queue for tasks
    /// from other threads.
    pub(super) fn put(&self, worker: Option<usize>, level: Level, task: Ready) {
        let queue = worker.map_or(&*self.pool.injected, |worker| {
            &self.pool.workers[worker].queue
        });
        self.finish_push(queue.push(level, task));
    }

    pub(super) fn finish_push(&self, pushed: Pushed<Task>) {
        if let Some(task) = self.pool.finish_push(pushed) {
            discard([task]);
        }
    }

    fn run(&self, local: &LocalWorker<'_, Task>, task: Ready) {
        let worker = local.worker();
        count(&worker.tasks_run);
        let turn = task.run();
        // If the task called `end_slice` but then completed or began to wait, the next task must
        // not be affected.
        let is_spent = take_spent();
        let is_over = is_spent || matches!(turn, Turn::Spent(_) | Turn::Interrupted(_));
        let pushed = match turn {
            Turn::Ended => return,
            Turn::Spent(task) => {
                let now = self.pool.clock.now();
                let was_handed_over = local.was_handed_over();
                worker.queue.park(Task::Parked(task), was_handed_over, now)
            }
            Turn::Woken(task) | Turn::Interrupted(task) => {
                let level = if is_spent { Level::Spent } else { Level::Woken };
                worker.queue.push(level, task)
            }
        };
        if is_over {
            count(&worker.slices_spent);
        }
        self.finish_push(pushed);
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
    let nearest = HERE.try_with(|here| {
        let here = here.get().filter(|here| here.is_of(anchor))?;
        Some((Arc::clone(&here.anchor), here.index))
    });
    let (held, worker) = match nearest.ok().flatten() {
        Some((own, index)) => (own, Some(index)),
        None => (Arc::clone(anchor), None),
    };
    anchor.put(worker, Level::New, Ready::new(held, group.clone(), future));
}

/// The body of a worker thread.
pub(super) fn work(anchor: Anchor, index: usize, parker: Parker) {
    let shared: &Shared = &anchor;
    let here = Here {
        anchor: Arc::new(Arc::clone(&*anchor)),
        index,
    };
    let is_new = HERE.with(|own| own.set(here)).is_ok();
    assert!(is_new, "a thread becomes a worker only once");
    shared.own_this_thread();
    // The guard is kept until this worker's last future has been dropped, because destructors may
    // need it.
    let _guard = contain(
        "the start hook of a scheduler",
        AssertUnwindSafe(&shared.start),
    );
    let mut local = LocalWorker::new(&shared.pool, index, parker);
    while let Some(task) = local.next() {
        let ready = match task {
            Task::Ready(task) => Some(task),
            Task::Parked(task) => task.resume(),
        };
        if let Some(task) = ready {
            shared.run(&local, task);
        }
    }
    discard(shared.pool.workers[index].queue.close());
    shared.lose_worker();
}
