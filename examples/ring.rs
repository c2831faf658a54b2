//! Processes in a ring pass a token around.
//!
//! ```text
//! lunatic ring.wasm [PROCESSES [ROUNDS]]
//! ```
//!
//! Note how the ring is closed: every process is spawned with a handle to the next one, so they are
//! spawned from the last, which is this process, to the first. When the token has gone around often
//! enough, this process exits. That ends the program, along with all other processes, which are
//! still waiting.

use lunatic::{Mailbox, Process, process};

#[lunatic::main]
fn main(mailbox: Mailbox<u64>) {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>());
    let mut argument = |default| match arguments.next() {
        None => default,
        Some(Ok(number)) if number > 0 => number,
        Some(_) => panic!("the arguments must be numbers of at least 1: PROCESSES ROUNDS"),
    };
    let (processes, rounds) = (argument(1_000), argument(10));

    let mut next = process::this(&mailbox);
    for _ in 1..processes {
        next = match process::spawn_with(next, pass_on) {
            Ok(process) => process,
            Err(error) => panic!("a ring of {processes} is too large: {error}"),
        };
    }
    for round in 1..=rounds {
        next.send(0);
        let hops = mailbox.receive().expect("the token comes back");
        assert_eq!(
            hops,
            processes - 1,
            "every other process passes the token on once"
        );
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
