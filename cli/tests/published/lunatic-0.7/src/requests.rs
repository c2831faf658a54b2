//! Tests requests, each of which waits for its own reply.

use crate::{mailbox, PATIENCE};
use lunatic::process;
use lunatic::{Mailbox, Request};

pub fn a_request_is_answered_before_earlier_messages() {
    let mailbox = mailbox::<u32>();
    process::this(&mailbox).send(1337);
    let adder = process::spawn(|mailbox: Mailbox<Request<(i32, i32), i32>>| loop {
        let request = mailbox.receive().expect("a request arrives");
        let (a, b) = *request.data();
        request.reply(a + b);
    })
    .expect("this process may spawn");
    println!("{}", adder.request((1, 2)).expect("a number arrives"));
    println!("{}", adder.request_timeout((128, -128), PATIENCE).expect("a number arrives"));
    println!("{}", mailbox.receive().expect("a number arrives"));
}

pub fn a_request_knows_its_sender() {
    let mailbox = mailbox::<String>();
    let server = process::spawn(|mailbox: Mailbox<Request<String, String>>| {
        let mut request = mailbox.receive().expect("a request arrives");
        request.data_mut().push_str(" world");
        println!("{}", request.data());
        let sender = request.sender().id();
        request.reply(sender.to_string());
    })
    .expect("this process may spawn");
    let told = server.request("hello".to_owned()).expect("the reply is text");
    println!("{}", told == process::this(&mailbox).id().to_string());
}
