//! The one way in which this library spawns processes.

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

/// Spawns processes with more choices than [`spawn`](super::spawn): in which environment, and
/// linked with which tag.
///
/// Without any choice made, a process gets the rights of the spawning one and is not linked with
/// it. A builder can be copied and used any number of times.
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
#[must_use = "nothing is spawned before `spawn` or `spawn_with` is called"]
pub struct Builder<'a> {
    environment: u64,
    module: u64,
    link: Tag,
    // The machine drops an environment with its last handle.
    borrowed: PhantomData<&'a Environment>,
}

impl<'a> Builder<'a> {
    /// Creates a builder whose processes have the rights of this process and are not linked with
    /// it.
    pub const fn new() -> Self {
        Self {
            environment: OWN,
            module: OWN,
            link: Tag::NONE,
            borrowed: PhantomData,
        }
    }

    /// Sets the environment that the process runs in. The default is that of the spawning process.
    ///
    /// A process spawned with a value receives it, so this environment has to allow
    /// `lunatic::message::`. One spawned without a value calls nothing in the machine before its
    /// function runs.
    pub fn environment(mut self, environment: &'a Environment) -> Self {
        self.environment = environment.id();
        self
    }

    /// Links the process with the spawning one before it runs. The default, also set by
    /// [`Tag::NONE`], is no link.
    ///
    /// What its failure does depends on the spawning process's mailbox at that time: with a
    /// [`Mailbox`] this process dies too, with a [`LinkMailbox`](crate::LinkMailbox) it receives a
    /// signal with the tag.
    pub fn link(mut self, tag: Tag) -> Self {
        self.link = tag;
        self
    }

    /// Sets the module, as the machine knows it. The default is the one that this process runs.
    pub(crate) fn module(mut self, module: u64) -> Self {
        self.module = module;
        self
    }

    /// Spawns a process that runs a function of this program, like
    /// [`process::spawn`](super::spawn()).
    ///
    /// # Errors
    ///
    /// Fails if a limit of the environment is reached, or if this process may not spawn processes.
    pub fn spawn<T>(self, function: fn(Mailbox<T>)) -> Result<Process<T>, LunaticError> {
        self.spawn_export(EXPORT, &EntryPoint::new(function).parameters())
    }

    /// Spawns a process that runs a function of this program with a value, like
    /// [`process::spawn_with`](super::spawn_with).
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

    /// Spawns a process at an entry point that begins by receiving a context.
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

    /// Spawns a process at an exported function.
    pub(crate) fn spawn_export<T>(
        self,
        function: &str,
        parameters: &[u8],
    ) -> Result<Process<T>, LunaticError> {
        if (self.environment, self.module) != (OWN, OWN) {
            return self.spawn_with_message(function, parameters, Tag::NONE, &[], &[]);
        }
        // An environment that grants `lunatic::process::` and no more grants this, and not what is
        // called below.
        let mut process = 0;
        // SAFETY: each address comes with the length of its slice, and the last one is that of a
        // variable.
        let result = unsafe {
            host::process::spawn(
                self.link.id(),
                OWN,
                OWN,
                function.as_ptr(),
                function.len(),
                parameters.as_ptr(),
                parameters.len(),
                &mut process,
            )
        };
        LunaticError::check(result, process).map(Process::from_id)
    }

    /// Spawns a process at an exported function, with a first message unless its tag is
    /// [`Tag::NONE`].
    fn spawn_with_message<T>(
        self,
        function: &str,
        parameters: &[u8],
        tag: Tag,
        bytes: &[u8],
        sockets: &[u64],
    ) -> Result<Process<T>, LunaticError> {
        let mut process = 0;
        // SAFETY: each address comes with the length of its slice, and the last one is that of a
        // variable.
        let result = unsafe {
            host::environment::spawn(
                self.environment,
                self.module,
                self.link.id(),
                function.as_ptr(),
                function.len(),
                parameters.as_ptr(),
                parameters.len(),
                tag.id(),
                bytes.as_ptr(),
                bytes.len(),
                sockets.as_ptr(),
                sockets.len(),
                &mut process,
            )
        };
        LunaticError::check(result, process).map(Process::from_id)
    }

    /// Spawns a process linked with a new tag. `mailbox` decides what its failure does, and is
    /// passed through: it has to be what it should be before there is a link.
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

/// What spawning a linked process returns: the process, and the mailbox of the one that spawned it.
pub type Linked<T, M> = Result<(Process<T>, M), SpawnError<M>>;

/// Why a linked process was not spawned, and the mailbox of the one that tried to.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct SpawnError<M> {
    /// The mailbox.
    pub mailbox: M,
    /// Why nothing was spawned.
    #[source]
    pub error: LunaticError,
}

// Not derived, so that `unwrap` works for every mailbox.
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
