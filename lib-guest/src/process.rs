//! Spawning processes, and handles to them.
//!
//! [`spawn`] and its variants start a process that runs a function of this program; a [`Builder`]
//! offers more options. A [`Process`] is a handle to a process.

pub(crate) mod builder;
pub(crate) mod failure;
pub(crate) mod handle;
pub(crate) mod monitors;
mod shutdown;

pub use builder::{Builder, Linked, SpawnError};
pub use failure::{SendError, SendFailure};
pub use handle::Process;

use crate::environment::Environment;
use crate::error::LunaticError;
use crate::host;
use crate::mailbox::{LinkMailbox, Mailbox, TransformMailbox};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Returns a handle to the current process, which owns this mailbox.
pub fn this<T, U: TransformMailbox<T>>(_mailbox: &U) -> Process<T> {
    Process::this()
}

/// Returns the environment of the current process.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<String>) {
///     let this = process::this(&mailbox);
///     process::this_env().register("log", "1.0.0", this).unwrap();
/// }
/// ```
pub fn this_env() -> Environment {
    Environment::own()
}

/// Suspends the current process for the given number of milliseconds. Other processes keep running.
pub fn sleep(milliseconds: u64) {
    host::process::sleep_ms(milliseconds);
}

/// Spawns a process that runs `function` with the current process's rights.
///
/// Processes share no memory, so `function` must be a function of this program or a closure that
/// captures nothing. To also pass a value, use [`spawn_with`].
///
/// Output is written line by line; any unfinished line is written when the function returns. If a
/// process traps or is killed, its unfinished line is lost.
///
/// # Errors
///
/// Fails if one of the environment's limits is reached, or if this process may not spawn processes.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let greeter = process::spawn(|mailbox: Mailbox<String>| {
///         println!("Hello {}!", mailbox.receive().unwrap());
///     })
///     .unwrap();
///     greeter.monitor();
///     greeter.send("world".into());
/// }
/// ```
pub fn spawn<T>(function: fn(Mailbox<T>)) -> Result<Process<T>, LunaticError> {
    Builder::new().spawn(function)
}

/// Like [`spawn`], but also passes a value to the function.
///
/// The value is in the new process's mailbox before the process runs. If the value cannot be
/// delivered, the process is not spawned. This calls the host function
/// `lunatic::environment::spawn`; spawning without a value calls `lunatic::process::spawn`.
///
/// # Errors
///
/// Fails like [`spawn`]. Also fails if the value cannot be sent; the error then has the same kind
/// as the [`SendFailure`].
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<u64>) {
///     let this = process::this(&mailbox);
///     for number in 0..10u64 {
///         process::spawn_with((this, number), |(parent, number), _: Mailbox<()>| {
///             parent.send(number * number);
///         })
///         .unwrap();
///     }
///     let sum: u64 = (0..10).map(|_| mailbox.receive().unwrap()).sum();
///     assert_eq!(sum, 285);
/// }
/// ```
pub fn spawn_with<C, T>(context: C, function: fn(C, Mailbox<T>)) -> Result<Process<T>, LunaticError>
where
    C: Serialize + DeserializeOwned,
{
    Builder::new().spawn_with(context, function)
}

/// Spawns a process linked to the current process. If the new process fails, the current process
/// receives a signal.
///
/// The link exists before the new process runs. A normal exit sends no signal; to be notified of
/// normal exits, use [`Process::monitor`].
///
/// # Errors
///
/// Fails like [`spawn`]. The error contains the mailbox.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<()>) {
///     let (child, mailbox) = process::spawn_link(mailbox, |_: Mailbox<()>| panic!("on purpose")).unwrap();
///     let message = mailbox.receive();
///     assert_eq!(message.signal().unwrap().pid, child.id());
/// }
/// ```
pub fn spawn_link<T, P, M>(mailbox: M, function: fn(Mailbox<T>)) -> Linked<T, LinkMailbox<P>>
where
    M: TransformMailbox<P>,
{
    Builder::new().linked(mailbox.catch_link_panic(), |builder| {
        builder.spawn(function)
    })
}

/// Like [`spawn_link`], but also passes a value to the function.
pub fn spawn_link_with<C, T, P, M>(
    mailbox: M,
    context: C,
    function: fn(C, Mailbox<T>),
) -> Linked<T, LinkMailbox<P>>
where
    C: Serialize + DeserializeOwned,
    M: TransformMailbox<P>,
{
    Builder::new().linked(mailbox.catch_link_panic(), |builder| {
        builder.spawn_with(context, function)
    })
}

/// Spawns a process linked to the current process. If either fails, the other dies too.
pub fn spawn_link_unwrap<T, P, M>(mailbox: M, function: fn(Mailbox<T>)) -> Linked<T, Mailbox<P>>
where
    M: TransformMailbox<P>,
{
    Builder::new().linked(mailbox.panic_if_link_panics(), |builder| {
        builder.spawn(function)
    })
}

/// Like [`spawn_link_unwrap`], but also passes a value to the function.
pub fn spawn_link_unwrap_with<C, T, P, M>(
    mailbox: M,
    context: C,
    function: fn(C, Mailbox<T>),
) -> Linked<T, Mailbox<P>>
where
    C: Serialize + DeserializeOwned,
    M: TransformMailbox<P>,
{
    Builder::new().linked(mailbox.panic_if_link_panics(), |builder| {
        builder.spawn_with(context, function)
    })
}
