//! How a process begins whose parent waits until it has.
//!
//! A process that is not linked may fail before its parent watches it, and then nobody knows why. So it waits for a word
//! of the parent, which is sent once the parent does; and it watches the parent meanwhile, who may die before.

use crate::LunaticError;
use crate::entry::Entry;
use crate::host;
use crate::message::ExitReason;
use crate::process::{Place, Process};
use crate::registry::RegistryError;
use crate::request::{Awaited, RequestError, first_reply};
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
    /// What was to be started says why it did not: the error of a server's `#[init]`, a supervisor's child that did not
    /// start.
    #[error("{0}")]
    Refused(String),
    /// It died before it had started.
    #[error("the process that was to start {0}")]
    Died(ExitReason),
    /// It started, but did not get its name, and was ended.
    #[error("it did not get its name: {0}")]
    NotRegistered(RegistryError),
}

impl From<LunaticError> for StartError {
    fn from(error: LunaticError) -> Self {
        Self::NotSpawned(error)
    }
}

thread_local! {
    /// The process that this one was spawned with a link by, which ends with it; 0 where there is none.
    static PARENT: Cell<u64> = const { Cell::new(0) };
}

/// Returns the process that started this one linked, if one did.
pub(crate) fn parent() -> Option<u64> {
    Some(PARENT.get()).filter(|&parent| parent != 0)
}

/// What a process is handed to report to its parent with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Birth {
    parent: Process<()>,
    /// Marks the report.
    tag: Tag,
    is_linked: bool,
}

/// What a process reports of its start.
type Report = Result<(), String>;

impl Birth {
    /// Waits until the parent watches this process. False where the parent died, and nobody is left to begin for.
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        if self.is_linked {
            PARENT.set(self.parent.id());
        }
        self.hear::<()>(BEGIN).is_some()
    }

    /// Waits until the parent wants the report, or does not, or died.
    #[must_use]
    pub(crate) fn is_wanted(&self) -> bool {
        self.hear(WANTED).unwrap_or(false)
    }

    /// Waits for a word of the parent; `None` where it died.
    fn hear<T: DeserializeOwned>(&self, word: Tag) -> Option<T> {
        let end = Awaited::report(Tag::new_reply(), self.parent.id());
        let heard = match first_reply(&[word, end.tag()], lunatic_abi::FOREVER) {
            Ok((_, heard)) => heard,
            Err(error) => Err(error),
        };
        end.settle(&heard);
        heard.ok()
    }

    /// Hands the parent what it waits for.
    pub(crate) fn report<R: Serialize>(&self, report: &R) {
        if let Err(failure) = self.parent.post(self.tag, report) {
            panic!(
                "the parent, process <{:x}>, cannot be told: {failure}",
                self.parent.id()
            );
        }
    }

    /// Tells the parent that this process has started.
    pub(crate) fn started(&self) {
        self.report::<Report>(&Ok(()));
    }

    /// Tells the parent why this process did not start.
    pub(crate) fn refused(&self, why: String) {
        self.report::<Report>(&Err(why));
    }
}

/// Spawns a process that is handed a [`Birth`] and a context, watches it, and lets it begin.
pub(crate) fn spawn<C: Serialize>(
    context: C,
    entry: &Entry,
    is_linked: bool,
) -> Result<Awaited, LunaticError> {
    let tag = Tag::new_reply();
    let birth = Birth {
        parent: Process::this(),
        tag,
        is_linked,
    };
    let link = if is_linked { Tag::new() } else { Tag::NONE };
    let process: Process<()> = Place::Here.spawn_entry(link, &(birth, context), entry)?;
    let awaited = Awaited::report(tag, process.id());
    if let Err(failure) = process.post(BEGIN, &()) {
        process.kill();
        awaited.settle::<()>(&Err(RequestError::NobodyLeft));
        return Err(failure.into());
    }
    Ok(awaited)
}

/// What the wait for a start brought.
pub(crate) enum Started {
    /// The process runs.
    Running(u64),
    /// Something came that is more urgent. The process may be starting yet.
    Interrupted(u64),
}

/// Starts a process as [`spawn`] does and waits until it has started, or for a message with one of the tags.
pub(crate) fn start_or<C: Serialize>(
    context: C,
    entry: &Entry,
    is_linked: bool,
    interrupts: &[Tag],
) -> Result<Started, StartError> {
    let awaited = spawn(context, entry, is_linked)?;
    let process = awaited.process();
    let mut tags = vec![awaited.tag()];
    tags.extend(interrupts);
    let report = match first_reply::<Report>(&tags, lunatic_abi::FOREVER) {
        Ok((tag, report)) if tag == awaited.tag() => report,
        Ok(_) => {
            awaited.settle::<()>(&Err(RequestError::Timeout));
            return Ok(Started::Interrupted(process));
        }
        Err(error) => Err(error),
    };
    awaited.settle(&report);
    match report {
        Ok(Ok(())) => Ok(Started::Running(process)),
        Ok(Err(why)) => Err(StartError::Refused(why)),
        Err(RequestError::Died(reason)) => Err(StartError::Died(reason)),
        Err(error) => Err(StartError::Refused(error.to_string())),
    }
}

/// Starts a process as [`spawn`] does and waits until it has started.
pub(crate) fn start<C: Serialize>(
    context: C,
    entry: &Entry,
    is_linked: bool,
) -> Result<u64, StartError> {
    match start_or(context, entry, is_linked, &[])? {
        Started::Running(process) | Started::Interrupted(process) => Ok(process),
    }
}

/// Ends this process as the failure of its parent ends one that is not told of links.
pub(crate) fn die_with(parent: u64) -> ! {
    // SAFETY: the calls take numbers.
    unsafe {
        host::process::die_when_link_dies(1);
        // A link with the dead fails at once.
        host::process::link(Tag::NONE.id(), parent);
        host::process::sleep_ms(lunatic_abi::FOREVER);
    }
    unreachable!("a process whose link failed does not go on")
}
