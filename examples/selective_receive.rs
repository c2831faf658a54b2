//! A process receives the messages that it is waiting for, and leaves all others in its mailbox, in
//! order.
//!
//! Note the tags, which tell messages apart. Orders are received first and in order, no matter how
//! many letters arrived before them. Receives without tags then return the letters, also in order.
//! A receive that times out does not lose messages either.

use lunatic::{Mailbox, Process, ReceiveError, Tag, process};
use std::time::Duration;

#[lunatic::main]
fn main(mailbox: Mailbox<String>) {
    let this = process::this(&mailbox);
    let (order, never) = (Tag::new(), Tag::new());

    process::spawn_with((this, order), write).expect("a second process can be spawned");

    for _ in 0..2 {
        println!(
            "first: {}",
            mailbox.tag_receive(&[order]).expect("two orders are sent")
        );
    }
    match mailbox.tag_receive_timeout(&[never], Duration::from_millis(10)) {
        Err(ReceiveError::Timeout) => println!("nothing with the other tag"),
        other => println!("something else arrived: {other:?}"),
    }
    for _ in 0..3 {
        let (letter, tag) = mailbox
            .receive_with_tag()
            .expect("three letters were sent before the last order");
        assert_eq!(tag, Tag::NONE);
        println!("then: {letter}");
    }
}

fn write((reader, order): (Process<String>, Tag), _: Mailbox<()>) {
    reader.send("letter 1".to_owned());
    reader.tag_send(order, "order 1".to_owned());
    reader.send("letter 2".to_owned());
    reader.send("letter 3".to_owned());
    reader.tag_send(order, "order 2".to_owned());
}
