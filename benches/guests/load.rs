//! Spawns processes or exchanges messages as fast as possible, in one group or in several
//! concurrent groups. Reports the number of spawns or round trips per second.
//!
//! The arguments are `spawn` or `ping`, the number of groups, and the number of spawns or round
//! trips in each group (a multiple of 200).

use lunatic::{Mailbox, Process, process};
use lunatic_benches::report;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The number of processes that a parent spawns before waiting for them.
const TOGETHER: u32 = 200;

/// The message that two processes send back and forth.
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
    let [what, groups, times] = &arguments[..] else {
        panic!("expected three arguments")
    };
    let groups: u32 = groups
        .parse()
        .expect("the second argument is the number of groups");
    let times: u32 = times
        .parse()
        .expect("the third argument is the number of spawns or round trips");

    let run = |times: u32| {
        let start = Instant::now();
        for _ in 0..groups {
            match what.as_str() {
                "spawn" => {
                    process::spawn_with((this, times), spawn).expect("no limit is set");
                }
                "ping" => {
                    process::spawn_with((this, times), ping).expect("no limit is set");
                }
                other => panic!("unknown load `{other}`"),
            }
        }
        for _ in 0..groups {
            mailbox
                .receive()
                .expect("each group sends a message when it is done");
        }
        f64::from(groups * times) / start.elapsed().as_secs_f64()
    };
    run(TOGETHER);
    report(run(times));
}

/// Spawns processes that reply and exit, 200 at a time.
fn spawn((parent, times): (Process<()>, u32), mailbox: Mailbox<()>) {
    let this = process::this(&mailbox);
    for _ in 0..times / TOGETHER {
        for _ in 0..TOGETHER {
            process::spawn_with(this, |parent, _: Mailbox<()>| parent.send(()))
                .expect("no limit is set");
        }
        for _ in 0..TOGETHER {
            mailbox
                .receive()
                .expect("every process replies before it exits");
        }
    }
    parent.send(());
}

/// Repeatedly passes a ball to another process and gets it back.
fn ping((parent, times): (Process<()>, u32), mailbox: Mailbox<Ball>) {
    let this = process::this(&mailbox);
    let partner = process::spawn(|mailbox: Mailbox<Ball>| {
        let this = process::this(&mailbox);
        while let Ok(ball) = mailbox.receive() {
            ball.from.send(Ball { from: this, ..ball });
        }
    })
    .expect("no limit is set");
    for number in 0..times {
        partner.send(Ball {
            from: this,
            number,
            word: "ping".to_string(),
        });
        let ball = mailbox.receive().expect("the partner returns the ball");
        assert_eq!(ball.number, number);
    }
    partner.kill();
    parent.send(());
}
