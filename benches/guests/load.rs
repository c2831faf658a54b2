//! Spawns, or exchanges messages, as fast as it goes, in one place or in several at the same time. Says how many it
//! were in a second.
//!
//! Arguments: `spawn` or `ping`, in how many places, how often in each (a multiple of 200).

use lunatic::{Mailbox, Process, process};
use lunatic_benches::say;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How many processes a parent spawns before it waits for them.
const TOGETHER: u32 = 200;

/// What two processes throw to and fro.
#[derive(Serialize, Deserialize)]
struct Ball {
    from: Process<Ball>,
    number: u32,
    word: String,
}

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    let this = process::this(&mailbox);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, places, times] = &arguments[..] else {
        panic!("three arguments")
    };
    let places: u32 = places.parse().expect("a number of places");
    let times: u32 = times.parse().expect("a number of times");

    let run = |times: u32| {
        let start = Instant::now();
        for _ in 0..places {
            match what.as_str() {
                "spawn" => {
                    process::spawn_with((this, times), spawn).expect("nothing limits it");
                }
                "ping" => {
                    process::spawn_with((this, times), ping).expect("nothing limits it");
                }
                other => panic!("`{other}` is no load"),
            }
        }
        for _ in 0..places {
            mailbox.receive().expect("each place says when it is done");
        }
        f64::from(places * times) / start.elapsed().as_secs_f64()
    };
    run(TOGETHER);
    say(run(times));
}

/// Spawns processes that answer and end, so many at a time.
fn spawn((parent, times): (Process<()>, u32), mailbox: Mailbox<()>) {
    let this = process::this(&mailbox);
    for _ in 0..times / TOGETHER {
        for _ in 0..TOGETHER {
            process::spawn_with(this, |parent, _: Mailbox<()>| parent.send(()))
                .expect("nothing limits it");
        }
        for _ in 0..TOGETHER {
            mailbox.receive().expect("each answers");
        }
    }
    parent.send(());
}

/// Throws a ball to a process of its own and catches it, again and again.
fn ping((parent, times): (Process<()>, u32), mailbox: Mailbox<Ball>) {
    let this = process::this(&mailbox);
    let partner = process::spawn(|mailbox: Mailbox<Ball>| {
        let this = process::this(&mailbox);
        while let Ok(ball) = mailbox.receive() {
            ball.from.send(Ball { from: this, ..ball });
        }
    })
    .expect("nothing limits it");
    for number in 0..times {
        partner.send(Ball {
            from: this,
            number,
            word: "ping".to_string(),
        });
        let ball = mailbox.receive().expect("the partner answers");
        assert_eq!(ball.number, number);
    }
    partner.kill();
    parent.send(());
}
