//! Explores every interleaving of the scheduler's threads, of interacting processes, and of counts
//! against limits, for a few small cases.
//!
//! The cases compile the VM's own source files against [loom](https://docs.rs/loom), which runs
//! each case many times. Each run has a different thread order and a different choice among the
//! values that the memory model allows. A case fails if any of its runs breaks a guarantee, or if
//! all threads sleep while there is work to do. In the cases about the scheduler, tasks are
//! represented by numbers; other cases cover the state of a single task.

#![allow(dead_code, reason = "the cases do not use all of the files")]

#[path = "../../src/scheduler/clock.rs"]
mod clock;
#[path = "../../src/scheduler/contain.rs"]
mod contain;
#[path = "../../src/scheduler/group.rs"]
mod group;
#[path = "../../src/scheduler/group_queue.rs"]
mod group_queue;
#[path = "../../src/scheduler/idle.rs"]
mod idle;
#[path = "../../src/scheduler/pool.rs"]
mod pool;
pub mod process;
#[path = "../../src/scheduler/queue.rs"]
mod queue;
#[path = "../../src/scheduler/slot.rs"]
mod slot;
#[path = "../../src/scheduler/state.rs"]
mod state;
mod sync;
pub mod tally;
pub mod task;

use clock::{Clock, Timing};
use group::{Group, Weight};
use group_queue::Level;
use pool::{Entry, LocalWorker, Pushed, WorkerPool};
use slot::Raw;
use sync::{Arc, AtomicUsize, Ordering, Parker};

/// A task.
struct Job {
    group: Group,
    number: usize,
}

impl Entry for Job {
    type Ready = Job;

    fn ready(task: Job) -> Job {
        task
    }

    fn group(task: &Job) -> &Group {
        &task.group
    }
}

// SAFETY: The pointer is a box's.
unsafe impl Raw for Job {
    fn into_raw(self) -> *mut () {
        Box::into_raw(Box::new(self)).cast()
    }

    unsafe fn from_raw(raw: *mut ()) -> Job {
        // SAFETY: The pointer comes from `into_raw`, and is used once, according to the caller.
        *unsafe { Box::from_raw(raw.cast()) }
    }
}

/// A worker pool and the other state shared by a case's threads.
struct Case {
    pool: WorkerPool<Job>,
    group: Group,
    /// The number of tasks that have run.
    ran: AtomicUsize,
}

impl Case {
    /// Creates a pool of workers. Also returns the parkers that the workers and the ticker sleep
    /// on.
    fn new(workers: usize) -> (Arc<Case>, Vec<Parker>, Parker) {
        let parkers: Vec<Parker> = (0..workers).map(|_| Parker::new()).collect();
        let ticker_parker = Parker::new();
        let clock = Clock::new(Timing::Manual, Box::new(|| {}), ticker_parker.unparker());
        let unparkers = parkers.iter().map(Parker::unparker).collect();
        let pool = WorkerPool::new(unparkers, clock, 1);
        let case = Case {
            pool,
            group: Group::new(Weight::default()),
            ran: AtomicUsize::new(0),
        };
        (Arc::new(case), parkers, ticker_parker)
    }

    /// Makes a task ready, acting as the given worker or, if `worker` is `None`, as a thread that
    /// is not a worker. Returns the task if it is refused.
    fn push(&self, worker: Option<usize>, task: usize) -> Option<usize> {
        let queue = worker.map_or(&*self.pool.injected, |worker| {
            &self.pool.workers[worker].queue
        });
        self.finish(queue.push(Level::Woken, self.job(task)))
    }

    /// Makes a task ready, acting as the task that the given worker is running. Returns the task if
    /// it is refused.
    fn hand_over(&self, worker: usize, task: usize) -> Option<usize> {
        let queue = &self.pool.workers[worker].queue;
        self.finish(queue.hand_over(self.job(task)))
    }

    fn job(&self, number: usize) -> Job {
        Job {
            group: self.group.clone(),
            number,
        }
    }

    fn finish(&self, pushed: Pushed<Job>) -> Option<usize> {
        self.pool.finish_push(pushed).map(|task| task.number)
    }

    /// Makes the clock beat. Returns the tasks that are refused.
    fn beat(&self) -> Vec<usize> {
        let refused = self.pool.beat();
        refused.into_iter().map(|task| task.number).collect()
    }

    /// Counts a finished task, and stops the pool once `all` tasks have run.
    fn count(&self, all: usize) {
        if self.ran.fetch_add(1, Ordering::SeqCst) + 1 == all {
            self.pool.stop();
        }
    }

    /// Acts as a worker until the pool stops. Returns the tasks that it ran.
    fn work(&self, index: usize, parker: Parker, run: impl Fn(usize)) -> Vec<usize> {
        let mut local = LocalWorker::new(&self.pool, index, parker);
        let mut ran = Vec::new();
        while let Some(task) = local.next() {
            run(task.number);
            ran.push(task.number);
        }
        ran
    }
}

/// Explores a case with at most `preemptions` preemptions in each run.
fn check(preemptions: usize, case: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(case);
}

/// Starts a worker thread for each parker.
fn start(
    case: &Arc<Case>,
    parkers: Vec<Parker>,
    run: impl Fn(&Case, usize, usize) + Copy + 'static,
) -> Vec<loom::thread::JoinHandle<Vec<usize>>> {
    let start = |(index, parker): (usize, Parker)| {
        let case = Arc::clone(case);
        loom::thread::spawn(move || case.work(index, parker, |task| run(&case, index, task)))
    };
    parkers.into_iter().enumerate().map(start).collect()
}

/// Waits for all workers to exit, and returns the tasks that they ran, sorted.
fn join(workers: Vec<loom::thread::JoinHandle<Vec<usize>>>) -> Vec<usize> {
    let mut ran: Vec<usize> = workers
        .into_iter()
        .flat_map(|worker| worker.join().expect("no worker panics"))
        .collect();
    ran.sort_unstable();
    ran
}

/// Tasks arrive from another thread while two workers are falling asleep. Each task runs once, and
/// workers never sleep while a task is waiting.
pub fn tasks_from_outside_find_a_worker() {
    check(2, || {
        let (case, parkers, _) = Case::new(2);
        let workers = start(&case, parkers, |case, _, _| case.count(2));
        for task in 0..2 {
            assert_eq!(case.push(None, task), None);
        }
        assert_eq!(join(workers), [0, 1]);
    });
}

/// A task makes more tasks ready on its worker than that worker can run alone. The other worker is
/// woken or finds the tasks in time, and each task runs once.
pub fn tasks_of_a_worker_are_shared_and_run_once() {
    share(|case, index, task| case.push(Some(index), task));
}

/// A task wakes more tasks than its worker can be handed over to. Each task runs once.
pub fn woken_tasks_are_handed_over_or_shared_and_run_once() {
    share(|case, index, task| case.hand_over(index, task));
}

/// A task makes two more tasks ready with `push`.
fn share(push: impl Fn(&Case, usize, usize) -> Option<usize> + Copy + Send + Sync + 'static) {
    check(2, move || {
        let (case, parkers, _) = Case::new(2);
        let workers = start(&case, parkers, move |case, index, task| {
            if task == 0 {
                for task in 1..3 {
                    assert_eq!(push(case, index, task), None);
                }
            }
            case.count(3);
        });
        assert_eq!(case.push(None, 0), None);
        assert_eq!(join(workers), [0, 1, 2]);
    });
}

/// A task blocks its worker while another task is waiting behind it. At the next beat, the other
/// worker takes the waiting task.
pub fn a_beat_frees_a_task_behind_a_blocked_worker() {
    free(|case, index, task| case.push(Some(index), task));
}

/// A task blocks its worker after handing it over to another task. At the next beat, the other
/// worker takes that task.
pub fn a_beat_frees_a_task_that_a_blocked_worker_was_handed_over_to() {
    free(|case, index, task| case.hand_over(index, task));
}

/// A task makes another task ready with `push`, and blocks its worker until that task runs.
fn free(push: impl Fn(&Case, usize, usize) -> Option<usize> + Copy + Send + Sync + 'static) {
    check(2, move || {
        let (case, parkers, _) = Case::new(2);
        let (pushed, freed) = (Parker::new(), Parker::new());
        let (has_pushed, free) = (pushed.unparker(), freed.unparker());
        // A mutex from `std`, so that the model checker does not explore its interleavings.
        let blocked = std::sync::Arc::new(std::sync::Mutex::new(Some(freed)));
        let mut workers = Vec::new();
        for (index, parker) in parkers.into_iter().enumerate() {
            let (case, has_pushed, free) = (Arc::clone(&case), has_pushed.clone(), free.clone());
            let blocked = std::sync::Arc::clone(&blocked);
            workers.push(loom::thread::spawn(move || {
                case.work(index, parker, |task| {
                    if task == 0 {
                        assert_eq!(push(&case, index, 1), None);
                        has_pushed.unpark();
                        let freed = blocked
                            .lock()
                            .expect("no code panics while it holds this lock")
                            .take();
                        freed.expect("task 0 runs once").park();
                    } else {
                        free.unpark();
                    }
                    case.count(2);
                })
            }));
        }
        assert_eq!(case.push(None, 0), None);
        pushed.park();
        assert_eq!(case.beat(), []);
        assert_eq!(join(workers), [0, 1]);
    });
}

/// A task arrives while the clock and the only worker are falling asleep. The clock beats while the
/// task runs.
pub fn the_clock_is_awake_while_a_worker_is() {
    check(2, || {
        let (case, parkers, ticker_parker) = Case::new(1);
        let beaten = Parker::new();
        let beats = beaten.unparker();
        let ticker = {
            let case = Arc::clone(&case);
            loom::thread::spawn(move || {
                case.pool.sleep_through_idleness(&ticker_parker);
                beats.unpark();
            })
        };
        let worker = {
            let case = Arc::clone(&case);
            let parker = parkers.into_iter().next().expect("there is one worker");
            loom::thread::spawn(move || {
                case.work(0, parker, |_| {
                    beaten.park();
                    case.count(1);
                })
            })
        };
        assert_eq!(case.push(None, 0), None);
        assert_eq!(join(vec![worker]), [0]);
        ticker.join().expect("the ticker does not panic");
    });
}

/// A thread that is not a worker starts to run a task while the clock is falling asleep. The clock
/// beats while the task runs.
pub fn the_clock_is_awake_while_a_thread_is_lent() {
    check(3, || {
        let (case, _, ticker_parker) = Case::new(0);
        let beaten = Parker::new();
        let beats = beaten.unparker();
        let ticker = {
            let case = Arc::clone(&case);
            loom::thread::spawn(move || {
                case.pool.sleep_through_idleness(&ticker_parker);
                beats.unpark();
            })
        };
        let beat = case.pool.clock.beats();
        case.pool.start_lending();
        beaten.park();
        case.pool.end_lending(&case.group, beat);
        assert!(case.pool.all_asleep());
        ticker.join().expect("the ticker does not panic");
    });
}

/// The pool is stopped while tasks arrive. The worker exits, and each task either runs, remains in
/// a queue or is refused.
pub fn a_pool_that_stops_loses_no_task() {
    check(3, || {
        let (case, parkers, _) = Case::new(1);
        let worker = {
            let case = Arc::clone(&case);
            let parker = parkers.into_iter().next().expect("there is one worker");
            loom::thread::spawn(move || {
                let mut seen = case.work(0, parker, |_| {});
                seen.extend(case.pool.workers[0].queue.close().map(|task| task.number));
                seen.extend(case.pool.injected.close().map(|task| task.number));
                seen
            })
        };
        let stopper = {
            let case = Arc::clone(&case);
            loom::thread::spawn(move || case.pool.stop())
        };
        let refused: Vec<usize> = (0..2).filter_map(|task| case.push(None, task)).collect();
        stopper.join().expect("stopping does not panic");
        let mut seen = worker.join().expect("the worker does not panic");
        seen.extend(refused);
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
    });
}

/// A worker is handed over to a task while the clock beats and the pool is stopped. Each task runs,
/// remains in a queue or is refused.
pub fn a_hand_over_during_a_beat_and_a_stop_loses_no_task() {
    check(3, || {
        let (case, parkers, _) = Case::new(1);
        // An atomic from `std`, so that the model checker does not explore its interleavings.
        let ready = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(1));
        let worker = {
            let case = Arc::clone(&case);
            let ready = std::sync::Arc::clone(&ready);
            let parker = parkers.into_iter().next().expect("there is one worker");
            loom::thread::spawn(move || {
                let hand_over = |task| {
                    if task < 2 {
                        ready.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        assert_eq!(case.hand_over(0, task + 1), None);
                    }
                };
                let mut seen = case.work(0, parker, hand_over);
                seen.extend(case.pool.workers[0].queue.close().map(|task| task.number));
                seen
            })
        };
        assert_eq!(case.push(None, 0), None);
        let refused = case.beat();
        case.pool.stop();
        let mut seen = worker.join().expect("the worker does not panic");
        seen.extend(case.pool.injected.close().map(|task| task.number));
        seen.extend(refused);
        seen.sort_unstable();
        let ready = ready.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(seen, Vec::from_iter(0..ready));
    });
}
