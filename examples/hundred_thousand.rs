//! A hundred thousand processes, each of which handles a message and uses its heap.
//!
//! ```text
//! lunatic hundred_thousand.wasm [PROCESSES [AT_ONCE]]
//! ```
//!
//! Look at how the ceiling is met. The machine keeps places for the memories of a limited number of processes, 10,000 by
//! default; so the processes come in crowds of [`AT_ONCE`], and all of a crowd are alive at the same time before the first
//! of them gets its message. Where the machine has no place left, or the environment allows no further process, `spawn`
//! says so, and the crowd is only as large as it got.

use lunatic::{Errno, Mailbox, Process, process};
use std::hint::black_box;

const PROCESSES: u64 = 100_000;
const AT_ONCE: usize = 5_000;

/// How many numbers each process puts on its heap.
const NUMBERS: u64 = 1_000;

#[lunatic::main]
fn main(mailbox: Mailbox<u64>) {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>());
    let mut argument = |default| match arguments.next() {
        None => default,
        Some(Ok(number)) if number > 0 => number,
        Some(_) => panic!("the arguments are numbers from 1: PROCESSES AT_ONCE"),
    };
    let (processes, at_once) = (argument(PROCESSES), argument(AT_ONCE as u64));

    let this = process::this(&mailbox);
    let (mut born, mut most, mut sum) = (0, 0, 0);
    while born < processes {
        let crowd = crowd(at_once.min(processes - born));
        for (process, number) in crowd.iter().zip(born..) {
            process.send((this, number));
        }
        for _ in &crowd {
            sum += mailbox.receive().expect("each of the crowd answers");
        }
        born += crowd.len() as u64;
        most = most.max(crowd.len());
    }
    assert_eq!(
        sum,
        NUMBERS * (0..processes).sum::<u64>(),
        "each process answers with its own number"
    );
    println!("{born} processes, {most} alive at once, each with {NUMBERS} numbers on its heap");
}

/// Spawns so many processes, or as many as there is room for.
fn crowd(size: u64) -> Vec<Process<(Process<u64>, u64)>> {
    let mut crowd = Vec::new();
    while (crowd.len() as u64) < size {
        match process::spawn(work) {
            Ok(process) => crowd.push(process),
            Err(error) if !matches!(error.kind(), Errno::Exhausted | Errno::LimitReached) => {
                panic!("{error}")
            }
            // Those of the last crowd are on their way out.
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
