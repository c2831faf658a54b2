//! Starting a process and waiting until it has started.
//!
//! A process that is not linked may fail before its parent watches it, and the reason would be
//! lost. It therefore waits for a message from its parent, which is sent once the parent watches
//! it; and since the parent may die first, it watches the parent in the meantime.

use crate::entry::EntryPoint;
use crate::error::LunaticError;
use crate::host;
use crate::message::ExitReason;
use crate::process::builder::Builder;
use crate::process::handle::Process;
use crate::registry::RegistryError;
use crate::reply::{PendingReply, RequestError, first_reply};
use crate::tag::{BEGIN, Tag, WANTED};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// Why a server, a supervisor or one of its children did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The process was not spawned.
    #[error("it was not spawned: {0}")]
    NotSpawned(LunaticError),
    /// It refused to start, for this reason: the error returned by a server's `#[init]`, or a
    /// supervisor's child that did not start.
    #[error("{0}")]
    Refused(String),
    /// It died before it had started.
    #[error("the starting process {0}")]
    Died(ExitReason),
    /// It started, but could not be registered, and was ended.
    #[error("it was not registered: {0}")]
    NotRegistered(RegistryError),
}

impl From<LunaticError> for StartError {
    fn from(error: LunaticError) -> Self {
        Self::NotSpawned(error)
    }
}

thread_local! {
    /// The process that started this one with a link, and with which this one ends; 0 if there is
    /// none.
    static PARENT: Cell<u64> = const { Cell::new(0) };
}

/// Returns the process that started this one with a link, if there is one.
pub(crate) fn parent() -> Option<u64> {
    Some(PARENT.get()).filter(|&parent| parent != 0)
}

/// What a process is given for reporting to its parent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Handshake {
    parent: Process<()>,
    /// The tag of the report.
    tag: Tag,
    is_linked: bool,
}

/// A process's report on its start.
type Report = Result<(), String>;

impl Handshake {
    /// Waits until the parent watches this process. Returns false if the parent died, in which case
    /// there is nothing to begin for.
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        if self.is_linked {
            PARENT.set(self.parent.id());
        }
        self.hear::<()>(BEGIN).is_some()
    }

    /// Waits until the parent says whether it wants the report. Also returns false if the parent
    /// died.
    #[must_use]
    pub(crate) fn is_wanted(&self) -> bool {
        self.hear(WANTED).unwrap_or(false)
    }

    /// Waits for a message from the parent with this tag. Returns `None` if the parent died.
    fn hear<T: DeserializeOwned>(&self, tag: Tag) -> Option<T> {
        let end = PendingReply::from(Tag::new_reply(), self.parent.id());
        let heard = match first_reply(&[tag, end.tag()], lunatic_abi::FOREVER) {
            Ok((_, heard)) => heard,
            Err(error) => Err(error),
        };
        end.settle(&heard);
        heard.ok()
    }

    /// Sends the parent the report that it is waiting for.
    pub(crate) fn report<R: Serialize>(&self, report: &R) {
        if let Err(failure) = self.parent.post(self.tag, report) {
            panic!(
                "the parent, process <{:x}>, cannot be told: {failure}",
                self.parent.id()
            );
        }
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

/// Spawns a process that begins with a [`Handshake`] and a context, watches it, and lets it begin.
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
    /// The process runs.
    Running(u64),
    /// A more urgent message arrived. The process may still be starting.
    Interrupted(u64),
}

/// Starts a process like [`spawn`] and waits until it has started, or until a message with one of
/// the tags arrives.
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

/// Starts a process like [`spawn`] and waits until it has started.
pub(crate) fn start<C: Serialize>(
    context: C,
    entry: &EntryPoint,
    is_linked: bool,
) -> Result<u64, StartError> {
    match start_or(context, entry, is_linked, &[])? {
        Started::Running(process) | Started::Interrupted(process) => Ok(process),
    }
}

/// Ends this process as the failure of its parent would if this process did not catch it.
pub(crate) fn die_with(parent: u64) -> ! {
    host::process::die_when_link_dies(1);
    // A link with a dead process fails at once.
    host::process::link(Tag::NONE.id(), parent);
    host::process::sleep_ms(lunatic_abi::FOREVER);
    unreachable!("the failed link ends this process")
}
