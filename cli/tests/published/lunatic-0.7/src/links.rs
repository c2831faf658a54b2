//! Tests links: which processes are notified of which exits.

use crate::{mailbox, PATIENCE};
use lunatic::process;
use lunatic::{Mailbox, Message, TransformMailbox};

fn fails(mailbox: Mailbox<()>) {
    mailbox.receive().expect("a message arrives");
    panic!("the child fails");
}

pub fn a_parent_is_told_which_child_failed() {
    let (first, first_tag, mailbox) = process::spawn_link(mailbox::<()>(), fails).expect("this process may spawn");
    let (second, second_tag, mailbox) = process::spawn_link(mailbox, fails).expect("this process may spawn");
    second.send(());
    println!("the second: {}", matches!(mailbox.receive(), Message::Signal(tag) if tag == second_tag));
    first.send(());
    println!("the first: {}", matches!(mailbox.receive(), Message::Signal(tag) if tag == first_tag));
}

pub fn a_normal_exit_is_not_reported() {
    let (child, _, mailbox) =
        process::spawn_link_with(mailbox::<u8>(), (), |(), mailbox: Mailbox<process::Process<u8>>| {
            let parent = mailbox.receive().expect("a process arrives");
            parent.send(1);
        })
        .expect("this process may spawn");
    let plain = self::mailbox::<u8>();
    child.send(process::this(&plain));
    println!("{}", mailbox.receive().normal_or_unwrap().expect("a number arrives"));
    // A signal from that process would have arrived before the next process's signal.
    let (failing, tag, mailbox) = process::spawn_link(mailbox, fails).expect("this process may spawn");
    failing.send(());
    println!("{}", matches!(mailbox.receive(), Message::Signal(died) if died == tag));
}

pub fn a_parent_dies_with_the_child_that_it_is_linked_to() {
    let (child, mailbox) = process::spawn_link_unwrap(mailbox::<()>(), fails).expect("this process may spawn");
    child.send(());
    mailbox.receive_timeout(PATIENCE).ok();
    println!("the parent is still alive");
}

pub fn a_link_can_be_made_and_removed_later() {
    let mailbox = mailbox::<()>().catch_link_panic();
    let (one, other) = (process::spawn(fails).expect("this process may spawn"), process::spawn(fails).expect("this process may spawn"));
    let unlinked = one.link();
    let linked = other.link();
    one.unlink();
    one.send(());
    other.send(());
    match mailbox.receive() {
        Message::Signal(tag) => println!("{} {}", tag == linked, tag == unlinked),
        Message::Normal(_) => println!("a message"),
    }
}

pub fn a_process_can_stop_catching_link_deaths() {
    let mailbox = mailbox::<()>().catch_link_panic().panic_if_link_panics();
    let (child, mailbox) = process::spawn_link_unwrap(mailbox, fails).expect("this process may spawn");
    child.send(());
    mailbox.receive_timeout(PATIENCE).ok();
    println!("the parent is still alive");
}
