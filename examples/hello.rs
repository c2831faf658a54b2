//! A process spawns another one and waits for it.
//!
//! Note that the closure captures nothing, because it runs in its own process, with its own memory.
//! Everything that the child needs is passed to it as a value. Also note the last line: the child
//! never sends anything, so `receive` cannot return a message. As soon as no other process is
//! alive, it returns `ReceiveError::NobodyLeft` instead, and the program exits.

use lunatic::{Mailbox, process};

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    let this = process::this(&mailbox);
    process::spawn_with(this, |_parent, _: Mailbox<()>| {
        println!("Hi! I'm a process.");
    })
    .expect("a second process can be spawned");
    let _ = mailbox.receive();
}
