//! A program: the environment that the host made, and all that grew from it.
//!
//! Here is known how many of its processes are alive, so that the last one can be told that it is, and whether the program
//! is over, so that nothing new begins in it.

use super::Config;
use crate::metrics::Named;
use crate::process::{Pid, Process};
use crate::scheduler::Group;
use crate::sqlite::Turns;
use crate::vm::Machine;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Waker};

/// The counts of one program.
#[derive(Debug)]
pub(crate) struct Program {
    number: u64,
    /// What its processes and timers share the cores as, also those of environments inside it.
    group: Group,
    /// Set where nobody outside the program sends into it, so that its last process can wait in vain.
    is_closed: bool,
    /// Set where the program outlives its main process, so that the host can see what is left.
    lingers: bool,
    /// Set when the main process of a program that lingers is dead: that nobody is left is told to nobody then.
    is_left: AtomicBool,
    /// Set when the program is to end.
    is_over: AtomicBool,
    /// The pid of the process that the program ends with; 0 where there is none.
    main: AtomicU64,
    /// Processes alive.
    alive: AtomicU64,
    /// The exclusive or of the pids of the processes alive: while there is one, it is that one's pid.
    pids: AtomicU64,
    /// Timers that have not fired.
    timers: AtomicU64,
    /// Who waits for the last process to end.
    waiting: Mutex<Vec<Waker>>,
    /// The turns of its processes to work with databases.
    database_turns: Turns,
    /// What its processes count. Made when one counts first.
    metrics: OnceLock<Arc<Named>>,
}

impl Program {
    pub(crate) fn new(number: u64, config: &Config) -> Program {
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

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) fn database_turns(&self) -> &Turns {
        &self.database_turns
    }

    /// Counts a new process, before anybody can send to it.
    pub(crate) fn joined(&self, pid: Pid) {
        // SeqCst, here and below: the last process's own check in `is_alone` must not miss one that came before.
        self.pids.fetch_xor(pid.number(), Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes the end of a process that of the program. It has not run yet.
    pub(crate) fn ends_with(&self, pid: Pid) {
        self.main.store(pid.number(), Ordering::SeqCst);
    }

    /// Counts a process out; then ends the program if it was the main one, or tells the last one if one is left.
    pub(crate) fn left(&self, machine: &Machine, pid: Pid) {
        if self.main.load(Ordering::SeqCst) == pid.number() {
            // Before it is counted out, so that nobody who is about to be killed is told that he is the last.
            if self.lingers {
                self.is_left.store(true, Ordering::SeqCst);
            } else {
                self.end(machine);
            }
        }
        self.pids.fetch_xor(pid.number(), Ordering::SeqCst);
        if self.alive.fetch_sub(1, Ordering::SeqCst) == 1 {
            for waker in self
                .waiting
                .lock()
                .expect("nothing panics while it holds this lock")
                .drain(..)
            {
                waker.wake();
            }
        }
        self.tell_the_last(machine);
    }

    /// Returns what its processes count.
    pub(crate) fn metrics(&self, machine: &Machine) -> &Named {
        self.metrics
            .get_or_init(|| machine.metrics.of_program(self.number))
    }

    pub(crate) fn timer_started(&self) {
        self.timers.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn timer_ended(&self, machine: &Machine) {
        self.timers.fetch_sub(1, Ordering::SeqCst);
        self.tell_the_last(machine);
    }

    /// Whether the one process that is left can get no message any more.
    ///
    /// A process that asks has first made known that it waits; whoever leaves first counts itself out and then looks who
    /// waits. So one of the two sees the other.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_closed
            && !self.is_over()
            && !self.is_left.load(Ordering::SeqCst)
            && self.alive.load(Ordering::SeqCst) == 1
            && self.timers.load(Ordering::SeqCst) == 0
    }

    fn tell_the_last(&self, machine: &Machine) {
        if self.is_alone()
            && let Some(last) = machine.process(Pid::from_number(self.pids.load(Ordering::SeqCst)))
        {
            last.be_alone();
        }
    }

    /// Whether the program is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Ends the program: nothing new begins, and what lives is killed.
    pub(crate) fn end(&self, machine: &Machine) {
        self.is_over.store(true, Ordering::SeqCst);
        for process in self.processes(machine) {
            process.kill();
        }
    }

    /// Returns the processes that are alive.
    pub(crate) fn processes(&self, machine: &Machine) -> Vec<Process> {
        let mut processes = machine.processes.all();
        processes.retain(|process| process.environment().program().number == self.number);
        processes
    }

    /// Waits until no process is alive.
    pub(crate) async fn ended(&self) {
        std::future::poll_fn(|context| {
            let mut waiting = self
                .waiting
                .lock()
                .expect("nothing panics while it holds this lock");
            if self.alive.load(Ordering::SeqCst) == 0 {
                return Poll::Ready(());
            }
            waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
