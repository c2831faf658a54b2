//! Starting a process, and waiting until it has started.
//!
//! If an unlinked process failed before its parent monitored it, the reason would be lost. A new
//! process therefore waits for a message, which the parent sends once it is monitoring the process.
//! Because the parent may die first, the process monitors the parent while waiting.

use crate::entry::EntryPoint;
use crate::error::LunaticError;
use crate::host;
use crate::message::ExitReason;
use crate::process::builder::Builder;
use crate::process::handle::Process;
use crate::registry::RegistryError;
use crate::reply::{self, PendingReply, RequestError, first_reply};
use crate::tag::{BEGIN, Tag, WANTED};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// Why a server, a supervisor or one of its children did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The process was not spawned.
    #[error("the process was not spawned: {0}")]
    NotSpawned(LunaticError),
    /// The process refused to start: a server's `#[init]` returned this error, or a supervisor's
    /// child did not start.
    #[error("{0}")]
    Refused(String),
    /// The process died before it finished starting.
    #[error("the starting process {0}")]
    Died(ExitReason),
    /// The process started but could not be registered, and was terminated.
    #[error("the process was not registered: {0}")]
    NotRegistered(RegistryError),
}

impl From<LunaticError> for StartError {
    fn from(error: LunaticError) -> Self {
        Self::NotSpawned(error)
    }
}

thread_local! {
    /// The process that started the current process with a link, or 0 if there isn't one. When it
    /// exits, so does the current process.
    static PARENT: Cell<u64> = const { Cell::new(0) };
}

/// Returns the process that started the current process with a link, if any.
pub(crate) fn parent() -> Option<u64> {
    Some(PARENT.get()).filter(|&parent| parent != 0)
}

/// What a new process needs to report to its parent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Handshake {
    parent: Process<()>,
    /// The tag of the report.
    tag: Tag,
    is_linked: bool,
}

/// A process's report on whether it started.
type Report = Result<(), String>;

impl Handshake {
    /// Waits until the parent is monitoring this process. Returns false if the parent died, in
    /// which case this process has no reason to begin.
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        if self.is_linked {
            PARENT.set(self.parent.id());
        }
        self.hear::<()>(BEGIN).is_some()
    }

    /// Waits for the parent to say whether it wants the report, and returns the answer. Also
    /// returns false if the parent died.
    #[must_use]
    pub(crate) fn is_wanted(&self) -> bool {
        self.hear(WANTED).unwrap_or(false)
    }

    /// Waits for a message with this tag from the parent. Returns `None` if the parent died.
    fn hear<T: DeserializeOwned>(&self, tag: Tag) -> Option<T> {
        let end = PendingReply::from(Tag::new_reply(), self.parent.id());
        let heard = loop {
            match first_reply(&[tag, end.tag()], lunatic_abi::FOREVER) {
                // Any process can send a message with this tag. Invalid messages are ignored.
                Ok((
                    _,
                    Err(RequestError::DeserializationFailed(_) | RequestError::ReplyRefused),
                )) => {}
                Ok((_, heard)) => break heard,
                Err(error) => break Err(error),
            }
        };
        end.settle(&heard);
        heard.ok()
    }

    /// Sends the parent the report that it is waiting for.
    pub(crate) fn report<R: Serialize>(&self, report: &R) {
        reply::send(self.parent, self.tag, report);
    }

    /// Reports that this process has started.
    pub(crate) fn started(&self) {
        self.report::<Report>(&Ok(()));
    }

    /// Reports why this process did not start.
    pub(crate) fn refused(&self, why: String) {
        self.report::<Report>(&Err(why));
    }
}

/// Spawns a process with a [`Handshake`] and a context, monitors it, and lets it begin.
pub(crate) fn spawn<C: Serialize>(
    context: C,
    entry: &EntryPoint,
    is_linked: bool,
) -> Result<PendingReply, LunaticError> {
    let tag = Tag::new_reply();
    let handshake = Handshake {
        parent: Process::this(),
        tag,
        is_linked,
    };
    let link = if is_linked { Tag::new() } else { Tag::NONE };
    let builder = Builder::new().link(link);
    let process: Process<()> = builder.spawn_entry(&(handshake, context), entry)?;
    let pending = PendingReply::from(tag, process.id());
    if let Err(failure) = process.post(BEGIN, &()) {
        process.kill();
        pending.settle::<()>(&Err(RequestError::NobodyLeft));
        return Err(failure.into());
    }
    Ok(pending)
}

/// The outcome of waiting for a process to start.
pub(crate) enum Started {
    /// The process is running.
    Running(u64),
    /// A more urgent message arrived. The process may still be starting.
    Interrupted(u64),
}

/// Like [`spawn`], but waits until the process has started, or until a message with one of the tags
/// arrives.
pub(crate) fn start_or<C: Serialize>(
    context: C,
    entry: &EntryPoint,
    is_linked: bool,
    interrupts: &[Tag],
) -> Result<Started, StartError> {
    let pending = spawn(context, entry, is_linked)?;
    let process = pending.process();
    let mut tags = vec![pending.tag()];
    tags.extend(interrupts);
    let report = match first_reply::<Report>(&tags, lunatic_abi::FOREVER) {
        Ok((tag, report)) if tag == pending.tag() => report,
        Ok(_) => {
            pending.settle::<()>(&Err(RequestError::Timeout));
            return Ok(Started::Interrupted(process));
        }
        Err(error) => Err(error),
    };
    pending.settle(&report);
    match report {
        Ok(Ok(())) => Ok(Started::Running(process)),
        Ok(Err(why)) => Err(StartError::Refused(why)),
        Err(RequestError::Died(reason)) => Err(StartError::Died(reason)),
        Err(error) => Err(StartError::Refused(error.to_string())),
    }
}

/// Like [`spawn`], but waits until the process has started.
pub(crate) fn start<C: Serialize>(
    context: C,
    entry: &EntryPoint,
    is_linked: bool,
) -> Result<u64, StartError> {
    match start_or(context, entry, is_linked, &[])? {
        Started::Running(process) | Started::Interrupted(process) => Ok(process),
    }
}

/// Makes this process die as if its parent had failed and it did not catch link failures.
pub(crate) fn die_with(parent: u64) -> ! {
    host::process::die_when_link_dies(1);
    // A link to a dead process fails immediately.
    host::process::link(Tag::NONE.id(), parent);
    host::process::sleep_ms(lunatic_abi::FOREVER);
    unreachable!("the failed link kills this process")
}
