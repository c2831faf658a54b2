//! Environments limit what processes may do. This one limits their memory and compute, and does not
//! let them print.
//!
//! Note how each child dies, and how the parent is told why, because it is linked to the child. The
//! machine stops the children without their cooperation. In a release build, the optimizer would
//! remove a vector that is never read, and the second child would never exceed its memory limit;
//! `black_box` prevents that.

use lunatic::{Config, Environment, LinkMailbox, Mailbox};
use std::hint::black_box;

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    // 17 wasm pages (17 * 64 KiB) are 1,114,112 bytes, so a process of this size fits, with little
    // memory to spare. One unit of compute is about 100,000 instructions.
    let mut config = Config::new(1_200_000, Some(1));
    // Allow only functions whose names start with this prefix. Those that print don't.
    config.allow_namespace("wasi_snapshot_preview1::environ");
    let mut environment = Environment::new(config)
        .expect("this process has everything that the configuration grants");
    let module = environment
        .add_this_module()
        .expect("the module is already loaded");

    let prints = |_: Mailbox<()>| println!("Hi from a different environment");
    let (_, mailbox) = module
        .spawn_link(mailbox, prints)
        .expect("a process of 17 pages fits the limit");
    report("prints", &mailbox);

    let hoards = |_: Mailbox<()>| drop(black_box(vec![0; 150_000]));
    let (_, mailbox) = module
        .spawn_link(mailbox, hoards)
        .expect("a process of 17 pages fits the limit");
    report("hoards", &mailbox);

    #[expect(
        clippy::empty_loop,
        reason = "the loop is there to use up the process's compute"
    )]
    let spins = |_: Mailbox<()>| loop {};
    let (_, mailbox) = module
        .spawn_link(mailbox, spins)
        .expect("a process of 17 pages fits the limit");
    report("spins", &mailbox);
}

fn report(child: &str, mailbox: &LinkMailbox<()>) {
    let message = mailbox.receive();
    let signal = message
        .signal()
        .expect("no process sends a message, and every child fails");
    println!("the child that {child} {}", signal.sentence);
}
