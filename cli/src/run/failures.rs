//! Reports the failure of each process of a program, once, when it happens.

use super::report;
use crate::background;
use crate::failure::tell;
use lunatic_vm::{Event, Exit, Journal, JournalEntry, Pid, Vm};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// How many bytes of what the machine reports may wait here.
const CAPACITY: usize = 1 << 20;

/// The number of failures that are reported. A program that fails more often is not understood
/// better by more of them.
const MAX_REPORTS: u64 = 100;

/// How much of what a process wrote last is searched for a message.
const KEPT: usize = 4 << 10;

/// What the Rust library says about what WASI does not have.
const UNSUPPORTED: &str = "operation not supported on this platform";

/// Reports on a program's processes.
#[derive(Clone)]
pub(super) struct Failures {
    vm: Vm,
    journal: Journal,
    program: Arc<str>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    reported: HashSet<Pid>,
    count: u64,
    /// What was written last to standard error.
    written: Vec<u8>,
    lacks: bool,
}

impl Failures {
    pub(super) fn new(vm: &Vm, program: &str) -> Failures {
        Failures {
            vm: vm.clone(),
            journal: Journal::of_errors(CAPACITY),
            program: program.into(),
            seen: Arc::default(),
        }
    }

    /// Returns where the machine records failures.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Starts reporting. The main process is reported at the end.
    pub(super) fn report(&self, main: Pid) {
        let failures = self.clone();
        background::spawn(async move {
            loop {
                failures.journal.filled().await;
                failures.report_new(main).await;
            }
        });
    }

    /// Reports what has not been reported yet.
    pub(super) async fn report_new(&self, main: Pid) {
        // What a process has written comes before the report on it. Whether it could be written is
        // told at the end.
        let _ = self.vm.flush_output().await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in self.journal.take() {
            seen.add(&self.program, main, entry);
        }
    }

    /// Returns whether the failure that began at a process has been reported.
    pub(super) fn has_reported(&self, pid: Pid) -> bool {
        self.seen().reported.contains(&pid)
    }

    /// Returns whether a process wrote that something does not exist on its platform.
    pub(super) fn lacks_something(&self) -> bool {
        self.seen().lacks
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn add(&mut self, program: &str, main: Pid, entry: JournalEntry) {
        match entry.event {
            Event::Failed(exit) if entry.pid != main && is_failure(&exit) => {
                self.count += 1;
                if self.count <= MAX_REPORTS {
                    self.reported.insert(entry.pid);
                    tell(&report::other(entry.pid, &entry.process, program, &exit));
                }
                if self.count == MAX_REPORTS {
                    tell("note: further failures of processes are not reported; `-v` logs each\n");
                }
            }
            Event::Error(bytes) => {
                self.written.extend(bytes);
                let text = String::from_utf8_lossy(&self.written);
                self.lacks |= text.contains(UNSUPPORTED);
                let old = self.written.len().saturating_sub(KEPT);
                self.written.drain(..old);
            }
            Event::Failed(_) | Event::Output(_) => {}
        }
    }
}

/// Whether a process has failed by itself: others are killed, or die because of those.
fn is_failure(exit: &Exit) -> bool {
    !matches!(
        exit,
        Exit::Normal | Exit::Killed | Exit::NoProcess | Exit::LinkDied { .. }
    )
}
