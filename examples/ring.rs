//! Processes in a circle pass a token on, each to the next.
//!
//! ```text
//! lunatic ring.wasm [PROCESSES [ROUNDS]]
//! ```
//!
//! Look at how the circle is closed: every process is spawned with the one after it, so they are spawned from the last to
//! the first, and the last is this one. It ends when the token has gone round often enough; with it the program ends, and
//! all others, which still wait.

use lunatic::{Mailbox, Process, process};

#[lunatic::main]
fn main(mailbox: Mailbox<u64>) {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>());
    let mut argument = |default| match arguments.next() {
        None => default,
        Some(Ok(number)) if number > 0 => number,
        Some(_) => panic!("the arguments are numbers from 1: PROCESSES ROUNDS"),
    };
    let (processes, rounds) = (argument(1_000), argument(10));

    let mut next = process::this(&mailbox);
    for _ in 1..processes {
        next = match process::spawn_with(next, pass_on) {
            Ok(process) => process,
            Err(error) => panic!("a circle of {processes} is too large: {error}"),
        };
    }
    for round in 1..=rounds {
        next.send(0);
        let hops = mailbox.receive().expect("the token comes back");
        assert_eq!(hops, processes - 1, "each other process passes it on once");
        if round == rounds {
            println!(
                "{processes} processes, {rounds} rounds, {} hops",
                processes * rounds
            );
        }
    }
}

fn pass_on(next: Process<u64>, mailbox: Mailbox<u64>) {
    while let Ok(hops) = mailbox.receive() {
        next.send(hops + 1);
    }
}
