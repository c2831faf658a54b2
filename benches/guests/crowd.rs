//! Spawns processes that reply and then wait. Reports how many processes are alive and how many
//! microseconds each spawn took.
//!
//! The arguments are the number of processes and the number of bytes of heap that each process uses
//! to handle a message before it replies. With 0 bytes, no message is sent.

use lunatic::{Mailbox, Process, process};
use lunatic_benches::report;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The number of processes spawned before waiting for the first reply.
const TOGETHER: usize = 200;

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    let this = process::this(&mailbox);
    let mut arguments = std::env::args()
        .skip(1)
        .map(|word| word.parse::<usize>().expect("the arguments are numbers"));
    let (Some(wanted), Some(bytes)) = (arguments.next(), arguments.next()) else {
        panic!("expected two arguments")
    };

    let start = Instant::now();
    let mut alive = 0;
    while alive < wanted {
        let spawned: Vec<_> = (0..TOGETHER.min(wanted - alive))
            .map_while(|_| {
                process::spawn_with((this, bytes), wait)
                    .inspect_err(|error| eprintln!("  {error}"))
                    .ok()
            })
            .collect();
        if bytes > 0 {
            spawned.iter().for_each(|process| process.send(()));
        }
        let answered = (0..spawned.len())
            .take_while(|_| mailbox.receive_timeout(Duration::from_secs(10)).is_ok())
            .count();
        alive += answered;
        if answered < TOGETHER {
            break;
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / alive as f64;
    report(alive as f64);
    report(each);
    // Blocks until the bench ends the program.
    let _ = mailbox.receive();
}

fn wait((parent, bytes): (Process<()>, usize), mailbox: Mailbox<()>) {
    if bytes > 0 {
        let _ = mailbox.receive();
        black_box(vec![1u8; bytes]);
    }
    parent.send(());
    let _ = mailbox.receive();
}
