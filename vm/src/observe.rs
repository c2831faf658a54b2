//! What happens, told to whoever watches. The logic says one line; how it is shown and counted is decided here.

use crate::host::Origin;
use crate::process::{Exit, Process};
use log::Level;

/// The target of the log lines that a user of the command asks for with `RUST_LOG=lunatic=debug`.
const TARGET: &str = "lunatic::process";

/// A process can be found from now on.
pub(crate) fn appeared(process: &Process) {
    process.environment().machine().metrics.appeared();
}

/// A process was spawned.
pub(crate) fn spawned(process: &Process, origin: &Origin) {
    let (pid, name) = (process.pid(), process.name());
    log::trace!(target: TARGET, "process {pid} `{}` of module `{}` was spawned", printable(name), printable(origin.name()));
}

/// A process ended that got so much mail in its life, and what it had is released.
pub(crate) fn exited(process: &Process, exit: &Exit, mail: u64) {
    process.environment().machine().metrics.ended(exit, mail);
    if let Some(journal) = process.environment().journal() {
        journal.ended(process, exit);
    }
    let level = match exit {
        Exit::Fault(_) => Level::Error,
        _ => Level::Debug,
    };
    log::log!(target: TARGET, level, "process {} `{}` {}", process.pid(), printable(process.name()), printable(&exit.to_string()));
}

/// Returns text of a guest's so that it cannot steer a terminal: control characters are escaped.
pub fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let escape = |c: char| {
        if c.is_control() && c != '\n' {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect::<String>().into()
}
