//! Environments limit what processes may do. This example limits their memory and compute, and does
//! not let them print.
//!
//! Look at how each child ends, and how its parent, which is linked to it, gets the reason. The
//! machine stops the children, which do not have to cooperate. `black_box` keeps the optimizer from
//! removing a vector that is never read, along with the memory that exceeds the limit. Without
//! `black_box`, the second child would end normally in a release build, and its parent would get no
//! signal.

use lunatic::{Config, Environment, LinkMailbox, Mailbox};
use std::hint::black_box;

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    // 17 wasm pages (17 * 64 KiB) are 1,114,112 bytes: a process of this size fits with little room
    // to spare. One unit of compute is about 100,000 instructions.
    let mut config = Config::new(1_200_000, Some(1));
    // Allows only functions whose names start with this prefix, which excludes the functions that
    // print.
    config.allow_namespace("wasi_snapshot_preview1::environ");
    let mut environment =
        Environment::new(config).expect("this process has what the configuration grants");
    let module = environment
        .add_this_module()
        .expect("the module is already loaded");

    let prints = |_: Mailbox<()>| println!("Hi from a different environment");
    let (_, mailbox) = module
        .spawn_link(mailbox, prints)
        .expect("a process of 17 pages fits");
    report("prints", &mailbox);

    let hoards = |_: Mailbox<()>| drop(black_box(vec![0; 150_000]));
    let (_, mailbox) = module
        .spawn_link(mailbox, hoards)
        .expect("a process of 17 pages fits");
    report("hoards", &mailbox);

    #[expect(
        clippy::empty_loop,
        reason = "the loop exists to use up the process's compute"
    )]
    let spins = |_: Mailbox<()>| loop {};
    let (_, mailbox) = module
        .spawn_link(mailbox, spins)
        .expect("a process of 17 pages fits");
    report("spins", &mailbox);
}

fn report(child: &str, mailbox: &LinkMailbox<()>) {
    let message = mailbox.receive();
    let signal = message
        .signal()
        .expect("no process sends messages, and every child fails");
    println!("the child that {child} {}", signal.sentence);
}
