//! Queues of waiters for the same condition, first come, first served.
//!
//! A queue is plain data inside the state being waited for, guarded by the same lock. Only the
//! first waiter in a queue is ever woken. Once it is done, or gives up, it wakes the next waiter. A
//! thousand waiters therefore cost one wake-up per step, and no waiter is overtaken.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// The waiters for one condition, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
}

impl WaitQueue {
    /// Returns the waker to call when the condition may have been met.
    pub(crate) fn first(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }

    fn is_turn_of(&self, ticket: Option<u64>) -> bool {
        match self.waiting.front() {
            None => true,
            Some((first, _)) => Some(*first) == ticket,
        }
    }

    fn wait(&mut self, ticket: Option<u64>, waker: &Waker) -> u64 {
        if let Some(ticket) = ticket
            && let Ok(index) = self.find(ticket)
        {
            self.waiting[index].1.clone_from(waker);
            return ticket;
        }
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back((ticket, waker.clone()));
        ticket
    }

    /// Removes a waiter, and returns the waker to call now.
    fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let index = self.find(ticket).ok()?;
        self.waiting.remove(index);
        if index == 0 { self.first() } else { None }
    }

    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.waiting
            .binary_search_by_key(&ticket, |(other, _)| *other)
    }
}

/// State that contains wait queues.
pub(crate) trait WaitQueues {
    /// The conditions that a task can wait for.
    type Condition: Copy + Send;
    fn queue(&mut self, condition: Self::Condition) -> &mut WaitQueue;
}

/// A waiter for a condition. Dropping it gives up its place in the queue.
pub(crate) struct Waiter<'a, S: WaitQueues> {
    state: &'a Mutex<S>,
    condition: S::Condition,
    /// The waiter's place in the queue, once it has one.
    ticket: Option<u64>,
}

impl<'a, S: WaitQueues> Waiter<'a, S> {
    pub(crate) fn new(state: &'a Mutex<S>, condition: S::Condition) -> Waiter<'a, S> {
        Waiter {
            state,
            condition,
            ticket: None,
        }
    }

    /// Makes an attempt if it is this waiter's turn. A successful attempt may also return the waker
    /// of a waiter in another queue, which is then called.
    pub(crate) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnOnce(&mut S) -> Option<(T, Option<Waker>)>,
    ) -> Poll<T> {
        let mut state = lock(self.state);
        let done = if state.queue(self.condition).is_turn_of(self.ticket) {
            attempt(&mut state)
        } else {
            None
        };
        let queue = state.queue(self.condition);
        let Some((value, other)) = done else {
            self.ticket = Some(queue.wait(self.ticket, context.waker()));
            return Poll::Pending;
        };
        // There may be something left for the next waiter in the queue.
        let next = match self.ticket.take() {
            Some(ticket) => queue.leave(ticket),
            None => None,
        };
        drop(state);
        for waker in [next, other].into_iter().flatten() {
            waker.wake();
        }
        Poll::Ready(value)
    }

    /// Waits until it is this waiter's turn and an attempt succeeds. If the future is dropped
    /// early, no attempt has succeeded.
    pub(crate) async fn wait<T>(
        mut self,
        mut attempt: impl FnMut(&mut S) -> Option<(T, Option<Waker>)>,
    ) -> T {
        std::future::poll_fn(|context| self.poll(context, &mut attempt)).await
    }
}

impl<S: WaitQueues> Drop for Waiter<'_, S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let next = lock(self.state).queue(self.condition).leave(ticket);
            if let Some(next) = next {
                next.wake();
            }
        }
    }
}

/// Locks state that a panic cannot leave half-changed.
pub(crate) fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state
        .lock()
        .expect("no code panics while it holds this lock")
}

/// Returns a future's output if it is ready immediately.
pub(crate) fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    /// Counts how often a waker is called.
    #[derive(Default)]
    pub(in super::super) struct Count(AtomicUsize);

    impl Count {
        pub(in super::super) fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(in super::super) fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), count.into())
    }

    #[derive(Default)]
    struct Cake {
        pieces: u32,
        queue: WaitQueue,
    }

    impl WaitQueues for Cake {
        type Condition = ();
        fn queue(&mut self, (): ()) -> &mut WaitQueue {
            &mut self.queue
        }
    }

    fn piece(cake: &mut Cake) -> Option<((), Option<Waker>)> {
        cake.pieces = cake.pieces.checked_sub(1)?;
        Some(((), None))
    }

    fn poll(waiter: &mut Waiter<'_, Cake>) -> bool {
        waiter
            .poll(&mut Context::from_waker(Waker::noop()), piece)
            .is_ready()
    }

    #[test]
    fn waiters_are_served_in_order_of_arrival() {
        let cake = Mutex::new(Cake::default());
        let [mut one, mut two] = std::array::from_fn(|_| Waiter::new(&cake, ()));
        assert!(!poll(&mut one) && !poll(&mut two));
        lock(&cake).pieces = 1;
        assert!(!poll(&mut two), "it is not the second waiter's turn");
        assert!(poll(&mut one));
        lock(&cake).pieces = 1;
        assert!(
            !poll(&mut Waiter::new(&cake, ())),
            "another waiter is already waiting"
        );
        assert!(poll(&mut two));
    }

    #[test]
    fn a_waiter_that_gives_up_wakes_the_next() {
        let cake = Mutex::new(Cake {
            pieces: 0,
            ..Cake::default()
        });
        let mut one = Waiter::new(&cake, ());
        assert!(!poll(&mut one));
        let (woken, waker) = counter();
        let mut two = Waiter::new(&cake, ());
        assert!(
            two.poll(&mut Context::from_waker(&waker), piece)
                .is_pending()
        );
        drop(one);
        assert_eq!(woken.count(), 1);
        lock(&cake).pieces = 1;
        assert!(poll(&mut two));
        assert!(lock(&cake).queue.first().is_none());
    }
}
