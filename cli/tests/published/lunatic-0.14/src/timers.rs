//! Tests timers, which send messages later.

use crate::{mailbox, PATIENCE};
use std::time::Duration;

pub fn a_message_arrives_later() {
    let mailbox = mailbox::<u32>();
    let this = mailbox.this();
    this.send_after(3, PATIENCE * 60);
    this.send_after(2, Duration::from_millis(20));
    this.send_after(1, Duration::ZERO);
    println!("{} {}", mailbox.receive(), mailbox.receive());
}

pub fn a_cancelled_message_does_not_arrive() {
    let mailbox = mailbox::<u32>();
    let this = mailbox.this();
    let timer = this.send_after(1, PATIENCE * 60);
    println!("cancelled: {}, again: {}", timer.cancel(), timer.cancel());
    this.send(2);
    println!("{}", mailbox.receive());
}

pub fn a_timer_that_fired_cannot_be_cancelled() {
    let mailbox = mailbox::<u32>();
    let timer = mailbox.this().send_after(1, Duration::from_millis(1));
    println!("{}", mailbox.receive());
    println!("cancelled: {}", timer.cancel());
}
