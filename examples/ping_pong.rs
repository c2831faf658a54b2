//! Two processes send each other a number until it is large enough.
//!
//! Look at the type of what travels: each message carries the process to answer, so neither has to know the other
//! beforehand. A `Process<T>` is a number and says what its owner receives.

use lunatic::{Mailbox, Process, process};
use serde::{Deserialize, Serialize};

const ROUNDS: u32 = 1_000;

#[derive(Serialize, Deserialize)]
struct Ball {
    hits: u32,
    from: Process<Ball>,
}

#[lunatic::main]
fn main(mailbox: Mailbox<Ball>) {
    let this = process::this(&mailbox);
    let other = process::spawn(pong).expect("there is room for a second process");
    other.send(Ball {
        hits: 0,
        from: this,
    });
    loop {
        let ball = mailbox.receive().expect("the other one plays on");
        assert_eq!(ball.from, other);
        if ball.hits == 2 * ROUNDS - 1 {
            println!("{ROUNDS} rounds, {} hits", ball.hits + 1);
            return;
        }
        ball.from.send(Ball {
            hits: ball.hits + 1,
            from: this,
        });
    }
}

fn pong(mailbox: Mailbox<Ball>) {
    let this = process::this(&mailbox);
    // Ends with the first process: a program is over when the process is that it began with.
    while let Ok(ball) = mailbox.receive() {
        ball.from.send(Ball {
            hits: ball.hits + 1,
            from: this,
        });
    }
}
