//! Reports each of a program's failed processes once, as soon as it fails.

use super::report;
use crate::background;
use crate::failure::tell;
use lunatic_vm::{Event, Exit, Journal, JournalEntry, Pid, Vm};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum total size, in bytes, of the events waiting to be reported.
const CAPACITY: usize = 1 << 20;

/// The maximum number of failures to report. Further reports would not help anyone understand the
/// program.
const MAX_REPORTS: u64 = 100;

/// How many of the last bytes on standard error to search for a message.
const KEPT: usize = 4 << 10;

/// The Rust standard library's messages about operations that WASI does not support.
const UNSUPPORTED: [&str; 2] = [
    "operation not supported on this platform",
    "kind: Unsupported",
];

/// Reports the failures of a program's processes.
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
    /// The last bytes written to standard error.
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

    /// Returns the journal in which the machine records failures.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Starts reporting failures. The main process's failure is not reported until the program
    /// ends.
    pub(super) fn report(&self, main: Pid) {
        let failures = self.clone();
        background::spawn(async move {
            loop {
                failures.journal.filled().await;
                failures.report_new(main).await;
            }
        });
    }

    /// Reports the failures that have not been reported yet.
    pub(super) async fn report_new(&self, main: Pid) {
        // A process's output is written before its failure is reported. If the output cannot be
        // written, that is reported when the program ends.
        let _ = self.vm.flush_output().await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in self.journal.take() {
            seen.add(&self.program, main, entry);
        }
    }

    /// Returns whether a process's failure has been reported.
    pub(super) fn has_reported(&self, pid: Pid) -> bool {
        self.seen().reported.contains(&pid)
    }

    /// Returns whether any process has printed a message saying that WASI does not support an
    /// operation.
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
                    tell(
                        "note: further process failures are not reported; `-v` logs all of them\n",
                    );
                }
            }
            Event::Error(bytes) => {
                self.written.extend(bytes);
                let text = String::from_utf8_lossy(&self.written);
                self.lacks |= UNSUPPORTED.iter().any(|message| text.contains(message));
                let old = self.written.len().saturating_sub(KEPT);
                self.written.drain(..old);
            }
            Event::Failed(_) | Event::Output(_) => {}
        }
    }
}

/// Returns whether a process failed on its own, as opposed to being killed or dying because a
/// linked process failed.
fn is_failure(exit: &Exit) -> bool {
    !matches!(
        exit,
        Exit::Normal | Exit::Killed | Exit::NoProcess | Exit::LinkDied { .. }
    )
}
