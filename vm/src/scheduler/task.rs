//! How the scheduler stores futures, and what a running future can report to it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_task::Runnable;

use super::contain::contain;
use super::group::Group;

thread_local! {
    /// Set by a running task whose slice is over, and cleared once the worker has queued the task.
    static SPENT: Cell<bool> = const { Cell::new(false) };
    /// The waker of the task that this thread is running.
    static RUNNING: RefCell<Option<Waker>> = const { RefCell::new(None) };
    /// Set by the running task if it should be parked.
    static PARKED: Cell<bool> = const { Cell::new(false) };
    /// The tasks that this thread still has to drop. `None` if it is not dropping a task.
    static DROPPING: Cell<Option<Vec<Task>>> = const { Cell::new(None) };
}

/// A task in a queue.
#[derive(Debug)]
pub(super) enum Task {
    /// A task that is ready to run.
    Ready(Runnable<Group>),
    /// A task that used up its slice and continues when its turn comes. If it is woken earlier, it
    /// becomes ready immediately, and using this waker later causes at most a spurious wake-up.
    Parked(Waker),
}

/// Runs a task. Returns the task's waker if the task should be parked.
pub(super) fn run(task: Runnable<Group>) -> Option<Waker> {
    // `async-task` leaks the future of a task that has no wakers left when a poll returns. This
    // waker is not dropped until afterwards, so the task is scheduled once more and its future is
    // dropped.
    RUNNING.set(Some(task.waker()));
    task.run();
    let waker = RUNNING.take();
    waker.filter(|_| PARKED.take())
}

/// Records that the running task has used up its slice and wants to continue.
///
/// Call this inside a task, right before the task wakes itself and returns [`Poll::Pending`]. The
/// task is then queued as spent, behind all woken tasks. The call affects only that one return, and
/// has no effect if the task has not been woken by the time it returns. Outside a task, it does
/// nothing. Code that can await should use [`spent`] instead.
///
/// # Examples
///
/// ```
/// use lunatic_vm::scheduler::{Scheduler, end_slice};
/// use std::sync::mpsc::channel;
/// use std::task::Poll;
///
/// let scheduler = Scheduler::builder().workers(1).build()?;
/// let (sender, receiver) = channel();
/// let mut left = 3;
/// scheduler.spawn(std::future::poll_fn(move |context| {
///     if left == 0 {
///         sender.send("done").expect("the receiver is still waiting");
///         return Poll::Ready(());
///     }
///     left -= 1;
///     end_slice();
///     context.waker().wake_by_ref();
///     Poll::Pending
/// }));
/// assert_eq!(receiver.recv(), Ok("done"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn end_slice() {
    SPENT.set(true);
}

/// Returns whether [`end_slice`] was called, and resets this flag. Called by a worker after it has
/// run a task.
pub(super) fn take_spent() -> bool {
    SPENT.take()
}

/// Returns a future that ends the slice of the task that awaits it, and completes in the task's
/// next slice.
///
/// The task is queued behind all woken tasks (see [`Scheduler`](super::Scheduler)). If it is woken
/// before its turn, it continues as a woken task: a killed process, for example, does not have to
/// wait behind processes that compute. On any other executor, awaiting this future is an ordinary
/// yield.
///
/// # Examples
///
/// ```
/// use lunatic_vm::scheduler::{Scheduler, spent};
///
/// let scheduler = Scheduler::builder().workers(1).build()?;
/// let (sender, receiver) = std::sync::mpsc::channel();
/// scheduler.spawn(async move {
///     let mut sum = 0_u64;
///     for slice in 0..10 {
///         sum += (slice * 1_000..(slice + 1) * 1_000).sum::<u64>();
///         spent().await;
///     }
///     sender.send(sum).expect("the receiver is still waiting");
/// });
/// assert_eq!(receiver.recv(), Ok(49_995_000));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn spent() -> Spent {
    Spent { over: false }
}

/// The future returned by [`spent`].
#[derive(Debug)]
#[must_use = "the slice ends only when this future is awaited"]
pub struct Spent {
    over: bool,
}

impl Future for Spent {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if mem::replace(&mut self.over, true) {
            return Poll::Ready(());
        }
        let is_own = RUNNING.with_borrow(|running| {
            running
                .as_ref()
                .is_some_and(|own| own.will_wake(context.waker()))
        });
        if is_own {
            PARKED.set(true);
        } else {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// A future whose panics, including those in its destructor, end only the future itself.
///
/// `async-task` propagates a panic in `poll` to the worker, and aborts the program if a future
/// panics while it is dropped. Boxing the future makes it possible to catch a panic in its
/// destructor without unsafe code. It also makes all tasks the same size, a few words.
pub(super) struct Contained {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Contained {
    pub(super) fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            future: Some(Box::pin(future)),
        }
    }
}

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        // The future is not used again after a panic.
        let poll = contain("a task", AssertUnwindSafe(|| future.as_mut().poll(context)));
        match poll {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(())) | None => Poll::Ready(()),
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let future = self.future.take();
        contain(
            "the destructor of a task",
            AssertUnwindSafe(|| drop(future)),
        );
    }
}

impl fmt::Debug for Contained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Contained")
    }
}

/// Drops tasks that will never run again.
///
/// A destructor may wake or release other tasks, which are then passed to this function on the same
/// thread. Such nested calls only add their tasks to a list, because dropping a chain of a hundred
/// thousand tasks recursively would overflow the stack.
pub(super) fn discard(tasks: impl IntoIterator<Item = Task>) {
    let tasks = tasks.into_iter();
    let Ok(outer) = DROPPING.try_with(Cell::take) else {
        // The thread is exiting, and its thread-local variables have been destroyed.
        return tasks.for_each(release);
    };
    if let Some(mut waiting) = outer {
        waiting.extend(tasks);
        DROPPING.set(Some(waiting));
        return;
    }
    let mut waiting: Vec<Task> = tasks.collect();
    while let Some(task) = waiting.pop() {
        DROPPING.set(Some(waiting));
        release(task);
        waiting = DROPPING.take().expect("a nested call puts the list back");
    }
}

/// Drops a task. Waking a parked task drops it, because the scheduler no longer accepts tasks.
fn release(task: Task) {
    match task {
        Task::Ready(task) => drop(task),
        Task::Parked(waker) => waker.wake(),
    }
}
