//! Compares mailboxes, links, monitors and names with a small model.
//!
//! Actors perform a random list of steps, one at a time, and their answers are compared with the
//! model's. The test waits for every death, so that each step starts from the state in which the
//! previous one ended.

use crate::support::Lab;
use crate::support::actor::{self, Actor, Mail};
use lunatic_vm::{ExitKind, Pid};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The number of actors. Dead actors stay in the list, so that later steps can link to, monitor,
/// send to and register them.
const ACTORS: usize = 5;
const NAMES: [&str; 2] = ["one", "other"];

#[derive(Clone, Debug)]
enum Step {
    Link(usize, usize, i64),
    Unlink(usize, usize),
    Monitor(usize, usize, i64),
    StopMonitoring(usize, usize, i64),
    DieWhenLinkDies(usize, bool),
    Send(usize, usize, i64, i64),
    Take(usize, Vec<i64>),
    Register(usize, usize, usize),
    Unregister(usize, usize),
    Lookup(usize, usize),
    Exists(usize, usize),
    Kill(usize, usize),
    Finish(usize),
    Trap(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let actor = || 0..ACTORS;
    let tag = || 0..3i64;
    prop_oneof![
        4 => (actor(), actor(), tag()).prop_map(|(one, other, tag)| Step::Link(one, other, tag)),
        2 => (actor(), actor()).prop_map(|(one, other)| Step::Unlink(one, other)),
        4 => (actor(), actor(), tag()).prop_map(|(one, other, tag)| Step::Monitor(one, other, tag)),
        2 => (actor(), actor(), tag()).prop_map(|(one, other, tag)| Step::StopMonitoring(one, other, tag)),
        2 => (actor(), any::<bool>()).prop_map(|(one, die)| Step::DieWhenLinkDies(one, die)),
        6 => (actor(), actor(), tag(), 0..100i64).prop_map(|(one, other, tag, number)| Step::Send(one, other, tag, number)),
        8 => (actor(), prop::collection::vec(tag(), 0..3)).prop_map(|(one, tags)| Step::Take(one, tags)),
        3 => (actor(), actor(), 0..NAMES.len()).prop_map(|(one, other, name)| Step::Register(one, other, name)),
        2 => (actor(), 0..NAMES.len()).prop_map(|(one, name)| Step::Unregister(one, name)),
        2 => (actor(), 0..NAMES.len()).prop_map(|(one, name)| Step::Lookup(one, name)),
        1 => (actor(), actor()).prop_map(|(one, other)| Step::Exists(one, other)),
        1 => (actor(), actor()).prop_map(|(one, other)| Step::Kill(one, other)),
        1 => actor().prop_map(Step::Finish),
        1 => actor().prop_map(Step::Trap),
    ]
}

/// A piece of mail in the model. Actors are identified by their index.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Letter {
    Data(i64, i64),
    LinkDied(i64, usize, ExitKind),
    ProcessDied(i64, usize, ExitKind),
}

impl Letter {
    fn is_found_by(self, tags: &[i64]) -> bool {
        match self {
            _ if tags.is_empty() => true,
            Letter::Data(tag, _) | Letter::LinkDied(tag, ..) => tags.contains(&tag),
            Letter::ProcessDied(tag, ..) => tag != 0 && tags.contains(&tag),
        }
    }
}

#[derive(Clone, Debug)]
struct ModelActor {
    is_alive: bool,
    dies: bool,
    /// The waiting mail, each piece with the step in which it arrived. Mail caused by several
    /// deaths in the same step may arrive in any order.
    mailbox: Vec<(usize, Letter)>,
    /// The actors that this actor is linked to, and the tag of each link.
    links: BTreeMap<usize, i64>,
    monitors: BTreeSet<(usize, i64)>,
}

/// All the state that the test compares. Only mail is ordered.
struct Model {
    actors: Vec<ModelActor>,
    /// For each name, the process that has it and the process that registered it.
    names: BTreeMap<usize, (usize, usize)>,
    step: usize,
}

impl Model {
    fn new() -> Model {
        let actor = ModelActor {
            is_alive: true,
            dies: true,
            mailbox: Vec::new(),
            links: BTreeMap::new(),
            monitors: BTreeSet::new(),
        };
        Model {
            actors: vec![actor; ACTORS],
            names: BTreeMap::new(),
            step: 0,
        }
    }

    fn post(&mut self, to: usize, letter: Letter) {
        self.actors[to].mailbox.push((self.step, letter));
    }

    /// Ends an actor and the actors that die because of it.
    fn end(&mut self, who: usize, kind: ExitKind) {
        if !self.actors[who].is_alive {
            return;
        }
        self.actors[who].is_alive = false;
        self.names.retain(|_, (holder, _)| *holder != who);
        let links = std::mem::take(&mut self.actors[who].links);
        for other in 0..ACTORS {
            let (told, kept) = self.actors[other]
                .monitors
                .iter()
                .copied()
                .partition(|(pid, _)| *pid == who);
            self.actors[other].monitors = kept;
            let told: BTreeSet<(usize, i64)> = told;
            for (_, tag) in told {
                self.post(other, Letter::ProcessDied(tag, who, kind));
            }
        }
        for &other in links.keys() {
            let Some(tag) = self.actors[other].links.remove(&who) else {
                continue;
            };
            if kind != ExitKind::Normal {
                self.link_died(other, tag, who, kind);
            }
        }
    }

    fn link_died(&mut self, who: usize, tag: i64, of: usize, kind: ExitKind) {
        match self.actors[who].dies {
            true => self.end(who, ExitKind::LinkDied),
            false => self.post(who, Letter::LinkDied(tag, of, kind)),
        }
    }
}

/// Performs one step on both the actors and the model, and compares the results.
fn apply(step: &Step, actors: &[Actor<'_>], model: &mut Model) -> Result<(), TestCaseError> {
    let author = match *step {
        Step::Link(one, ..)
        | Step::Unlink(one, _)
        | Step::Monitor(one, ..)
        | Step::StopMonitoring(one, ..) => one,
        Step::DieWhenLinkDies(one, _)
        | Step::Send(one, ..)
        | Step::Take(one, _)
        | Step::Register(one, ..) => one,
        Step::Unregister(one, _)
        | Step::Lookup(one, _)
        | Step::Exists(one, _)
        | Step::Kill(one, _) => one,
        Step::Finish(one) | Step::Trap(one) => one,
    };
    if !model.actors[author].is_alive {
        return Ok(());
    }
    let pid = |actor: usize| actors[actor].pid();
    let real = &actors[author];
    match *step {
        Step::Link(one, other, tag) => {
            if one != other && !model.actors[other].is_alive {
                // An actor that dies because of its own link reports nothing.
                real.command("link", [tag, pid(other).number().cast_signed(), 0], b"");
                model.link_died(one, tag, other, ExitKind::NoProcess);
                if model.actors[one].is_alive {
                    real.lab.hear();
                }
            } else {
                real.link(tag, pid(other));
                if one != other {
                    model.actors[one].links.insert(other, tag);
                    model.actors[other].links.insert(one, tag);
                }
            }
        }
        Step::Unlink(one, other) => {
            real.unlink(pid(other));
            model.actors[one].links.remove(&other);
            model.actors[other].links.remove(&one);
        }
        Step::Monitor(one, other, tag) => {
            real.monitor(tag, pid(other));
            if model.actors[other].is_alive {
                model.actors[one].monitors.insert((other, tag));
            } else {
                model.post(one, Letter::ProcessDied(tag, other, ExitKind::NoProcess));
            }
        }
        Step::StopMonitoring(one, other, tag) => {
            let was_there = model.actors[one].monitors.remove(&(other, tag));
            prop_assert_eq!(real.stop_monitoring(tag, pid(other)), was_there);
        }
        Step::DieWhenLinkDies(one, die) => {
            real.die_when_link_dies(die);
            model.actors[one].dies = die;
        }
        Step::Send(_, other, tag, number) => {
            prop_assert_eq!(real.send(pid(other), tag, number), 0);
            if model.actors[other].is_alive {
                model.post(other, Letter::Data(tag, number));
            }
        }
        Step::Take(one, ref tags) => {
            let mailbox = &mut model.actors[one].mailbox;
            let taken = real.take(tags);
            let found = mailbox
                .iter()
                .position(|(_, letter)| letter.is_found_by(tags));
            let Some(first) = found else {
                prop_assert_eq!(taken, Mail::TimedOut);
                return Ok(());
            };
            let step = mailbox[first].0;
            let is_taken = |&(came, letter): &(usize, Letter)| {
                let mail = match letter {
                    Letter::Data(tag, number) => Mail::Data(tag, number),
                    Letter::LinkDied(tag, of, kind) => Mail::LinkDied(tag, pid(of), kind as i64),
                    Letter::ProcessDied(tag, of, kind) => {
                        Mail::ProcessDied(tag, pid(of), kind as i64)
                    }
                };
                came == step && letter.is_found_by(tags) && mail == taken
            };
            let place = mailbox.iter().position(is_taken);
            prop_assert!(place.is_some(), "{:?} was taken from {:?}", taken, mailbox);
            mailbox.remove(place.expect("the mail was found above"));
        }
        Step::Register(one, other, name) => {
            let expected = match model.names.get(&name) {
                _ if !model.actors[other].is_alive => 6,
                Some((holder, _)) if *holder != other => 7,
                Some(_) => 0,
                None => {
                    model.names.insert(name, (other, one));
                    0
                }
            };
            prop_assert_eq!(real.register(NAMES[name], pid(other)), expected);
        }
        Step::Unregister(one, name) => {
            let expected = match model.names.get(&name).copied() {
                None => 8,
                Some((holder, registrar)) if one != holder && one != registrar => 4,
                Some(_) => {
                    model.names.remove(&name);
                    0
                }
            };
            prop_assert_eq!(real.unregister(NAMES[name]), expected);
        }
        Step::Lookup(_, name) => {
            let expected: Option<Pid> = model.names.get(&name).map(|(holder, _)| pid(*holder));
            prop_assert_eq!(real.lookup(NAMES[name]), expected);
        }
        Step::Exists(_, other) => {
            prop_assert_eq!(real.exists(pid(other)), model.actors[other].is_alive)
        }
        Step::Kill(_, other) => {
            real.kill(pid(other));
            model.end(other, ExitKind::Killed);
        }
        Step::Finish(one) => {
            real.command("finish", [0; 3], b"");
            model.end(one, ExitKind::Normal);
        }
        Step::Trap(one) => {
            real.command("trap", [0; 3], b"");
            model.end(one, ExitKind::Trapped);
        }
    }
    for (actor, expected) in actors.iter().zip(&model.actors) {
        if !expected.is_alive {
            actor.lab.exit(&actor.process);
        }
    }
    for (place, (actor, expected)) in actors.iter().zip(&model.actors).enumerate() {
        prop_assert_eq!(
            actor.process.is_alive(),
            expected.is_alive,
            "actor {}",
            place
        );
        if expected.is_alive {
            prop_assert_eq!(
                actor.process.mailbox_size().0,
                expected.mailbox.len(),
                "mail of actor {}",
                place
            );
        }
    }
    Ok(())
}

#[test]
fn mail_links_monitors_and_names_behave_as_in_the_model() {
    let lab = Lab::with(lunatic_vm::Vm::builder().workers(2));
    let module = lab.module(&actor::module());
    let spare = RefCell::new(Vec::new());
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&prop::collection::vec(step(), 1..80), |steps| {
        while !lab.heard_nothing_more() {
            // A failed case may have left an answer unread.
            lab.hear();
        }
        let environment = lab.environment();
        let actors: Vec<Actor<'_>> = (0..ACTORS)
            .map(|_| Actor::spawn(&lab, &environment, &module))
            .collect();
        let mut model = Model::new();
        for step in &steps {
            model.step += 1;
            apply(step, &actors, &mut model)?;
        }
        environment.end();
        spare.borrow_mut().push(environment);
        Ok(())
    });
    for environment in spare.into_inner() {
        lab.wait_for("all actors of a case to end", environment.ended());
        nothing_is_in_use(&environment);
    }
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn nothing_is_in_use(environment: &lunatic_vm::Environment) {
    assert_eq!(environment.used(lunatic_vm::Limit::Names), 0);
    assert_eq!(environment.used(lunatic_vm::Limit::Processes), 0);
}
