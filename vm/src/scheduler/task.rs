//! Tasks: how the scheduler stores and runs futures, and what a running future can report to it.
//!
//! A task is a single allocation, which holds its state, its group and the future itself. Wakers,
//! queues and workers refer to it by a pointer and count their references, like an `Arc`. What a
//! reference permits is decided by [`State`], which has no unsafe code and is model-checked.

#![expect(unsafe_code, reason = "listed in vm/README.md")]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use super::contain::contain;
use super::group::Group;
use super::pool::Entry;
use super::slot::Raw;
use super::state::{Paused, Released, State};
use super::worker::{Anchor, schedule};

thread_local! {
    /// Set by a running task whose slice is over, and cleared once the worker has queued the task.
    static SPENT: Cell<bool> = const { Cell::new(false) };
    /// The task that this thread is running.
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
    /// Set by the running task if it should be parked.
    static PARKED: Cell<bool> = const { Cell::new(false) };
    /// The tasks that this thread still has to drop. `None` if it is not dropping a task.
    static DROPPING: Cell<Option<Vec<Task>>> = const { Cell::new(None) };
}

/// The task that a thread is running.
#[derive(Clone, Copy)]
struct Running {
    address: *const (),
    /// The number of the task's group.
    group: u64,
}

/// Returns the number of the group whose task this thread is running.
pub(super) fn running_group() -> Option<u64> {
    Some(RUNNING.get()?.group)
}

/// A task in a queue.
#[derive(Debug)]
pub(super) enum Task {
    /// A task that is ready to run.
    Ready(Ready),
    /// A task that used up its slice and continues when its turn comes. If it is woken earlier, it
    /// becomes ready immediately, and resuming it later causes at most a spurious wake-up.
    Parked(Parked),
}

impl Entry for Task {
    type Ready = Ready;

    fn ready(task: Ready) -> Task {
        Task::Ready(task)
    }

    fn group(task: &Ready) -> &Group {
        task.group()
    }
}

/// What every task begins with, whatever its future is.
struct Header {
    state: State,
    /// The functions that know the type of the future.
    methods: &'static Methods,
    group: Group,
    anchor: Anchor,
}

/// A task. The header comes first, so that a pointer to the task is also a pointer to its header.
#[repr(C)]
struct Allocation<F> {
    header: Header,
    /// Used only by the thread that has the right to use the task. Dropped before the task is over.
    future: UnsafeCell<ManuallyDrop<F>>,
}

/// The functions that know the type of a task's future. None of them panics.
struct Methods {
    /// Polls the future, and drops it if it completes or panics. Returns whether it was dropped.
    ///
    /// The caller must have the right to use the task, and the future must not have been dropped.
    poll: unsafe fn(Pointer) -> bool,
    /// Drops the future. The conditions are the same as for `poll`.
    abandon: unsafe fn(Pointer),
    /// Frees a task whose future has been dropped and which has no references left.
    free: unsafe fn(Pointer),
}

/// A pointer to a task. It is used only while its holder has a reference to the task.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pointer(NonNull<Header>);

// SAFETY: The header can be used by any thread. The future is `Send`, and is used by one thread at
// a time, because only one thread at a time has the right to use the task.
unsafe impl Send for Pointer {}
// SAFETY: As above.
unsafe impl Sync for Pointer {}

impl Pointer {
    /// Allocates a task that has one reference and is ready.
    fn new<F: Future<Output = ()> + Send + 'static>(
        anchor: Anchor,
        group: Group,
        future: F,
    ) -> Pointer {
        let task = Box::new(Allocation {
            header: Header {
                state: State::ready(),
                methods: &Methods {
                    poll: poll::<F>,
                    abandon: abandon::<F>,
                    free: free::<F>,
                },
                group,
                anchor,
            },
            future: UnsafeCell::new(ManuallyDrop::new(future)),
        });
        let task = NonNull::from(Box::leak(task));
        Pointer(task.cast())
    }

    fn header(&self) -> &Header {
        // SAFETY: The holder has a reference, so the task has not been freed. The header is only
        // borrowed immutably until then.
        unsafe { self.0.as_ref() }
    }

    /// Drops the future of a task that will not run again.
    ///
    /// # Safety
    ///
    /// As for [`Methods::abandon`].
    unsafe fn abandon(self) {
        // SAFETY: The caller guarantees the conditions.
        unsafe { (self.header().methods.abandon)(self) }
    }

    /// Gives up the reference of a task whose future has been dropped.
    ///
    /// # Safety
    ///
    /// The caller must have a reference, which it must not use afterwards.
    unsafe fn finish(self) {
        if self.header().state.finish() {
            // SAFETY: The state says that this was the last reference.
            unsafe { (self.header().methods.free)(self) }
        }
    }

    /// Returns a waker without adding a reference.
    fn to_waker(self) -> ManuallyDrop<Waker> {
        let waker = RawWaker::new(self.0.as_ptr().cast_const().cast(), &WAKER);
        // SAFETY: The functions in `WAKER` expect a pointer to a task. They can be called by any
        // thread. The waker does not give up the reference, because it is not dropped.
        ManuallyDrop::new(unsafe { Waker::from_raw(waker) })
    }

    fn address(self) -> *const () {
        self.0.as_ptr().cast_const().cast()
    }
}

/// Returns the future of a task.
///
/// # Safety
///
/// The caller must have the right to use the task, whose future must be an `F` that has not been
/// dropped.
unsafe fn future<'a, F>(task: Pointer) -> &'a mut ManuallyDrop<F> {
    let task = task.0.cast::<Allocation<F>>();
    // SAFETY: The pointer is to an allocation of this type, according to the caller. No other
    // thread uses the future, and the header is not borrowed here.
    unsafe { &mut *UnsafeCell::raw_get(&raw const (*task.as_ptr()).future) }
}

/// See [`Methods::poll`].
unsafe fn poll<F: Future<Output = ()>>(task: Pointer) -> bool {
    let waker = task.to_waker();
    let mut context = Context::from_waker(&waker);
    let poll = contain(
        "a task",
        AssertUnwindSafe(|| {
            // SAFETY: The conditions are the same. The future is pinned, because it is dropped
            // where it is, and the allocation is not freed before.
            let future = unsafe { Pin::new_unchecked(&mut **future::<F>(task)) };
            future.poll(&mut context)
        }),
    );
    if matches!(poll, Some(Poll::Pending)) {
        return false;
    }
    // The future is not used again after a panic.
    // SAFETY: The conditions are the same.
    unsafe { abandon::<F>(task) };
    true
}

/// See [`Methods::abandon`].
unsafe fn abandon<F>(task: Pointer) {
    contain(
        "the destructor of a task",
        // SAFETY: The conditions are the same, and the future is not used again.
        AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(future::<F>(task)) }),
    );
}

/// See [`Methods::free`].
unsafe fn free<F>(task: Pointer) {
    let task = task.0.cast::<Allocation<F>>();
    // SAFETY: The pointer came from a box of this type, and nobody else refers to the task.
    drop(unsafe { Box::from_raw(task.as_ptr()) });
}

/// What a task's wakers do.
static WAKER: RawWakerVTable = RawWakerVTable::new(
    |task| {
        let task = waking(task);
        task.header().state.add_reference();
        RawWaker::new(task.address(), &WAKER)
    },
    |task| {
        let task = waking(task);
        if task.header().state.wake() {
            schedule(Ready(task));
        } else {
            drop(Reference(task));
        }
    },
    |task| {
        let task = waking(task);
        if task.header().state.wake() {
            task.header().state.add_reference();
            schedule(Ready(task));
        }
    },
    |task| drop(Reference(waking(task))),
);

/// Returns the task of a waker.
fn waking(task: *const ()) -> Pointer {
    let task = NonNull::new(task.cast_mut());
    Pointer(task.expect("a waker points to its task").cast())
}

/// A reference that carries no right to use the task. Given up on drop.
struct Reference(Pointer);

impl Drop for Reference {
    fn drop(&mut self) {
        match self.0.header().state.release() {
            Released::Kept => {}
            // SAFETY: The task is over, so its future has been dropped, and this was the last
            // reference.
            Released::Last => unsafe { (self.0.header().methods.free)(self.0) },
            // The future's destructor runs on a worker, as if the task had been woken.
            Released::Abandoned => schedule(Ready(self.0)),
        }
    }
}

/// A task that is ready to run: a reference, and the right to use the task. If it is dropped, the
/// future is dropped, and the task is over.
pub(super) struct Ready(Pointer);

/// What becomes of a task that has run.
pub(super) enum Turn {
    /// The task is over or waiting.
    Ended,
    /// The task was woken while it was running.
    Woken(Ready),
    /// The task's slice is over, and the worker parks the task.
    Spent(Parked),
    /// The task's slice is over, but the task was woken while it was running.
    Interrupted(Ready),
}

impl Ready {
    /// Returns a new task.
    pub(super) fn new(
        anchor: Anchor,
        group: Group,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Ready {
        Ready(Pointer::new(anchor, group, future))
    }

    pub(super) fn group(&self) -> &Group {
        &self.0.header().group
    }

    /// Returns the scheduler that the task belongs to.
    pub(super) fn anchor(&self) -> &Anchor {
        &self.0.header().anchor
    }

    /// Runs the task until it returns.
    pub(super) fn run(self) -> Turn {
        let task = self.0;
        if !task.header().state.start() {
            return Turn::Ended;
        }
        mem::forget(self);
        RUNNING.set(Some(Running {
            address: task.address(),
            group: task.header().group.number(),
        }));
        // SAFETY: A ready task carries the right to use it, and its future has not been dropped.
        let is_over = unsafe { (task.header().methods.poll)(task) };
        RUNNING.set(None);
        let is_spent = PARKED.take();
        if is_over {
            // SAFETY: The reference is the one that this function was given. It is not used again.
            unsafe { task.finish() };
            return Turn::Ended;
        }
        match task.header().state.pause(is_spent) {
            Paused::Woken if is_spent => Turn::Interrupted(Ready(task)),
            Paused::Woken => Turn::Woken(Ready(task)),
            Paused::Waiting if is_spent => Turn::Spent(Parked(Reference(task))),
            Paused::Waiting => Turn::Ended,
            Paused::Abandoned => {
                drop(Ready(task));
                Turn::Ended
            }
        }
    }
}

// SAFETY: The pointer carries the task's reference, and the right to use the task, from one thread
// to another.
unsafe impl Raw for Ready {
    fn into_raw(self) -> *mut () {
        let task = self.0.0.as_ptr().cast();
        mem::forget(self);
        task
    }

    unsafe fn from_raw(raw: *mut ()) -> Ready {
        Ready(waking(raw))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: A ready task carries the right to use it, and its future has not been dropped. It
        // is not used again.
        unsafe {
            self.0.abandon();
            self.0.finish();
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ready")
    }
}

/// A task that is waiting for its next slice.
pub(super) struct Parked(Reference);

impl Parked {
    /// Makes the task ready. Returns `None` if it is already ready or no longer exists.
    pub(super) fn resume(self) -> Option<Ready> {
        let task = self.0.0;
        if !task.header().state.wake() {
            return None;
        }
        mem::forget(self);
        Some(Ready(task))
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Parked")
    }
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
        let waker = context.waker();
        let is_own = RUNNING.get().is_some_and(|own| own.address == waker.data())
            && std::ptr::eq(waker.vtable(), &WAKER);
        if is_own {
            PARKED.set(true);
        } else {
            waker.wake_by_ref();
        }
        Poll::Pending
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

/// Drops a task. A parked task that has been woken belongs to whoever woke it.
fn release(task: Task) {
    match task {
        Task::Ready(task) => drop(task),
        Task::Parked(task) => drop(task.resume()),
    }
}
