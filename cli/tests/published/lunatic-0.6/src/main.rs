//! Tests programs that use the published library 0.6.0. The program runs the code for the claim
//! named by its first argument and prints the results. The expected results are in
//! `cli/tests/all/published.rs`. These claims are about the differences from the next generation,
//! whose program has more claims.

use lunatic::process::{self, Process};
use lunatic::{lookup, Config, Environment, LinkMailbox, Mailbox, Request};

/// Lists functions with their names, so that they can be called by name.
macro_rules! claims {
    ($($claim:ident)*) => {
        [$((concat!("programs::", stringify!($claim)), $claim as fn(Mailbox<u32>)),)*]
    };
}

#[lunatic::main]
fn main(mailbox: Mailbox<u32>) {
    let claims = claims! {
        a_child_has_its_context
        messages_from_one_sender_arrive_in_order
        a_request_is_answered_before_earlier_messages
        a_link_that_fails_is_a_message
        a_parent_dies_with_the_child_that_it_is_linked_to
        a_link_can_be_made_and_removed_later
        an_environment_limits_memory_and_compute
        the_newest_matching_version_is_found
    };
    let wanted = std::env::args().find(|argument| argument == "--list" || argument.contains("::"));
    let wanted = wanted.expect("the first argument names a claim, or is `--list`");
    if wanted == "--list" {
        claims.iter().for_each(|(name, _)| println!("{name}"));
        return;
    }
    let Some((_, claim)) = claims.into_iter().find(|(name, _)| *name == wanted) else {
        panic!("no claim named `{wanted}`");
    };
    claim(mailbox);
}

fn a_child_has_its_context(mailbox: Mailbox<u32>) {
    process::spawn_with((process::this(&mailbox), vec![1, 2, 3]), |(parent, numbers), _: Mailbox<()>| {
        numbers.into_iter().for_each(|number| parent.send(number));
    })
    .expect("this process may spawn");
    let sum: u32 = (0..3).map(|_| mailbox.receive().expect("a number arrives")).sum();
    println!("{sum}");
}

fn messages_from_one_sender_arrive_in_order(mailbox: Mailbox<u32>) {
    process::spawn_with(process::this(&mailbox), |parent, _: Mailbox<()>| {
        (0..10_000).for_each(|number| parent.send(number));
    })
    .expect("this process may spawn");
    let in_order = (0..10_000).filter(|number| mailbox.receive().expect("a number arrives") == *number).count();
    println!("{in_order} in order");
}

fn a_request_is_answered_before_earlier_messages(mailbox: Mailbox<u32>) {
    process::this(&mailbox).send(1337);
    let adder = process::spawn(|mailbox: Mailbox<Request<(i32, i32), i32>>| loop {
        let request = mailbox.receive().expect("a request arrives");
        let (a, b) = *request.data();
        request.replay(a + b);
    })
    .expect("this process may spawn");
    println!("{}", adder.request((1, 2)).expect("a number arrives"));
    println!("{}", mailbox.receive().expect("a number arrives"));
}

fn fails(mailbox: Mailbox<()>) {
    mailbox.receive().expect("a message arrives");
    panic!("the child fails");
}

fn a_link_that_fails_is_a_message(mailbox: Mailbox<u32>) {
    let (child, mailbox): (Process<()>, LinkMailbox<u32>) = process::spawn_link(mailbox, fails).expect("this process may spawn");
    child.send(());
    println!("{}", mailbox.receive().is_signal());
}

fn a_parent_dies_with_the_child_that_it_is_linked_to(mailbox: Mailbox<u32>) {
    let (child, mailbox) = process::spawn_link_unwrap(mailbox, fails).expect("this process may spawn");
    child.send(());
    mailbox.receive().ok();
    println!("the parent is still alive");
}

fn a_link_can_be_made_and_removed_later(mailbox: Mailbox<u32>) {
    let (child, mailbox) = process::spawn_link(mailbox, fails).expect("this process may spawn");
    let other = process::spawn(fails).expect("this process may spawn");
    other.link();
    other.unlink();
    other.send(());
    child.send(());
    println!("{}", mailbox.receive().is_signal());
}

fn an_environment_limits_memory_and_compute(mailbox: Mailbox<u32>) {
    let mut config = Config::new(3_000_000, Some(5));
    config.allow_namespace("lunatic::");
    let mut environment = Environment::new(config).expect("the limits allow this");
    let module = environment.add_this_module().expect("the module is valid");
    let parent = process::this(&mailbox);
    let works =
        |parent: Process<u32>, _: Mailbox<()>| parent.send(std::hint::black_box(vec![1u8; 100_000]).len() as u32);
    let (_, mailbox) = module.spawn_link_with(mailbox, parent, works).expect("the limits allow another process");
    println!("{:?}", mailbox.receive().normal_or_unwrap().ok());
    let hoards = |_: Mailbox<()>| assert_eq!(std::hint::black_box(vec![1u8; 3_000_000])[0], 1);
    let (_, mailbox) = module.spawn_link(mailbox, hoards).expect("the limits allow another process");
    println!("{}", mailbox.receive().is_signal());
    let (_, mailbox) = module.spawn_link(mailbox, |_: Mailbox<()>| loop {}).expect("the limits allow another process");
    println!("{}", mailbox.receive().is_signal());
}

fn the_newest_matching_version_is_found(mailbox: Mailbox<u32>) {
    for (number, version) in ["1.0.0", "1.2.0", "2.0.0"].into_iter().enumerate() {
        let counter = |(parent, number): (Process<u32>, u32), mailbox: Mailbox<()>| {
            mailbox.receive().expect("a message arrives");
            parent.send(number);
        };
        let child = process::spawn_with((process::this(&mailbox), number as u32), counter).expect("this process may spawn");
        process::this_env().register("counter", version, child).expect("the version is valid");
    }
    lookup::<()>("counter", "^1").expect("the query is valid").expect("the name is registered").send(());
    println!("{}", mailbox.receive().expect("a number arrives"));
    println!("{}", lookup::<()>("counter", "^3").expect("the query is valid").is_none());
}
