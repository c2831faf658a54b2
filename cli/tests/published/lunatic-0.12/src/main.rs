//! Tests programs that use versions 0.10 to 0.12 of the published library. The program runs the
//! code for the claim named by its first argument and prints the results. The expected results are
//! in `cli/tests/all/published.rs`. The packages for 0.10 and 0.11 compile this file too.

use lunatic::net::{TcpListener, TcpStream};
use lunatic::process::{
    AbstractProcess, Message, MessageHandler, ProcessRef, Request, RequestHandler, StartProcess,
};
use lunatic::{Mailbox, Process};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

struct Counter(u32);

impl AbstractProcess for Counter {
    type Arg = u32;
    type State = Self;

    fn init(_: ProcessRef<Self>, start: u32) -> Self {
        Counter(start)
    }

    fn terminate(state: Self) {
        println!("ended at {}", state.0);
    }
}

#[derive(Serialize, Deserialize)]
struct Add(u32);

impl MessageHandler<Add> for Counter {
    fn handle(state: &mut Self, Add(number): Add) {
        state.0 += number;
    }
}

#[derive(Serialize, Deserialize)]
struct Count;

impl RequestHandler<Count> for Counter {
    type Response = u32;

    fn handle(state: &mut Self, _: Count) -> u32 {
        state.0
    }
}

const CLAIMS: [&str; 7] = [
    "messages_from_one_sender_arrive_in_order",
    "a_request_is_answered_before_earlier_messages",
    "a_shutdown_calls_terminate",
    "a_message_can_be_sent_after_a_delay",
    "a_process_can_be_found_by_name",
    "a_parent_dies_with_the_child_that_it_is_linked_to",
    "a_stream_is_echoed",
];

#[lunatic::main]
fn main(mailbox: Mailbox<u32>) {
    let argument = std::env::args().find(|argument| argument == "--list" || argument.contains("::"));
    let argument = argument.expect("the first argument names a claim, or is `--list`");
    if argument == "--list" {
        CLAIMS.iter().for_each(|claim| println!("processes::{claim}"));
        return;
    }
    match argument.trim_start_matches("processes::") {
        "messages_from_one_sender_arrive_in_order" => {
            let child = Process::spawn_link(mailbox.this(), |parent, mailbox: Mailbox<u32>| {
                (0..1_000).for_each(|_| parent.send(mailbox.receive()));
            });
            (0..1_000).for_each(|number| child.send(number));
            assert!((0..1_000).all(|number| mailbox.receive() == number));
            println!("1000 in order");
        }
        "a_request_is_answered_before_earlier_messages" => {
            mailbox.this().send(7);
            let counter = Counter::start(1, None);
            counter.send(Add(2));
            println!("{}", counter.request(Count));
            counter.send(Add(3));
            println!("{}", counter.request(Count));
            println!("{}", mailbox.receive());
        }
        "a_shutdown_calls_terminate" => {
            let counter = Counter::start_link(5, None);
            counter.shutdown();
            println!("it has ended");
        }
        "a_message_can_be_sent_after_a_delay" => {
            let counter = Counter::start(0, None);
            counter.send_after(Add(4), Duration::from_millis(1));
            while counter.request(Count) == 0 {}
            println!("{}", counter.request(Count));
        }
        "a_process_can_be_found_by_name" => {
            Counter::start(3, Some("three"));
            let found = ProcessRef::<Counter>::lookup("three").expect("the name is registered");
            println!("{}", found.request(Count));
            println!("{}", ProcessRef::<Counter>::lookup("four").is_none());
        }
        "a_parent_dies_with_the_child_that_it_is_linked_to" => {
            Process::spawn_link((), |_, _: Mailbox<()>| panic!("the child fails"));
            mailbox.receive();
        }
        "a_stream_is_echoed" => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let address = listener.local_addr().expect("the listener is bound");
            Process::spawn_link(address.to_string(), |address: String, _: Mailbox<()>| {
                let mut stream = TcpStream::connect(address).expect("the parent listens");
                let mut line = String::new();
                BufReader::new(stream.clone()).read_line(&mut line).expect("the parent writes");
                stream.write_all(line.to_uppercase().as_bytes()).expect("the parent reads");
                stream.flush().expect("the stream is open");
            });
            let (mut stream, _) = listener.accept().expect("the child connects");
            stream.write_all(b"hello\n").expect("the child reads");
            stream.flush().expect("the stream is open");
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).expect("the child writes");
            print!("{line}");
        }
        other => panic!("no claim named `{other}`"),
    }
}
