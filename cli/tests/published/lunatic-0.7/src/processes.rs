//! Processes: spawned from functions and closures, addressed by handles.

use crate::{mailbox, PATIENCE};
use lunatic::process::{self, Process};
use lunatic::{Mailbox, Message, TransformMailbox};

pub fn a_child_has_its_context() {
    let mailbox = mailbox::<String>();
    let context = (process::this(&mailbox), "apples".to_owned(), vec![1, 2, 3]);
    process::spawn_with(context, |(parent, name, numbers), _: Mailbox<()>| parent.send(format!("{name} {numbers:?}")))
        .expect("it may spawn");
    println!("{}", mailbox.receive().expect("it is text"));
}

pub fn messages_of_one_sender_arrive_in_order() {
    let mailbox = mailbox::<u32>();
    process::spawn_with(process::this(&mailbox), |parent, _: Mailbox<()>| {
        (0..10_000).for_each(|number| parent.send(number));
    })
    .expect("it may spawn");
    let in_order = (0..10_000).filter(|number| mailbox.receive().expect("it is a number") == *number).count();
    println!("{in_order} in order");
}

pub fn a_message_to_a_dead_process_is_lost() {
    let mailbox = mailbox::<u32>();
    let (child, tag, mailbox) = process::spawn_link(mailbox, |mailbox: Mailbox<u32>| {
        panic!("the child fails at {}", mailbox.receive().expect("it is a number"));
    })
    .expect("it may spawn");
    child.send(1);
    println!("{}", matches!(mailbox.receive(), Message::Signal(died) if died == tag));
    child.send(2);
    println!("sent");
}

pub fn a_process_has_one_identity() {
    let mailbox = mailbox::<Process<()>>();
    let child = process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<()>| {
        parent.send(process::this(&mailbox));
        mailbox.receive().expect("it is nothing");
    })
    .expect("it may spawn");
    let told = mailbox.receive().expect("it is a process");
    println!("{} {}", told == child, told.id() == child.clone().id());
    println!("{}", process::this(&mailbox).id() == child.id());
    told.send(());
}

pub fn processes_can_be_sent_in_messages() {
    let mailbox = mailbox::<u32>();
    let collector = process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<Vec<Process<u32>>>| {
        let workers = mailbox.receive().expect("they are processes");
        workers.iter().enumerate().for_each(|(number, worker)| worker.send(number as u32));
        parent.send(workers.len() as u32);
    })
    .expect("it may spawn");
    let workers: Vec<Process<u32>> = (0..3)
        .map(|_| {
            process::spawn_with(process::this(&mailbox), |parent, mailbox: Mailbox<u32>| {
                parent.send(mailbox.receive().expect("it is a number") + 10);
            })
            .expect("it may spawn")
        })
        .collect();
    collector.send(workers);
    let mut numbers: Vec<u32> = (0..4).map(|_| mailbox.receive().expect("it is a number")).collect();
    numbers.sort();
    println!("{numbers:?}");
}

pub fn a_sleep_ends() {
    process::sleep(1);
    println!("awake");
}

/// What every child here does.
fn answers(parent: Process<u32>, mailbox: Mailbox<u32>) {
    parent.send(mailbox.receive().expect("it is a number") + 1);
}

/// As [`answers`], where there is no context: the parent comes as the first message.
fn answers_whom_it_is_told(mailbox: Mailbox<Process<u32>>) {
    mailbox.receive().expect("it is a process").send(7);
}

pub fn a_child_spawned_in_every_way_runs() {
    let mailbox = mailbox::<u32>();
    let this = process::this(&mailbox);
    let ask = |child: Process<u32>, number| child.send(number);

    process::spawn(answers_whom_it_is_told).expect("it may spawn").send(this.clone());
    println!("{}", mailbox.receive().expect("it is a number"));
    ask(process::spawn_with(this.clone(), answers).expect("it may spawn"), 1);
    println!("{}", mailbox.receive_timeout(PATIENCE).expect("it is a number"));
    let (child, mailbox) = process::spawn_link_unwrap(mailbox, answers_whom_it_is_told).expect("it may spawn");
    child.send(this.clone());
    println!("{}", mailbox.receive().expect("it is a number"));
    let (child, mailbox) = process::spawn_link_unwrap_with(mailbox, this.clone(), answers).expect("it may spawn");
    ask(child, 3);
    println!("{}", mailbox.receive().expect("it is a number"));
    let (child, _, mailbox) = process::spawn_link(mailbox, answers_whom_it_is_told).expect("it may spawn");
    child.send(this.clone());
    println!("{}", mailbox.receive().normal_or_unwrap().expect("it is a number"));
    let (child, _, mailbox) = process::spawn_link_with(mailbox, this, answers).expect("it may spawn");
    ask(child, 5);
    println!("{}", mailbox.panic_if_link_panics().receive().expect("it is a number"));
}
