//! One test: a program in an environment of its own, from its start to what is known of it afterwards.

use super::flags::OnLeaks;
use super::outcome::{self, Outcome};
use super::{Body, Finished, Test, harness, leaks};
use crate::run::program::ENTRY;
use crate::run::report;
use async_io::Timer;
use futures_lite::FutureExt;
use lunatic_vm::{Config, Event, Exit, Journal, Limit, Module, Pid, Process, Stdio, Vm, printable};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// What all tests of a run have in common.
pub(super) struct Common {
    pub(super) vm: Vm,
    pub(super) module: Module,
    /// What each may use. Its streams are still the command's own.
    pub(super) config: Config,
    pub(super) captures: bool,
    /// How long each may take that does not say so itself.
    pub(super) timeout: Option<Duration>,
    pub(super) leaks: OnLeaks,
}

/// So much of what a test writes is kept, in bytes.
const MAX_OUTPUT: usize = 8 << 20;

/// How long the program may take to list its tests.
const TIME_TO_LIST: Duration = Duration::from_secs(30);

/// How a program came to its end.
enum End {
    NotStarted(String),
    Exited(Process, Exit),
    TimeIsOver(Process, Duration),
}

/// A program that has ended, and what was noted of it.
struct Ended {
    end: End,
    scenes: Vec<Scene>,
    /// Bytes of output that were too many to be kept.
    lost: u64,
    leaks: Option<String>,
    /// What was alive beside the first process, where the time was over.
    alive: usize,
}

/// What one process did.
struct Scene {
    pid: Pid,
    name: String,
    /// What it wrote, in its order, and what of it to each stream.
    written: Vec<u8>,
    to_output: Vec<u8>,
    to_error: Vec<u8>,
    exit: Option<Exit>,
}

impl Common {
    /// Runs a test to its end, and ends what is left of it.
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
            // What stands around the test's own output is not shown, so that is shown when all is there.
            config.stdout(Stdio::Null);
        }
        let mut ended = self
            .play(config, function, test.timeout.or(self.timeout), true)
            .await;
        let time = start.elapsed();
        if !self.captures {
            self.vm.flush_output().await;
        }

        let mut is_ignored = false;
        if let Body::Harness = test.body
            && let Some(scene) = ended.main()
        {
            is_ignored = scene.unwrap(&test.name);
            if !self.captures {
                print!("{}", String::from_utf8_lossy(&scene.to_output));
            }
        }
        let mut leaks = ended.leaks.take().filter(|_| self.leaks != OnLeaks::Ignore);
        let mut outcome = match &ended.end {
            _ if is_ignored => Outcome::Ignored(Some(
                "in wasm, use `#[lunatic::test]` where a test should panic".into(),
            )),
            End::NotStarted(why) => Outcome::Failed(Some(why.clone())),
            End::TimeIsOver(_, allowed) => Outcome::TimeIsOver(*allowed),
            End::Exited(main, exit) => outcome::judge(
                exit,
                test.panic.as_deref(),
                &ended.errors(origin(main, exit)),
            ),
        };
        if self.leaks == OnLeaks::Fail && outcome == Outcome::Passed {
            outcome = match leaks.take() {
                Some(leaks) => Outcome::Failed(Some(format!("the test left behind: {leaks}\n"))),
                None => outcome,
            };
        }
        let output = ended.describe(self.captures, outcome.is_failure());
        Finished {
            outcome,
            output,
            leaks,
            time: Some(time),
        }
    }

    /// Has the program list its own tests; `None` where it does something else.
    pub(super) async fn list(&self, arguments: &[&str]) -> Option<Vec<String>> {
        let mut config = self.config.clone();
        config
            .argument(self.module.name())
            .stdout(Stdio::Null)
            .stderr(Stdio::Null);
        for argument in arguments {
            config.argument(argument);
        }
        let ended = self.play(config, ENTRY, Some(TIME_TO_LIST), false).await;
        let End::Exited(main, Exit::Normal) = &ended.end else {
            return None;
        };
        let list = ended
            .scenes
            .iter()
            .find(|scene| scene.pid == main.pid())
            .map(|scene| &*scene.to_output);
        let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
        Some(
            harness::read(&list)?
                .into_iter()
                .map(str::to_string)
                .collect(),
        )
    }

    /// Runs a function as a program.
    async fn play(
        &self,
        mut config: Config,
        function: &str,
        allowed: Option<Duration>,
        looks_for_leaks: bool,
    ) -> Ended {
        let journal = Journal::bounded(MAX_OUTPUT);
        config.journal(&journal).stdin(Stdio::Null).lingering();
        let environment = self.vm.environment(config);
        let mut ended = Ended {
            end: End::NotStarted(String::new()),
            scenes: Vec::new(),
            lost: 0,
            leaks: None,
            alive: 0,
        };
        match environment.spawn_main(&self.module, function, &[]) {
            Ok(main) => ended.end = watch(main, allowed).await,
            Err(error) => ended.end = End::NotStarted(error.to_string()),
        }
        match &ended.end {
            End::Exited(_, exit) if exit.is_normal() && looks_for_leaks => {
                ended.leaks = leaks::find(&environment).await
            }
            End::TimeIsOver(..) => ended.alive = environment.processes().len().saturating_sub(1),
            _ => {}
        }
        // What is ended from here on has not failed.
        ended.scenes = scenes(&journal);
        ended.lost = journal.lost();
        environment.end();
        environment.ended().await;
        ended
    }
}

/// Waits for the end of a process, but not longer than is allowed.
async fn watch(main: Process, allowed: Option<Duration>) -> End {
    let exited = async { Some(main.exited().await) };
    let exit = match allowed {
        None => exited.await,
        Some(allowed) => {
            let time_is_over = async {
                Timer::after(allowed).await;
                None
            };
            exited.or(time_is_over).await
        }
    };
    match (exit, allowed) {
        (Some(exit), _) => End::Exited(main, exit),
        (None, allowed) => End::TimeIsOver(main, allowed.unwrap_or_default()),
    }
}

/// Returns the process in which a failure began.
fn origin(main: &Process, exit: &Exit) -> Pid {
    match exit {
        Exit::LinkDied { pid, .. } => *pid,
        _ => main.pid(),
    }
}

/// Puts together what belongs to each process, in the order in which they are first heard of.
fn scenes(journal: &Journal) -> Vec<Scene> {
    let mut scenes: Vec<Scene> = Vec::new();
    for entry in journal.take() {
        let known = scenes.iter().position(|scene| scene.pid == entry.pid);
        let place = known.unwrap_or_else(|| {
            scenes.push(Scene::new(
                entry.pid,
                printable(&entry.process).into_owned(),
            ));
            scenes.len() - 1
        });
        let scene = &mut scenes[place];
        match entry.event {
            Event::Output(bytes) => {
                scene.written.extend(&bytes);
                scene.to_output.extend(bytes);
            }
            Event::Error(bytes) => {
                scene.written.extend(&bytes);
                scene.to_error.extend(bytes);
            }
            Event::Failed(exit) => scene.exit = Some(exit),
        }
    }
    scenes
}

impl Scene {
    fn new(pid: Pid, name: String) -> Scene {
        Scene {
            pid,
            name,
            written: Vec::new(),
            to_output: Vec::new(),
            to_error: Vec::new(),
            exit: None,
        }
    }

    /// Leaves out what the program's `_start` wrote around a test's own output; says whether it ignored the test.
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

impl Ended {
    fn main_pid(&self) -> Option<Pid> {
        match &self.end {
            End::Exited(main, _) | End::TimeIsOver(main, _) => Some(main.pid()),
            End::NotStarted(_) => None,
        }
    }

    /// Returns what the first process did, if that is anything to speak of.
    fn main(&mut self) -> Option<&mut Scene> {
        let pid = self.main_pid()?;
        self.scenes.iter_mut().find(|scene| scene.pid == pid)
    }

    /// Returns what a process wrote to standard error.
    fn errors(&self, pid: Pid) -> String {
        let scene = self.scenes.iter().find(|scene| scene.pid == pid);
        scene
            .map(|scene| String::from_utf8_lossy(&scene.to_error).into_owned())
            .unwrap_or_default()
    }

    /// Describes what happened, one process after the other, the first one first: what each wrote, unless that was shown
    /// already, and if the test failed, how each ended that failed.
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
            .scenes
            .iter()
            .partition(|scene| Some(scene.pid) == main);
        for scene in first.into_iter().chain(others) {
            let mut part = String::new();
            if shows_output {
                part += &String::from_utf8_lossy(&scene.written);
            }
            if shows_ends && let Some(exit) = &scene.exit {
                if !part.is_empty() && !part.ends_with('\n') {
                    part.push('\n');
                }
                let who = if Some(scene.pid) == main {
                    "the test"
                } else {
                    "the process"
                };
                part += &report::end(who, exit);
            }
            if part.is_empty() {
                continue;
            }
            if Some(scene.pid) != main {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                let _ = writeln!(text, "-- process {} `{}` --", scene.pid, scene.name);
            }
            text += &part;
        }
        if let End::TimeIsOver(_, allowed) = self.end {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let others = match self.alive {
                0 => String::new(),
                1 => " with another process of its".to_string(),
                alive => format!(" with {alive} other processes of its"),
            };
            let _ = writeln!(
                text,
                "note: it did not end within {allowed:?} and was killed{others}"
            );
        }
        text
    }
}
