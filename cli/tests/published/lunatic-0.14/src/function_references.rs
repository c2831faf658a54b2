//! Tests functions sent in messages.

use crate::mailbox;
use lunatic::function::FuncRef;
use lunatic::{Mailbox, Process};

fn double(number: i32) -> i32 {
    number * 2
}

pub fn function_references_can_be_sent() {
    let mailbox = mailbox::<i32>();
    let child = Process::spawn_link(mailbox.this(), |parent, functions: Mailbox<FuncRef<fn(i32) -> i32>>| loop {
        parent.send(functions.receive()(21));
    });
    child.send(FuncRef::new(double));
    child.send(FuncRef::new(|number| number - 1));
    println!("{} {}", mailbox.receive(), mailbox.receive());
}
