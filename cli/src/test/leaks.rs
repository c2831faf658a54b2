//! Finds what a test leaves behind: processes, the names and sockets they hold, and timers.
//!
//! Everything a test leaves behind is cleaned up when the test ends, so it cannot affect other
//! tests. But leaving a server running may be a mistake, because it would keep running in a real
//! program.

use async_io::Timer;
use lunatic_vm::{Environment, Limit, Process, printable};
use std::time::Duration;

/// How long to wait for processes that are still running.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// If nothing happens for this long, the remaining processes are considered left behind.
const QUIET_PERIOD: Duration = Duration::from_millis(2);

/// Describes what remains of a test after its main process has ended. Returns `None` if nothing
/// remains.
///
/// A process that was told to end may still be ending, so this waits for processes that are
/// running, but not for processes that are themselves waiting.
pub(super) async fn find(environment: &Environment) -> Option<String> {
    let mut waited = Duration::ZERO;
    let mut turns = turns(&environment.processes());
    while !turns.is_empty() && waited < SETTLE_TIMEOUT {
        Timer::after(QUIET_PERIOD).await;
        waited += QUIET_PERIOD;
        let now = self::turns(&environment.processes());
        if now == turns {
            break;
        }
        turns = now;
    }
    describe(&environment.processes(), environment)
}

/// Returns how many turns each process has had.
fn turns(processes: &[Process]) -> Vec<(u64, u64)> {
    let mut turns: Vec<_> = processes
        .iter()
        .map(|process| (process.pid().number(), process.turns()))
        .collect();
    turns.sort_unstable();
    turns
}

/// The maximum number of processes to name.
const MAX_NAMED: usize = 3;

fn describe(processes: &[Process], environment: &Environment) -> Option<String> {
    let mut parts = Vec::new();
    if !processes.is_empty() {
        let mut named: Vec<String> = processes.iter().take(MAX_NAMED).map(name).collect();
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

/// Returns the name that a process is registered under, or else the name of the function it runs.
fn name(process: &Process) -> String {
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
