//! Tests supervisors: which children are restarted when a child fails.

use crate::mailbox;
use lunatic::ap::handlers::{Message, Request};
use lunatic::ap::{AbstractProcess, Config, MessageHandler, ProcessRef, RequestHandler, State};
use lunatic::serializer::Bincode;
use lunatic::supervisor::{Supervisor, SupervisorConfig, SupervisorStrategy};
use lunatic::{Mailbox, Process};

/// A child that tells a watching process when it starts and exits.
struct Child {
    name: char,
    watcher: Process<String>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Fail;

#[derive(serde::Serialize, serde::Deserialize)]
struct Name;

impl AbstractProcess for Child {
    type Arg = (char, Process<String>);
    type State = Child;
    type Serializer = Bincode;
    type Handlers = (Message<Fail>, Request<Name>);
    type StartupError = ();

    fn init(_: Config<Self>, (name, watcher): Self::Arg) -> Result<Child, ()> {
        watcher.send(format!("{name} starts"));
        Ok(Child { name, watcher })
    }

    fn terminate(child: Child) {
        child.watcher.send(format!("{} is shut down", child.name));
    }
}

impl MessageHandler<Fail> for Child {
    fn handle(child: State<Self>, _: Fail) {
        child.watcher.send(format!("{} fails", child.name));
        panic!("the child fails");
    }
}

impl RequestHandler<Name> for Child {
    type Response = char;

    fn handle(child: State<Self>, _: Name) -> char {
        child.name
    }
}

/// A supervisor with three children.
struct Three;

impl Supervisor for Three {
    type Arg = (u8, Process<String>);
    type Children = (Child, Child, Child);

    fn init(config: &mut SupervisorConfig<Self>, (strategy, watcher): Self::Arg) {
        config.set_strategy(match strategy {
            0 => SupervisorStrategy::OneForOne,
            1 => SupervisorStrategy::OneForAll,
            _ => SupervisorStrategy::RestForOne,
        });
        config.set_args((('a', watcher), ('b', watcher), ('c', watcher)));
        config.set_names((None, Some("b".to_owned()), None));
    }
}

fn print(mailbox: &Mailbox<String>, count: usize) {
    (0..count).for_each(|_| println!("{}", mailbox.receive()));
}

/// Makes the second child fail, then prints the given number of lines.
fn let_fail(strategy: u8, lines: usize) {
    let mailbox = mailbox::<String>();
    let three = Three::link().start((strategy, mailbox.this())).expect("the process starts");
    print(&mailbox, 3);
    let (first, middle, last) = three.children();
    middle.send(Fail);
    print(&mailbox, lines);
    let now = three.children();
    println!("the same: {} {} {}", now.0 == first, now.1 == middle, now.2 == last);
    println!("{}{}{}", now.0.request(Name), now.1.request(Name), now.2.request(Name));
}

pub fn one_for_one_restarts_the_one() {
    let_fail(0, 2);
}

pub fn one_for_all_restarts_all() {
    let_fail(1, 6);
}

pub fn rest_for_one_restarts_the_rest() {
    let_fail(2, 4);
}

pub fn a_child_comes_back_under_its_name() {
    let mailbox = mailbox::<String>();
    let three = Three::link().start((0, mailbox.this())).expect("the process starts");
    print(&mailbox, 3);
    let before = ProcessRef::<Child>::lookup(&"b").expect("the child has a name");
    before.send(Fail);
    print(&mailbox, 2);
    // The supervisor answers a request only after it has finished the restart.
    let child = three.children().1;
    println!("{}", ProcessRef::<Child>::lookup(&"b") == Some(child));
    println!("a new process: {}", child != before);
}

pub fn a_shutdown_goes_from_the_last_to_the_first() {
    let mailbox = mailbox::<String>();
    let three = Three::link().start((0, mailbox.this())).expect("the process starts");
    print(&mailbox, 3);
    three.shutdown();
    print(&mailbox, 3);
}
