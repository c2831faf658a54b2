//! Why a process ended.
//!
//! A single type carries the reason to linked and monitoring processes, to a waiting host program,
//! to the command's exit status, and to the log.

use super::pid::Pid;
use super::printable::printable;
use lunatic_abi::{ExitKind, Limit};
use std::fmt;
use std::sync::Arc;

/// Why a process ended. Cheap to clone, because every linked or monitoring process gets a copy.
#[derive(Clone, Debug)]
pub enum Exit {
    /// The process's function returned, or the process called `proc_exit(0)`.
    Normal,
    /// The process called `proc_exit` with a status other than 0.
    Status(i32),
    /// The process trapped.
    Trapped(Arc<Trap>),
    /// The process was killed by another process or by the host.
    Killed,
    /// The process reached a limit of its environment.
    Limit(LimitReached),
    /// A process that this process was linked to failed. `pid` is the process where the failure
    /// began, and `exit` is the reason. Both stay the same as the failure propagates along links.
    LinkDied {
        /// The process that failed first.
        pid: Pid,
        /// Why that process failed.
        exit: Arc<Exit>,
    },
    /// The process was already dead, or never existed.
    NoProcess,
    /// The machine failed because of a bug in the runtime or in a host function, not in the guest.
    Fault(Arc<str>),
}

/// A limit that was reached, and the amount that was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// The limit that was reached.
    pub limit: Limit,
    /// The amount that the limit allows, in the limit's unit.
    pub allowed: u64,
    /// The amount that was needed, if known.
    pub wanted: Option<u64>,
}

/// Information about a trap: a description and a few numbers. Names and source locations are looked
/// up only on request.
#[derive(Clone)]
pub struct Trap {
    /// A one-sentence description of what happened.
    pub reason: String,
    stack: Box<[RawFrame]>,
    symbols: Option<Arc<dyn Symbols>>,
}

/// A stack frame of a trapped process, as recorded by the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// The index of the function in its module.
    pub function: u32,
    /// The function's name in the module. Set only if the symbols do not contain it.
    pub name: Option<Box<str>>,
    /// The offset of the instruction in the compiled code, if known.
    pub offset: Option<u32>,
}

/// A stack frame of a trapped process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function's name, demangled and truncated to a few hundred bytes, or its index if the
    /// module has no names.
    pub function: String,
    /// The byte offset of the instruction in the module, if known.
    pub offset: Option<usize>,
}

/// A location in a guest's source code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLocation {
    /// The demangled name of the function, if it has one. All locations of a frame except the last
    /// are in inlined functions.
    pub function: Option<String>,
    /// The file, as recorded by the compiler.
    pub file: String,
    /// The line number, counting from 1, if known.
    pub line: Option<u32>,
}

/// The symbols of a module's code.
pub trait Symbols: Send + Sync {
    /// Describes a frame. The first call may read the entire module.
    fn frame(&self, raw: &RawFrame) -> Frame;

    /// Returns the source locations of the instruction at an offset in the module. The first call
    /// may read the module's debug information.
    fn locations(&self, offset: usize) -> Vec<SourceLocation>;
}

impl Trap {
    /// Creates a trap with the given stack, innermost function first.
    pub fn new(reason: String, stack: Vec<RawFrame>, symbols: Option<Arc<dyn Symbols>>) -> Trap {
        Trap {
            reason,
            stack: stack.into(),
            symbols,
        }
    }

    /// Returns the wasm functions on the stack, innermost first.
    ///
    /// The first call for a module blocks for milliseconds, or longer if the module is large. Call
    /// this function only if a person will read the output, and not on a thread that other work
    /// depends on.
    pub fn frames(&self) -> Vec<Frame> {
        let describe = |raw: &RawFrame| match &self.symbols {
            Some(symbols) => symbols.frame(raw),
            None => Frame {
                function: match &raw.name {
                    Some(name) => name.to_string(),
                    None => format!("function {}", raw.function),
                },
                offset: raw.offset.map(|offset| offset as usize),
            },
        };
        self.stack.iter().map(describe).collect()
    }

    /// Returns the source locations of a frame, starting with the innermost inlined function and
    /// ending with the function that everything was inlined into. Returns an empty list if the
    /// module has no debug information about the frame.
    ///
    /// This function is as slow as [`Trap::frames`].
    pub fn locations(&self, frame: &Frame) -> Vec<SourceLocation> {
        let found = |symbols: &Arc<dyn Symbols>| Some(symbols.locations(frame.offset?));
        self.symbols.as_ref().and_then(found).unwrap_or_default()
    }

    /// Returns the trap's size in bytes, excluding data shared with its module.
    pub fn size(&self) -> usize {
        let names = self.stack.iter().filter_map(|raw| raw.name.as_ref());
        let names: usize = names.map(|name| name.len()).sum();
        size_of::<Trap>() + self.reason.len() + names + size_of_val(&*self.stack)
    }
}

impl Exit {
    /// Returns whether this is a normal exit, which is not reported to linked processes.
    pub fn is_normal(&self) -> bool {
        matches!(self, Exit::Normal)
    }

    /// Returns the kind of the exit, as guests see it.
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

    /// Returns the exit status or limit that goes with the kind.
    pub fn detail(&self) -> u64 {
        match self {
            Exit::Status(status) => u64::from(status.cast_unsigned()),
            Exit::Limit(reached) => reached.limit as u64,
            _ => 0,
        }
    }

    /// Returns the exit for a process that dies because it was linked to `pid`, which died with
    /// this exit.
    pub fn passed_on(&self, pid: Pid) -> Exit {
        match self {
            Exit::LinkDied { .. } => self.clone(),
            other => Exit::LinkDied {
                pid,
                exit: Arc::new(other.clone()),
            },
        }
    }

    /// Returns the form of this exit that linked and monitoring processes receive, which may stay
    /// in their mailboxes for a long time. Its text is at most `most` bytes long, and a trap has no
    /// frames or module.
    pub(crate) fn told(&self, most: usize) -> Exit {
        match self {
            Exit::Trapped(trap) => {
                let reason = shortened(&trap.reason, most);
                Exit::Trapped(Arc::new(Trap::new(reason, Vec::new(), None)))
            }
            Exit::Fault(what) => Exit::Fault(shortened(what, most).into()),
            Exit::LinkDied { pid, exit } => Exit::LinkDied {
                pid: *pid,
                exit: Arc::new(exit.told(most)),
            },
            other => other.clone(),
        }
    }

    /// Returns the length of the exit's variable text.
    pub(crate) fn text_length(&self) -> usize {
        match self {
            Exit::Trapped(trap) => trap.reason.len(),
            Exit::Fault(what) => what.len(),
            Exit::LinkDied { exit, .. } => exit.text_length(),
            _ => 0,
        }
    }

    /// Returns the trap at the root of this exit, if any.
    pub fn trap(&self) -> Option<&Trap> {
        match self {
            Exit::Trapped(trap) => Some(trap),
            Exit::LinkDied { exit, .. } => exit.trap(),
            _ => None,
        }
    }
}

/// The maximum length, in bytes, of the reason that linked and monitoring processes receive. It is
/// limited because trap messages can quote text supplied by the guest.
pub(crate) const MAX_REASON: usize = 2048;

/// The length, in bytes, of the reason that is included in the charge for a death notice.
pub(crate) const SHORT_REASON: usize = 128;

/// Returns the string, truncated to at most `most` bytes.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_string();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Normal => f.write_str("ended normally"),
            Exit::Status(status) => write!(f, "exited with status {status}"),
            Exit::Trapped(trap) => write!(f, "trapped: {}", printable(&trap.reason)),
            Exit::Killed => f.write_str("was killed"),
            Exit::Limit(reached) => write!(f, "reached a limit: {reached}"),
            Exit::LinkDied { pid, exit } => write!(f, "died with process {pid}, which {exit}"),
            Exit::NoProcess => f.write_str("does not exist"),
            Exit::Fault(what) => write!(
                f,
                "failed because of a bug in the machine: {}",
                printable(what)
            ),
        }
    }
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trap")
            .field("reason", &self.reason)
            .field("stack", &self.stack)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for LimitReached {}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = self.limit.words(self.allowed);
        write!(f, "{what} is limited to {} {unit}", self.allowed)?;
        match self.wanted {
            Some(wanted) => write!(f, ", but {wanted} are needed"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_is_passed_on_keeps_its_origin() {
        let first = Exit::Killed.passed_on(Pid(7));
        let second = first.passed_on(Pid(8));
        let Exit::LinkDied { pid, exit } = second else {
            panic!("{second}")
        };
        assert_eq!(pid, Pid(7));
        assert!(matches!(*exit, Exit::Killed));
    }

    #[test]
    fn the_message_for_a_reached_limit_names_the_allowed_and_the_needed_amount() {
        let reached = LimitReached {
            limit: Limit::Memory,
            allowed: 65_536,
            wanted: Some(131_072),
        };
        let sentence = Exit::Limit(reached).to_string();
        assert_eq!(
            sentence,
            "reached a limit: the memory of a process is limited to 65536 bytes, but 131072 are needed"
        );
    }
}
