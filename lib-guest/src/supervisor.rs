//! Supervisors: processes that start child processes and restart them when they fail.
//!
//! A process that hits an unhandled fault dies and loses its state; its replacement starts from a
//! known good state. This lets a program survive unanticipated faults. A supervisor does nothing
//! except start, restart and stop processes, so it has little reason to fail itself.
//!
//! ```no_run
//! use lunatic::supervisor::{Child, Strategy, Supervisor};
//! use lunatic::{Mailbox, process};
//! use std::time::Duration;
//!
//! # struct Counter;
//! # #[lunatic::server]
//! # impl Counter {
//! #     #[init]
//! #     fn init(_count: u32) -> Self { Counter }
//! # }
//! #[lunatic::main]
//! fn main(mailbox: Mailbox<()>) {
//!     Supervisor::start_link(|plan| {
//!         plan.strategy(Strategy::OneForAll)
//!             .intensity(3, Duration::from_secs(5))
//!             .child(Child::server::<Counter>("counter", 0).register("visits", "1.0.0"))
//!             .child(Child::process("clock", |_: Mailbox<()>| loop {
//!                 process::sleep(1_000);
//!                 println!("tick");
//!             }));
//!     })
//!     .unwrap();
//!     let _ = mailbox.receive();
//! }
//! ```
//!
//! # Rules
//!
//! The rules and terms are those of Erlang's
//! [supervisor](https://www.erlang.org/doc/apps/stdlib/supervisor.html).
//!
//! * Children are started one after another, in the order of the plan. A server has started when
//!   its `#[init]` has returned, and a supervisor when all its children have started. Children are
//!   stopped in reverse order. If a child does not start, the children before it are stopped, and
//!   the supervisor does not start.
//! * When a child exits, its [`Restart`] determines whether it is restarted, and the [`Strategy`]
//!   determines which other children are restarted.
//! * If there are more restarts than the [intensity](Plan::intensity) allows, the supervisor gives
//!   up: it stops all children, writes the reason to standard error, and exits with status 1,
//!   leaving the decision to its own supervisor. A failed restart counts as a restart.
//! * A child is linked to its supervisor before it runs. No child outlives its supervisor, not even
//!   one that is still starting.
//!
//! Unlike in Erlang, restarts can be [delayed](Plan::back_off). Erlang's `auto_shutdown` and
//! `restart_child` are not available.
//!
//! A supervisor writes a line to standard error for each of the first 100 restarts. It reads the
//! clock with `wasi_snapshot_preview1::clock_time_get`, and writes with
//! `wasi_snapshot_preview1::fd_write`. Each child that fails causes two signals, which are queued
//! in the supervisor's mailbox. [`max_mailbox_messages`](crate::Config::max_mailbox_messages)
//! limits the number of queued messages.

mod child;
mod command;
mod plan;
mod rules;
mod run;

pub use child::{Child, Shutdown};
pub use command::{ChildInfo, Count};
pub use plan::{Plan, Template};
pub use rules::{Restart, Strategy};

use crate::entry::EntryPoint;
use crate::message::ExitReason;
use crate::process::handle::Process;
use crate::reply::RequestError;
use crate::request::Request;
use crate::start::{self, StartError};
use crate::tag::Tag;
use command::Command;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A handle to a supervisor, which can be copied, compared, and sent to other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Supervisor {
    process: Process<()>,
}

impl Supervisor {
    /// Starts a supervisor in its own process, and waits until all children have started.
    ///
    /// `tree` defines the children, and runs in the supervisor's process. It must be a function of
    /// this program or a closure that captures nothing.
    ///
    /// # Errors
    ///
    /// If a child does not start, returns [`StartError::Refused`] with the child's id and the
    /// reason.
    pub fn start(tree: fn(&mut Plan)) -> Result<Self, StartError> {
        start::start((), &EntryPoint::new(tree), false).map(Self::from_id)
    }

    /// Like [`start`](Self::start), but links the supervisor to this process. When the supervisor
    /// gives up, this process fails too or receives a signal. When this process exits, the
    /// supervisor stops its children and itself.
    pub fn start_link(tree: fn(&mut Plan)) -> Result<Self, StartError> {
        start::start((), &EntryPoint::new(tree), true).map(Self::from_id)
    }

    fn from_id(id: u64) -> Self {
        Self {
            process: Process::from_id(id),
        }
    }

    /// Returns the supervisor's process, for linking, monitoring or killing it.
    pub fn process(&self) -> Process<()> {
        self.process
    }

    /// Asks the supervisor to stop its children, beginning with the last one, and then itself.
    /// Waits for it to exit, and returns the exit reason.
    pub fn stop(&self) -> ExitReason {
        self.process.shutdown(None)
    }

    /// Starts another child from an argument and one of the plan's [`Template`]s, and returns a
    /// handle to the child.
    ///
    /// The supervisor keeps the argument for restarts. If the argument contains a connection, the
    /// connection stays open for as long as the supervisor keeps the child. A child that exits and
    /// is not restarted is forgotten.
    ///
    /// # Errors
    ///
    /// Fails like [`start`](Self::start). Also returns [`StartError::Refused`] if the plan does not
    /// contain the template, or if the supervisor does not answer.
    pub fn start_child<A, H>(&self, template: Template<A, H>, argument: A) -> Result<H, StartError>
    where
        A: Serialize,
        H: DeserializeOwned,
    {
        let command = Command::Start {
            template: template.name.to_owned(),
        };
        match self.ask::<A, Result<H, String>>(command, argument) {
            Ok(Ok(handle)) => Ok(handle),
            Ok(Err(why)) => Err(StartError::Refused(why)),
            Err(error) => Err(StartError::Refused(format!(
                "the supervisor did not start the child: {error}"
            ))),
        }
    }

    /// Stops a child as specified by its [`Shutdown`]. The child is not restarted, except when a
    /// group that contains it is. Returns false if the process is not one of the children.
    ///
    /// # Errors
    ///
    /// Fails if the supervisor does not answer.
    pub fn terminate_child<T>(&self, child: Process<T>) -> Result<bool, RequestError> {
        self.ask(
            Command::Terminate {
                process: child.id(),
            },
            (),
        )
    }

    /// Returns the children in the order in which they were started, like Erlang's
    /// `which_children`.
    ///
    /// # Errors
    ///
    /// Fails if the supervisor does not answer, including when the answer would be too large for a
    /// message.
    pub fn children(&self) -> Result<Vec<ChildInfo>, RequestError> {
        self.ask(Command::Children, ())
    }

    /// Counts the children.
    ///
    /// # Errors
    ///
    /// Fails if the supervisor does not answer.
    pub fn count(&self) -> Result<Count, RequestError> {
        self.ask(Command::Count, ())
    }

    fn ask<A: Serialize, R: DeserializeOwned>(
        &self,
        command: Command,
        argument: A,
    ) -> Result<R, RequestError> {
        let process = Process::<Request<(Command, A), R>>::from_id(self.process.id());
        process.request((command, argument))
    }
}

impl Child {
    /// Creates a child that is itself a supervisor, with [unlimited](Shutdown::Unlimited) time to
    /// stop its own children.
    pub fn supervisor(id: impl Into<String>, tree: fn(&mut Plan)) -> Child<Supervisor> {
        let start =
            move |interrupts: &[Tag]| start::start_or((), &EntryPoint::new(tree), true, interrupts);
        Child::new(id.into(), start, Shutdown::Unlimited)
    }
}
