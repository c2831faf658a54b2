//! The parts common to both kinds of pipe: a buffer, a queue of tasks waiting for room, and a queue
//! of tasks waiting for content.

use super::wait_queue::{WaitQueue, WaitQueues, Waiter, lock};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// The pipe is closed: nothing more that is written to it will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pipe is closed: nothing will read from it")]
pub struct PipeClosed;

/// The maximum amount of memory that an empty pipe keeps, in bytes.
pub(super) const KEPT_WHEN_EMPTY: usize = 4 << 10;

/// A buffer, as plain data, and the tasks waiting for it to change.
pub(super) struct State<B> {
    pub(super) buffer: B,
    room: WaitQueue,
    content: WaitQueue,
}

/// The conditions that a task can wait for.
#[derive(Clone, Copy)]
pub(super) enum Condition {
    /// There is room to write.
    Room,
    /// There is something to read.
    Content,
}

impl<B> fmt::Debug for State<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl<B> WaitQueues for State<B> {
    type Condition = Condition;

    fn queue(&mut self, condition: Condition) -> &mut WaitQueue {
        match condition {
            Condition::Room => &mut self.room,
            Condition::Content => &mut self.content,
        }
    }
}

impl<B> State<B> {
    pub(super) fn new(buffer: B) -> Arc<Mutex<State<B>>> {
        Arc::new(Mutex::new(State {
            buffer,
            room: WaitQueue::default(),
            content: WaitQueue::default(),
        }))
    }

    /// Waits until a transfer to or from the buffer succeeds, and then lets the other side
    /// continue.
    pub(super) async fn transfer<T>(
        state: &Mutex<State<B>>,
        condition: Condition,
        mut attempt: impl FnMut(&mut B) -> Option<T>,
    ) -> T {
        let attempt = |state: &mut State<B>| {
            let value = attempt(&mut state.buffer)?;
            let other = match condition {
                Condition::Room => &state.content,
                Condition::Content => &state.room,
            };
            Some((value, other.first()))
        };
        Waiter::new(state, condition).wait(attempt).await
    }

    /// Waits until the buffer satisfies `is_met`, without changing the buffer.
    pub(super) async fn until(
        state: &Mutex<State<B>>,
        condition: Condition,
        is_met: impl Fn(&B) -> bool,
    ) {
        Waiter::new(state, condition)
            .wait(|state| is_met(&state.buffer).then_some(((), None)))
            .await;
    }

    /// Changes the buffer. If `change` returns true, waiters check the buffer again: the first
    /// waiter in each queue is woken, and wakes the next one once it is done.
    pub(super) fn change(state: &Mutex<State<B>>, change: impl FnOnce(&mut B) -> bool) {
        let mut state = lock(state);
        if !change(&mut state.buffer) {
            return;
        }
        let wakers = [state.room.first(), state.content.first()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
