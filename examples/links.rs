//! Links make processes die together; monitors tell of an end.
//!
//! Look at what is told, and to whom. A link works both ways and tells of failures only. A monitor works one way and tells
//! of every end, with its reason. Either way the signal comes after the dead process's names and ports are free.

use lunatic::{Mailbox, Process, ReceiveError, Signal, TransformMailbox, process};

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    // A monitor tells of every end.
    for status in [0, 3] {
        let child = process::spawn_with(status, |status, mailbox: Mailbox<()>| {
            mailbox.receive().expect("the parent sends");
            std::process::exit(status);
        })
        .expect("there is room for a process");
        child.monitor();
        child.send(());
        println!("monitored: {}", reason(mailbox.receive()));
    }
    let child = process::spawn(wait).expect("there is room for a process");
    child.monitor();
    child.kill();
    println!("monitored: {}", reason(mailbox.receive()));
    // Who asks too late is told so at once.
    child.monitor();
    println!("monitored: {}", reason(mailbox.receive()));

    // Two that are linked die together. This process is told by a monitor, and is not linked itself.
    let pair = process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<()>| {
        let (child, mailbox) =
            process::spawn_link_unwrap(mailbox, wait).expect("there is room for a process");
        parent.send(());
        mailbox.receive().expect("the parent sends");
        child.kill();
        wait(mailbox);
    })
    .expect("there is room for a process");
    mailbox.receive().expect("the pair sends when it is one");
    pair.monitor();
    pair.send(());
    println!(
        "linked to one that was killed: {}",
        reason(mailbox.receive())
    );

    // With a `LinkMailbox` the failure of a link is a signal, not one's end. The tag says which link.
    let mailbox = mailbox.catch_link_panic();
    let child: Process<()> = process::spawn(wait).expect("there is room for a process");
    let tag = child.link();
    child.kill();
    let message = mailbox.tag_receive(&[tag]);
    let signal = message.signal().expect("only the link has this tag");
    println!("linked, with the tag: {}", signal.reason);

    // A normal end is not told to links: the first word is the monitor's.
    let (child, mailbox) = process::spawn_link(mailbox, |mailbox: Mailbox<()>| {
        mailbox.receive().expect("the parent sends");
    })
    .expect("there is room for a process");
    child.monitor();
    child.send(());
    let message = mailbox.receive();
    let signal = message.signal().expect("nobody sends messages");
    println!("linked and monitored: {:?} {}", signal.kind, signal.reason);
}

fn wait(mailbox: Mailbox<()>) {
    let _ = mailbox.receive();
}

fn reason(received: Result<(), ReceiveError>) -> String {
    match received {
        Err(ReceiveError::Signal(Signal { reason, .. })) => reason.to_string(),
        other => format!("something else came: {other:?}"),
    }
}
