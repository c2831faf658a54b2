//! A server's main loop.

use super::reply::UntypedReply;
use crate::entry::EntryPoint;
use crate::mailbox::{Mailbox, TransformMailbox};
use crate::message::{Message, ReceiveError, Signal, SignalKind};
use crate::request::Request;
use crate::start::{self, Handshake};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;

/// How a server handles messages and signals. [`#[lunatic::server]`](macro@crate::server)
/// implements this trait.
pub trait Behaviour: Sized + 'static {
    /// The argument for `#[init]`: its only parameter, a tuple of its parameters, or `()`.
    type Argument: Serialize + DeserializeOwned;

    /// The messages that clients send: an enum with one variant for each call and cast.
    #[doc(hidden)]
    type Message: Serialize + DeserializeOwned;

    /// True if the server has a `#[signal]`.
    #[doc(hidden)]
    const TAKES_SIGNALS: bool;

    /// True if the server has a `#[terminate]`.
    #[doc(hidden)]
    const TERMINATES: bool;

    #[doc(hidden)]
    fn __init(argument: Self::Argument) -> Result<Self, String>;

    #[doc(hidden)]
    fn __handle(&mut self, message: Self::Message, reply: UntypedReply);

    #[doc(hidden)]
    fn __signal(&mut self, signal: Signal);

    #[doc(hidden)]
    fn __terminate(self);
}

thread_local! {
    /// The status to exit with, once a handler has called [`stop`].
    static STATUS: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Stops the calling server after the current handler. The handler's answer is still sent, and
/// `#[terminate]` is called.
///
/// With status 0, the server exits normally. Any other status is a failure, which is reported to
/// linked processes and to the server's supervisor as
/// [`ExitReason::Status`](crate::ExitReason::Status).
///
/// # Example
///
/// ```no_run
/// use lunatic::server;
///
/// struct Countdown(u32);
///
/// #[lunatic::server]
/// impl Countdown {
///     #[init]
///     fn init(from: u32) -> Self {
///         Countdown(from)
///     }
///
///     #[call]
///     fn next(&mut self) -> u32 {
///         self.0 = self.0.saturating_sub(1);
///         if self.0 == 0 {
///             server::stop(0);
///         }
///         self.0
///     }
/// }
/// ```
pub fn stop(status: i32) {
    STATUS.set(Some(status));
}

/// Why a server stops.
enum StopReason {
    /// The server was asked to exit, or no process is left that could send it a message.
    Asked,
    /// A handler called [`stop`].
    Stopped(i32),
    /// A process linked to the server failed, and the server has no `#[signal]` to handle that.
    LinkDied(u64),
}

/// Returns the entry point for a server's process. The process must be spawned with the server's
/// argument.
pub(crate) fn entry<S: Behaviour>() -> EntryPoint {
    let serve: fn(_, _) = serve::<S>;
    EntryPoint::new(serve)
}

fn serve<S: Behaviour>(
    (handshake, argument): (Handshake, S::Argument),
    mailbox: Mailbox<Request<S::Message, ()>>,
) {
    if !handshake.begin() {
        return;
    }
    let mut state = match S::__init(argument) {
        Ok(state) => state,
        Err(why) => return handshake.refused(why),
    };
    // Failures are not caught before this point, because a parent's failure must not sit in the
    // mailbox while `#[init]` is waiting for something.
    let reason = if S::TAKES_SIGNALS || S::TERMINATES {
        let mailbox = mailbox.catch_link_panic();
        handshake.started();
        answer(&mut state, || mailbox.receive())
    } else {
        handshake.started();
        answer(&mut state, || receive(&mailbox))
    };
    state.__terminate();
    match reason {
        StopReason::Asked | StopReason::Stopped(0) => {}
        StopReason::Stopped(status) => std::process::exit(status),
        StopReason::LinkDied(process) => start::die_with(process),
    }
}

/// Receives from a mailbox whose process dies when a linked process fails.
fn receive<T: DeserializeOwned>(mailbox: &Mailbox<T>) -> Message<T> {
    match mailbox.receive() {
        Err(ReceiveError::Signal(signal)) => Message::Signal(signal),
        message => Message::Normal(message),
    }
}

/// Handles everything that arrives until the server has to stop.
fn answer<S: Behaviour>(
    state: &mut S,
    receive: impl Fn() -> Message<Request<S::Message, ()>>,
) -> StopReason {
    loop {
        // `#[init]` may have called `stop`.
        if let Some(status) = STATUS.take() {
            return StopReason::Stopped(status);
        }
        match receive() {
            Message::Normal(Ok(request)) => {
                let (message, reply) = UntypedReply::to(request);
                state.__handle(message, reply);
            }
            Message::Normal(Err(ReceiveError::Shutdown | ReceiveError::NobodyLeft)) => {
                return StopReason::Asked;
            }
            // Any process can send any message. Messages that are not for this server are ignored.
            Message::Normal(Err(_)) => {}
            Message::Signal(signal) => {
                let is_parent = start::parent() == Some(signal.pid);
                match signal.kind {
                    SignalKind::LinkDied if is_parent || !S::TAKES_SIGNALS => {
                        return StopReason::LinkDied(signal.pid);
                    }
                    _ => state.__signal(signal),
                }
            }
        }
    }
}
