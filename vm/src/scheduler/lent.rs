//! Threads that are not workers and run a task for one turn.
//!
//! Such a thread does not search for tasks. It wakes one, and runs it instead of queueing it. A
//! task that is made ready is handed to exactly one thread, by the one that wakes it, so this needs
//! no protocol of its own.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;

use super::contain::contain;
use super::group::Group;
use super::group_queue::Level;
use super::task::{Ready, Task, Turn, discard, take_spent};
use super::worker::Shared;

thread_local! {
    /// What this thread does with a task that it makes ready.
    static CAUGHT: Cell<Caught> = const { Cell::new(Caught::Nothing) };
    /// Whether this thread runs a task although it is not a worker.
    static IS_LENT: Cell<bool> = const { Cell::new(false) };
}

/// The state of [`catch`] on a thread.
enum Caught {
    /// Nothing is being caught.
    Nothing,
    /// The first task of the scheduler with this address is caught.
    Expected(usize),
    /// A task has been caught.
    Here(Ready),
}

/// Calls `wake`, and returns the first of the scheduler's tasks that this makes ready. Returns
/// `None` if all tasks that it wakes are already ready or no longer exist.
fn catch(shared: &Shared, wake: impl FnOnce()) -> Option<Ready> {
    /// Queues the task that was caught if `wake` panics.
    struct Release<'a>(&'a Shared);
    impl Drop for Release<'_> {
        fn drop(&mut self) {
            if let Caught::Here(task) = CAUGHT.replace(Caught::Nothing) {
                self.0.put(None, Level::Woken, task);
            }
        }
    }
    let _release = Release(shared);
    CAUGHT.set(Caught::Expected(shared.address()));
    wake();
    match CAUGHT.replace(Caught::Nothing) {
        Caught::Here(task) => Some(task),
        Caught::Expected(_) | Caught::Nothing => None,
    }
}

/// Returns whether this thread can run a task. It cannot while it runs one or catches one, or once
/// its local variables have been destroyed.
fn is_free() -> bool {
    let catches_nothing = |caught: &Cell<Caught>| {
        let state = caught.replace(Caught::Nothing);
        let is_nothing = matches!(state, Caught::Nothing);
        caught.set(state);
        is_nothing
    };
    !is_lent() && CAUGHT.try_with(catches_nothing).unwrap_or(false)
}

/// Passes a task that became ready on this thread to [`catch`], or returns the task if it is not
/// expected.
pub(super) fn hand_over(task: Ready) -> Option<Ready> {
    let Ok(caught) = CAUGHT.try_with(|caught| caught.replace(Caught::Nothing)) else {
        return Some(task);
    };
    match caught {
        Caught::Expected(scheduler) if scheduler == task.anchor().address() => {
            CAUGHT.set(Caught::Here(task));
            None
        }
        other => {
            CAUGHT.set(other);
            Some(task)
        }
    }
}

/// Calls `wake`, and runs the first task that this makes ready on the calling thread for one turn.
/// If the thread is a worker or is already running a task, the task is queued instead.
pub(super) fn run_woken(shared: &Shared, wake: impl FnOnce()) {
    if Shared::is_thread_owned() || !is_free() {
        return wake();
    }
    let Some(task) = catch(shared, wake) else {
        return;
    };
    if shared.pool().is_stopping() {
        return discard([Task::Ready(task)]);
    }
    let lent = Lent::new(shared, task.group());
    // The guard that the hook returns must not stay on this thread any longer than the task.
    let _guard = contain(
        "the start hook of a scheduler",
        AssertUnwindSafe(shared.start()),
    );
    let turn = task.run();
    let is_spent = take_spent();
    match turn {
        Turn::Ended => {}
        Turn::Spent(task) => {
            let queue = &shared.pool().injected;
            shared.finish_push(queue.push_spent(&lent.group, Task::Parked(task)));
        }
        Turn::Woken(task) | Turn::Interrupted(task) => {
            let level = if is_spent { Level::Spent } else { Level::Woken };
            shared.put(None, level, task);
        }
    }
}

/// Counts this thread as running a task until this is dropped.
struct Lent<'a> {
    shared: &'a Shared,
    /// The task's group, which is charged for the time.
    group: Group,
    /// The beat at which the turn began.
    beat: u64,
}

impl<'a> Lent<'a> {
    fn new(shared: &'a Shared, group: &Group) -> Lent<'a> {
        IS_LENT.set(true);
        shared.pool().start_lending();
        Lent {
            shared,
            group: group.clone(),
            beat: shared.pool().clock.beats(),
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.shared.pool().end_lending(&self.group, self.beat);
        IS_LENT.set(false);
    }
}

/// Returns whether the calling thread runs a task although it is not a worker.
pub(crate) fn is_lent() -> bool {
    IS_LENT.get()
}
