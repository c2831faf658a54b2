//! A hundred thousand processes that each handle a message and use their own heap.
//!
//! ```text
//! lunatic hundred_thousand.wasm [PROCESSES [AT_ONCE]]
//! ```
//!
//! Note how limits are handled. There is only enough memory for a limited number of processes, so
//! they are spawned in crowds of [`AT_ONCE`]. The entire crowd is alive before its first process
//! gets a message. If the machine runs out of memory or the environment does not allow more
//! processes, `spawn` returns an error, and the crowd does not grow any further.

use lunatic::{Errno, Mailbox, Process, process};
use std::hint::black_box;

const PROCESSES: u64 = 100_000;
const AT_ONCE: usize = 5_000;

/// How many numbers each process stores on its heap.
const NUMBERS: u64 = 1_000;

#[lunatic::main]
fn main(mailbox: Mailbox<u64>) {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>());
    let mut argument = |default| match arguments.next() {
        None => default,
        Some(Ok(number)) if number > 0 => number,
        Some(_) => panic!("the arguments must be numbers of at least 1: PROCESSES AT_ONCE"),
    };
    let (processes, at_once) = (argument(PROCESSES), argument(AT_ONCE as u64));

    let this = process::this(&mailbox);
    let (mut spawned, mut most, mut sum) = (0, 0, 0);
    while spawned < processes {
        let crowd = crowd(at_once.min(processes - spawned));
        for (process, number) in crowd.iter().zip(spawned..) {
            process.send((this, number));
        }
        for _ in &crowd {
            sum += mailbox
                .receive()
                .expect("every process in the crowd answers");
        }
        spawned += crowd.len() as u64;
        most = most.max(crowd.len());
    }
    assert_eq!(
        sum,
        NUMBERS * (0..processes).sum::<u64>(),
        "each process answers with its own number"
    );
    println!("{spawned} processes, {most} alive at once, each with {NUMBERS} numbers on its heap");
}

/// Spawns `size` processes, or as many as fit.
fn crowd(size: u64) -> Vec<Process<(Process<u64>, u64)>> {
    let mut crowd = Vec::new();
    while (crowd.len() as u64) < size {
        match process::spawn(work) {
            Ok(process) => crowd.push(process),
            Err(error) if !matches!(error.kind(), Errno::Exhausted | Errno::LimitReached) => {
                panic!("{error}")
            }
            // The processes in the last crowd are still exiting.
            Err(_) if crowd.is_empty() => process::sleep(1),
            Err(_) => break,
        }
    }
    crowd
}

fn work(mailbox: Mailbox<(Process<u64>, u64)>) {
    let Ok((parent, number)) = mailbox.receive() else {
        return;
    };
    let heap = black_box(vec![number; NUMBERS as usize]);
    parent.send(heap.iter().sum());
}
