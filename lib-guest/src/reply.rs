//! Code that waits for replies to requests, for results of tasks, and for the ends of processes.

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
    /// The process died before it replied. The reason is [`ExitReason::NoProcess`] if it was
    /// already dead when the request was made.
    #[error("the other process {0}")]
    Died(ExitReason),
    /// The wait could never end: no process is left that could reply.
    #[error("no process is left that could reply")]
    NobodyLeft,
    /// The request was not sent.
    #[error("the request was not sent: {0}")]
    NotSent(SendFailure),
    /// The process made the request to itself, and would wait forever for its own reply.
    #[error("a process cannot wait for a reply from itself")]
    Itself,
    /// The reply could not be sent. It is larger than this process's environment accepts, carries a
    /// resource that the environment does not grant, or cannot be serialized.
    #[error("the reply cannot be sent to this process")]
    ReplyRefused,
    /// The reply is not of the expected type.
    #[error("the reply is not of the expected type: {0}")]
    DeserializationFailed(decode::Error),
}

/// A reply that another process owes the current process. The end of that process is reported with
/// the reply's tag, so that a single receive can wait for both.
#[derive(Debug)]
pub(crate) struct PendingReply {
    tag: Tag,
    process: u64,
    /// True if another process may reply instead, because a request can be passed on.
    may_be_passed_on: bool,
}

impl PendingReply {
    /// Monitors a process that is about to receive a request.
    pub(crate) fn to_request(tag: Tag, process: u64) -> Self {
        host::process::monitor_tagged(tag.id(), process);
        Self {
            tag,
            process,
            may_be_passed_on: true,
        }
    }

    /// Monitors a process that will reply itself, with a tag that no other process knows.
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

    /// Allows receives from the mailbox before the reply is settled. Such receives never find the
    /// reply, because the reply has to be requested first. If they find the signal that reports the
    /// end of the process, the reason is kept.
    pub(crate) fn keep(&self) {
        ENDS.with_borrow_mut(|ends| ends.insert(self.tag, None));
    }

    /// Returns why the process ended, if a receive from the mailbox has found its end.
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
        // The reply may have arrived in the meantime.
        if may_come && drop_first(&[self.tag]).is_none() {
            // A dead process sends no replies.
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
/// dropped: a process that replies to other processes must not fail because of them.
///
/// If the environment of the requesting process refuses the reply, an empty message is sent in its
/// place. No value is serialized to an empty message.
pub(crate) fn send<R: Serialize>(asker: Process<()>, tag: Tag, reply: &R) {
    // The requesting process chose the tag. A tag that is not the tag of a reply might have a
    // meaning to the process that the request names as its sender.
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

/// Waits for the first reply that has one of the tags, or for the end of a process that owes such a
/// reply, and returns the tag.
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

/// Drops the first message or signal that has one of the tags. Returns the tag if it was a message.
fn drop_first(tags: &[Tag]) -> Option<Tag> {
    envelope::receive(tags, 0, |delivery| match delivery {
        Delivery::Arrived(arrival) if arrival.signal().is_none() => Some(arrival.tag()),
        _ => None,
    })
}

/// Removes from the mailbox any late replies that have arrived.
pub(crate) fn drop_late_replies() {
    loop {
        let tags = late::tags();
        if tags.is_empty() || !drop_first(&tags).is_some_and(discards) {
            return;
        }
    }
}

thread_local! {
    /// The replies for which [`PendingReply::keep`] was called, by tag. Each entry contains why the
    /// process ended, if a receive has found the signal that reports its end.
    static ENDS: RefCell<BTreeMap<Tag, Option<ExitReason>>> = const { RefCell::new(BTreeMap::new()) };
}

/// If [`PendingReply::keep`] was called for a reply with this tag, records why the process ended
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
