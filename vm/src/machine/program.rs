//! A program is an environment that the host created and everything inside it.
//!
//! A program counts its live processes, so that the last one can be notified that it is alone. It
//! also records whether it is over, so that new processes do not start in it. A [`Program`]
//! consists only of counts and flags; [`super::Machine`] acts on them.

use crate::environment::Config;
use crate::metrics::{Metrics, Named};
use crate::scheduler::Group;
use crate::sqlite::Turns;
use crossbeam_utils::CachePadded;
use event_listener::{Event, listener};
use lunatic_process::Pid;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A program's counts and flags.
#[derive(Debug)]
pub(crate) struct Program {
    number: u64,
    /// The scheduling group of the program's processes and timers, including those of environments
    /// that processes created.
    group: Group,
    /// Set if nothing outside the program sends messages to its processes, in which case the last
    /// process would wait forever.
    is_closed: bool,
    /// Set if the program outlives its main process, so that the host can inspect the remaining
    /// processes.
    lingers: bool,
    /// Set once the main process of a program that lingers is dead. After that, processes are not
    /// notified that they are alone.
    is_left: AtomicBool,
    /// Set once the program is about to end.
    is_over: AtomicBool,
    /// The pid of the main process, or 0 if there is none. The program ends when its main process
    /// does.
    main: AtomicU64,
    /// Separate from the other fields, because every spawn and every death changes it, whereas the
    /// others are mostly read.
    members: CachePadded<Members>,
    /// The number of timers that have not fired.
    timers: AtomicU64,
    /// Notified when the last process has ended.
    empty: Event,
    /// Notified when the last process has ended and no new process can begin.
    over: Event,
    /// Limits how many of the program's processes access databases concurrently.
    database_turns: Turns,
    /// The metrics of the program's processes. Created when a process first records a metric.
    metrics: OnceLock<Arc<Named>>,
}

/// A program's live processes.
#[derive(Debug, Default)]
struct Members {
    /// Their number.
    alive: AtomicU64,
    /// The exclusive or of their pids. If only one is left, this is its pid.
    pids: AtomicU64,
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
            members: CachePadded::default(),
            timers: AtomicU64::new(0),
            empty: Event::new(),
            over: Event::new(),
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

    /// Counts a new process. Called before anything can send messages to the process.
    pub(super) fn joined(&self, pid: Pid) {
        // SeqCst, here and below, because the last process's own check in `is_alone` must not miss
        // a process that joined earlier.
        self.members.pids.fetch_xor(pid.number(), Ordering::SeqCst);
        self.members.alive.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes a process that has not run yet the main process. The program ends when that process
    /// does.
    pub(crate) fn ends_with(&self, pid: Pid) {
        self.main.store(pid.number(), Ordering::SeqCst);
    }

    /// Makes the program continue after its main process dies.
    pub(super) fn outlive_main(&self) {
        self.main.store(0, Ordering::SeqCst);
    }

    /// Returns whether the program ends because this process has just died. Called before
    /// [`Program::left`], so that a process that is about to be killed is not notified that it is
    /// alone.
    pub(super) fn is_ended_by(&self, pid: Pid) -> bool {
        if self.main.load(Ordering::SeqCst) != pid.number() {
            return false;
        }
        if self.lingers {
            self.is_left.store(true, Ordering::SeqCst);
        }
        !self.lingers
    }

    /// Removes a process from the count.
    pub(super) fn left(&self, pid: Pid) {
        self.members.pids.fetch_xor(pid.number(), Ordering::SeqCst);
        if self.members.alive.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.empty.notify(usize::MAX);
            self.note_end();
        }
    }

    /// Returns the metrics of the program's processes.
    pub(crate) fn metrics(&self, all: &Metrics) -> &Named {
        self.metrics.get_or_init(|| all.of_program(self.number))
    }

    pub(crate) fn timer_started(&self) {
        self.timers.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn timer_ended(&self) {
        self.timers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns whether only one process is left and it cannot receive any more messages.
    ///
    /// A process that calls this has already announced that it is waiting. A process that ends
    /// removes itself from the count first, then checks whether the last process is waiting. So at
    /// least one of the two processes notices the other.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_closed
            && !self.is_over()
            && !self.is_left.load(Ordering::SeqCst)
            && self.members.alive.load(Ordering::SeqCst) == 1
            && self.timers.load(Ordering::SeqCst) == 0
    }

    /// Returns the last process, if it is alone.
    pub(super) fn last(&self) -> Option<Pid> {
        self.is_alone()
            .then(|| Pid::from_number(self.members.pids.load(Ordering::SeqCst)))
    }

    /// Returns whether the program is about to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Prevents new processes from starting.
    pub(super) fn close(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.note_end();
    }

    fn note_end(&self) {
        if self.has_ended() {
            self.over.notify(usize::MAX);
        }
    }

    fn has_ended(&self) -> bool {
        self.is_over() && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.members.alive.load(Ordering::SeqCst) == 0
    }

    /// Waits until all processes have died.
    pub(super) async fn ended(&self) {
        until(&self.empty, || self.is_empty()).await;
    }

    /// Waits until all processes have died and no new process can begin.
    pub(crate) async fn over(&self) {
        until(&self.over, || self.has_ended()).await;
    }
}

/// Waits until a condition is true, which is checked when the event is notified.
async fn until(event: &Event, is_true: impl Fn() -> bool) {
    loop {
        // The listener is created before the check, so that no notification is missed.
        listener!(event => notified);
        if is_true() {
            return;
        }
        notified.await;
    }
}
