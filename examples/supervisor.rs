//! A worker that fails now and then, and a supervisor that starts it anew.
//!
//! Look at the worker: it handles no error at all. Bad input ends it, and the supervisor, which is linked to it, starts a
//! fresh one under the same name. Clients hold the name, not the process. After [`RESTARTS`] the supervisor gives up and
//! fails itself, since a fault that does not go away is somebody else's decision; here `main` is told, by a monitor.

use lunatic::{LinkMailbox, Mailbox, Message, Process, ReceiveError, Request, lookup, process};

const RESTARTS: u32 = 3;
const NAME: &str = "divider";
const VERSION: &str = "1.0.0";

type Division = Request<(i32, i32), i32>;

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    let supervisor = process::spawn_with(process::this(&mailbox), supervise).expect("there is room for the supervisor");
    supervisor.monitor();

    mailbox.receive().expect("the supervisor starts a worker");
    for divisor in [2, 0, 5, 0, 0, 10, 0] {
        let worker: Process<Division> =
            lookup(NAME, "^1").expect("the query is well-formed").expect("the worker is registered");
        let Err(error) = worker.request((100, divisor)).map(|quotient| println!("100 / {divisor} = {quotient}")) else {
            continue;
        };
        // The supervisor sends once there is another worker.
        let next = mailbox.receive();
        println!("100 / {divisor}: {error}");
        if let Err(ReceiveError::Signal(signal)) = next {
            println!("the supervisor {}", signal.reason);
        }
    }
}

fn supervise(parent: Process<()>, mailbox: Mailbox<()>) {
    let mut mailbox = start(mailbox);
    parent.send(());
    for restart in 1.. {
        let Message::Signal(signal) = mailbox.receive() else { unreachable!("nobody sends to the supervisor") };
        println!("supervisor: the worker {}", signal.reason);
        if restart > RESTARTS {
            println!("supervisor: that was once too often");
            std::process::exit(1);
        }
        // The name of a process is free before its end is told.
        mailbox = start(mailbox);
        println!("supervisor: restart {restart} of {RESTARTS}");
        parent.send(());
    }
}

/// Starts a worker, linked to this process, and gives it its name.
fn start(mailbox: impl lunatic::TransformMailbox<()>) -> LinkMailbox<()> {
    let (worker, mailbox) = process::spawn_link(mailbox, work).expect("there is room for a worker");
    process::this_env().register(NAME, VERSION, worker).expect("the name is free");
    mailbox
}

fn work(mailbox: Mailbox<Division>) {
    while let Ok(request) = mailbox.receive() {
        let &(dividend, divisor) = request.data();
        if divisor == 0 {
            // As a panic would, but without a word on standard error.
            std::process::abort();
        }
        request.reply(dividend / divisor);
    }
}
