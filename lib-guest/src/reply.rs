//! Waiting for replies to requests, for task results, and for processes to exit.

mod late;

use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::ExitReason;
use crate::process::failure::SendFailure;
use crate::process::handle::Process;
use crate::tag::Tag;
pub(crate) use late::discards;
use rmp_serde::decode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Why a request got no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The timeout expired. If the reply arrives later, it is dropped.
    #[error("no reply arrived in time")]
    Timeout,
    /// The process died before replying. The reason is [`ExitReason::NoProcess`] if the process was
    /// already dead when the request was made.
    #[error("the other process {0}")]
    Died(ExitReason),
    /// The wait would never end: no process is left that could reply.
    #[error("no process is left that could reply")]
    NobodyLeft,
    /// The request was not sent.
    #[error("the request was not sent: {0}")]
    NotSent(SendFailure),
    /// The process sent the request to itself, and would wait for its own reply forever.
    #[error("a process cannot wait for a reply from itself")]
    Itself,
    /// The reply could not be sent: it is larger than this process's environment allows, carries a
    /// resource that the environment does not grant, or cannot be serialized.
    #[error("the reply cannot be sent to this process")]
    ReplyRefused,
    /// The reply is not of the expected type.
    #[error("the reply is not of the expected type: {0}")]
    DeserializationFailed(decode::Error),
}

/// A reply that another process owes the current process. The other process's exit signal has the
/// reply's tag, so that a single receive can wait for both.
#[derive(Debug)]
pub(crate) struct PendingReply {
    tag: Tag,
    process: u64,
    /// True if a third process may reply instead, which happens if a request is passed on.
    may_be_passed_on: bool,
}

impl PendingReply {
    /// Monitors a process to which a request is about to be sent.
    pub(crate) fn to_request(tag: Tag, process: u64) -> Self {
        host::process::monitor_tagged(tag.id(), process);
        Self {
            tag,
            process,
            may_be_passed_on: true,
        }
    }

    /// Monitors a process that will send the reply itself. No other process knows the tag.
    pub(crate) fn from(tag: Tag, process: u64) -> Self {
        Self {
            may_be_passed_on: false,
            ..Self::to_request(tag, process)
        }
    }

    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    pub(crate) fn process(&self) -> u64 {
        self.process
    }

    /// Allows the mailbox to be used before the reply is settled. A receive never finds the reply,
    /// because the reply has to be requested first. If a receive finds the process's exit signal,
    /// the exit reason is kept.
    pub(crate) fn keep(&self) {
        ENDS.with_borrow_mut(|ends| ends.insert(self.tag, None));
    }

    /// Returns why the process exited, if a receive from the mailbox has found its exit signal.
    pub(crate) fn kept_end(&self) -> Option<ExitReason> {
        ENDS.with_borrow(|ends| ends.get(&self.tag).copied().flatten())
    }

    /// Waits for the reply, for at most `timeout` milliseconds.
    pub(crate) fn wait<U: DeserializeOwned>(&self, timeout: u64) -> Result<U, RequestError> {
        if let Some(reason) = self.kept_end() {
            return Err(RequestError::Died(reason));
        }
        match first_reply(&[self.tag], timeout) {
            Ok((_, reply)) => reply,
            Err(error) => Err(error),
        }
    }

    /// Stops waiting. `reply` is the outcome of the wait. A reply that arrives later is dropped.
    pub(crate) fn settle<U>(self, reply: &Result<U, RequestError>) {
        ENDS.with_borrow_mut(|ends| ends.remove(&self.tag));
        let end_was_reported =
            host::process::stop_monitoring_tagged(self.tag.id(), self.process) == 0;
        let may_come = match reply {
            Err(RequestError::Timeout | RequestError::NobodyLeft) => true,
            Err(RequestError::Died(_)) => self.may_be_passed_on,
            _ => false,
        };
        // The reply may have arrived since the wait ended.
        if may_come && drop_first(&[self.tag]).is_none() {
            // A dead process doesn't send replies.
            if self.may_be_passed_on || !end_was_reported {
                late::give_up(self.tag);
            }
        } else if end_was_reported {
            // The process died after it replied.
            drop_first(&[self.tag]);
        }
    }
}

/// Sends a reply. If the requesting process cannot take the reply for any reason, the reply is
/// dropped: a process must not fail because of the processes that it replies to.
///
/// If the requesting process's environment rejects the reply, an empty message is sent instead,
/// which cannot be mistaken for a serialized value.
pub(crate) fn send<R: Serialize>(asker: Process<()>, tag: Tag, reply: &R) {
    // The requesting process chose the tag. A tag that isn't a reply tag might mean something else
    // to the process that the request names as its sender.
    if !tag.is_reply() {
        return;
    }
    match asker.post(tag, reply) {
        Ok(()) | Err(SendFailure::MailboxFull) => {}
        Err(_) => {
            let _ = envelope::post(asker.id(), tag, &[], &[]);
        }
    }
}

/// Waits for the first reply with one of the tags, or for the death of a process that owes such a
/// reply. Returns the tag and the outcome.
pub(crate) fn first_reply<U: DeserializeOwned>(
    tags: &[Tag],
    timeout: u64,
) -> Result<(Tag, Result<U, RequestError>), RequestError> {
    envelope::receive(tags, timeout, |delivery| {
        let arrival = match delivery {
            Delivery::Arrived(arrival) => arrival,
            Delivery::TimedOut => return Err(RequestError::Timeout),
            Delivery::NobodyLeft => return Err(RequestError::NobodyLeft),
        };
        let reply = match arrival.signal() {
            Some(signal) => Err(RequestError::Died(signal.reason)),
            None if arrival.header.length == 0 => Err(RequestError::ReplyRefused),
            None => arrival.open().map_err(RequestError::DeserializationFailed),
        };
        Ok((arrival.tag(), reply))
    })
}

/// Drops the first message or signal with one of the tags. Returns the tag if it was a message.
fn drop_first(tags: &[Tag]) -> Option<Tag> {
    envelope::receive(tags, 0, |delivery| match delivery {
        Delivery::Arrived(arrival) if arrival.signal().is_none() => Some(arrival.tag()),
        _ => None,
    })
}

/// Removes any late replies that have arrived from the mailbox.
pub(crate) fn drop_late_replies() {
    loop {
        let tags = late::tags();
        if tags.is_empty() || !drop_first(&tags).is_some_and(discards) {
            return;
        }
    }
}

thread_local! {
    /// The replies for which [`PendingReply::keep`] was called, by tag. Each entry contains the
    /// exit reason, if a receive has found the process's exit signal.
    static ENDS: RefCell<BTreeMap<Tag, Option<ExitReason>>> = const { RefCell::new(BTreeMap::new()) };
}

/// If [`PendingReply::keep`] was called for a reply with this tag, records why the process exited
/// and returns true.
pub(crate) fn keeps_end(tag: Tag, reason: ExitReason) -> bool {
    ENDS.with_borrow_mut(|ends| match ends.get_mut(&tag) {
        Some(end) => {
            *end = Some(reason);
            true
        }
        None => false,
    })
}
