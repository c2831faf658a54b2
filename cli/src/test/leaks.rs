//! What a test leaves behind: processes, the names and sockets that they hold, and timers.
//!
//! All of it is ended with the test, so nothing of it harms another. But who leaves a server running in a test may not know
//! that it is, and in a program it would stay.

use async_io::Timer;
use lunatic_vm::{Environment, Limit, Process, printable};
use std::time::Duration;

/// How long processes that still run are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing must have happened before what is left counts as left behind.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks what is left of a test whose first process has ended; `None` where nothing is.
///
/// A process that was told to end may not have come to it yet. So who still has something to do is waited for; who waits
/// for others is not.
pub(super) async fn find(environment: &Environment) -> Option<String> {
    let mut waited = Duration::ZERO;
    let mut turns = turns(&environment.processes());
    while !turns.is_empty() && waited < PATIENCE {
        Timer::after(PAUSE).await;
        waited += PAUSE;
        let now = self::turns(&environment.processes());
        if now == turns {
            break;
        }
        turns = now;
    }
    describe(&environment.processes(), environment)
}

/// Returns how often each process has been on turn.
fn turns(processes: &[Process]) -> Vec<(u64, u64)> {
    let mut turns: Vec<_> = processes
        .iter()
        .map(|process| (process.pid().number(), process.turns()))
        .collect();
    turns.sort_unstable();
    turns
}

/// At most so many processes are named.
const MAX_NAMED: usize = 3;

fn describe(processes: &[Process], environment: &Environment) -> Option<String> {
    let mut parts = Vec::new();
    if !processes.is_empty() {
        let mut named: Vec<String> = processes.iter().take(MAX_NAMED).map(call).collect();
        if processes.len() > MAX_NAMED {
            named.push("…".into());
        }
        parts.push(format!(
            "{} ({})",
            count(processes.len() as u64, "process", "processes"),
            named.join(", ")
        ));
    }
    let mut add = |limit, one, many| {
        let used = environment.used(limit);
        if used > 0 {
            parts.push(count(used, one, many));
        }
    };
    add(Limit::Names, "name", "names");
    add(Limit::Sockets, "socket", "sockets");
    add(Limit::Timers, "timer", "timers");
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Returns what a process is called: by the name that it is registered under, or else by what it runs.
fn call(process: &Process) -> String {
    let name = process
        .names()
        .into_iter()
        .next()
        .unwrap_or_else(|| process.name().to_string());
    format!("`{}`", printable(&name))
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
