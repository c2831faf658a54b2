//! A request is a message that wants a reply, and the wait for it.

use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::ExitReason;
use crate::process::{Process, SendFailure};
use crate::tag::Tag;
use rmp_serde::decode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// A message of type `T` whose sender waits for a reply of type `U`.
///
/// A server is a process with a `Mailbox<Request<T, U>>`; a client calls [`Process::request`].
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox, Request};
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let doubler = process::spawn(|mailbox: Mailbox<Request<u32, u32>>| {
///         while let Ok(request) = mailbox.receive() {
///             let twice = request.data() * 2;
///             request.reply(twice);
///         }
///     })
///     .unwrap();
///     assert_eq!(doubler.request(21).unwrap(), 42);
/// }
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct Request<T, U> {
    message: T,
    tag: Tag,
    sender: Process<U>,
}

impl<T, U> Request<T, U> {
    /// A message that wants no reply, in the form of one that does.
    pub(crate) fn without_reply(message: T) -> Self {
        Self {
            message,
            tag: Tag::NONE,
            sender: Process::this(),
        }
    }

    /// Takes it apart: what is asked, who asks, and what marks the reply.
    pub(crate) fn into_parts(self) -> (T, Process<U>, Tag) {
        (self.message, self.sender, self.tag)
    }
    /// Returns what is asked.
    pub fn data(&self) -> &T {
        &self.message
    }

    /// Returns what is asked, to be changed in place.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// Returns the process that asks.
    pub fn sender(&self) -> &Process<U> {
        &self.sender
    }

    /// Answers. A sender that gave up or died does not notice.
    ///
    /// # Panics
    ///
    /// Where the sender's mailbox cannot take the reply, as [`Process::send`].
    pub fn reply(self, reply: U)
    where
        U: Serialize,
    {
        self.sender.tag_send(self.tag, reply);
    }
}

/// Why a request got no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The time ran out. Should the reply still come, it is dropped.
    #[error("no reply came in time")]
    Timeout,
    /// The process died before it replied. The reason is [`ExitReason::NoProcess`] where it was dead before it was asked.
    #[error("the process that was asked {0}")]
    Died(ExitReason),
    /// The wait would be for ever: nobody is left who could reply.
    #[error("nobody is left who could reply")]
    NobodyLeft,
    /// The request was not sent.
    #[error("the request was not sent: {0}")]
    NotSent(SendFailure),
    /// The reply is not of the expected type.
    #[error("the reply is not of the expected type: {0}")]
    DeserializationFailed(decode::Error),
}

impl<T: Serialize, U: DeserializeOwned> Process<Request<T, U>> {
    /// Sends a request and waits for its reply. Other messages stay in the mailbox, in order.
    ///
    /// The wait ends also when the process dies, whoever else may hold the request by then.
    ///
    /// # Errors
    ///
    /// Each variant of [`RequestError`] but the timeout.
    ///
    /// # Panics
    ///
    /// Where a process asks itself.
    pub fn request(&self, message: T) -> Result<U, RequestError> {
        self.ask(message, lunatic_abi::FOREVER)
    }

    /// Sends a request and waits for its reply as [`request`](Self::request) does, for so long. Time counts in
    /// milliseconds, rounded up.
    ///
    /// A reply that comes too late is never taken for the reply of a later request, nor for a message.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{Process, Request, RequestError};
    /// use std::time::Duration;
    ///
    /// fn ask(oracle: Process<Request<String, String>>) -> Option<String> {
    ///     match oracle.request_timeout("when?".into(), Duration::from_millis(100)) {
    ///         Ok(answer) => Some(answer),
    ///         Err(RequestError::Timeout) => None,
    ///         Err(error) => panic!("{error}"),
    ///     }
    /// }
    /// ```
    pub fn request_timeout(&self, message: T, timeout: Duration) -> Result<U, RequestError> {
        self.ask(message, host::milliseconds(timeout))
    }

    pub(crate) fn ask(&self, message: T, timeout: u64) -> Result<U, RequestError> {
        drop_late_replies();
        let this = Process::<U>::this();
        assert!(
            this.id() != self.id(),
            "a process that asks itself would wait for ever"
        );
        let tag = Tag::new_reply();
        let awaited = Awaited::request(tag, self.id());
        let request = Request {
            message,
            tag,
            sender: this,
        };
        let reply = match self.post(Tag::NONE, &request) {
            Ok(()) => awaited.wait(timeout),
            Err(failure) => Err(RequestError::NotSent(failure)),
        };
        awaited.settle(&reply);
        reply
    }
}

/// A reply that a process owes, and its end in place of it. The reply has a tag, and the end is told with the same, so that
/// one receive waits for both.
#[derive(Debug)]
pub(crate) struct Awaited {
    tag: Tag,
    process: u64,
    /// Whether others may reply in the place of the process: it can pass a request on.
    from_others: bool,
}

impl Awaited {
    /// Watches a process that is to be sent a request.
    fn request(tag: Tag, process: u64) -> Self {
        // SAFETY: the call takes numbers.
        unsafe { host::process::monitor_tagged(tag.id(), process) };
        Self {
            tag,
            process,
            from_others: true,
        }
    }

    /// Watches a process that itself is to reply with this tag, which nobody else knows.
    pub(crate) fn report(tag: Tag, process: u64) -> Self {
        Self {
            from_others: false,
            ..Self::request(tag, process)
        }
    }

    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    pub(crate) fn process(&self) -> u64 {
        self.process
    }

    /// Lets receives of the mailbox run in the meantime. They find no reply, which is to be asked for first; what they find
    /// of the end is kept.
    pub(crate) fn keep(&self) {
        ENDS.with_borrow_mut(|ends| ends.insert(self.tag, None));
    }

    /// Returns why the process ended, where a receive of the mailbox found that.
    pub(crate) fn kept_end(&self) -> Option<ExitReason> {
        ENDS.with_borrow(|ends| ends.get(&self.tag).copied().flatten())
    }

    /// Waits for the reply. `timeout` is in milliseconds.
    pub(crate) fn wait<U: DeserializeOwned>(&self, timeout: u64) -> Result<U, RequestError> {
        if let Some(reason) = self.kept_end() {
            return Err(RequestError::Died(reason));
        }
        match first_reply(&[self.tag], timeout) {
            Ok((_, reply)) => reply,
            Err(error) => Err(error),
        }
    }

    /// Stops waiting: `reply` is what the wait brought. What may come yet is dropped.
    pub(crate) fn settle<U>(self, reply: &Result<U, RequestError>) {
        ENDS.with_borrow_mut(|ends| ends.remove(&self.tag));
        // SAFETY: the call takes numbers and returns one.
        let end_was_told =
            unsafe { host::process::stop_monitoring_tagged(self.tag.id(), self.process) == 0 };
        let may_come = match reply {
            Err(RequestError::Timeout | RequestError::NobodyLeft) => true,
            Err(RequestError::Died(_)) => self.from_others,
            _ => false,
        };
        // The reply may have come in the meantime.
        if may_come && drop_first(&[self.tag]).is_none() {
            // The dead reply to nobody.
            if self.from_others || !end_was_told {
                LATE.with_borrow_mut(|late| late.give_up(self.tag));
            }
        } else if end_was_told {
            // The process died after its reply.
            drop_first(&[self.tag]);
        }
    }
}

/// Waits for the first reply that has one of the tags, or for the end of a process that owes one, and returns its tag.
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
            None => arrival.open().map_err(RequestError::DeserializationFailed),
        };
        Ok((arrival.tag(), reply))
    })
}

/// Drops the first that has come with one of the tags, and returns its tag where it is a message and no death.
fn drop_first(tags: &[Tag]) -> Option<Tag> {
    envelope::receive(tags, 0, |delivery| match delivery {
        Delivery::Arrived(arrival) if arrival.signal().is_none() => Some(arrival.tag()),
        _ => None,
    })
}

thread_local! {
    static LATE: RefCell<Late> = const { RefCell::new(Late { expected: 0, tags: Vec::new() }) };
}

/// Replies that may still come although nobody waits for them.
struct Late {
    /// How many there may be. Bounds how often a receive begins anew, whatever others send.
    expected: u64,
    /// The tags of the last ones given up, which a request looks for, so that they do not fill the mailbox of a process
    /// that only ever asks.
    tags: Vec<Tag>,
}

/// How many tags of given-up requests are remembered. The replies to older ones are dropped when a receive meets them.
const REMEMBERED: usize = 64;

impl Late {
    fn give_up(&mut self, tag: Tag) {
        self.expected += 1;
        if self.tags.len() == REMEMBERED {
            self.tags.remove(0);
        }
        self.tags.push(tag);
    }

    /// Whether a message with this tag is a late reply, which then has come.
    fn takes(&mut self, tag: Tag) -> bool {
        if !tag.is_reply() || self.expected == 0 {
            return false;
        }
        self.expected -= 1;
        self.tags.retain(|given_up| *given_up != tag);
        true
    }
}

thread_local! {
    /// The ends that are awaited while receives of the mailbox run, and why, where one of them found that.
    static ENDS: RefCell<BTreeMap<Tag, Option<ExitReason>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether an end that a receive of the mailbox found is awaited elsewhere, and kept for that.
pub(crate) fn keeps(tag: Tag, reason: ExitReason) -> bool {
    ENDS.with_borrow_mut(|ends| match ends.get_mut(&tag) {
        Some(end) => {
            *end = Some(reason);
            true
        }
        None => false,
    })
}

/// Whether a message with this tag is to be dropped: a reply that nobody waits for any more.
pub(crate) fn discards(tag: Tag) -> bool {
    LATE.with_borrow_mut(|late| late.takes(tag))
}

/// Takes what has come of late replies out of the mailbox.
fn drop_late_replies() {
    loop {
        let tags = LATE.with_borrow(|late| late.tags.clone());
        if tags.is_empty() || !drop_first(&tags).is_some_and(discards) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reply_is_dropped_once() {
        let mut late = Late {
            expected: 0,
            tags: Vec::new(),
        };
        let tag = Tag::new_reply();
        assert!(!late.takes(tag), "nothing was given up");
        late.give_up(tag);
        assert!(!late.takes(Tag::new()), "a message's tag is no reply's");
        assert!(late.takes(tag));
        assert!(late.tags.is_empty());
        assert!(!late.takes(tag));
    }

    #[test]
    fn what_is_remembered_of_given_up_requests_is_bounded_and_what_is_dropped_is_not() {
        let mut late = Late {
            expected: 0,
            tags: Vec::new(),
        };
        let tags: Vec<Tag> = (0..1_000).map(|_| Tag::new_reply()).collect();
        for &tag in &tags {
            late.give_up(tag);
        }
        assert_eq!(late.tags, tags[1_000 - REMEMBERED..]);
        assert!(tags.iter().all(|&tag| late.takes(tag)));
        assert!(late.tags.is_empty());
    }

    #[test]
    fn forged_replies_do_not_keep_a_receive_waiting() {
        let mut late = Late {
            expected: 0,
            tags: Vec::new(),
        };
        late.give_up(Tag::new_reply());
        let forged = Tag::from_id(-1_000_000);
        assert!(late.takes(forged));
        assert!(!late.takes(forged), "one was given up, one is dropped");
    }
}
