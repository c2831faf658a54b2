//! Checks the rules against a model that fits on one page.
//!
//! A few processes follow a random list of steps. After each step, the processes that are about to
//! die do so, one after another. Then the model must agree on which processes are alive and what is
//! in each mailbox.

use lunatic_process::{
    Exit, Mail, MailboxLimits, Message, Pid, ProcessCell, Signal, Table, Wanted,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PROCESSES: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Link(usize, usize, i64),
    LinkWithLiving(usize, usize, i64),
    Unlink(usize, usize),
    Monitor(usize, usize, i64),
    StopMonitoring(usize, usize, i64),
    SetTold(usize, bool),
    Send(usize, i64),
    Take(usize, Vec<i64>),
    Kill(usize),
    Finish(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let process = || 0..PROCESSES;
    let tag = || 0..3i64;
    prop_oneof![
        4 => (process(), process(), tag()).prop_map(|(one, other, tag)| Step::Link(one, other, tag)),
        1 => (process(), process(), tag()).prop_map(|(one, other, tag)| Step::LinkWithLiving(one, other, tag)),
        2 => (process(), process()).prop_map(|(one, other)| Step::Unlink(one, other)),
        4 => (process(), process(), tag()).prop_map(|(one, other, tag)| Step::Monitor(one, other, tag)),
        2 => (process(), process(), tag()).prop_map(|(one, other, tag)| Step::StopMonitoring(one, other, tag)),
        2 => (process(), any::<bool>()).prop_map(|(one, told)| Step::SetTold(one, told)),
        4 => (process(), tag()).prop_map(|(one, tag)| Step::Send(one, tag)),
        6 => (process(), prop::collection::vec(tag(), 0..3)).prop_map(|(one, tags)| Step::Take(one, tags)),
        1 => process().prop_map(Step::Kill),
        1 => process().prop_map(Step::Finish),
    ]
}

/// A piece of mail, with the properties that the model distinguishes.
#[derive(Clone, Debug, PartialEq)]
enum Letter {
    Data(i64),
    LinkDied(i64, Pid, String),
    ProcessDied(i64, Pid, String),
}

impl Letter {
    fn of(mail: Mail) -> Letter {
        match mail {
            Mail::Data(message) => Letter::Data(message.tag),
            Mail::LinkDied { tag, pid, exit, .. } => Letter::LinkDied(tag, pid, exit.to_string()),
            Mail::ProcessDied { tag, pid, exit } => Letter::ProcessDied(tag, pid, exit.to_string()),
        }
    }

    fn is_found_by(&self, tags: &[i64]) -> bool {
        match self {
            _ if tags.is_empty() => true,
            Letter::Data(tag) | Letter::LinkDied(tag, ..) => tags.contains(tag),
            Letter::ProcessDied(tag, ..) => *tag != 0 && tags.contains(tag),
        }
    }
}

#[derive(Default)]
struct Model {
    dead: BTreeSet<usize>,
    /// Why processes are about to die. If there are several reasons, the first one is kept.
    ending: BTreeMap<usize, Exit>,
    told: BTreeSet<usize>,
    /// The tag of each link, for both sides.
    links: BTreeMap<(usize, usize), i64>,
    monitors: BTreeSet<(usize, usize, i64)>,
    mail: [Vec<Letter>; PROCESSES],
}

fn pid(process: usize) -> Pid {
    Pid::from_number(process as u64 + 1)
}

impl Model {
    fn link(&mut self, one: usize, other: usize, tag: i64, fails: bool) {
        if one == other {
            return;
        }
        if !self.dead.contains(&other) {
            self.links.insert((one, other), tag);
            self.links.insert((other, one), tag);
        } else if fails {
            self.links.insert((one, other), tag);
            self.link_died(one, other, &Exit::NoProcess);
        }
    }

    fn link_died(&mut self, one: usize, other: usize, exit: &Exit) {
        let Some(tag) = self.links.remove(&(one, other)) else {
            return;
        };
        if self.told.contains(&one) {
            self.mail[one].push(Letter::LinkDied(tag, pid(other), exit.to_string()));
        } else {
            let exit = match exit {
                Exit::LinkDied { .. } => exit.clone(),
                _ => Exit::LinkDied {
                    pid: pid(other),
                    exit: Arc::new(exit.clone()),
                },
            };
            self.ending.entry(one).or_insert(exit);
        }
    }

    fn monitor(&mut self, one: usize, other: usize, tag: i64) {
        if !self.dead.contains(&other) {
            self.monitors.insert((one, other, tag));
        } else {
            let why = Exit::NoProcess.to_string();
            self.mail[one].push(Letter::ProcessDied(tag, pid(other), why));
        }
    }

    fn take(&mut self, one: usize, tags: &[i64]) -> Option<Letter> {
        let mail = &mut self.mail[one];
        let position = mail.iter().position(|letter| letter.is_found_by(tags))?;
        Some(mail.remove(position))
    }

    fn finish(&mut self, one: usize, exit: &Exit) {
        self.dead.insert(one);
        self.ending.remove(&one);
        self.monitors.retain(|(watcher, ..)| *watcher != one);
        for other in 0..PROCESSES {
            self.links.remove(&(one, other));
            if exit.is_normal() {
                self.links.remove(&(other, one));
            } else {
                self.link_died(other, one, exit);
            }
        }
        for (watcher, _, tag) in self.monitors.extract_if(.., |(_, other, _)| *other == one) {
            self.mail[watcher].push(Letter::ProcessDied(tag, pid(one), exit.to_string()));
        }
    }
}

/// Takes the steps and compares the processes with the model.
fn check(steps: Vec<Step>) {
    let limits = MailboxLimits {
        message_bytes: u64::MAX,
        messages: u64::MAX,
        bytes: u64::MAX,
    };
    let processes: Vec<Arc<ProcessCell>> = (0..PROCESSES)
        .map(|process| Arc::new(ProcessCell::new(pid(process), limits)))
        .collect();
    let table = Table::default();
    for process in &processes {
        table.insert(process.clone());
    }
    let mut model = Model::default();
    for step in steps {
        take_step(&table, &processes, &mut model, &step);
        while let Some(ended) = processes
            .iter()
            .position(|process| process.ending().is_some())
        {
            let exit = processes[ended]
                .ending()
                .expect("the process is about to die");
            let expected = model.ending.get(&ended).map(ToString::to_string);
            assert_eq!(expected, Some(exit.to_string()), "after {step:?}");
            table.finish(&processes[ended], exit.clone(), |_, _| ());
            model.finish(ended, &exit);
        }
        assert!(
            model.ending.is_empty(),
            "after {step:?}: {:?}",
            model.ending
        );
        for (number, process) in processes.iter().enumerate() {
            assert_eq!(process.is_alive(), !model.dead.contains(&number));
            assert_eq!(table.get(pid(number)).is_some(), process.is_alive());
        }
    }
    for (number, process) in processes
        .iter()
        .enumerate()
        .filter(|(_, process)| process.is_alive())
    {
        while let Some(mail) = process.receive(&Wanted::Any, 0, false) {
            assert_eq!(Some(Letter::of(mail)), model.take(number, &[]));
        }
        assert_eq!(model.mail[number], []);
    }
}

fn take_step(
    table: &Table<ProcessCell>,
    processes: &[Arc<ProcessCell>],
    model: &mut Model,
    step: &Step,
) {
    let is_dead = |process: usize| !processes[process].is_alive();
    match *step {
        Step::Link(one, ..)
        | Step::LinkWithLiving(one, ..)
        | Step::Unlink(one, _)
        | Step::Monitor(one, ..)
        | Step::StopMonitoring(one, ..)
        | Step::SetTold(one, _)
        | Step::Take(one, _)
        | Step::Finish(one)
            if is_dead(one) => {}
        Step::Link(one, other, tag) => {
            let linked = table.link(&processes[one], pid(other), tag);
            linked.expect("there are few processes");
            model.link(one, other, tag, true);
        }
        Step::LinkWithLiving(one, other, tag) => {
            let linked = table.link_with_living(&processes[one], pid(other), tag);
            linked.expect("there are few processes");
            model.link(one, other, tag, false);
        }
        Step::Unlink(one, other) => {
            table.unlink(&processes[one], pid(other));
            model.links.remove(&(one, other));
            model.links.remove(&(other, one));
        }
        Step::Monitor(one, other, tag) => {
            table.monitor(&processes[one], pid(other), tag);
            model.monitor(one, other, tag);
        }
        Step::StopMonitoring(one, other, tag) => {
            let stopped = table.stop_monitoring(&processes[one], pid(other), tag);
            assert_eq!(stopped, model.monitors.remove(&(one, other, tag)));
        }
        Step::SetTold(one, told) => {
            processes[one].set_notified(told);
            if told {
                model.told.insert(one);
            } else {
                model.told.remove(&one);
            }
        }
        Step::Send(one, tag) => {
            let message = Message {
                tag,
                ..Message::default()
            };
            processes[one]
                .deliver(message)
                .expect("the mailboxes have no limits");
            if !is_dead(one) {
                model.mail[one].push(Letter::Data(tag));
            }
        }
        Step::Take(one, ref tags) => {
            let taken = processes[one].receive(&Wanted::from_tags(tags), 0, false);
            assert_eq!(taken.map(Letter::of), model.take(one, tags));
            processes[one].stop_waiting();
        }
        Step::Kill(one) => {
            if processes[one].signal(Signal::Kill) {
                model.ending.insert(one, Exit::Killed);
            }
        }
        Step::Finish(one) => {
            table.finish(&processes[one], Exit::Normal, |_, _| ());
            model.finish(one, &Exit::Normal);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn processes_do_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        check(steps);
    }
}
