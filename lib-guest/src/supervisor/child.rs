//! A supervisor's children, and how they are started, restarted and stopped.

use super::rules::Restart;
use crate::entry::EntryPoint;
use crate::environment::Environment;
use crate::mailbox::Mailbox;
use crate::process::builder::Builder;
use crate::process::handle::Process;
use crate::server::run;
use crate::server::{Handle, Server};
use crate::start::{self, StartError, Started};
use crate::tag::Tag;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// How a supervisor stops a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Kills the child.
    Kill,
    /// Asks the child to exit, like [`Process::shutdown`], and kills it if it takes longer than
    /// this.
    Within(Duration),
    /// Asks the child to exit, and waits indefinitely.
    Unlimited,
}

/// Starts a process and waits until it has started. The wait ends early if a message with one of
/// the tags arrives.
type Start = Box<dyn Fn(&[Tag]) -> Result<Started, StartError>>;

/// A supervisor's child, and how it is started, restarted and stopped. `H` is the type of its
/// handle, such as a [`Process`].
pub struct Child<H = ()> {
    pub(super) id: String,
    start: Start,
    pub(super) restart: Restart,
    shutdown: Shutdown,
    registration: Option<(String, String)>,
    handle: PhantomData<fn() -> H>,
}

impl Child {
    /// Creates a child that runs a function, spawned like
    /// [`process::spawn`](crate::process::spawn()). The child is considered started as soon as it
    /// is spawned, and is stopped by [killing it](Shutdown::Kill).
    ///
    /// `id` identifies the child in the supervisor's output.
    pub fn process<T: 'static>(
        id: impl Into<String>,
        function: fn(Mailbox<T>),
    ) -> Child<Process<T>> {
        let start = move |_: &[Tag]| {
            let process = Builder::new().link(Tag::new()).spawn(function)?;
            Ok(Started::Running(process.id()))
        };
        Child::new(id.into(), start, Shutdown::Kill)
    }

    /// Creates a child that runs a function with a value, spawned like
    /// [`process::spawn_with`](crate::process::spawn_with). The child gets the same value each time
    /// it is started.
    pub fn process_with<C, T>(
        id: impl Into<String>,
        context: C,
        function: fn(C, Mailbox<T>),
    ) -> Child<Process<T>>
    where
        C: Serialize + DeserializeOwned + 'static,
        T: 'static,
    {
        let entry = EntryPoint::new(function);
        let start = move |_: &[Tag]| {
            let builder = Builder::new().link(Tag::new());
            let process: Process<T> = builder.spawn_entry(&context, &entry)?;
            Ok(Started::Running(process.id()))
        };
        Child::new(id.into(), start, Shutdown::Kill)
    }

    /// Creates a child that is a server. It gets the same argument each time it is started, and has
    /// 5 seconds to stop.
    pub fn server<S: Server>(id: impl Into<String>, argument: S::Argument) -> Child<Handle<S>>
    where
        S::Argument: 'static,
    {
        let start = move |interrupts: &[Tag]| {
            start::start_or(&argument, &run::entry::<S>(), true, interrupts)
        };
        Child::new(id.into(), start, Shutdown::Within(Duration::from_secs(5)))
    }
}

impl<H> Child<H> {
    pub(super) fn new(
        id: String,
        start: impl Fn(&[Tag]) -> Result<Started, StartError> + 'static,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            id,
            start: Box::new(start),
            restart: Restart::Permanent,
            shutdown,
            registration: None,
            handle: PhantomData,
        }
    }

    /// Sets which exits cause the child to be restarted. The default is [`Restart::Permanent`].
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how the child is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Registers the child under a name and a semantic version each time it is started. Clients
    /// should look up the name, because a restarted child is a different process. If the name is
    /// taken, the child fails to start.
    #[must_use]
    pub fn register(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.registration = Some((name.into(), version.into()));
        self
    }

    /// Erases the handle type.
    pub(super) fn erase(self) -> Child {
        let Self {
            id,
            start,
            restart,
            shutdown,
            registration,
            handle: _,
        } = self;
        Child {
            id,
            start,
            restart,
            shutdown,
            registration,
            handle: PhantomData,
        }
    }

    /// Starts the child and registers it.
    pub(super) fn begin(&self, interrupts: &[Tag]) -> Result<u64, NotStarted> {
        let process = match (self.start)(interrupts)? {
            Started::Running(process) => process,
            Started::Interrupted(process) => {
                self.end(process);
                return Err(NotStarted::Interrupted);
            }
        };
        let Some((name, version)) = &self.registration else {
            return Ok(process);
        };
        match Environment::own().register(name, version, Process::<()>::from_id(process)) {
            Ok(()) => Ok(process),
            Err(error) => {
                self.end(process);
                Err(NotStarted::Failed(StartError::NotRegistered(error)))
            }
        }
    }

    /// Stops the child's process, and waits until it has exited.
    pub(super) fn end(&self, process: u64) {
        let process = Process::<()>::from_id(process);
        let timeout = match self.shutdown {
            Shutdown::Kill => {
                process.kill();
                None
            }
            Shutdown::Within(time) => Some(time),
            Shutdown::Unlimited => None,
        };
        process.shutdown(timeout);
    }
}

impl<H> fmt::Debug for Child<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("registration", &self.registration)
            .finish_non_exhaustive()
    }
}

/// Why a child was not started.
pub(super) enum NotStarted {
    Failed(StartError),
    /// The supervisor has to stop.
    Interrupted,
}

impl From<StartError> for NotStarted {
    fn from(error: StartError) -> Self {
        Self::Failed(error)
    }
}
