//! An environment says what its processes may use: here so much memory, so much compute, and no output.
//!
//! Look at how each child ends and how its parent, which is linked to it, is told the reason. The machine stops them; they
//! need not cooperate. `black_box` keeps the optimiser from removing a vector that nobody reads, and with it the memory that
//! was to be too much: without it the second child ends normally in a release build, and its parent is told nothing.

use lunatic::{Config, Environment, LinkMailbox, Mailbox};
use std::hint::black_box;

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    // 17 Wasm pages (17 * 64 KiB) are 1,114,112 bytes: one such process fits, and little more. One unit of compute is
    // 100,000 instructions, about.
    let mut config = Config::new(1_200_000, Some(1));
    // Nothing but what begins so, and printing does not.
    config.allow_namespace("wasi_snapshot_preview1::environ");
    let mut environment = Environment::new(config).expect("this process has what it grants");
    let module = environment
        .add_this_module()
        .expect("the module is loaded already");

    let prints = |_: Mailbox<()>| println!("Hi from a different environment");
    let (_, mailbox) = module
        .spawn_link(mailbox, prints)
        .expect("a process of 17 pages fits");
    tell("prints", &mailbox);

    let hoards = |_: Mailbox<()>| drop(black_box(vec![0; 150_000]));
    let (_, mailbox) = module
        .spawn_link(mailbox, hoards)
        .expect("a process of 17 pages fits");
    tell("hoards", &mailbox);

    #[expect(clippy::empty_loop, reason = "to waste what it gets is what it is for")]
    let spins = |_: Mailbox<()>| loop {};
    let (_, mailbox) = module
        .spawn_link(mailbox, spins)
        .expect("a process of 17 pages fits");
    tell("spins", &mailbox);
}

fn tell(child: &str, mailbox: &LinkMailbox<()>) {
    let message = mailbox.receive();
    let signal = message
        .signal()
        .expect("nobody sends messages, and every child fails");
    println!("the one that {child} {}", signal.sentence);
}
