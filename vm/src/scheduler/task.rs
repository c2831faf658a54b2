//! A future as the scheduler keeps it, and what it says of itself while it runs.

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
    /// Set by a running task whose slice is over, until its worker has put it into a queue.
    static SPENT: Cell<bool> = const { Cell::new(false) };
    /// The task that this thread runs, by its waker, and whether it is to be parked.
    static RUNNING: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static PARKED: Cell<bool> = const { Cell::new(false) };
    /// Tasks that this thread has yet to drop, while it is dropping one.
    static DROPPING: Cell<Option<Vec<Task>>> = const { Cell::new(None) };
}

/// A task as it lies in a queue.
#[derive(Debug)]
pub(super) enum Task {
    /// It is ready.
    Ready(Runnable<Group>),
    /// It used its slice up and goes on when its turn comes, or when something happens to it before: then it is ready at
    /// once, and this wakes it in vain.
    Parked(Waker),
}

/// Runs a task; returns its waker if it is to be parked.
pub(super) fn run(task: Runnable<Group>) -> Option<Waker> {
    // `async-task` forgets the future, destructor and all, of a task that is left without a waker by the end of its run.
    // With this one dropped after the run, the task comes back once more to be dropped.
    RUNNING.set(Some(task.waker()));
    task.run();
    let waker = RUNNING.take();
    waker.filter(|_| PARKED.take())
}

/// Says that the slice of the running task is over: it used its time up and would go on.
///
/// Call it from inside a task right before it wakes itself and returns [`Poll::Pending`]; the task
/// then waits in the level of those that used up their slice, behind every woken one. It is a note
/// for this one return and is forgotten if the task is not woken by then. Outside a task it does
/// nothing. Code that can await uses [`spent`] instead.
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
///         sender.send("done").expect("the test waits");
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

/// Takes the note that [`end_slice`] left; called on the worker, for the task that it just ran.
pub(super) fn take_spent() -> bool {
    SPENT.take()
}

/// Ends the slice of the task that awaits this, and returns in its next one.
///
/// The task goes on behind every woken task (see [`Scheduler`](super::Scheduler)), or as one of them where it is woken
/// before: a process that is killed does not wait for its turn among those that compute. On any other executor this is an
/// ordinary yield.
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
///     sender.send(sum).expect("the test waits");
/// });
/// assert_eq!(receiver.recv(), Ok(49_995_000));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn spent() -> Spent {
    Spent { over: false }
}

/// The future of [`spent`].
#[derive(Debug)]
#[must_use = "a slice ends when this is awaited"]
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

/// A future whose panics, also those of its destructor, end nothing but itself.
///
/// `async-task` lets a panic of `poll` through to the worker and aborts the program when a future
/// panics while it is dropped. The box is what lets us catch the second without unsafe code, and
/// makes all tasks of the machine the same few words.
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
        // Nobody sees the future again after it panicked.
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

/// Drops tasks that will not run any more.
///
/// A destructor may wake or let go of further tasks, which then come back here on the same thread;
/// they wait for their turn instead of nesting, since a chain of a hundred thousand would not fit
/// the stack.
pub(super) fn discard(tasks: impl IntoIterator<Item = Task>) {
    let tasks = tasks.into_iter();
    let Ok(outer) = DROPPING.try_with(Cell::take) else {
        // The thread is coming down, and its variables went first.
        return tasks.for_each(let_go);
    };
    if let Some(mut waiting) = outer {
        waiting.extend(tasks);
        DROPPING.set(Some(waiting));
        return;
    }
    let mut waiting: Vec<Task> = tasks.collect();
    while let Some(task) = waiting.pop() {
        DROPPING.set(Some(waiting));
        let_go(task);
        waiting = DROPPING
            .take()
            .expect("a nested call leaves the list in place");
    }
}

/// Drops a task. A parked one comes back as ready, to a scheduler that takes no more, and is dropped there.
fn let_go(task: Task) {
    match task {
        Task::Ready(task) => drop(task),
        Task::Parked(waker) => waker.wake(),
    }
}
