//! Tasks: functions that run in their own processes and return a result to this process.

use crate::entry::{self, EntryPoint, FirstFunction};
use crate::error::LunaticError;
use crate::host;
use crate::message::ExitReason;
use crate::process::handle::Process;
use crate::reply::{PendingReply, RequestError, first_reply};
use crate::start::{self, Handshake};
use crate::tag::{Tag, WANTED};
use rmp_serde::decode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// A function that runs in its own process and returns a result of type `R` to this process.
///
/// Tasks run concurrently, on all cores. A task's failure does not affect other processes;
/// [`result`](Self::result) returns it as an error. Dropping a task kills it;
/// [`detach`](Self::detach) lets it continue.
///
/// A process that traps or is killed doesn't drop its tasks, so they run to completion. A finished
/// task's process stays alive and keeps the result until it is requested.
///
/// # Example
///
/// ```no_run
/// use lunatic::{Mailbox, Task};
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let sum = Task::spawn(0..1_000_000u64, |range| range.sum::<u64>()).unwrap();
///     let length = Task::spawn("a string".to_string(), |text| text.len()).unwrap();
///     println!("{} {}", sum.result().unwrap(), length.result().unwrap());
/// }
/// ```
#[must_use = "a task that is dropped is killed"]
pub struct Task<R> {
    /// `None` once the result has been received or is no longer wanted.
    pending: Option<PendingReply>,
    /// True once the result has been requested and may be on its way.
    is_asked: bool,
    result: PhantomData<fn() -> R>,
}

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The timeout expired, and the task was killed.
    #[error("the task took too long")]
    Timeout,
    /// The task's process exited without a result. The reason is [`ExitReason::Normal`] if it
    /// exited with status 0.
    #[error("the task has no result: its process {0}")]
    Failed(ExitReason),
    /// The result is nested too deeply, does not fit into this process's memory, or cannot be sent
    /// to this process.
    #[error("the task's result cannot be read: {0}")]
    DeserializationFailed(decode::Error),
}

impl<R: Serialize + DeserializeOwned> Task<R> {
    /// Spawns a process with this process's rights that calls `function` with a value.
    ///
    /// `function` must be a function of this program or a closure that captures nothing. To pass
    /// more than one value, use a tuple.
    ///
    /// # Errors
    ///
    /// Fails if one of the environment's limits is reached, if this process may not spawn
    /// processes, or if the value cannot be sent.
    pub fn spawn<C>(context: C, function: fn(C) -> R) -> Result<Self, LunaticError>
    where
        C: Serialize + DeserializeOwned,
    {
        let pending = start::spawn(context, &EntryPoint::new(Work(function)), false)?;
        pending.keep();
        Ok(Self {
            pending: Some(pending),
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
    /// Returns [`TaskError::Failed`] or [`TaskError::DeserializationFailed`].
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

    /// Like [`result`](Self::result), but waits for at most `timeout`, which is rounded up to whole
    /// milliseconds. If the timeout expires, the task is killed.
    pub fn result_timeout(self, timeout: Duration) -> Result<R, TaskError> {
        self.wait(host::milliseconds(timeout))
    }

    /// Waits for the results of several tasks and returns them in the order of the tasks.
    ///
    /// # Errors
    ///
    /// Returns the first failure, and kills the other tasks.
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

    /// Like [`all`](Self::all), but waits for at most `timeout` in total.
    pub fn all_timeout(
        tasks: impl IntoIterator<Item = Self>,
        timeout: Duration,
    ) -> Result<Vec<R>, TaskError> {
        let begin = Instant::now();
        Self::wait_for_all(tasks, || {
            host::milliseconds(timeout.saturating_sub(begin.elapsed()))
        })
    }

    /// `rest` returns the time left, in milliseconds.
    fn wait_for_all(
        tasks: impl IntoIterator<Item = Self>,
        rest: impl Fn() -> u64,
    ) -> Result<Vec<R>, TaskError> {
        /// The maximum number of tags that the machine accepts in one receive.
        const AT_ONCE: usize = 1024;
        let mut tasks: Vec<Self> = tasks.into_iter().collect();
        for task in &mut tasks {
            task.ask()?;
        }
        let mut results: Vec<Option<R>> = tasks.iter().map(|_| None).collect();
        loop {
            let pending = tasks.iter().filter_map(Self::tag);
            let tags: Vec<Tag> = pending.take(AT_ONCE).collect();
            if tags.is_empty() {
                return Ok(results.into_iter().flatten().collect());
            }
            let (tag, reply) = first_reply(&tags, rest()).map_err(TaskError::from_request)?;
            let index = tasks
                .iter()
                .position(|task| task.tag() == Some(tag))
                .expect("the reply has the tag of one of these tasks");
            let pending = tasks[index]
                .pending
                .take()
                .expect("a task that has a tag is pending");
            pending.settle(&reply);
            results[index] = Some(reply.map_err(TaskError::from_request)?);
        }
    }

    fn wait(mut self, timeout: u64) -> Result<R, TaskError> {
        self.ask()?;
        let pending = self
            .pending
            .take()
            .expect("only functions that consume the task take its reply");
        let reply = pending.wait(timeout);
        if let Err(RequestError::Timeout) = reply {
            Process::<()>::from_id(pending.process()).kill();
        }
        pending.settle(&reply);
        reply.map_err(TaskError::from_request)
    }
}

impl<R> Task<R> {
    /// Returns the result's tag, if the result is still pending.
    fn tag(&self) -> Option<Tag> {
        self.pending.as_ref().map(PendingReply::tag)
    }

    /// Requests the result. The task does not send its result before it is asked to, because a
    /// receive from the mailbox would find it.
    fn ask(&mut self) -> Result<(), TaskError> {
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        if let Some(reason) = pending.kept_end() {
            return Err(TaskError::Failed(reason));
        }
        let asked = Process::<()>::from_id(pending.process()).post(WANTED, &true);
        asked.map_err(|failure| TaskError::from_request(RequestError::NotSent(failure)))?;
        self.is_asked = true;
        Ok(())
    }

    /// Lets the task continue and ignores its result.
    pub fn detach(mut self) {
        if let Some(pending) = self.pending.take() {
            // A task that cannot be notified has already exited, or will exit when this process
            // does.
            let _ = Process::<()>::from_id(pending.process()).post(WANTED, &false);
            pending.settle(&Ok(()));
        }
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            Process::<()>::from_id(pending.process()).kill();
            pending.settle(&if self.is_asked {
                Err(RequestError::Timeout)
            } else {
                Ok(())
            });
        }
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pending {
            Some(pending) => write!(f, "Task<{:x}>", pending.process()),
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
            RequestError::ReplyRefused => {
                let why = "it cannot be sent to this process".to_string();
                Self::DeserializationFailed(decode::Error::Uncategorized(why))
            }
            // `NobodyLeft` does not occur, because the task is alive or its death has been
            // reported. `NotSent` means that the task could not be asked for its result. `Itself`
            // does not occur, because a task is never this process.
            RequestError::NobodyLeft | RequestError::NotSent(_) | RequestError::Itself => {
                Self::Failed(ExitReason::Unknown)
            }
        }
    }
}

/// A task's function.
#[repr(transparent)]
struct Work<C, R>(fn(C) -> R);

impl<C, R> Clone for Work<C, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C, R> Copy for Work<C, R> {}

impl<C: DeserializeOwned, R: Serialize> FirstFunction for Work<C, R> {
    fn call(self) {
        let (handshake, context): (Handshake, C) = entry::context();
        if !handshake.begin() {
            return;
        }
        let result = self.0(context);
        if handshake.is_wanted() {
            handshake.report(&result);
        }
    }
}
