//! Links make processes fail together, and monitors report how a process ends.
//!
//! Look at what is reported, and to whom. A link works both ways and reports only failures. A
//! monitor works one way and reports every end, with its reason. Either way, by the time the signal
//! arrives, the dead process's names and ports are free again.

use lunatic::{Mailbox, Process, ReceiveError, Signal, TransformMailbox, process};

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    // A monitor reports every end.
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
    // Monitoring a dead process reports its death immediately.
    child.monitor();
    println!("monitored: {}", reason(mailbox.receive()));

    // Two linked processes die together. This process is not linked to them; it monitors one of
    // them.
    let pair = process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<()>| {
        let (child, mailbox) =
            process::spawn_link_unwrap(mailbox, wait).expect("there is room for a process");
        parent.send(());
        mailbox.receive().expect("the parent sends");
        child.kill();
        wait(mailbox);
    })
    .expect("there is room for a process");
    mailbox.receive().expect("the pair sends once it is linked");
    pair.monitor();
    pair.send(());
    println!(
        "linked with a process that was killed: {}",
        reason(mailbox.receive())
    );

    // With a `LinkMailbox`, the failure of a linked process arrives as a signal and does not end
    // this process. The tag identifies the link.
    let mailbox = mailbox.catch_link_panic();
    let child: Process<()> = process::spawn(wait).expect("there is room for a process");
    let tag = child.link();
    child.kill();
    let message = mailbox.tag_receive(&[tag]);
    let signal = message.signal().expect("only the link has this tag");
    println!("linked, with the tag: {}", signal.reason);

    // A link does not report a normal end, so the first signal comes from the monitor.
    let (child, mailbox) = process::spawn_link(mailbox, |mailbox: Mailbox<()>| {
        mailbox.receive().expect("the parent sends");
    })
    .expect("there is room for a process");
    child.monitor();
    child.send(());
    let message = mailbox.receive();
    let signal = message.signal().expect("no process sends messages");
    println!("linked and monitored: {:?} {}", signal.kind, signal.reason);
}

fn wait(mailbox: Mailbox<()>) {
    let _ = mailbox.receive();
}

fn reason(received: Result<(), ReceiveError>) -> String {
    match received {
        Err(ReceiveError::Signal(Signal { reason, .. })) => reason.to_string(),
        other => format!("something else arrived: {other:?}"),
    }
}
