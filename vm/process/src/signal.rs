//! What processes do to each other, besides sending messages.

use super::exit::Exit;
use super::pid::Pid;

/// A signal. Signals from one process to another are applied in the order in which they are sent,
/// in sequence with its messages, and are never dropped while the receiver lives.
#[derive(Clone, Debug)]
pub enum Signal {
    /// End now.
    Kill,
    /// `pid` is linked with the receiver from now on; the receiver is told of its failure with this
    /// tag.
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
        /// Why it ended.
        exit: Exit,
    },
    /// `pid` monitors the receiver from now on.
    Monitor {
        /// The process that is told of the end.
        pid: Pid,
    },
    /// `pid` no longer monitors the receiver.
    StopMonitoring {
        /// The process that was told of the end.
        pid: Pid,
    },
    /// `pid`, which the receiver monitors, ended.
    ProcessDied {
        /// The process that ended.
        pid: Pid,
        /// Why it ended.
        exit: Exit,
    },
}
