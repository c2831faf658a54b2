//! Two processes send a number back and forth until it is large enough.
//!
//! Note the message type: it contains the process to reply to, so neither process has to know the
//! other in advance. A `Process<T>` is just a number; `T` is the type of the messages that the
//! process receives.

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
    let other = process::spawn(pong).expect("a second process can be spawned");
    other.send(Ball {
        hits: 0,
        from: this,
    });
    loop {
        let ball = mailbox.receive().expect("the other process keeps playing");
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
    // This process is killed when `main` returns, because a program ends with its first process.
    while let Ok(ball) = mailbox.receive() {
        ball.from.send(Ball {
            hits: ball.hits + 1,
            from: this,
        });
    }
}
