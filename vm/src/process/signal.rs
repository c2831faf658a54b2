//! What processes do to each other, besides messages.

use super::{Exit, Pid};

/// A signal. Signals are applied in the order in which one process sends them to another, together with its messages, and
/// are never dropped while the receiver lives.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// End, now.
    Kill,
    /// `pid` is linked with you from now on; you are told of its failure with this tag.
    Link { pid: Pid, tag: i64 },
    /// `pid` is not linked with you any more.
    Unlink { pid: Pid },
    /// `pid`, which you are linked with, failed.
    LinkDied { pid: Pid, exit: Exit },
    /// `pid` wants to be told of your end.
    Monitor { pid: Pid },
    /// `pid` does not want that any more.
    StopMonitoring { pid: Pid },
    /// `pid`, which you monitor, ended.
    ProcessDied { pid: Pid, exit: Exit },
}
