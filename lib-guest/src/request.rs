//! Requests: messages whose sender waits for a reply.

use crate::host;
use crate::process::handle::Process;
use crate::reply::{self, PendingReply, RequestError};
use crate::tag::Tag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
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
    /// Creates a request whose sender does not wait for a reply.
    pub(crate) fn without_reply(message: T) -> Self {
        Self {
            message,
            tag: Tag::NONE,
            sender: Process::this(),
        }
    }

    /// Returns the message, its sender, and the reply's tag.
    pub(crate) fn into_parts(self) -> (T, Process<U>, Tag) {
        (self.message, self.sender, self.tag)
    }

    /// Returns the message.
    pub fn data(&self) -> &T {
        &self.message
    }

    /// Returns a mutable reference to the message.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// Returns the process that sent the request.
    pub fn sender(&self) -> &Process<U> {
        &self.sender
    }

    /// Sends a reply. If the sender has given up or died, or its mailbox is full, the reply is
    /// dropped. If the sender's environment does not accept the reply, the request fails with
    /// [`RequestError::ReplyRefused`].
    pub fn reply(self, reply: U)
    where
        U: Serialize,
    {
        reply::send(Process::from_id(self.sender.id()), self.tag, &reply);
    }
}

impl<T: Serialize, U: DeserializeOwned> Process<Request<T, U>> {
    /// Sends a request and waits for the reply. Other messages stay in the mailbox, in order.
    ///
    /// Fails if the process dies before the reply arrives, even if it has passed the request on to
    /// another process.
    ///
    /// # Errors
    ///
    /// Returns any [`RequestError`] except a timeout.
    pub fn request(&self, message: T) -> Result<U, RequestError> {
        self.ask(message, lunatic_abi::FOREVER)
    }

    /// Like [`request`](Self::request), but waits for at most `timeout`, which is rounded up to
    /// whole milliseconds.
    ///
    /// A reply that arrives too late is dropped, and is never mistaken for a message or for the
    /// reply to another request.
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
        reply::drop_late_replies();
        let this = Process::<U>::this();
        // Another process may have sent this process a handle to itself.
        if this.id() == self.id() {
            return Err(RequestError::Itself);
        }
        let tag = Tag::new_reply();
        let pending = PendingReply::to_request(tag, self.id());
        let request = Request {
            message,
            tag,
            sender: this,
        };
        let reply = match self.post(Tag::NONE, &request) {
            Ok(()) => pending.wait(timeout),
            Err(failure) => Err(RequestError::NotSent(failure)),
        };
        pending.settle(&reply);
        reply
    }
}
