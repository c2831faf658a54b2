//! Tests processes spawned from functions and closures and addressed by handles.

use crate::{mailbox, wait_for, PATIENCE};
use lunatic::ap::handlers::Request;
use lunatic::ap::{AbstractProcess, Config, RequestHandler, State};
use lunatic::serializer::Bincode;
use lunatic::{spawn, spawn_link, Mailbox, Process};

pub fn a_child_has_the_captured_values() {
    let mailbox = mailbox::<String>();
    let captured = (mailbox.this(), "apples".to_owned(), vec![1, 2, 3]);
    Process::spawn(captured, |(parent, name, numbers), _: Mailbox<()>| {
        parent.send(format!("{name} {numbers:?}"));
    });
    println!("{}", mailbox.receive());
}

pub fn messages_from_one_sender_arrive_in_order() {
    let mailbox = mailbox::<u32>();
    Process::spawn(mailbox.this(), |parent, _: Mailbox<()>| (0..10_000).for_each(|number| parent.send(number)));
    let in_order = (0..10_000).filter(|number| mailbox.receive() == *number).count();
    println!("{in_order} in order");
}

pub fn a_thousand_processes_each_spawn_the_next() {
    let mailbox = mailbox::<u32>();
    Process::spawn_link((mailbox.this(), 1000), sum);
    println!("{}", mailbox.receive());
}

fn sum((parent, number): (Process<u32>, u32), mailbox: Mailbox<u32>) {
    if number == 0 {
        return parent.send(0);
    }
    Process::spawn_link((mailbox.this(), number - 1), sum);
    parent.send(number + mailbox.receive());
}

pub fn macros_spawn_the_same_processes_as_functions() {
    let mailbox = mailbox::<String>();
    let parent = mailbox.this();
    spawn!(|parent| parent.send("a capture".to_owned()));
    println!("{}", mailbox.receive());
    spawn_link!(|parent, what = { "a value".to_owned() }| parent.send(what));
    println!("{}", mailbox.receive());
    let child = spawn_link!(|parent, mailbox: Mailbox<String>| parent.send(mailbox.receive()));
    child.send("a mailbox".to_owned());
    println!("{}", mailbox.receive());
}

pub fn a_process_is_alive_until_it_is_killed() {
    let child = Process::spawn((), |_, mailbox: Mailbox<()>| mailbox.receive());
    println!("alive: {}", child.is_alive());
    child.kill();
    wait_for(child);
    println!("alive: {}", child.is_alive());
}

pub fn a_message_to_a_dead_process_is_lost() {
    let child = Process::spawn((), |_, _: Mailbox<u32>| {});
    wait_for(child);
    child.send(1);
    println!("sent");
}

pub fn handles_of_one_process_are_equal() {
    let mailbox = mailbox::<Process<()>>();
    let child = Process::spawn(mailbox.this(), |parent, mailbox: Mailbox<()>| parent.send(mailbox.this()));
    let other = Process::spawn((), |_, _: Mailbox<()>| {});
    let told = mailbox.receive();
    println!("the same: {}, another: {}", child == told, child == other);
    println!("on the node of this process: {}", child.node_id() == lunatic::host::node_id());
}

struct Adder;

impl AbstractProcess for Adder {
    type Arg = ();
    type State = Self;
    type Serializer = Bincode;
    type Handlers = (Request<(i32, i32)>,);
    type StartupError = ();

    fn init(_: Config<Self>, _: ()) -> Result<Adder, ()> {
        Ok(Adder)
    }
}

impl RequestHandler<(i32, i32)> for Adder {
    type Response = i32;

    fn handle(_: State<Self>, (a, b): (i32, i32)) -> i32 {
        a + b
    }
}

pub fn a_flooded_mailbox_still_gets_the_reply() {
    let mailbox = mailbox::<u64>();
    let adder = Adder::link().start(()).expect("the process starts");
    // This process sends more messages than a mailbox can hold and never stops.
    let flood = Process::spawn(mailbox.this(), |parent, _: Mailbox<()>| loop {
        parent.send(1337);
    });
    let right = (0..1000).filter(|number| adder.request((*number, 1)) == number + 1).count();
    println!("{right} replies");
    flood.kill();
    println!("{}", mailbox.receive_timeout(PATIENCE).expect("the mailbox is full of these messages"));
}
