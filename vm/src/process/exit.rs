//! Why a process ended.
//!
//! There is one answer to "why", and everybody who asks gets the same: links and monitors, the host program that waits,
//! the exit status of the command, the log.

use super::Pid;
use crate::module::Module;
use lunatic_abi::{ExitKind, Limit};
use std::fmt;
use std::sync::Arc;

/// Why a process ended. Cheap to clone: it is handed to every link and monitor.
#[derive(Clone, Debug)]
pub enum Exit {
    /// Its function returned, or it called `proc_exit(0)`.
    Normal,
    /// It called `proc_exit` with another status.
    Status(i32),
    /// It trapped.
    Trapped(Arc<Trap>),
    /// It was killed, by a process or by the host.
    Killed,
    /// It reached a limit of its environment.
    Limit(LimitReached),
    /// A process that it was linked to failed. `pid` is where the failure began and `exit` is why: passed on from link to
    /// link they stay what they were.
    LinkDied {
        /// The process that failed first.
        pid: Pid,
        /// Why that process failed.
        exit: Arc<Exit>,
    },
    /// It was dead before it was asked about, or never lived.
    NoProcess,
    /// The machine failed it: a defect of the runtime or of a host function, not of the guest.
    Fault(Arc<str>),
}

/// A limit, and what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// Which limit.
    pub limit: Limit,
    /// The bound, in the limit's unit.
    pub allowed: u64,
    /// What would have been needed, where that is known.
    pub wanted: Option<u64>,
}

/// What a trap left behind.
#[derive(Clone, Debug)]
pub struct Trap {
    /// What happened, as one sentence.
    pub reason: String,
    /// The module that ran, if it was not a component. All the frames are its.
    pub module: Option<Module>,
    /// The wasm functions that were running, innermost first.
    pub frames: Vec<Frame>,
}

/// A wasm function that was running when its process trapped.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The function's name, demangled, or its index where the module has no names.
    pub function: String,
    /// The byte offset of the instruction in the module, where it is known. [`Module::places`] says where that is in the
    /// source.
    pub offset: Option<usize>,
}

impl Exit {
    /// Whether this is the end that a program plans: links are not told of it.
    pub fn is_normal(&self) -> bool {
        matches!(self, Exit::Normal)
    }

    /// Returns the kind as guests are told it.
    pub fn kind(&self) -> ExitKind {
        match self {
            Exit::Normal => ExitKind::Normal,
            Exit::Status(_) => ExitKind::Status,
            Exit::Trapped(_) => ExitKind::Trapped,
            Exit::Killed => ExitKind::Killed,
            Exit::Limit(_) => ExitKind::Limit,
            Exit::LinkDied { .. } => ExitKind::LinkDied,
            Exit::NoProcess => ExitKind::NoProcess,
            Exit::Fault(_) => ExitKind::Fault,
        }
    }

    /// Returns the number that goes with the kind: the status, or the limit.
    pub fn detail(&self) -> u64 {
        match self {
            Exit::Status(status) => u64::from(status.cast_unsigned()),
            Exit::Limit(reached) => reached.limit as u64,
            _ => 0,
        }
    }

    /// Returns why a process ends that dies because `pid`, to which it was linked, ended with this.
    pub(crate) fn passed_on(&self, pid: Pid) -> Exit {
        match self {
            Exit::LinkDied { .. } => self.clone(),
            other => Exit::LinkDied {
                pid,
                exit: Arc::new(other.clone()),
            },
        }
    }

    /// Returns the trap at the root of this end, if there is one.
    pub fn trap(&self) -> Option<&Trap> {
        match self {
            Exit::Trapped(trap) => Some(trap),
            Exit::LinkDied { exit, .. } => exit.trap(),
            _ => None,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Normal => f.write_str("ended normally"),
            Exit::Status(status) => write!(f, "exited with status {status}"),
            Exit::Trapped(trap) => write!(f, "trapped: {}", trap.reason),
            Exit::Killed => f.write_str("was killed"),
            Exit::Limit(reached) => write!(f, "reached a limit: {reached}"),
            Exit::LinkDied { pid, exit } => write!(f, "died with process {pid}, which {exit}"),
            Exit::NoProcess => f.write_str("does not exist"),
            Exit::Fault(what) => write!(
                f,
                "was failed by the machine (a defect of the runtime): {what}"
            ),
        }
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = self.limit.words();
        write!(f, "{what} is limited to {} {unit}", self.allowed)?;
        match self.wanted {
            Some(wanted) => write!(f, ", {wanted} are needed"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_passed_on_keeps_where_it_began() {
        let first = Exit::Killed.passed_on(Pid(7));
        let second = first.passed_on(Pid(8));
        let Exit::LinkDied { pid, exit } = second else {
            panic!("{second}")
        };
        assert_eq!(pid, Pid(7));
        assert!(matches!(*exit, Exit::Killed));
    }

    #[test]
    fn a_limit_says_what_is_allowed_and_what_is_needed() {
        let reached = LimitReached {
            limit: Limit::Memory,
            allowed: 65_536,
            wanted: Some(131_072),
        };
        let sentence = Exit::Limit(reached).to_string();
        assert_eq!(
            sentence,
            "reached a limit: memory of a process is limited to 65536 bytes, 131072 are needed"
        );
    }
}
