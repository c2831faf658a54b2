//! A task is a function that runs in a process of its own, and whose result is waited for.

use crate::LunaticError;
use crate::entry::Entry;
use crate::host;
use crate::message::ExitReason;
use crate::process::Process;
use crate::request::{Awaited, RequestError, first_reply};
use crate::start::{self, Birth};
use crate::tag::{Tag, WANTED};
use rmp_serde::decode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// A function that runs in a process of its own, and whose result of type `R` this process waits for.
///
/// Tasks that were spawned run at the same time, on all cores. A task that fails harms nobody: its failure is the error
/// that [`result`](Self::result) returns. Dropping a task kills it; [`detach`](Self::detach) lets it go on.
///
/// Only dropping does: a process that is killed or traps drops nothing, and its tasks run to their end. A task keeps its
/// result, and its process, until it is asked for.
///
/// # Example
///
/// ```no_run
/// use lunatic::{Mailbox, Task};
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let sum = Task::spawn(0..1_000_000u64, |range| range.sum::<u64>()).unwrap();
///     let length = Task::spawn("a text".to_string(), |text| text.len()).unwrap();
///     println!("{} {}", sum.result().unwrap(), length.result().unwrap());
/// }
/// ```
#[must_use = "a task that is dropped is killed"]
pub struct Task<R> {
    /// `None` once the result was waited for, or nobody wants it.
    awaited: Option<Awaited>,
    /// Whether the result was asked for, and may be on its way.
    is_asked: bool,
    result: PhantomData<fn() -> R>,
}

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The time ran out; the task was killed.
    #[error("the task took too long")]
    Timeout,
    /// The task's process ended without a result. Where it exited with status 0, that is [`ExitReason::Normal`].
    #[error("the task has no result: its process {0}")]
    Failed(ExitReason),
    /// The result is nested too deep, or does not fit the memory of this process.
    #[error("the task's result cannot be read: {0}")]
    DeserializationFailed(decode::Error),
}

impl<R: Serialize + DeserializeOwned> Task<R> {
    /// Spawns a process that calls the function with a value, and has this process's rights.
    ///
    /// The function is one of the program, or a closure that captures nothing: what it works on is the value, a tuple
    /// where it is more than one.
    ///
    /// # Errors
    ///
    /// A limit of the environment, that it does not let its processes spawn, or that the value cannot be sent.
    pub fn spawn<C>(context: C, function: fn(C) -> R) -> Result<Self, LunaticError>
    where
        C: Serialize + DeserializeOwned,
    {
        let awaited = start::spawn(context, &Entry::task(function), false)?;
        awaited.keep();
        Ok(Self {
            awaited: Some(awaited),
            is_asked: false,
            result: PhantomData,
        })
    }
}

impl<R: DeserializeOwned> Task<R> {
    /// Waits for the result. Messages stay in the mailbox, in order.
    ///
    /// # Errors
    ///
    /// [`TaskError::Failed`] and [`TaskError::DeserializationFailed`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{ExitReason, Mailbox, Task, TaskError};
    ///
    /// #[lunatic::main]
    /// fn main(_: Mailbox<()>) {
    ///     let task = Task::spawn(0, |divisor| 100 / divisor).unwrap();
    ///     assert!(matches!(task.result(), Err(TaskError::Failed(ExitReason::Trapped))));
    /// }
    /// ```
    pub fn result(self) -> Result<R, TaskError> {
        self.wait(lunatic_abi::FOREVER)
    }

    /// Waits for the result as [`result`](Self::result) does, for so long; then kills the task. Time counts in
    /// milliseconds, rounded up.
    pub fn result_timeout(self, timeout: Duration) -> Result<R, TaskError> {
        self.wait(host::milliseconds(timeout))
    }

    /// Waits for the results of several tasks, and returns them in the order of the tasks.
    ///
    /// # Errors
    ///
    /// The failure that comes first; the other tasks are killed then.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{Mailbox, Task, TaskError};
    ///
    /// #[lunatic::main]
    /// fn main(_: Mailbox<()>) -> Result<(), TaskError> {
    ///     let tasks: Vec<Task<u64>> =
    ///         (1..=10).map(|number| Task::spawn(number, |number: u64| number * number).unwrap()).collect();
    ///     assert_eq!(Task::all(tasks)?.iter().sum::<u64>(), 385);
    ///     Ok(())
    /// }
    /// ```
    pub fn all(tasks: impl IntoIterator<Item = Self>) -> Result<Vec<R>, TaskError> {
        Self::wait_for_all(tasks, || lunatic_abi::FOREVER)
    }

    /// Waits for the results of several tasks as [`all`](Self::all) does, for so long in all.
    pub fn all_timeout(
        tasks: impl IntoIterator<Item = Self>,
        timeout: Duration,
    ) -> Result<Vec<R>, TaskError> {
        let begin = Instant::now();
        Self::wait_for_all(tasks, || {
            host::milliseconds(timeout.saturating_sub(begin.elapsed()))
        })
    }

    /// `rest` is the time left, in milliseconds.
    fn wait_for_all(
        tasks: impl IntoIterator<Item = Self>,
        rest: impl Fn() -> u64,
    ) -> Result<Vec<R>, TaskError> {
        /// How many tags the machine looks for at once.
        const AT_ONCE: usize = 1024;
        let mut tasks: Vec<Self> = tasks.into_iter().collect();
        for task in &mut tasks {
            task.ask()?;
        }
        let mut results: Vec<Option<R>> = tasks.iter().map(|_| None).collect();
        loop {
            let pending = tasks
                .iter()
                .filter_map(|task| task.awaited.as_ref())
                .map(Awaited::tag);
            let tags: Vec<Tag> = pending.take(AT_ONCE).collect();
            if tags.is_empty() {
                return Ok(results.into_iter().flatten().collect());
            }
            let (tag, reply) = first_reply(&tags, rest()).map_err(TaskError::from_request)?;
            let has_tag = |task: &Self| {
                task.awaited
                    .as_ref()
                    .is_some_and(|awaited| awaited.tag() == tag)
            };
            let place = tasks
                .iter()
                .position(has_tag)
                .expect("it is the tag of one of them");
            let awaited = tasks[place].awaited.take().expect("it has the tag");
            awaited.settle(&reply);
            results[place] = Some(reply.map_err(TaskError::from_request)?);
        }
    }

    fn wait(mut self, timeout: u64) -> Result<R, TaskError> {
        self.ask()?;
        let awaited = self
            .awaited
            .take()
            .expect("it is taken where the task is consumed");
        let reply = awaited.wait(timeout);
        if let Err(RequestError::Timeout) = reply {
            Process::<()>::from_id(awaited.process()).kill();
        }
        awaited.settle(&reply);
        reply.map_err(TaskError::from_request)
    }
}

impl<R> Task<R> {
    /// Asks for the result. It does not come before: a receive of the mailbox would find it.
    fn ask(&mut self) -> Result<(), TaskError> {
        let Some(awaited) = &self.awaited else {
            return Ok(());
        };
        if let Some(reason) = awaited.kept_end() {
            return Err(TaskError::Failed(reason));
        }
        let asked = Process::<()>::from_id(awaited.process()).post(WANTED, &true);
        asked.map_err(|failure| TaskError::from_request(RequestError::NotSent(failure)))?;
        self.is_asked = true;
        Ok(())
    }

    /// Lets the task go on, and its result be dropped.
    pub fn detach(mut self) {
        if let Some(awaited) = self.awaited.take() {
            // A task that cannot be told has ended, or ends with this process.
            let _ = Process::<()>::from_id(awaited.process()).post(WANTED, &false);
            awaited.settle(&Ok(()));
        }
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        if let Some(awaited) = self.awaited.take() {
            Process::<()>::from_id(awaited.process()).kill();
            awaited.settle(&if self.is_asked {
                Err(RequestError::Timeout)
            } else {
                Ok(())
            });
        }
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.awaited {
            Some(awaited) => write!(f, "Task<{:x}>", awaited.process()),
            None => f.write_str("Task"),
        }
    }
}

impl TaskError {
    fn from_request(error: RequestError) -> Self {
        match error {
            RequestError::Timeout => Self::Timeout,
            RequestError::Died(reason) => Self::Failed(reason),
            RequestError::DeserializationFailed(error) => Self::DeserializationFailed(error),
            // The task is alive or its end was told; a task is spawned, not sent.
            RequestError::NobodyLeft | RequestError::NotSent(_) => {
                Self::Failed(ExitReason::Unknown)
            }
        }
    }
}

/// What a task's process does.
pub(crate) fn run<C, R: Serialize>(birth: Birth, context: C, function: fn(C) -> R) {
    if !birth.begin() {
        return;
    }
    let result = function(context);
    if birth.is_wanted() {
        birth.report(&result);
    }
}
