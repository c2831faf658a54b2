//! A process spawns another and waits for it.
//!
//! Look at the closure: it captures nothing, because it runs in a process of its own, with memory of its own. What the
//! child is to know goes along as a value. And look at the last line: the child never sends, so this would be a wait for
//! ever; as soon as nobody else is alive, `receive` returns `ReceiveError::NobodyLeft` instead, and the program ends.

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
