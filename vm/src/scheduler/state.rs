//! The state of a task: who may use its future, and how many references to the task exist.
//!
//! Both are kept in one number, so that a turn of a task takes three atomic operations: one when it
//! is woken, one when it starts and one when it pauses. The references are those of wakers, of
//! queues and of the worker that is running the task.
//!
//! A task's future is used by one thread at a time. The right to use it begins with the wake-up
//! that makes the task ready, is passed along with the task through a queue to a worker, and ends
//! when the task pauses. If the task is woken while it is running, it stays with its worker, which
//! queues it again.

use super::sync::{AtomicUsize, Ordering};

/// The task has been woken, and has not started to run since.
const WOKEN: usize = 1;
/// A worker is running the task.
const RUNNING: usize = 2;
/// The future has been dropped. The task will not run again.
const OVER: usize = 4;
/// The task ran out of wakers before it was over. It must be dropped instead of run.
const ABANDONED: usize = 8;
/// One reference. All higher bits count references.
const REFERENCE: usize = 16;

/// More references than this can exist only if wakers are leaked in a loop.
const MAX_REFERENCES: usize = usize::MAX / 2 / REFERENCE;

/// The state of a task.
#[derive(Debug)]
pub(super) struct State(AtomicUsize);

/// What becomes of a task that has paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paused {
    /// The task is waiting. The worker has no right to use it any more.
    Waiting,
    /// The task was woken while it was running, and is still the worker's to run or queue.
    Woken,
    /// Nothing can wake the task any more. It is still the worker's to drop.
    Abandoned,
}

/// What a caller that has given up a reference must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// Nothing, because there are other references.
    Kept,
    /// The task is over, and the caller must free its memory.
    Last,
    /// Nothing can wake the task any more. The caller has a reference again, along with the right
    /// to use the task, and must have it dropped.
    Abandoned,
}

impl State {
    /// Returns the state of a task that is ready and has one reference.
    pub(super) fn ready() -> Self {
        Self(AtomicUsize::new(WOKEN | REFERENCE))
    }

    /// Records a wake-up. Returns whether the caller now has the right to use the task and must
    /// therefore queue it.
    pub(super) fn wake(&self) -> bool {
        // Release publishes what the caller wrote before, and pairs with `start` and `pause`.
        // Acquire pairs with the Release in `pause`, since the right to use the task passes here.
        let before = self.0.fetch_or(WOKEN, Ordering::AcqRel);
        before & (WOKEN | RUNNING | OVER) == 0
    }

    /// Begins a turn of a task that the caller has the right to use. Later wake-ups are recorded
    /// for the next turn. Returns false if the task must be dropped instead.
    pub(super) fn start(&self) -> bool {
        // Acquire pairs with the Release in `wake`.
        let before = self
            .0
            .fetch_add(RUNNING.wrapping_sub(WOKEN), Ordering::AcqRel);
        debug_assert_eq!(before & (WOKEN | RUNNING | OVER), WOKEN);
        before & ABANDONED == 0
    }

    /// Ends a turn of a task that is not over. If it is now waiting, the worker's reference is
    /// given up, unless `keeps_reference` is set.
    pub(super) fn pause(&self, keeps_reference: bool) -> Paused {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let (after, paused) = if before & WOKEN != 0 {
                (before - RUNNING, Paused::Woken)
            } else if keeps_reference {
                (before - RUNNING, Paused::Waiting)
            } else if before / REFERENCE == 1 {
                // There is nobody else who could change the state.
                return Paused::Abandoned;
            } else {
                (before - RUNNING - REFERENCE, Paused::Waiting)
            };
            // Release pairs with the Acquire in `wake` and `release`.
            let exchange =
                self.0
                    .compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed);
            match exchange {
                Ok(_) => return paused,
                Err(present) => before = present,
            }
        }
    }

    /// Records that the future has been dropped, and gives up the caller's reference. Returns
    /// whether it was the last one, in which case the caller must free the task's memory.
    pub(super) fn finish(&self) -> bool {
        let before = self.0.fetch_sub(REFERENCE - OVER, Ordering::AcqRel);
        before / REFERENCE == 1
    }

    /// Adds a reference.
    pub(super) fn add_reference(&self) {
        let before = self.0.fetch_add(REFERENCE, Ordering::Relaxed);
        if before / REFERENCE > MAX_REFERENCES {
            // The memory of a task must not be freed while it has references.
            std::process::abort();
        }
    }

    /// Gives up a reference that carries no right to use the task.
    pub(super) fn release(&self) -> Released {
        // Release keeps what the caller did with the task before the task is freed. Acquire pairs
        // with it.
        let before = self.0.fetch_sub(REFERENCE, Ordering::AcqRel);
        if before / REFERENCE > 1 {
            return Released::Kept;
        }
        if before & OVER != 0 {
            return Released::Last;
        }
        // A queue or a worker would have a reference, so the task is waiting, and nobody else knows
        // of it.
        self.0
            .store(REFERENCE | WOKEN | ABANDONED, Ordering::Relaxed);
        Released::Abandoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_task_is_queued_by_its_first_wake_up_only() {
        let state = State::ready();
        state.add_reference();
        assert!(!state.wake(), "the task is queued already");
        assert!(state.start());
        assert_eq!(state.pause(false), Paused::Waiting);
        assert!(state.wake());
        assert!(!state.wake());
    }

    #[test]
    fn a_task_that_is_woken_while_it_runs_stays_with_its_worker() {
        for keeps_reference in [false, true] {
            let state = State::ready();
            assert!(state.start());
            assert!(!state.wake());
            assert_eq!(state.pause(keeps_reference), Paused::Woken);
            assert!(state.start());
        }
    }

    #[test]
    fn a_task_is_abandoned_when_its_last_reference_is_given_up() {
        let running = State::ready();
        assert!(running.start());
        assert_eq!(running.pause(false), Paused::Abandoned);
        assert!(running.finish());

        let waiting = State::ready();
        waiting.add_reference();
        assert!(waiting.start());
        assert_eq!(waiting.pause(false), Paused::Waiting);
        assert_eq!(waiting.release(), Released::Abandoned);
        assert!(!waiting.start(), "it must be dropped");
        assert!(waiting.finish());
    }

    #[test]
    fn a_task_that_is_over_is_freed_with_its_last_reference() {
        let state = State::ready();
        state.add_reference();
        state.add_reference();
        assert!(state.start());
        assert!(!state.finish());
        assert!(!state.wake(), "it will not run again");
        assert_eq!(state.release(), Released::Kept);
        assert_eq!(state.release(), Released::Last);
    }

    #[test]
    fn a_parked_task_keeps_its_reference() {
        let state = State::ready();
        assert!(state.start());
        assert_eq!(state.pause(true), Paused::Waiting);
        assert!(state.wake());
        assert!(state.start());
        assert!(state.finish());
    }
}
