//! Tests processes spawned from functions and closures and addressed by handles.

use crate::{mailbox, PATIENCE};
use lunatic::process::{self, Process};
use lunatic::{Mailbox, Message, TransformMailbox};

pub fn a_child_has_its_context() {
    let mailbox = mailbox::<String>();
    let context = (process::this(&mailbox), "apples".to_owned(), vec![1, 2, 3]);
    process::spawn_with(context, |(parent, name, numbers), _: Mailbox<()>| parent.send(format!("{name} {numbers:?}")))
        .expect("this process may spawn");
    println!("{}", mailbox.receive().expect("the reply is text"));
}

pub fn messages_from_one_sender_arrive_in_order() {
    let mailbox = mailbox::<u32>();
    process::spawn_with(process::this(&mailbox), |parent, _: Mailbox<()>| {
        (0..10_000).for_each(|number| parent.send(number));
    })
    .expect("this process may spawn");
    let in_order = (0..10_000).filter(|number| mailbox.receive().expect("a number arrives") == *number).count();
    println!("{in_order} in order");
}

pub fn a_message_to_a_dead_process_is_lost() {
    let mailbox = mailbox::<u32>();
    let (child, tag, mailbox) = process::spawn_link(mailbox, |mailbox: Mailbox<u32>| {
        panic!("the child fails at {}", mailbox.receive().expect("a number arrives"));
    })
    .expect("this process may spawn");
    child.send(1);
    println!("{}", matches!(mailbox.receive(), Message::Signal(died) if died == tag));
    child.send(2);
    println!("sent");
}

pub fn a_process_has_one_identity() {
    let mailbox = mailbox::<Process<()>>();
    let child = process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<()>| {
        parent.send(process::this(&mailbox));
        mailbox.receive().expect("a message arrives");
    })
    .expect("this process may spawn");
    let told = mailbox.receive().expect("a process arrives");
    println!("{} {}", told == child, told.id() == child.clone().id());
    println!("{}", process::this(&mailbox).id() == child.id());
    told.send(());
}

pub fn processes_can_be_sent_in_messages() {
    let mailbox = mailbox::<u32>();
    let collector = process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<Vec<Process<u32>>>| {
        let workers = mailbox.receive().expect("a list of processes arrives");
        workers.iter().enumerate().for_each(|(number, worker)| worker.send(number as u32));
        parent.send(workers.len() as u32);
    })
    .expect("this process may spawn");
    let workers: Vec<Process<u32>> = (0..3)
        .map(|_| {
            process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<u32>| {
                parent.send(mailbox.receive().expect("a number arrives") + 10);
            })
            .expect("this process may spawn")
        })
        .collect();
    collector.send(workers);
    let mut numbers: Vec<u32> = (0..4).map(|_| mailbox.receive().expect("a number arrives")).collect();
    numbers.sort();
    println!("{numbers:?}");
}

pub fn a_sleep_ends() {
    process::sleep(1);
    println!("awake");
}

/// The function that the children in this claim run.
fn answers(parent: Process<u32>, mailbox: Mailbox<u32>) {
    parent.send(mailbox.receive().expect("a number arrives") + 1);
}

/// Like [`answers`], but without a context: the first message contains the parent.
fn answers_the_process_in_its_first_message(mailbox: Mailbox<Process<u32>>) {
    mailbox.receive().expect("a process arrives").send(7);
}

pub fn a_child_runs_however_it_is_spawned() {
    let mailbox = mailbox::<u32>();
    let this = process::this(&mailbox);
    let ask = |child: Process<u32>, number| child.send(number);

    process::spawn(answers_the_process_in_its_first_message).expect("this process may spawn").send(this.clone());
    println!("{}", mailbox.receive().expect("a number arrives"));
    ask(process::spawn_with(this.clone(), answers).expect("this process may spawn"), 1);
    println!("{}", mailbox.receive_timeout(PATIENCE).expect("a number arrives"));
    let (child, mailbox) = process::spawn_link_unwrap(mailbox, answers_the_process_in_its_first_message).expect("this process may spawn");
    child.send(this.clone());
    println!("{}", mailbox.receive().expect("a number arrives"));
    let (child, mailbox) = process::spawn_link_unwrap_with(mailbox, this.clone(), answers).expect("this process may spawn");
    ask(child, 3);
    println!("{}", mailbox.receive().expect("a number arrives"));
    let (child, _, mailbox) = process::spawn_link(mailbox, answers_the_process_in_its_first_message).expect("this process may spawn");
    child.send(this.clone());
    println!("{}", mailbox.receive().normal_or_unwrap().expect("a number arrives"));
    let (child, _, mailbox) = process::spawn_link_with(mailbox, this, answers).expect("this process may spawn");
    ask(child, 5);
    println!("{}", mailbox.panic_if_link_panics().receive().expect("a number arrives"));
}
