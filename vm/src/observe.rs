//! Reports events to logs, metrics and journals. Other modules report an event with a single call;
//! this module decides how the event is logged and counted.

use crate::environment::Journal;
use crate::metrics::Metrics;
use log::Level;
use lunatic_process::printable;
use lunatic_process::{Exit, Pid};

/// The log target that users of the `lunatic` command enable with `RUST_LOG=lunatic=debug`.
const TARGET: &str = "lunatic::process";

/// Reports that a process has become visible to other processes.
pub(crate) fn appeared(metrics: &Metrics) {
    metrics.appeared();
}

/// Reports that a process running a module or component was spawned.
pub(crate) fn spawned(pid: Pid, name: &str, module: &str) {
    log::trace!(target: TARGET, "process {pid} `{}` of module `{}` was spawned", printable(name), printable(module));
}

/// Reports that a process has ended and that all its resources have been released. `mail` is the
/// number of messages and death notices that it received.
pub(crate) fn exited(
    metrics: &Metrics,
    journal: Option<&Journal>,
    (pid, name): (Pid, &str),
    exit: &Exit,
    mail: u64,
) {
    metrics.ended(exit, mail);
    if let Some(journal) = journal {
        journal.ended(pid, name, exit);
    }
    let level = match exit {
        Exit::Fault(_) => Level::Error,
        _ => Level::Debug,
    };
    log::log!(target: TARGET, level, "process {pid} `{}` {}", printable(name), printable(&exit.to_string()));
}
