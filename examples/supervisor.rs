//! A server under load that fails now and then, and a supervisor that starts it anew.
//!
//! Look at the server: it handles no error at all. Bad input ends it, and with it whatever else was in its mailbox; the
//! supervisor starts a fresh one under the same name. Look at the clients: they hold the name, not the process, and ask
//! again where a call got no answer. A fault that does not go away is given up after as many restarts as the plan allows:
//! the supervisor fails itself, since that is somebody else's decision. Here `main` is told, by a monitor.

use lunatic::server::Handle;
use lunatic::supervisor::{Child, Supervisor};
use lunatic::{Mailbox, ReceiveError, RequestError, Task, process};
use std::time::Duration;

const CLIENTS: u32 = 50;
const RESTARTS: u32 = 1_000;
const NAME: &str = "divider";

/// Divides, and counts what it did since it began.
struct Divider {
    divisions: u32,
}

#[lunatic::server]
impl Divider {
    #[init]
    fn init() -> Self {
        Self { divisions: 0 }
    }

    #[call]
    fn divide(&mut self, dividend: u32, divisor: u32) -> u32 {
        if divisor == 0 {
            // As a panic would, but without a word on standard error.
            std::process::abort();
        }
        self.divisions += 1;
        dividend / divisor
    }

    #[call]
    fn divisions(&self) -> u32 {
        self.divisions
    }
}

#[lunatic::main]
fn main(mailbox: Mailbox<()>) {
    let supervisor = Supervisor::start(|plan| {
        plan.intensity(RESTARTS, Duration::from_secs(3_600))
            .child(Child::server::<Divider>("divider", ()).register(NAME, "1.0.0"));
    })
    .expect("the divider starts");

    // Each client asks for ten divisions, and once for one that ends the server, for all of them.
    let clients: Vec<Task<u32>> = (0..CLIENTS)
        .map(|number| Task::spawn(number, client).expect("there is room for the clients"))
        .collect();
    let quotients = Task::all(clients).expect("a client does not fail with the server");
    println!(
        "{CLIENTS} clients got {} quotients right",
        quotients.iter().sum::<u32>()
    );
    let count = supervisor.count().expect("the supervisor is alive");
    println!("{} of {} servers is there", count.active, count.children);
    let since = again(|| divider()?.divisions().ok());
    println!(
        "it has forgotten what it did before it failed: {}",
        since < 10 * CLIENTS
    );

    // A fault that does not go away.
    supervisor.process().monitor();
    let storm = Task::spawn((), |()| {
        loop {
            if let Some(divider) = divider() {
                let _ = divider.divide(1, 0);
            }
        }
    });
    let storm: Task<()> = storm.expect("there is room for a client");
    let Err(ReceiveError::Signal(signal)) = mailbox.receive() else {
        unreachable!("nobody sends")
    };
    drop(storm);
    println!("the supervisor {}", signal.reason);
    println!("a server is left: {}", divider().is_some());
}

/// Returns how many quotients were right.
fn client(number: u32) -> u32 {
    let mut right = 0;
    for divisor in 1..=10 {
        if divisor == 5 {
            // The server dies of this, or of another client's, before it answers.
            let asked = again(divider).divide(number, 0);
            assert!(matches!(asked, Err(RequestError::Died(_))), "{asked:?}");
        }
        let quotient = again(|| divider()?.divide(number, divisor).ok());
        right += u32::from(quotient == number / divisor);
    }
    right
}

fn divider() -> Option<Handle<Divider>> {
    Handle::lookup(NAME, "^1").expect("the query is well-formed")
}

/// Asks until there is an answer. Between the end of a server and the start of the next one there is none.
fn again<T>(ask: impl Fn() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        process::sleep(1);
    }
}
