//! Tests links and monitors: which processes are notified of which exits.

use crate::{mailbox, wait_for, PATIENCE};
use lunatic::{LinkDiedSignal, Mailbox, MessageSignal, Process, ProcessDiedSignal, Signal, Tag};
use std::time::Duration;

fn fails(_: (), mailbox: Mailbox<()>) {
    mailbox.receive();
    panic!("the child fails");
}

fn ends(_: (), mailbox: Mailbox<()>) {
    mailbox.receive();
}

pub fn a_parent_survives_a_child_that_fails() {
    let child = Process::spawn((), fails);
    child.send(());
    wait_for(child);
    println!("the parent is still alive");
}

pub fn a_parent_dies_with_the_child_that_it_is_linked_to() {
    let child = Process::spawn_link((), fails);
    child.send(());
    mailbox::<()>().receive_timeout(PATIENCE).ok();
    println!("the parent is still alive");
}

pub fn a_parent_that_catches_link_deaths_gets_the_tag() {
    let mailbox = mailbox::<()>().catch_link_failure();
    let tags = [Tag::new(), Tag::new(), Tag::new()];
    let children = tags.map(|tag| Process::spawn_link_tag((), tag, fails));
    for number in [1, 0, 2] {
        children[number].send(());
        match mailbox.receive() {
            MessageSignal::Signal(LinkDiedSignal(tag)) => println!("{}", tag == tags[number]),
            MessageSignal::Message(()) => println!("a message"),
        }
    }
}

pub fn a_normal_exit_is_not_reported() {
    let mailbox = mailbox::<()>().catch_link_failure();
    let child = Process::spawn_link((), ends);
    let failing = Process::spawn_link_tag((), Tag::special(64).expect("the tag is in the range for programs"), fails);
    child.send(());
    wait_for_both_kinds(&mailbox, child);
    failing.send(());
    match mailbox.receive() {
        MessageSignal::Signal(LinkDiedSignal(tag)) => println!("tag {}", tag.id()),
        MessageSignal::Message(()) => println!("a message"),
    }
}

/// Waits until a process has ended, without being notified of it.
fn wait_for_both_kinds(_: &Mailbox<(), lunatic::serializer::Bincode, LinkDiedSignal>, process: Process<()>) {
    while process.is_alive() {
        lunatic::sleep(Duration::from_millis(1));
    }
}

pub fn a_link_to_a_dead_process_is_reported() {
    let child = Process::spawn((), ends);
    child.send(());
    wait_for(child);
    let mailbox = mailbox::<()>().catch_link_failure();
    child.link();
    println!("{}", mailbox.receive_timeout(PATIENCE).is_ok_and(|message| message.is_signal()));
}

pub fn an_unlinked_child_can_fail_without_killing_its_parent() {
    let child = Process::spawn_link((), fails);
    child.unlink();
    child.send(());
    wait_for(child);
    println!("the parent is still alive");
}

pub fn a_monitor_is_notified_of_every_exit() {
    let mailbox = mailbox::<()>().monitorable();
    for child in [Process::spawn((), fails), Process::spawn((), ends)] {
        mailbox.monitor(child);
        child.send(());
        match mailbox.receive() {
            MessageSignal::Signal(ProcessDiedSignal(id)) => println!("{}", id == child.id()),
            MessageSignal::Message(()) => println!("a message"),
        }
    }
}

pub fn monitoring_a_dead_process_reports_its_exit() {
    let child = Process::spawn((), ends);
    child.send(());
    wait_for(child);
    wait_for(child);
    println!("answered");
}

pub fn a_stopped_monitor_reports_nothing() {
    let mailbox = mailbox::<()>().monitorable();
    let (first, second) = (Process::spawn((), ends), Process::spawn((), ends));
    mailbox.monitor(first);
    mailbox.monitor(second);
    mailbox.stop_monitoring(first);
    first.send(());
    while first.is_alive() {
        lunatic::sleep(Duration::from_millis(1));
    }
    second.send(());
    match mailbox.receive() {
        MessageSignal::Signal(ProcessDiedSignal(id)) => println!("the second: {}", id == second.id()),
        MessageSignal::Message(()) => println!("a message"),
    }
}

pub fn one_mailbox_receives_messages_and_link_and_monitor_signals() {
    let mailbox = mailbox::<u8>().monitorable().catch_link_failure();
    let tag = Tag::new();
    let child = Process::spawn_link_tag(mailbox.this(), tag, |parent, mailbox: Mailbox<()>| {
        parent.send(7);
        mailbox.receive();
        panic!("the child fails");
    });
    mailbox.monitor_both(child);
    println!("message {}", mailbox.receive().unwrap_message());
    child.send(());
    let mut signals: Vec<&str> = (0..2)
        .map(|_| match mailbox.receive().unwrap_signal() {
            Signal::LinkDied(told) if told == tag => "link",
            Signal::ProcessDied(id) if id == child.id() => "monitor",
            _ => "something else",
        })
        .collect();
    signals.sort();
    println!("{signals:?}");
}

trait MonitorBoth {
    /// The library does not have a function that adds a monitor in a process that also catches link
    /// failures.
    fn monitor_both<M>(&self, process: Process<M>);
}

impl MonitorBoth for Mailbox<u8, lunatic::serializer::Bincode, Signal> {
    fn monitor_both<M>(&self, process: Process<M>) {
        unsafe { lunatic::host::api::process::monitor(process.id()) };
    }
}
