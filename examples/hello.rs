//! A process spawns another process and waits for it.
//!
//! Look at the closure: it captures nothing, because it runs in its own process, with its own
//! memory. Everything that the child needs to know is passed to it as a value. Also look at the
//! last line: the child never sends anything, so this receive can never return a message. As soon
//! as no other process is alive, `receive` returns `ReceiveError::NobodyLeft` instead, and the
//! program ends.

use lunatic::{Mailbox, process};

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    let this = process::this(&mailbox);
    process::spawn_with(this, |_parent, _: Mailbox<()>| {
        println!("Hi! I'm a process.");
    })
    .expect("there is room for a second process");
    let _ = mailbox.receive();
}
