//! Signals, by which processes act on each other in addition to sending messages.

use super::exit::Exit;
use super::pid::Pid;

/// A signal. Signals from one process to another are applied in the order in which they are sent,
/// and in order with the sender's messages. They are never dropped while the receiver is alive.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The receiver must end now.
    Kill,
    /// `pid` is linked with the receiver from now on. The receiver is notified of a failure of
    /// `pid` with this tag.
    Link {
        /// The other process.
        pid: Pid,
        /// The link's tag.
        tag: i64,
    },
    /// `pid` is no longer linked with the receiver.
    Unlink {
        /// The other process.
        pid: Pid,
    },
    /// `pid`, which is linked with the receiver, failed.
    LinkDied {
        /// The process that failed.
        pid: Pid,
        /// Why the process ended.
        exit: Exit,
    },
    /// `pid` monitors the receiver from now on.
    Monitor {
        /// The process that is notified of the end.
        pid: Pid,
    },
    /// `pid` no longer monitors the receiver.
    StopMonitoring {
        /// The process that was to be notified of the end.
        pid: Pid,
    },
    /// `pid`, which the receiver monitors, ended.
    ProcessDied {
        /// The process that ended.
        pid: Pid,
        /// Why the process ended.
        exit: Exit,
    },
}
