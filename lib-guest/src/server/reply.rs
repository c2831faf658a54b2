//! Replies that a server owes its callers.

use crate::process::handle::Process;
use crate::reply;
use crate::request::Request;
use crate::tag::Tag;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// Answers a call at any later time, rather than when its handler returns. A `#[call]` function
/// takes the `Reply` as its last parameter and returns nothing.
///
/// A `Reply` can be kept in the server's state, or sent to another process, which then sends the
/// answer. If a `Reply` is dropped, the caller waits until its timeout expires or the server exits.
///
/// # Example
///
/// ```no_run
/// use lunatic::{Mailbox, Server};
/// use lunatic::server::Reply;
///
/// /// Lets callers wait until a door is open.
/// struct Door {
///     waiting: Vec<Reply<()>>,
/// }
///
/// #[lunatic::server]
/// impl Door {
///     #[init]
///     fn init() -> Self {
///         Door { waiting: Vec::new() }
///     }
///
///     #[call]
///     fn wait(&mut self, reply: Reply<()>) {
///         self.waiting.push(reply);
///     }
///
///     #[cast]
///     fn open(&mut self) {
///         for reply in self.waiting.drain(..) {
///             reply.send(());
///         }
///     }
/// }
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let door = Door::start(()).unwrap();
///     door.open_after(std::time::Duration::from_secs(1)).unwrap();
///     door.wait().unwrap();
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
#[must_use = "the caller is waiting for the answer"]
pub struct Reply<R>(UntypedReply, PhantomData<fn(R)>);

impl<R: Serialize> Reply<R> {
    /// Sends the answer. If the caller has given up or died, or its mailbox is full, the answer is
    /// dropped. If the caller's environment does not accept the answer, the call fails with
    /// [`RequestError::ReplyRefused`](crate::RequestError::ReplyRefused). In either case, the
    /// server continues.
    pub fn send(self, answer: R) {
        self.0.send(&answer);
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply to <{:x}>", self.0.caller.id())
    }
}

/// A [`Reply`] without the answer's type, which depends on the message.
#[doc(hidden)]
#[derive(Serialize, Deserialize)]
pub struct UntypedReply {
    caller: Process<()>,
    tag: Tag,
}

impl UntypedReply {
    /// Splits a request into its message and the reply that its sender is waiting for.
    pub(crate) fn to<T>(request: Request<T, ()>) -> (T, Self) {
        let (message, caller, tag) = request.into_parts();
        (message, Self { caller, tag })
    }

    pub(crate) fn send<R: Serialize>(&self, answer: &R) {
        reply::send(self.caller, self.tag, answer);
    }

    #[doc(hidden)]
    pub fn typed<R>(self) -> Reply<R> {
        Reply(self, PhantomData)
    }
}
