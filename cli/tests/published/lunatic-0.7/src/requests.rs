//! Requests, which wait for their own reply.

use crate::{mailbox, PATIENCE};
use lunatic::process;
use lunatic::{Mailbox, Request};

pub fn a_request_is_answered_before_earlier_messages() {
    let mailbox = mailbox::<u32>();
    process::this(&mailbox).send(1337);
    let adder = process::spawn(|mailbox: Mailbox<Request<(i32, i32), i32>>| loop {
        let request = mailbox.receive().expect("it is a request");
        let (a, b) = *request.data();
        request.reply(a + b);
    })
    .expect("it may spawn");
    println!("{}", adder.request((1, 2)).expect("it is a number"));
    println!("{}", adder.request_timeout((128, -128), PATIENCE).expect("it is a number"));
    println!("{}", mailbox.receive().expect("it is a number"));
}

pub fn a_request_knows_its_sender() {
    let mailbox = mailbox::<String>();
    let server = process::spawn(|mailbox: Mailbox<Request<String, String>>| {
        let mut request = mailbox.receive().expect("it is a request");
        request.data_mut().push_str(" world");
        println!("{}", request.data());
        let sender = request.sender().id();
        request.reply(sender.to_string());
    })
    .expect("it may spawn");
    let told = server.request("hello".to_owned()).expect("it is text");
    println!("{}", told == process::this(&mailbox).id().to_string());
}
