//! Tests mailboxes: which message is received when.

use crate::mailbox;
use lunatic::process;
use lunatic::{Message, ReceiveError, Tag, TransformMailbox};
use std::time::Duration;

pub fn tags_choose_the_message() {
    let mailbox = mailbox::<u32>();
    let this = process::this(&mailbox);
    let tags: Vec<Tag> = (0..4).map(|_| Tag::new()).collect();
    for (number, tag) in tags.iter().enumerate() {
        this.tag_send(*tag, number as u32);
    }
    println!("{}", mailbox.tag_receive(&[tags[3]]).expect("a number arrives"));
    // A receive with several tags takes the first message in the queue that has any of them.
    println!("{}", mailbox.tag_receive(&[tags[2], tags[1]]).expect("a number arrives"));
    println!("{}", mailbox.receive().expect("a number arrives"));
    println!("{}", mailbox.receive().expect("a number arrives"));
}

pub fn a_receive_that_timed_out_loses_nothing() {
    let mailbox = mailbox::<u32>();
    let this = process::this(&mailbox);
    let tag = Tag::new();
    println!("{}", matches!(mailbox.receive_timeout(Duration::ZERO), Err(ReceiveError::Timeout)));
    let late = mailbox.tag_receive_timeout(&[tag], Duration::from_millis(2));
    println!("{}", matches!(late, Err(ReceiveError::Timeout)));
    this.tag_send(tag, 1);
    this.send(2);
    this.tag_send(tag, 3);
    let numbers: Vec<u32> = (0..3).map(|_| mailbox.receive().expect("a number arrives")).collect();
    println!("{numbers:?}");
    let mailbox = mailbox.catch_link_panic();
    let late = mailbox.receive_timeout(Duration::from_millis(1));
    println!("{}", matches!(late, Message::Normal(Err(ReceiveError::Timeout))));
}

pub fn a_tag_comes_with_its_message() {
    let mailbox = mailbox::<u32>();
    let this = process::this(&mailbox);
    let tag = Tag::new();
    this.tag_send(tag, 1);
    this.send(2);
    let (number, told) = mailbox.receive_with_tag().expect("a number arrives");
    println!("{number} {}", told == tag);
    let (number, told) = mailbox.receive_with_tag().expect("a number arrives");
    println!("{number} {}", told.id());
}

pub fn a_message_that_cannot_be_decoded_is_an_error() {
    let text = mailbox::<String>();
    process::this(&text).send("text".to_owned());
    let numbers = mailbox::<u32>();
    println!("{}", matches!(numbers.receive(), Err(ReceiveError::DeserializationFailed(_))));
    process::this(&numbers).send(7);
    println!("{}", numbers.receive().expect("a number arrives"));
}
