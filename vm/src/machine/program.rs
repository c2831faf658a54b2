//! A program: the environment that the host created, and everything that grew from it.
//!
//! A program counts its living processes, so that the last one can be told that it is the last, and
//! knows whether it is over, so that nothing new begins in it. It consists of counts and flags;
//! [`super::Machine`] acts on them.

use crate::environment::Config;
use crate::metrics::{Metrics, Named};
use crate::scheduler::Group;
use crate::sqlite::Turns;
use lunatic_process::Pid;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Poll, Waker};

/// The counts and flags of one program.
#[derive(Debug)]
pub(crate) struct Program {
    number: u64,
    /// The scheduling group of its processes and timers, including those of environments inside it.
    group: Group,
    /// Set if nothing outside the program sends into it, so that its last process can wait in vain.
    is_closed: bool,
    /// Set if the program outlives its main process, so that the host can inspect what is left.
    lingers: bool,
    /// Set once the main process of a program that lingers is dead: no process is then told that it
    /// is alone.
    is_left: AtomicBool,
    /// Set once the program is about to end.
    is_over: AtomicBool,
    /// The pid of the process that the program ends with; 0 if there is none.
    main: AtomicU64,
    /// How many processes are alive.
    alive: AtomicU64,
    /// The exclusive or of the pids of all living processes: with a single process left, its pid.
    pids: AtomicU64,
    /// How many timers have not fired.
    timers: AtomicU64,
    /// The tasks that wait for the last process to end.
    waiting: Mutex<Vec<Waker>>,
    /// The turns that its processes take to work with databases.
    database_turns: Turns,
    /// The metrics of its processes. Created when a process first counts something.
    metrics: OnceLock<Arc<Named>>,
}

impl Program {
    pub(super) fn new(number: u64, config: &Config) -> Program {
        Program {
            number,
            group: Group::new(config.weight),
            is_closed: config.is_closed,
            lingers: config.lingers,
            is_left: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            main: AtomicU64::new(0),
            alive: AtomicU64::new(0),
            pids: AtomicU64::new(0),
            timers: AtomicU64::new(0),
            waiting: Mutex::new(Vec::new()),
            database_turns: Turns::default(),
            metrics: OnceLock::new(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) fn database_turns(&self) -> &Turns {
        &self.database_turns
    }

    /// Counts a new process, before anything can send to it.
    pub(super) fn joined(&self, pid: Pid) {
        // SeqCst, here and below: the last process's own check in `is_alone` must not miss a
        // process that joined earlier.
        self.pids.fetch_xor(pid.number(), Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes the program end with a process that has not run yet.
    pub(crate) fn ends_with(&self, pid: Pid) {
        self.main.store(pid.number(), Ordering::SeqCst);
    }

    /// Returns whether the program ends with a process that has just died. This is called before
    /// the process is counted out, so that no process is told that it is the last when it is about
    /// to be killed.
    pub(super) fn is_ended_by(&self, pid: Pid) -> bool {
        if self.main.load(Ordering::SeqCst) != pid.number() {
            return false;
        }
        if self.lingers {
            self.is_left.store(true, Ordering::SeqCst);
        }
        !self.lingers
    }

    /// Counts a process out.
    pub(super) fn left(&self, pid: Pid) {
        self.pids.fetch_xor(pid.number(), Ordering::SeqCst);
        if self.alive.fetch_sub(1, Ordering::SeqCst) == 1 {
            for waker in self.waiting().drain(..) {
                waker.wake();
            }
        }
    }

    /// Returns the metrics of its processes.
    pub(crate) fn metrics(&self, all: &Metrics) -> &Named {
        self.metrics.get_or_init(|| all.of_program(self.number))
    }

    pub(crate) fn timer_started(&self) {
        self.timers.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn timer_ended(&self) {
        self.timers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether only one process is left and it can get no more messages.
    ///
    /// A process that calls this has first made known that it waits; a process that leaves first
    /// counts itself out and then checks which process waits. So one of the two sees the other.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_closed
            && !self.is_over()
            && !self.is_left.load(Ordering::SeqCst)
            && self.alive.load(Ordering::SeqCst) == 1
            && self.timers.load(Ordering::SeqCst) == 0
    }

    /// Returns the remaining process, if it is alone.
    pub(super) fn last(&self) -> Option<Pid> {
        self.is_alone()
            .then(|| Pid::from_number(self.pids.load(Ordering::SeqCst)))
    }

    /// Whether the program is about to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Lets no new process begin.
    pub(super) fn close(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Waits until no process is alive.
    pub(super) async fn ended(&self) {
        std::future::poll_fn(|context| {
            let mut waiting = self.waiting();
            if self.alive.load(Ordering::SeqCst) == 0 {
                return Poll::Ready(());
            }
            waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}
