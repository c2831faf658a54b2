//! Spawns processes that compute without end, and measures how long another process then takes to
//! spawn a process and receive its answer. Reports the microseconds of each of these round trips.
//!
//! The arguments are the number of computing processes, the number of round trips, and `new` if the
//! round trips begin right away or `spent` if they begin once every computing process is running.

use lunatic::{Mailbox, Process, process};
use lunatic_benches::report;
use std::hint::black_box;
use std::time::Instant;

/// Who sends a message.
#[derive(serde::Serialize, serde::Deserialize)]
enum From {
    /// A computing process, at the start of its first turn.
    Spinner,
    /// A process that was spawned during a round trip.
    Child,
}

#[lunatic::main]
fn main(mailbox: Mailbox<From>) {
    let this = process::this(&mailbox);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [spinners, times, when] = &arguments[..] else {
        panic!("expected three arguments")
    };
    let spinners: u32 = spinners
        .parse()
        .expect("the first argument is the number of computing processes");
    let times: u32 = times
        .parse()
        .expect("the second argument is the number of round trips");

    for _ in 0..spinners {
        process::spawn_with(this, spin).expect("no limit is set");
    }
    if when == "spent" {
        for _ in 0..spinners {
            mailbox
                .receive()
                .expect("every computing process sends a message");
        }
    }
    for _ in 0..times {
        let start = Instant::now();
        process::spawn_with(this, |parent, _: Mailbox<()>| parent.send(From::Child))
            .expect("no limit is set");
        while !matches!(mailbox.receive(), Ok(From::Child)) {}
        report(start.elapsed().as_secs_f64() * 1e6);
    }
}

fn spin(parent: Process<From>, _: Mailbox<()>) {
    parent.send(From::Spinner);
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}
