//! Tests mailboxes: which message is received when.

use crate::{mailbox, PATIENCE};
use lunatic::{Mailbox, MailboxError, Process, Tag};
use std::time::Duration;

pub fn tags_choose_the_message() {
    let mailbox = mailbox::<u32>();
    let this = mailbox.this();
    let tags: Vec<Tag> = (0..4).map(|_| Tag::new()).collect();
    for (number, tag) in tags.iter().enumerate() {
        this.tag_send(*tag, number as u32);
    }
    println!("{}", mailbox.tag_receive(&[tags[3]]));
    // A receive with several tags takes the first message in the queue that has any of them.
    println!("{}", mailbox.tag_receive(&[tags[2], tags[1]]));
    println!("{}", mailbox.receive());
    println!("{}", mailbox.receive());
}

pub fn a_receive_that_timed_out_loses_nothing() {
    let mailbox = mailbox::<u32>();
    let this = mailbox.this();
    let tag = Tag::new();
    let late = mailbox.tag_receive_timeout(&[tag], Duration::from_millis(1));
    println!("{}", late.is_err_and(|error| error.is_timed_out()));
    this.tag_send(tag, 1);
    this.send(2);
    this.tag_send(tag, 3);
    println!("{} {} {}", mailbox.receive(), mailbox.receive(), mailbox.receive());
}

pub fn a_receive_with_a_timeout_of_zero_polls() {
    let mailbox = mailbox::<u32>();
    println!("{}", mailbox.receive_timeout(Duration::ZERO).is_err_and(|error| error.is_timed_out()));
    mailbox.this().send(5);
    println!("{:?}", mailbox.receive_timeout(Duration::ZERO).ok());
}

pub fn a_message_that_cannot_be_decoded_is_an_error() {
    let mailbox = mailbox::<(u64, u64)>();
    unsafe { Process::<u8>::new(lunatic::host::node_id(), lunatic::host::process_id()) }.send(1);
    mailbox.this().send((2, 3));
    let error = mailbox.receive_timeout(PATIENCE).expect_err("one byte cannot be decoded as sixteen");
    println!("{}", matches!(error, MailboxError::DeserializationFailed(_)));
    println!("{:?}", mailbox.receive());
}

pub fn a_message_of_a_megabyte_arrives() {
    let mailbox = mailbox::<Vec<u8>>();
    let child = Process::spawn_link(mailbox.this(), |parent, mailbox: Mailbox<Vec<u8>>| parent.send(mailbox.receive()));
    let bytes: Vec<u8> = (0..1 << 20).map(|number| (number % 251) as u8).collect();
    child.send(bytes.clone());
    println!("{}", mailbox.receive() == bytes);
}
