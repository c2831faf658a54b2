//! Signals, which processes use to affect each other in ways other than sending messages.

use super::exit::Exit;
use super::pid::Pid;

/// A signal. Signals and messages from one process to another take effect in the order in which
/// they are sent. Signals are never dropped while the receiver is alive.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The receiver must die now.
    Kill,
    /// `pid` is now linked to the receiver. If `pid` fails, the receiver is notified with this tag.
    Link {
        /// The other process.
        pid: Pid,
        /// The link's tag.
        tag: i64,
    },
    /// `pid` is no longer linked to the receiver.
    Unlink {
        /// The other process.
        pid: Pid,
    },
    /// `pid`, which is linked to the receiver, failed.
    LinkDied {
        /// The process that failed.
        pid: Pid,
        /// Why the process died.
        exit: Exit,
    },
    /// `pid` now monitors the receiver.
    Monitor {
        /// The monitoring process.
        pid: Pid,
    },
    /// `pid` no longer monitors the receiver.
    StopMonitoring {
        /// The process that was monitoring.
        pid: Pid,
    },
    /// `pid`, which the receiver monitors, died.
    ProcessDied {
        /// The process that died.
        pid: Pid,
        /// Why the process died.
        exit: Exit,
    },
}
