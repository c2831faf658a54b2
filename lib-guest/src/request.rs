//! A request is a message that wants a reply, and the wait for it.

use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::{ExitReason, Signal};
use crate::process::{Process, SendFailure};
use crate::tag::Tag;
use rmp_serde::decode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
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
    /// The process died, or was dead before it was asked. The reason is [`ExitReason::NoProcess`] where the machine does
    /// not know it any more.
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

/// How long the first and the longest wait are after which a request looks whether the process still lives, in
/// milliseconds. The machine's word of a monitored process's end cannot be waited for together with a tag.
const FIRST_WAIT: u64 = 50;
const LONGEST_WAIT: u64 = 1_000;

impl<T: Serialize, U: DeserializeOwned> Process<Request<T, U>> {
    /// Sends a request and waits for its reply. Other messages stay in the mailbox, in order.
    ///
    /// Where the process is dead, or dies before it replied, this returns within a second.
    ///
    /// # Errors
    ///
    /// Each variant of [`RequestError`] but the timeout.
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

    fn ask(&self, message: T, timeout: u64) -> Result<U, RequestError> {
        drop_late_replies();
        if !self.is_alive() {
            return Err(RequestError::Died(ExitReason::NoProcess));
        }
        let tag = Tag::new_reply();
        // SAFETY: the call takes nothing and returns a number.
        let this = unsafe { host::process::process_id() };
        let request = Request { message, tag, sender: Process::<U>::from_id(this) };
        self.post(Tag::NONE, &request).map_err(RequestError::NotSent)?;
        // A process that asks itself is alive for as long as it waits.
        let reply = if self.id() == this {
            await_reply(tag, timeout, timeout, || true)
        } else {
            await_reply(tag, timeout, FIRST_WAIT, || self.is_alive())
        };
        if let Err(RequestError::Timeout | RequestError::Died(_)) = reply {
            LATE.with_borrow_mut(|late| late.give_up(tag));
        }
        reply
    }
}

fn await_reply<U: DeserializeOwned>(
    tag: Tag,
    timeout: u64,
    first_wait: u64,
    is_alive: impl Fn() -> bool,
) -> Result<U, RequestError> {
    let mut remaining = timeout;
    let mut wait = first_wait;
    loop {
        let last = remaining <= wait;
        if let Some(reply) = take_reply(tag, wait.min(remaining)) {
            return reply;
        }
        if last {
            return Err(RequestError::Timeout);
        }
        if !is_alive() {
            // What it sent before it died is here by now.
            let died = || Err(RequestError::Died(ExitReason::NoProcess));
            return take_reply(tag, 0).unwrap_or_else(died);
        }
        if remaining != lunatic_abi::FOREVER {
            remaining -= wait;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Waits for a reply; `None` where time runs out.
fn take_reply<U: DeserializeOwned>(tag: Tag, timeout: u64) -> Option<Result<U, RequestError>> {
    envelope::receive(&[tag], timeout, |delivery| match delivery {
        Delivery::TimedOut => None,
        Delivery::NobodyLeft => Some(Err(RequestError::NobodyLeft)),
        Delivery::DoesNotFit(header) => {
            let what = format!("its {} bytes do not fit the memory of this process", header.length);
            let error = decode::Error::Uncategorized(what);
            Some(Err(RequestError::DeserializationFailed(error)))
        }
        Delivery::Arrived(header, data) => match Signal::from_arrival(&header, data) {
            Some(signal) => Some(Err(RequestError::Died(signal.reason))),
            None => {
                let reply = envelope::open(data, header.resources);
                Some(reply.map_err(RequestError::DeserializationFailed))
            }
        },
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

/// Whether a message with this tag is to be dropped: a reply that nobody waits for any more.
pub(crate) fn discards(tag: Tag) -> bool {
    LATE.with_borrow_mut(|late| late.takes(tag))
}

/// Takes what has come of late replies out of the mailbox.
fn drop_late_replies() {
    loop {
        let tags = LATE.with_borrow(|late| late.tags.clone());
        if tags.is_empty() {
            return;
        }
        let dropped = envelope::receive(&tags, 0, |delivery| match delivery {
            Delivery::Arrived(header, _) | Delivery::DoesNotFit(header) => discards(Tag::from_id(header.tag)),
            Delivery::TimedOut | Delivery::NobodyLeft => false,
        });
        if !dropped {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reply_is_dropped_once() {
        let mut late = Late { expected: 0, tags: Vec::new() };
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
        let mut late = Late { expected: 0, tags: Vec::new() };
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
        let mut late = Late { expected: 0, tags: Vec::new() };
        late.give_up(Tag::new_reply());
        let forged = Tag::from_id(-1_000_000);
        assert!(late.takes(forged));
        assert!(!late.takes(forged), "one was given up, one is dropped");
    }
}
