//! A supervisor's process, which carries out what the rules decide.

use super::child::{Child, NotStarted};
use super::command::{ChildInfo, Command, Count};
use super::plan::{CreateChild, Plan};
use super::rules::{Exit, Key, Rules, Verdict};
use crate::entry::{self, FirstFunction};
use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::{ExitReason, Signal, SignalKind};
use crate::process::handle::Process;
use crate::request::Request;
use crate::server::UntypedReply;
use crate::start::{self, Handshake};
use crate::tag::{SHUTDOWN, Tag};
use lunatic_abi::restart::Intensity;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A supervisor's process begins by running the function that fills in its plan.
impl FirstFunction for fn(&mut Plan) {
    fn call(self) {
        let (handshake, ()) = entry::context();
        run(handshake, self);
    }
}

fn run(handshake: Handshake, tree: fn(&mut Plan)) {
    if !handshake.begin() {
        return;
    }
    let mut plan = Plan::default();
    tree(&mut plan);
    if let Err(why) = plan.check() {
        return handshake.refused(why);
    }
    // From now on, failures of the children and the parent arrive as signals.
    host::process::die_when_link_dies(0);
    let mut interrupts = vec![SHUTDOWN];
    if let Some(parent) = start::parent() {
        let tag = Tag::new_reply();
        host::process::monitor_tagged(tag.id(), parent);
        interrupts.push(tag);
    }
    let mut running = Running {
        rules: Rules::new(plan.policy),
        intensity: plan.policy.intensity,
        children: BTreeMap::new(),
        keys: HashMap::new(),
        templates: plan.templates,
        interrupts,
        begin: Instant::now(),
        restarts: 0,
    };
    for child in plan.children {
        let id = child.id.clone();
        let Err(error) = running.add(child, false) else {
            continue;
        };
        running.end_all();
        return match error {
            NotStarted::Failed(error) => {
                handshake.refused(format!("child `{id}` did not start: {error}"))
            }
            NotStarted::Interrupted => running.interrupted().act(),
        };
    }
    handshake.started();
    let reason = loop {
        if let Err(reason) = running.turn() {
            break reason;
        }
    };
    running.end_all();
    reason.act();
}

/// Why a supervisor stops.
#[derive(Debug)]
enum StopReason {
    /// The supervisor was asked to exit, or its parent exited normally.
    Asked,
    /// The supervisor's parent failed.
    ParentFailed(u64),
    /// All allowed restarts were used up. The string says which child failed and why.
    GaveUp(String),
}

impl StopReason {
    /// Exits this process. For a normal exit, this returns, and so must the caller.
    fn act(self) {
        match self {
            Self::Asked => {}
            Self::ParentFailed(parent) => start::die_with(parent),
            Self::GaveUp(why) => {
                report(&format!("gives up: {why}"));
                std::process::exit(1);
            }
        }
    }
}

/// Writes a line to standard error about what this supervisor does. Write errors are ignored.
fn report(what: &str) {
    let line = format!("supervisor <{:x}> {what}\n", Process::<()>::this().id());
    let _ = io::stderr().write_all(line.as_bytes());
}

/// A child, and its process while it is running.
struct Supervised {
    child: Child,
    process: Option<u64>,
}

/// A running supervisor.
struct Running {
    rules: Rules,
    intensity: Intensity,
    children: BTreeMap<Key, Supervised>,
    /// The running children, keyed by process.
    keys: HashMap<u64, Key>,
    templates: HashMap<&'static str, CreateChild>,
    /// The tags of messages that interrupt the wait for a child to start.
    interrupts: Vec<Tag>,
    begin: Instant,
    /// The number of restarts so far.
    restarts: u64,
}

/// The maximum number of restarts that a supervisor reports. Further reports would say nothing new,
/// and anyone who can make a child fail could flood the output.
const MAX_REPORTS: u64 = 100;

/// What a supervisor receives.
enum Event {
    Ended(Signal),
    /// Start a child that was created from a template.
    Start(Result<Child, String>, UntypedReply),
    /// Any other command.
    Asked(Command, UntypedReply),
    Shutdown,
    /// A child may be due, or a message arrived that isn't meant for a supervisor.
    Nothing,
}

impl Running {
    /// Returns the time since the supervisor began.
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Starts all children that are due, then waits for the next event and handles it.
    fn turn(&mut self) -> Result<(), StopReason> {
        while let Some(key) = self.rules.due(self.now()) {
            match self.start(key) {
                Ok(_) => {}
                Err(NotStarted::Failed(error)) => {
                    self.decide(key, Exit::Failed, None, &format!("did not start: {error}"))?;
                }
                Err(NotStarted::Interrupted) => return Err(self.interrupted()),
            }
        }
        let wait = self
            .rules
            .next_due()
            .map(|at| at.saturating_sub(self.now()));
        match self.receive(host::milliseconds_or_forever(wait)) {
            Event::Ended(signal) => self.ended(&signal)?,
            Event::Start(child, reply) => {
                let started = match child.map(|child| self.add(child, true)) {
                    Ok(Ok(process)) => Ok(process),
                    Ok(Err(NotStarted::Failed(error))) => Err(error.to_string()),
                    Ok(Err(NotStarted::Interrupted)) => return Err(self.interrupted()),
                    Err(why) => Err(why),
                };
                reply.send(&started);
            }
            Event::Asked(command, reply) => {
                match command {
                    Command::Terminate { process } => reply.send(&self.terminate(process)),
                    Command::Children => reply.send(&self.infos()),
                    Command::Count => reply.send(&Count {
                        children: self.children.len(),
                        active: self.keys.len(),
                    }),
                    // `receive` turns this command into `Event::Start`.
                    Command::Start { .. } => {}
                }
            }
            Event::Shutdown => return Err(StopReason::Asked),
            Event::Nothing => {}
        }
        Ok(())
    }

    /// Waits for the next event, for at most `timeout` milliseconds.
    fn receive(&self, timeout: u64) -> Event {
        envelope::receive(&[], timeout, |delivery| {
            let arrival = match delivery {
                Delivery::Arrived(arrival) => arrival,
                // No process is left that could send a request, and no child that could exit.
                Delivery::NobodyLeft => return Event::Shutdown,
                Delivery::TimedOut => return Event::Nothing,
            };
            if arrival.tag() == SHUTDOWN {
                return Event::Shutdown;
            }
            if let Some(signal) = arrival.signal() {
                return Event::Ended(signal);
            }
            // Any process can send any message. Messages that are not commands are ignored.
            let Ok(request) = arrival.open::<Request<(Command, IgnoredAny), ()>>() else {
                return Event::Nothing;
            };
            let ((command, _), reply) = UntypedReply::to(request);
            let Command::Start { template } = command else {
                return Event::Asked(command, reply);
            };
            let child = match self.templates.get(template.as_str()) {
                Some(create) => create(&arrival)
                    .map_err(|error| format!("the argument cannot be read: {error}")),
                None => Err(format!("the plan has no template `{template}`")),
            };
            Event::Start(child, reply)
        })
    }

    /// Stops a child on request. Returns false if the process is not a child.
    fn terminate(&mut self, process: u64) -> bool {
        let key = self.keys.get(&process).copied();
        if let Some(key) = key {
            self.end(key);
            self.rules.terminated(key);
            self.forget(key);
        }
        key.is_some()
    }

    fn infos(&self) -> Vec<ChildInfo> {
        let children = self.children.values().map(|supervised| ChildInfo {
            id: supervised.child.id.clone(),
            process: supervised.process.map(Process::from_id),
            restart: supervised.child.restart,
        });
        children.collect()
    }

    /// Adds a child and starts it. Doesn't add it if it fails to start.
    fn add(&mut self, child: Child, is_dynamic: bool) -> Result<u64, NotStarted> {
        let key = self.rules.add(child.restart, is_dynamic);
        self.children.insert(
            key,
            Supervised {
                child,
                process: None,
            },
        );
        let started = self.start(key);
        if started.is_err() {
            self.rules.remove(key);
            self.forget(key);
        }
        started
    }

    fn start(&mut self, key: Key) -> Result<u64, NotStarted> {
        let supervised = self
            .children
            .get_mut(&key)
            .expect("every child that the rules know about is kept");
        let process = supervised.child.begin(&self.interrupts)?;
        host::process::monitor(process);
        supervised.process = Some(process);
        self.keys.insert(process, key);
        self.rules.started(key, self.begin.elapsed());
        Ok(process)
    }

    /// Handles an exit signal.
    fn ended(&mut self, signal: &Signal) -> Result<(), StopReason> {
        let &Signal {
            pid: process,
            kind,
            reason,
            ..
        } = signal;
        if start::parent() == Some(process) {
            let is_failure = kind == SignalKind::LinkDied || reason != ExitReason::Normal;
            return Err(if is_failure {
                StopReason::ParentFailed(process)
            } else {
                StopReason::Asked
            });
        }
        // A child's failure is reported twice, through its link and through its monitor. Unrelated
        // processes may also be linked to this process.
        let Some(key) = self.keys.remove(&process) else {
            return Ok(());
        };
        if let Some(supervised) = self.children.get_mut(&key) {
            supervised.process = None;
        }
        // If the child failed before it was monitored, the signal from its link arrived first.
        let exit = match reason {
            ExitReason::Normal | ExitReason::NoProcess => Exit::Normal,
            _ => Exit::Failed,
        };
        self.decide(key, exit, Some(process), &reason.to_string())
    }

    /// Acts on a child's exit, or on its failure to start; in the latter case, there is no process.
    /// `why` says what happened.
    fn decide(
        &mut self,
        key: Key,
        exit: Exit,
        process: Option<u64>,
        why: &str,
    ) -> Result<(), StopReason> {
        match self.rules.ended(key, exit, self.now()) {
            Verdict::Leave => self.forget(key),
            Verdict::Restart { end } => {
                self.report_restart(key, process, why);
                for key in end {
                    self.end(key);
                    self.forget(key);
                }
            }
            Verdict::GiveUp => {
                let Intensity { restarts, within } = self.intensity;
                let id = &self.children[&key].child.id;
                return Err(StopReason::GaveUp(format!(
                    "child `{id}` {why}, and all {restarts} restarts in {within:?} are used up"
                )));
            }
        }
        Ok(())
    }

    /// Reports a restart, unless [`MAX_REPORTS`] restarts have already been reported.
    fn report_restart(&mut self, key: Key, process: Option<u64>, why: &str) {
        self.restarts += 1;
        if self.restarts <= MAX_REPORTS {
            let id = &self.children[&key].child.id;
            let process = process.map(|process| format!(", process <{process:x}>,"));
            let process = process.unwrap_or_default();
            report(&format!("restarts child `{id}`{process} which {why}"));
        }
        if self.restarts == MAX_REPORTS {
            report("does not report further restarts");
        }
    }

    /// Stops a child's process, if it has one.
    fn end(&mut self, key: Key) {
        let Some(supervised) = self.children.get_mut(&key) else {
            return;
        };
        let Some(process) = supervised.process.take() else {
            return;
        };
        self.keys.remove(&process);
        supervised.child.end(process);
    }

    /// Drops a child that the rules have forgotten.
    fn forget(&mut self, key: Key) {
        if !self.rules.is_member(key) {
            self.children.remove(&key);
        }
    }

    /// Stops all children, beginning with the last.
    fn end_all(&mut self) {
        for key in self.rules.in_order_of_end() {
            self.end(key);
        }
    }

    /// Returns why a child's start was interrupted.
    fn interrupted(&self) -> StopReason {
        match start::parent() {
            Some(parent) if !Process::<()>::from_id(parent).is_alive() => {
                StopReason::ParentFailed(parent)
            }
            _ => StopReason::Asked,
        }
    }
}
