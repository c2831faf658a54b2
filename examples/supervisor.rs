//! A server under load that sometimes fails, and a supervisor that restarts it.
//!
//! Note that the server doesn't handle errors at all. Bad input kills it, and everything else in
//! its mailbox is lost; the supervisor starts a new server under the same name. The clients know
//! the name, not the process, and retry calls that fail. If a fault persists, the supervisor gives
//! up once it has used up the restarts that the plan allows, and fails itself, leaving the decision
//! to another process. Here, `main` monitors the supervisor.

use lunatic::server::Handle;
use lunatic::supervisor::{Child, Supervisor};
use lunatic::{Mailbox, ReceiveError, RequestError, Task, process};
use std::time::Duration;

const CLIENTS: u32 = 50;
const RESTARTS: u32 = 1_000;
const NAME: &str = "divider";

/// Divides numbers, and counts the divisions.
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
            // Like a panic, but doesn't print a message to standard error.
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

    // Each client requests ten divisions that succeed, and one that kills the server for all
    // clients.
    let clients: Vec<Task<u32>> = (0..CLIENTS)
        .map(|number| Task::spawn(number, client).expect("the client can be spawned"))
        .collect();
    let quotients = Task::all(clients).expect("a client does not fail when the server does");
    println!(
        "{CLIENTS} clients got {} quotients right",
        quotients.iter().sum::<u32>()
    );
    let count = supervisor.count().expect("the supervisor is alive");
    println!("{} of {} servers is running", count.active, count.children);
    let since = again(|| divider()?.divisions().ok());
    println!(
        "the server has forgotten what it did before it failed: {}",
        since < 10 * CLIENTS
    );

    // From now on, the fault persists.
    supervisor.process().monitor();
    let storm = Task::spawn((), |()| {
        loop {
            if let Some(divider) = divider() {
                let _ = divider.divide(1, 0);
            }
        }
    });
    let storm: Task<()> = storm.expect("the client can be spawned");
    let Err(ReceiveError::Signal(signal)) = mailbox.receive() else {
        unreachable!("no process sends a message")
    };
    drop(storm);
    println!("the supervisor {}", signal.reason);
    println!("a server is still registered: {}", divider().is_some());
}

/// Returns the number of correct quotients.
fn client(number: u32) -> u32 {
    let mut right = 0;
    for divisor in 1..=10 {
        if divisor == 5 {
            // The server dies before it answers, because of this request or another client's.
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

/// Retries until there is an answer. No server answers between the death of one and the start of
/// the next.
fn again<T>(ask: impl Fn() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        process::sleep(1);
    }
}
