//! Events, for logs, metrics and journals. The logic reports an event in one line; how events are
//! shown and counted is decided here.

use crate::environment::Journal;
use crate::metrics::Metrics;
use crate::printable::printable;
use log::Level;
use lunatic_process::{Exit, Pid};

/// The target of the log lines that a user of the command enables with `RUST_LOG=lunatic=debug`.
const TARGET: &str = "lunatic::process";

/// A process has become visible.
pub(crate) fn appeared(metrics: &Metrics) {
    metrics.appeared();
}

/// A process of a module or a component was spawned.
pub(crate) fn spawned(pid: Pid, name: &str, module: &str) {
    log::trace!(target: TARGET, "process {pid} `{}` of module `{}` was spawned", printable(name), printable(module));
}

/// A process that received this much mail has ended, and all its resources are released.
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
