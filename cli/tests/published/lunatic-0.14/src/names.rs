//! Tests process names.

use crate::{mailbox, wait_for};
use lunatic::{spawn_link, Mailbox, Process, ProcessName};

fn waiting() -> Process<u32> {
    Process::spawn((), |_, mailbox: Mailbox<u32>| assert_eq!(mailbox.receive(), 0))
}

pub fn a_process_can_be_found_by_name() {
    let mailbox = mailbox::<u32>();
    println!("{:?}", Process::<u32>::lookup("parent").is_none());
    mailbox.this().register(&"parent");
    spawn_link!(|| Process::<u32>::lookup("parent").expect("the parent has registered the name").send(1337));
    println!("{}", mailbox.receive());
}

pub fn a_name_belongs_to_one_type() {
    let numbers = waiting();
    numbers.register(&"name");
    println!("{}", Process::<u32>::lookup("name") == Some(numbers));
    println!("{}", Process::<String>::lookup("name").is_none());
}

#[derive(ProcessName)]
struct Logger;

pub fn a_derived_name_is_a_name() {
    let logger = waiting();
    logger.register(&Logger);
    println!("{}", Process::<u32>::lookup(&Logger) == Some(logger));
    println!("{}", Process::<u32>::lookup("Logger").is_none());
}

pub fn the_name_of_a_dead_process_is_free() {
    let first = waiting();
    first.register(&"name");
    first.kill();
    wait_for(first);
    println!("{}", Process::<u32>::lookup("name").is_none());
    let second = waiting();
    second.register(&"name");
    println!("{}", Process::<u32>::lookup("name") == Some(second));
}
