//! All that the scheduler's threads can do to each other, in all orders in which they can do it.
//!
//! These are the scheduler's own files, of which [loom](https://docs.rs/loom) runs a few small cases over and over: each time
//! the threads meet in another order, and the memory shows them another of the values that its rules allow. A case fails
//! where a promise is broken in one of these runs, and where all threads sleep though something is left to do. Tasks are
//! numbers here. What `async-task` does, and how a task runs, is not looked at.

#![allow(dead_code, reason = "the cases do not use all of the scheduler")]

#[path = "../../src/scheduler/contain.rs"]
mod contain;
#[path = "../../src/scheduler/crew.rs"]
mod crew;
#[path = "../../src/scheduler/group.rs"]
mod group;
#[path = "../../src/scheduler/idle.rs"]
mod idle;
#[path = "../../src/scheduler/lane.rs"]
mod lane;
#[path = "../../src/scheduler/queue.rs"]
mod queue;
mod sync;
#[path = "../../src/scheduler/ticker.rs"]
mod ticker;

use crew::{Crew, Hand};
use group::{Group, Weight};
use lane::Level;
use sync::{Arc, AtomicUsize, Ordering, Parker};
use ticker::{Clock, Ticker};

/// A crew, and what the threads of a case know beside it.
struct Case {
    crew: Crew<usize>,
    group: Group,
    /// How many tasks have run.
    ran: AtomicUsize,
}

impl Case {
    /// Makes a crew of so many workers, and what these and the ticker sleep on.
    fn new(workers: usize) -> (Arc<Case>, Vec<Parker>, Parker) {
        let parkers: Vec<Parker> = (0..workers).map(|_| Parker::new()).collect();
        let ticker_parker = Parker::new();
        let ticker = Ticker::new(Box::new(|| {}), ticker_parker.unparker());
        let crew = Crew::new(
            parkers.iter().map(Parker::unparker).collect(),
            ticker,
            Clock::ByHand,
            1,
        );
        let case = Case {
            crew,
            group: Group::new(Weight::default()),
            ran: AtomicUsize::new(0),
        };
        (Arc::new(case), parkers, ticker_parker)
    }

    /// Makes a task ready, on a worker's own thread or on another; gives it back where it is refused.
    fn push(&self, worker: Option<usize>, task: usize) -> Option<usize> {
        let queue = worker.map_or(&*self.crew.injected, |worker| {
            &self.crew.seats[worker].queue
        });
        self.crew.settle(queue.push(
            Level::Woken,
            (self.group.clone(), task),
            |(group, _)| group,
            |(_, task)| task,
        ))
    }

    /// Counts a task; the last of all tells the crew to leave.
    fn count(&self, all: usize) {
        if self.ran.fetch_add(1, Ordering::SeqCst) + 1 == all {
            self.crew.stop();
        }
    }

    /// Is a worker until the crew is told to leave; returns the tasks that it ran.
    fn work(&self, index: usize, parker: Parker, run: impl Fn(usize)) -> Vec<usize> {
        let mut hand = Hand::new(&self.crew, index, parker);
        let mut ran = Vec::new();
        while let Some(task) = hand.next() {
            run(task);
            ran.push(task);
        }
        ran
    }
}

/// Goes through a case, with so many switches from a thread that could have gone on.
fn check(switches: usize, case: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(switches);
    model.check(case);
}

/// Starts a worker's thread for each parker.
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

/// Waits for all workers, and returns the tasks that they ran.
fn join(workers: Vec<loom::thread::JoinHandle<Vec<usize>>>) -> Vec<usize> {
    let mut ran: Vec<usize> = workers
        .into_iter()
        .flat_map(|worker| worker.join().expect("no worker panics"))
        .collect();
    ran.sort_unstable();
    ran
}

/// Tasks come from another thread while two workers fall asleep: each runs, once, and nobody sleeps beside one.
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

/// A task makes others ready on its worker, more than that one needs: the other worker is woken or looks for them in time,
/// and each runs once.
pub fn tasks_of_a_worker_are_shared_and_run_once() {
    check(2, || {
        let (case, parkers, _) = Case::new(2);
        let workers = start(&case, parkers, |case, index, task| {
            if task == 0 {
                for task in 1..3 {
                    assert_eq!(case.push(Some(index), task), None);
                }
            }
            case.count(3);
        });
        assert_eq!(case.push(None, 0), None);
        assert_eq!(join(workers), [0, 1, 2]);
    });
}

/// A worker blocks on a task with another behind it: the next beat brings the other worker to take that one.
pub fn a_beat_frees_a_task_behind_a_blocked_worker() {
    check(2, || {
        let (case, parkers, _) = Case::new(2);
        let (pushed, freed) = (Parker::new(), Parker::new());
        let (has_pushed, free) = (pushed.unparker(), freed.unparker());
        // Loom's own types are not `Copy`.
        let blocked = std::sync::Arc::new(std::sync::Mutex::new(Some(freed)));
        let mut workers = Vec::new();
        for (index, parker) in parkers.into_iter().enumerate() {
            let (case, has_pushed, free) = (Arc::clone(&case), has_pushed.clone(), free.clone());
            let blocked = std::sync::Arc::clone(&blocked);
            workers.push(loom::thread::spawn(move || {
                case.work(index, parker, |task| {
                    if task == 0 {
                        assert_eq!(case.push(Some(index), 1), None);
                        has_pushed.unpark();
                        let freed = blocked.lock().expect("taken once").take();
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
        case.crew.beat();
        assert_eq!(join(workers), [0, 1]);
    });
}

/// The clock falls asleep as the only worker does, and a task comes: it beats while the task runs.
pub fn the_clock_is_awake_while_a_worker_is() {
    check(2, || {
        let (case, parkers, ticker_parker) = Case::new(1);
        let beaten = Parker::new();
        let beats = beaten.unparker();
        let ticker = {
            let case = Arc::clone(&case);
            loom::thread::spawn(move || {
                case.crew
                    .ticker
                    .sleep_through_idleness(&case.crew, &ticker_parker);
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

/// The crew is told to leave while tasks come: the workers leave, and each task runs, is left or is refused.
pub fn a_crew_that_leaves_loses_no_task() {
    check(3, || {
        let (case, parkers, _) = Case::new(1);
        let worker = {
            let case = Arc::clone(&case);
            let parker = parkers.into_iter().next().expect("there is one worker");
            loom::thread::spawn(move || {
                let mut seen = case.work(0, parker, |_| {});
                seen.extend(case.crew.seats[0].queue.close());
                seen.extend(case.crew.injected.close());
                seen
            })
        };
        let stopper = {
            let case = Arc::clone(&case);
            loom::thread::spawn(move || case.crew.stop())
        };
        let refused: Vec<usize> = (0..2).filter_map(|task| case.push(None, task)).collect();
        stopper.join().expect("it only tells");
        let mut seen = worker.join().expect("the worker does not panic");
        seen.extend(refused);
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
    });
}
