//! Tasks are functions that run in their own processes and return results.
//!
//! Note the effect of a failure: the task's result is an error, and nothing else is affected. A
//! task that takes too long is killed. When `main` waits for several tasks, the first failure kills
//! the others.

use lunatic::{Mailbox, Task, TaskError};
use std::time::Duration;

#[lunatic::main]
fn main(_: Mailbox<()>) {
    // The tasks use all cores. Each one gets a value, and its function captures nothing.
    let ranges = (0..10u32).map(|part| part * 10_000..(part + 1) * 10_000);
    let parts: Vec<Task<usize>> = ranges
        .map(|range| {
            Task::spawn(range, |range| {
                range.filter(|&number| is_prime(number)).count()
            })
        })
        .collect::<Result<_, _>>()
        .expect("ten tasks can be spawned");
    let counts = Task::all(parts).expect("counting does not fail");
    println!("{} primes below 100000", counts.iter().sum::<usize>());

    for divisor in [4, 0] {
        let task = Task::spawn(divisor, divide).expect("the task can be spawned");
        match task.result() {
            Ok(quotient) => println!("100 / {divisor} = {quotient}"),
            Err(error) => println!("100 / {divisor}: {error}"),
        }
    }

    let endless = Task::spawn((), spin).expect("the task can be spawned");
    match endless.result_timeout(Duration::from_millis(10)) {
        Err(TaskError::Timeout) => println!("the task took too long"),
        other => println!("the task ended: {other:?}"),
    }

    let fails = Task::spawn((), |()| std::process::exit(3)).expect("the task can be spawned");
    let endless = Task::spawn((), spin).expect("the task can be spawned");
    println!(
        "awaited together: {}",
        Task::all([endless, fails]).expect_err("one of them fails")
    );
}

fn is_prime(number: u32) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn divide(divisor: u32) -> u32 {
    if divisor == 0 {
        // Like a panic, but doesn't print a message to standard error.
        std::process::abort();
    }
    100 / divisor
}

fn spin(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}
