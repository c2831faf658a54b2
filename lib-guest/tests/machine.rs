//! What the library promises, asked of a machine.
//!
//! It is a program for the machine: each claim is a process of its own, and holds where the process ends normally.
//!
//! ```text
//! CARGO_TARGET_WASM32_WASIP1_RUNNER=lunatic cargo test -p lunatic --test machine --target wasm32-wasip1
//! ```
//!
//! Arguments choose the claims whose names contain one of them.

use lunatic::net::{TcpListener, TcpStream};
use lunatic::{
    Config, Environment, Errno, ExitReason, Limit, LinkMailbox, Mailbox, Message, Param, Process,
    ReceiveError, RegistryError, Request, RequestError, Signal, SignalKind, Tag, TransformMailbox,
    lookup, process,
};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::time::Duration;

/// Long enough that a machine which is merely busy does not fail a claim.
const LONG: Duration = Duration::from_secs(60);

/// A time that has to run out.
const SHORT: Duration = Duration::from_millis(5);

struct Claim {
    name: &'static str,
    spawn: fn() -> Process<()>,
}

/// Declares the claims: functions that take any mailbox.
macro_rules! claims {
    ($(fn $name:ident($mailbox:pat_param in $message:ty) $body:block)*) => {
        $(fn $name($mailbox: Mailbox<$message>) $body)*

        const CLAIMS: &[Claim] = &[$(Claim {
            name: stringify!($name),
            spawn: || retype(process::spawn($name).expect("a claim can be spawned")),
        },)*];
    };
}

/// Names the same process as one that takes other messages.
fn retype<A, B>(process: Process<A>) -> Process<B> {
    let number = serde::de::value::U64Deserializer::<serde::de::value::Error>::new(process.id());
    Process::deserialize(number).expect("a process is a number")
}

#[cfg(target_family = "wasm")]
#[lunatic::main]
fn main(mailbox: Mailbox<()>) -> ExitCode {
    // This one needs a program in which nobody else lives.
    assert!(matches!(mailbox.receive(), Err(ReceiveError::NobodyLeft)));

    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let is_chosen = |claim: &&Claim| {
        chosen.is_empty() || chosen.iter().any(|part| claim.name.contains(part.as_str()))
    };
    let mut failed = 0;
    for claim in CLAIMS.iter().filter(is_chosen) {
        let process = (claim.spawn)();
        process.monitor();
        let Err(ReceiveError::Signal(signal)) = mailbox.receive() else {
            panic!("nobody sends messages here");
        };
        assert_eq!(signal.pid, process.id());
        if signal.reason == ExitReason::Normal {
            println!("test {} ... ok", claim.name);
        } else {
            failed += 1;
            println!("test {} ... FAILED: {signal}", claim.name);
        }
    }
    println!("test result: {failed} of {} failed", CLAIMS.iter().filter(is_chosen).count());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(target_family = "wasm"))]
fn main() {
    println!("{} claims are for the machine: give `--target wasm32-wasip1`", CLAIMS.len());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Parcel {
    Nothing,
    Number { value: i64, unit: Option<String> },
    Bytes(Vec<u8>),
}

/// A server that doubles numbers; 0 takes longer than `SHORT`, and `u32::MAX` is its death.
fn double(mailbox: Mailbox<Request<u32, u32>>) {
    while let Ok(request) = mailbox.receive() {
        match *request.data() {
            0 => {
                process::sleep(20 * SHORT.as_millis() as u64);
                request.reply(0);
            }
            u32::MAX => std::process::exit(3),
            number => request.reply(number * 2),
        }
    }
}

fn wait(mailbox: Mailbox<()>) {
    let _ = mailbox.receive_timeout(LONG);
}

/// Returns the signal that comes next.
fn signal<T: serde::de::DeserializeOwned>(mailbox: &LinkMailbox<T>) -> Signal {
    match mailbox.receive_timeout(LONG) {
        Message::Signal(signal) => signal,
        Message::Normal(Ok(_)) => panic!("a message came in place of a signal"),
        Message::Normal(Err(error)) => panic!("no signal came: {error}"),
    }
}

/// Waits for the end of a process that fails in an environment, and returns why.
fn end_in(config: Config, mailbox: Mailbox<()>, function: fn(Mailbox<()>)) -> Signal {
    let mut environment = Environment::new(config).expect("what is granted is held");
    let module = environment.add_this_module().expect("this module is there");
    let (process, mailbox) = module.spawn_link(mailbox, function).expect("it can be spawned");
    let signal = signal(&mailbox);
    assert_eq!((signal.kind, signal.pid), (SignalKind::LinkDied, process.id()));
    signal
}

/// Returns both ends of a connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = listener.local_addr().expect("it is bound");
    let near = TcpStream::connect_timeout(address, LONG).expect("it listens");
    let (far, peer) = listener.accept().expect("somebody connects");
    assert_eq!(near.local_addr().expect("it is connected"), peer);
    assert_eq!(near.peer_addr().expect("it is connected"), address);
    (near, far)
}

claims! {
    fn messages_arrive_in_order(mailbox in u32) {
        let this = process::this(&mailbox);
        for number in 0..100 {
            this.send(number);
        }
        for number in 0..100 {
            assert_eq!(mailbox.receive().unwrap(), number);
        }
    }

    fn a_message_arrives_as_it_was_sent(mailbox in Vec<Parcel>) {
        let parcels = vec![
            Parcel::Nothing,
            Parcel::Number { value: i64::MIN, unit: Some("µm".into()) },
            Parcel::Number { value: 0, unit: None },
            Parcel::Bytes((0..=255).collect()),
        ];
        process::this(&mailbox).send(parcels.clone());
        assert_eq!(mailbox.receive().unwrap(), parcels);
    }

    fn a_message_larger_than_the_buffer_arrives_whole(mailbox in Vec<u32>) {
        let this = process::this(&mailbox);
        for length in [0u32, 100, 511, 512, 513, 100_000, 3] {
            this.send((0..length).collect());
            let received = mailbox.receive().unwrap();
            assert!(received.into_iter().eq(0..length), "{length} numbers");
        }
    }

    fn a_tag_finds_its_message_and_leaves_the_others(mailbox in &'static str as String) {
        let this = process::this(&mailbox);
        let (one, other) = (Tag::new(), Tag::new());
        this.send("first".into());
        this.tag_send(one, "one".into());
        this.tag_send(other, "other".into());
        assert_eq!(mailbox.tag_receive(&[other]).unwrap(), "other");
        assert_eq!(mailbox.receive_with_tag().unwrap(), ("first".into(), Tag::NONE));
        assert_eq!(mailbox.receive_with_tag().unwrap(), ("one".into(), one));
    }
}
