//! Runs a test from start to finish. Each test is a program in its own environment.

use super::case::{Body, Finished, Test};
use super::flags::OnLeaks;
use super::outcome::{self, Outcome};
use super::{harness, leaks};
use crate::run::program::ENTRY;
use crate::run::report;
use crate::stdout;
use async_io::Timer;
use futures_lite::FutureExt;
use lunatic_vm::{
    Config, Environment, Event, Exit, Journal, Limit, Module, Pid, Process, Stdio, Vm, printable,
};
use std::fmt::Write;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The state shared by all tests in a run.
pub(super) struct Common {
    pub(super) vm: Vm,
    pub(super) module: Module,
    /// The configuration for each test, with the command's own streams.
    pub(super) config: Config,
    pub(super) captures: bool,
    /// The time limit for tests that do not set their own.
    pub(super) timeout: Option<Duration>,
    pub(super) leaks: OnLeaks,
    /// What the tests share, if anything.
    pub(super) shared: Option<Shared>,
}

/// What tests share if they are not isolated: names, and the processes that each test leaves
/// behind.
pub(super) struct Shared {
    /// An environment that holds the names. It has no processes.
    names: Environment,
    /// The environments of tests that have ended, which may still contain processes.
    left: Mutex<Vec<Environment>>,
}

impl Shared {
    pub(super) fn new(vm: &Vm) -> Shared {
        Shared {
            names: vm.environment(vm.config()),
            left: Mutex::default(),
        }
    }

    fn keep(&self, environment: Environment) {
        self.left().push(environment);
    }

    /// Ends everything that tests have left behind.
    pub(super) async fn end(&self) {
        let left = mem::take(&mut *self.left());
        for environment in left {
            environment.end();
            environment.ended().await;
        }
    }

    fn left(&self) -> MutexGuard<'_, Vec<Environment>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum size, in bytes, of the output kept per test.
const MAX_OUTPUT: usize = 8 << 20;

/// How long a program may take to list its tests.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// How a program ended.
enum Ending {
    NotStarted(String),
    Exited(Process, Exit),
    TimedOut(Process, Duration),
}

/// A program that has ended, and what was recorded about it.
struct Record {
    ending: Ending,
    processes: Vec<ProcessRecord>,
    /// The number of bytes of output that were not kept.
    lost: u64,
    leaks: Option<String>,
    /// If the program timed out, how many processes other than the main process were alive.
    alive: usize,
}

/// Everything recorded about one process.
struct ProcessRecord {
    pid: Pid,
    name: String,
    /// Everything the process wrote, in order. The next two fields contain what it wrote to each
    /// stream separately.
    written: Vec<u8>,
    to_output: Vec<u8>,
    to_error: Vec<u8>,
    exit: Option<Exit>,
}

impl Common {
    /// Runs a test, then ends anything that remains of it.
    pub(super) async fn run(&self, test: &Test) -> Finished {
        let start = Instant::now();
        let mut config = self.config.clone();
        if let Some(bytes) = test.memory {
            config.limit(Limit::Memory, bytes);
        }
        let function = match &test.body {
            Body::Export(export) => export,
            Body::Harness => {
                config.argument(self.module.name());
                for argument in harness::arguments(&test.name) {
                    config.argument(argument);
                }
                ENTRY
            }
        };
        if self.captures {
            config.stdout(Stdio::Null).stderr(Stdio::Null);
        } else if let Body::Harness = test.body {
            // The harness's own lines have to be removed, so the output is shown only once it is
            // complete.
            config.stdout(Stdio::Null);
        }
        let mut record = self
            .run_program(config, function, test.timeout.or(self.timeout), true)
            .await;
        let time = start.elapsed();
        if !self.captures {
            // If this output cannot be written, neither can the run's next line, which reports the
            // failure.
            let _ = self.vm.flush_output().await;
        }

        let mut is_ignored = false;
        if let Body::Harness = test.body
            && let Some(main) = record.main()
        {
            is_ignored = main.unwrap(&test.name);
            if !self.captures {
                // As above, a failure to write is reported later.
                let _ = stdout::print(&main.to_output);
            }
        }
        let mut leaks = record
            .leaks
            .take()
            .filter(|_| self.leaks != OnLeaks::Ignore);
        let mut outcome = match &record.ending {
            _ if is_ignored => Outcome::Ignored(Some(
                "in wasm, use `#[lunatic::test]` for tests that should panic".into(),
            )),
            Ending::NotStarted(why) => Outcome::Failed(Some(why.clone())),
            Ending::TimedOut(_, timeout) => Outcome::TimedOut(*timeout),
            Ending::Exited(main, exit) => outcome::judge(
                exit,
                test.panic.as_deref(),
                &record.errors(origin(main, exit)),
            ),
        };
        if self.leaks == OnLeaks::Fail && outcome == Outcome::Passed {
            outcome = match leaks.take() {
                Some(leaks) => Outcome::Failed(Some(format!("the test left behind: {leaks}\n"))),
                None => outcome,
            };
        }
        let output = record.describe(self.captures, outcome.is_failure());
        Finished {
            outcome,
            output,
            leaks,
            time: Some(time),
        }
    }

    /// Has the program list its tests. Returns `None` if it does anything else.
    pub(super) async fn list(&self, arguments: &[&str]) -> Option<Vec<String>> {
        let mut config = self.config.clone();
        config
            .argument(self.module.name())
            .stdout(Stdio::Null)
            .stderr(Stdio::Null);
        for argument in arguments {
            config.argument(argument);
        }
        let record = self
            .run_program(config, ENTRY, Some(LIST_TIMEOUT), false)
            .await;
        let Ending::Exited(main, Exit::Normal) = &record.ending else {
            return None;
        };
        let list = record
            .processes
            .iter()
            .find(|process| process.pid == main.pid())
            .map(|process| &*process.to_output);
        let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
        Some(
            harness::read(&list)?
                .into_iter()
                .map(str::to_string)
                .collect(),
        )
    }

    /// Runs a function as a program.
    async fn run_program(
        &self,
        mut config: Config,
        function: &str,
        timeout: Option<Duration>,
        finds_leaks: bool,
    ) -> Record {
        let journal = Journal::bounded(MAX_OUTPUT);
        config.journal(&journal).stdin(Stdio::Null).lingering();
        let environment = match &self.shared {
            Some(shared) => shared.names.beside(config),
            None => self.vm.environment(config),
        };
        let ending = match environment.spawn_main(&self.module, function, &[]) {
            Ok(main) => wait(main, timeout).await,
            Err(error) => Ending::NotStarted(error.to_string()),
        };
        let (mut leaks, mut alive) = (None, 0);
        match &ending {
            Ending::Exited(_, exit) if exit.is_normal() && finds_leaks && self.shared.is_none() => {
                leaks = leaks::find(&environment).await;
            }
            Ending::TimedOut(..) => alive = environment.processes().len().saturating_sub(1),
            _ => {}
        }
        // The journal is read before the remaining processes are ended, so that their ends do not
        // look like failures.
        let record = Record {
            ending,
            processes: processes(&journal),
            lost: journal.lost(),
            leaks,
            alive,
        };
        match &self.shared {
            // A test that did not end might compute forever, so it is not kept.
            Some(shared) if !matches!(record.ending, Ending::TimedOut(..)) => {
                shared.keep(environment);
            }
            _ => {
                environment.end();
                environment.ended().await;
            }
        }
        record
    }
}

/// Waits at most `timeout` for a process to end.
async fn wait(main: Process, timeout: Option<Duration>) -> Ending {
    let exited = async { Ok(main.exited().await) };
    let exit = match timeout {
        None => exited.await,
        Some(timeout) => {
            let timed_out = async {
                Timer::after(timeout).await;
                Err(timeout)
            };
            exited.or(timed_out).await
        }
    };
    match exit {
        Ok(exit) => Ending::Exited(main, exit),
        Err(timeout) => Ending::TimedOut(main, timeout),
    }
}

/// Returns the process in which a failure originated.
fn origin(main: &Process, exit: &Exit) -> Pid {
    match exit {
        Exit::LinkDied { pid, .. } => *pid,
        _ => main.pid(),
    }
}

/// Groups the journal by process, in the order the processes first appear.
fn processes(journal: &Journal) -> Vec<ProcessRecord> {
    let mut processes: Vec<ProcessRecord> = Vec::new();
    for entry in journal.take() {
        let known = processes.iter().position(|known| known.pid == entry.pid);
        let index = known.unwrap_or_else(|| {
            let name = printable(&entry.process).into_owned();
            processes.push(ProcessRecord::new(entry.pid, name));
            processes.len() - 1
        });
        let process = &mut processes[index];
        match entry.event {
            Event::Output(bytes) => {
                process.written.extend(&bytes);
                process.to_output.extend(bytes);
            }
            Event::Error(bytes) => {
                process.written.extend(&bytes);
                process.to_error.extend(bytes);
            }
            Event::Failed(exit) => process.exit = Some(exit),
        }
    }
    processes
}

impl ProcessRecord {
    fn new(pid: Pid, name: String) -> ProcessRecord {
        ProcessRecord {
            pid,
            name,
            written: Vec::new(),
            to_output: Vec::new(),
            to_error: Vec::new(),
            exit: None,
        }
    }

    /// Removes the text that the program's `_start` wrote around the test's own output. Returns
    /// whether `_start` ignored the test.
    fn unwrap(&mut self, name: &str) -> bool {
        for written in [&mut self.written, &mut self.to_output] {
            let text = String::from_utf8_lossy(written).into_owned();
            let ran = harness::unwrap(name, &text);
            if ran.is_ignored {
                return true;
            }
            *written = ran.output.into();
        }
        false
    }
}

impl Record {
    fn main_pid(&self) -> Option<Pid> {
        match &self.ending {
            Ending::Exited(main, _) | Ending::TimedOut(main, _) => Some(main.pid()),
            Ending::NotStarted(_) => None,
        }
    }

    /// Returns the main process's record, if anything it did was recorded.
    fn main(&mut self) -> Option<&mut ProcessRecord> {
        let pid = self.main_pid()?;
        self.processes.iter_mut().find(|process| process.pid == pid)
    }

    /// Returns what a process wrote to standard error.
    fn errors(&self, pid: Pid) -> String {
        let process = self.processes.iter().find(|process| process.pid == pid);
        process
            .map(|process| String::from_utf8_lossy(&process.to_error).into_owned())
            .unwrap_or_default()
    }

    /// Describes what happened, process by process, starting with the main process. If
    /// `shows_output` is set, includes what each process wrote; if `shows_ends` is set, includes
    /// how each failed process ended.
    fn describe(&self, shows_output: bool, shows_ends: bool) -> String {
        let mut text = String::new();
        if shows_output && self.lost > 0 {
            let _ = writeln!(
                text,
                "note: the first {} bytes of output were not kept",
                self.lost
            );
        }
        let main = self.main_pid();
        let (first, others): (Vec<_>, Vec<_>) = self
            .processes
            .iter()
            .partition(|process| Some(process.pid) == main);
        for process in first.into_iter().chain(others) {
            let mut part = String::new();
            if shows_output {
                part += &String::from_utf8_lossy(&process.written);
            }
            if shows_ends && let Some(exit) = &process.exit {
                if !part.is_empty() && !part.ends_with('\n') {
                    part.push('\n');
                }
                let who = if Some(process.pid) == main {
                    "the test"
                } else {
                    "the process"
                };
                part += &report::end(who, exit);
            }
            if part.is_empty() {
                continue;
            }
            if Some(process.pid) != main {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                let _ = writeln!(text, "-- process {} `{}` --", process.pid, process.name);
            }
            text += &part;
        }
        if let Ending::TimedOut(_, timeout) = self.ending {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let others = match self.alive {
                0 => String::new(),
                1 => ", with 1 other process".to_string(),
                alive => format!(", with {alive} other processes"),
            };
            let _ = writeln!(
                text,
                "note: the test did not end within {timeout:?} and was killed{others}"
            );
        }
        text
    }
}
