//! The main loop of a server's process.

use super::reply::UntypedReply;
use crate::entry::EntryPoint;
use crate::mailbox::{Mailbox, TransformMailbox};
use crate::message::{Message, ReceiveError, Signal, SignalKind};
use crate::request::Request;
use crate::start::{self, Handshake};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;

/// How a server handles what it receives. [`#[lunatic::server]`](macro@crate::server) implements
/// this.
pub trait Behaviour: Sized + 'static {
    /// The argument of `#[init]`: its parameter, a tuple of several parameters, or `()`.
    type Argument: Serialize + DeserializeOwned;

    /// The messages that clients send, with one variant for each call and each cast.
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
    /// The status with which the server ends, once a handler has called [`stop`].
    static STATUS: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Ends the calling server after the current handler: the handler's answer is still sent, and
/// `#[terminate]` is called.
///
/// With status 0, the server ends normally. Any other status is a failure, which is reported to the
/// server's links and supervisor as [`ExitReason::Status`](crate::ExitReason::Status).
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

/// Why a server ends.
enum StopReason {
    /// The server was asked to end, or no process is left that could send a message to it.
    Asked,
    /// A handler called [`stop`].
    Stopped(i32),
    /// A process linked with the server failed, and no `#[signal]` handles the failure.
    LinkDied(u64),
}

/// Returns the entry point of a server's process, which is spawned with the server's argument.
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
    // This is not done earlier, because a failure of the parent must not wait in the mailbox while
    // `#[init]` waits for something.
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

/// Handles everything that arrives until the server has to end.
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
            // Any process can send any message. A message that is not meant for this server is
            // ignored.
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
