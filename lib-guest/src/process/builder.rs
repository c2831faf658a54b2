//! Spawns processes. All host calls that spawn a process are in this file.

use super::failure::SendFailure;
use super::handle::Process;
use crate::entry::{EXPORT, EntryPoint};
use crate::envelope;
use crate::environment::Environment;
use crate::error::LunaticError;
use crate::host;
use crate::mailbox::Mailbox;
use crate::tag::{CONTEXT, Tag};
use lunatic_abi::OWN;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;

/// Spawns processes with more options than [`spawn`](super::spawn): an environment, and a link with
/// a given tag.
///
/// By default, the new process has the rights of the spawning process and is not linked to it. A
/// builder can be copied and used any number of times.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Config, Environment, ExitReason, Limit, LunaticError};
/// use lunatic::{Mailbox, Tag, TransformMailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<()>) -> Result<(), LunaticError> {
///     let mailbox = mailbox.catch_link_panic();
///     // 17 pages of memory, and one unit of compute.
///     let small = Environment::new(Config::new(1_200_000, Some(1)))?;
///     let tag = Tag::new();
///     process::Builder::new()
///         .environment(&small)
///         .link(tag)
///         .spawn(|_: Mailbox<()>| loop {})?;
///     let message = mailbox.tag_receive(&[tag]);
///     let signal = message.signal().expect("only the link has this tag");
///     assert_eq!(signal.reason, ExitReason::Limit(Some(Limit::Compute)));
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is spawned until `spawn` or `spawn_with` is called"]
pub struct Builder<'a> {
    environment: u64,
    module: u64,
    link: Tag,
    // The machine drops an environment along with its last handle, so the builder borrows the
    // handle.
    borrowed: PhantomData<&'a Environment>,
}

impl<'a> Builder<'a> {
    /// Creates a builder whose processes have this process's rights and are not linked to it.
    pub const fn new() -> Self {
        Self {
            environment: OWN,
            module: OWN,
            link: Tag::NONE,
            borrowed: PhantomData,
        }
    }

    /// Sets the environment that the process runs in. The default is the spawning process's
    /// environment.
    ///
    /// A process spawned with a value receives the value as a message, so this environment must
    /// allow `lunatic::message::`. A process spawned without a value doesn't call any host
    /// functions before its own function runs.
    pub fn environment(mut self, environment: &'a Environment) -> Self {
        self.environment = environment.id();
        self
    }

    /// Links the process to the spawning process before it runs. By default, or with [`Tag::NONE`],
    /// the process is not linked.
    ///
    /// If the process fails, the effect depends on the spawning process's mailbox at that time:
    /// with a [`Mailbox`], the spawning process dies too; with a
    /// [`LinkMailbox`](crate::LinkMailbox), it receives a signal with the tag.
    pub fn link(mut self, tag: Tag) -> Self {
        self.link = tag;
        self
    }

    /// Sets the module by its id. The default is this process's module.
    pub(crate) fn module(mut self, module: u64) -> Self {
        self.module = module;
        self
    }

    /// Spawns a process like [`process::spawn`](super::spawn()).
    ///
    /// # Errors
    ///
    /// Fails if one of the environment's limits is reached, or if this process may not spawn
    /// processes.
    pub fn spawn<T>(self, function: fn(Mailbox<T>)) -> Result<Process<T>, LunaticError> {
        self.spawn_export(EXPORT, &EntryPoint::new(function).parameters())
    }

    /// Spawns a process like [`process::spawn_with`](super::spawn_with).
    ///
    /// # Errors
    ///
    /// Fails like [`spawn`](Self::spawn), and if the value cannot be sent.
    pub fn spawn_with<C, T>(
        self,
        context: C,
        function: fn(C, Mailbox<T>),
    ) -> Result<Process<T>, LunaticError>
    where
        C: Serialize + DeserializeOwned,
    {
        self.spawn_entry(&context, &EntryPoint::new(function))
    }

    /// Spawns a process that starts at an entry point and whose first message is a context.
    pub(crate) fn spawn_entry<C: Serialize, T>(
        self,
        context: &C,
        entry: &EntryPoint,
    ) -> Result<Process<T>, LunaticError> {
        envelope::seal(context, |bytes, sockets| {
            self.spawn_with_message(EXPORT, &entry.parameters(), CONTEXT, bytes, sockets)
        })
        .map_err(SendFailure::SerializationFailed)?
    }

    /// Spawns a process that starts at an exported function.
    pub(crate) fn spawn_export<T>(
        self,
        function: &str,
        parameters: &[u8],
    ) -> Result<Process<T>, LunaticError> {
        if (self.environment, self.module) != (OWN, OWN) {
            return self.spawn_with_message(function, parameters, Tag::NONE, &[], &[]);
        }
        // Unlike the call in `spawn_with_message`, this call works even in an environment that
        // grants only `lunatic::process::`.
        LunaticError::or_value(|process| {
            host::process::spawn(self.link.id(), OWN, OWN, function, parameters, process)
        })
        .map(Process::from_id)
    }

    /// Spawns a process that starts at an exported function. Sends it a first message unless the
    /// tag is [`Tag::NONE`].
    fn spawn_with_message<T>(
        self,
        function: &str,
        parameters: &[u8],
        tag: Tag,
        bytes: &[u8],
        sockets: &[u64],
    ) -> Result<Process<T>, LunaticError> {
        LunaticError::or_value(|process| {
            host::environment::spawn(
                self.environment,
                self.module,
                self.link.id(),
                function,
                parameters,
                tag.id(),
                bytes,
                sockets,
                process,
            )
        })
        .map(Process::from_id)
    }

    /// Spawns a linked process with a new tag. `mailbox` is returned unchanged. The caller has to
    /// convert it to the right kind before the link exists, because the mailbox determines what
    /// happens if the process fails.
    pub(crate) fn linked<T, M>(
        self,
        mailbox: M,
        spawn: impl FnOnce(Self) -> Result<Process<T>, LunaticError>,
    ) -> Linked<T, M> {
        match spawn(self.link(Tag::new())) {
            Ok(process) => Ok((process, mailbox)),
            Err(error) => Err(SpawnError { mailbox, error }),
        }
    }
}

impl Default for Builder<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The result of spawning a linked process: the process, and the spawning process's mailbox.
pub type Linked<T, M> = Result<(Process<T>, M), SpawnError<M>>;

/// Why a linked process was not spawned, and the spawning process's mailbox.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct SpawnError<M> {
    /// The mailbox.
    pub mailbox: M,
    /// Why the process was not spawned.
    #[source]
    pub error: LunaticError,
}

// Implemented manually so that `unwrap` works for every mailbox.
impl<M> fmt::Debug for SpawnError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Drops the mailbox, so that `?` works in a function that returns a [`LunaticError`].
impl<M> From<SpawnError<M>> for LunaticError {
    fn from(error: SpawnError<M>) -> Self {
        error.error
    }
}
