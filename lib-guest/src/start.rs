//! How a process begins whose parent waits until it has.
//!
//! A process that is not linked may fail before its parent watches it, and then nobody knows why. So it waits for a word
//! of the parent, which is sent once the parent does; and it watches the parent meanwhile, who may die before.

use crate::LunaticError;
use crate::entry::Entry;
use crate::envelope::{self, Delivery};
use crate::process::{Place, Process};
use crate::request::{Awaited, RequestError};
use crate::tag::{BEGIN, Tag};
use serde::{Deserialize, Serialize};

/// What a process is handed to report to its parent with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Birth {
    parent: Process<()>,
    /// Marks the report.
    tag: Tag,
}

impl Birth {
    /// Waits until the parent watches this process. False where the parent died, and nobody is left to begin for.
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        let end = Awaited::report(Tag::new_reply(), self.parent.id());
        let word = envelope::receive(&[BEGIN, end.tag()], lunatic_abi::FOREVER, |delivery| match delivery {
            Delivery::Arrived(arrival) => match arrival.signal() {
                Some(signal) => Err(RequestError::Died(signal.reason)),
                None => Ok(()),
            },
            Delivery::TimedOut | Delivery::NobodyLeft => Err(RequestError::NobodyLeft),
        });
        end.settle(&word);
        word.is_ok()
    }

    /// Hands the parent what it waits for.
    pub(crate) fn report<R: Serialize>(&self, report: &R) {
        if let Err(failure) = self.parent.post(self.tag, report) {
            panic!("the parent, process <{:x}>, cannot be told: {failure}", self.parent.id());
        }
    }
}

/// Spawns a process that is handed a [`Birth`] and a context, watches it, and lets it begin.
pub(crate) fn spawn<C: Serialize>(context: C, entry: &Entry) -> Result<Awaited, LunaticError> {
    let tag = Tag::new_reply();
    let birth = Birth { parent: Process::this(), tag };
    let process: Process<()> = Place::Here.spawn_entry_with(Tag::NONE, &(birth, context), entry)?;
    let awaited = Awaited::report(tag, process.id());
    if let Err(failure) = process.post(BEGIN, &()) {
        process.kill();
        awaited.settle::<()>(&Err(RequestError::NobodyLeft));
        return Err(failure.into());
    }
    Ok(awaited)
}
