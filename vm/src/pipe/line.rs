//! A line: those who wait for the same thing, first come, first served.
//!
//! It is plain data inside the state that is waited for, and guarded with it. Only the first is ever woken: when they are
//! through, or give up, they wake the next. So a thousand who wait cost one wake-up per step, and nobody is passed by.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Those who wait, in order.
#[derive(Debug, Default)]
pub(crate) struct Line {
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
}

impl Line {
    /// Returns who is to be called when what they wait for may have come.
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
            && let Ok(place) = self
                .waiting
                .binary_search_by_key(&ticket, |(other, _)| *other)
        {
            self.waiting[place].1.clone_from(waker);
            return ticket;
        }
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back((ticket, waker.clone()));
        ticket
    }

    /// Takes somebody out of the line and returns who is to be called now.
    fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let place = self
            .waiting
            .binary_search_by_key(&ticket, |(other, _)| *other)
            .ok()?;
        self.waiting.remove(place);
        if place == 0 { self.first() } else { None }
    }
}

/// State with lines in it.
pub(crate) trait Lines {
    /// What there is to wait for.
    type What: Copy + Send;
    fn line(&mut self, what: Self::What) -> &mut Line;
}

/// A place in a line, or none yet. It is given up when this is dropped.
pub(crate) struct Turn<'a, S: Lines> {
    state: &'a Mutex<S>,
    what: S::What,
    ticket: Option<u64>,
}

impl<'a, S: Lines> Turn<'a, S> {
    pub(crate) fn new(state: &'a Mutex<S>, what: S::What) -> Turn<'a, S> {
        Turn {
            state,
            what,
            ticket: None,
        }
    }

    /// Makes an attempt if it is this one's turn. An attempt that succeeds also says whom else to call.
    pub(crate) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnOnce(&mut S) -> Option<(T, Option<Waker>)>,
    ) -> Poll<T> {
        let mut state = lock(self.state);
        let done = if state.line(self.what).is_turn_of(self.ticket) {
            attempt(&mut state)
        } else {
            None
        };
        let line = state.line(self.what);
        let Some((value, other)) = done else {
            self.ticket = Some(line.wait(self.ticket, context.waker()));
            return Poll::Pending;
        };
        // There may be something left for the next in line.
        let next = match self.ticket.take() {
            Some(ticket) => line.leave(ticket),
            None => None,
        };
        drop(state);
        for waker in [next, other].into_iter().flatten() {
            waker.wake();
        }
        Poll::Ready(value)
    }

    /// Waits for its turn and for an attempt to succeed. Where this is dropped before, nothing was attempted in vain.
    pub(crate) async fn take<T>(
        mut self,
        mut attempt: impl FnMut(&mut S) -> Option<(T, Option<Waker>)>,
    ) -> T {
        std::future::poll_fn(|context| self.poll(context, &mut attempt)).await
    }
}

impl<S: Lines> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let next = lock(self.state).line(self.what).leave(ticket);
            if let Some(next) = next {
                next.wake();
            }
        }
    }
}

/// Locks state that nothing can leave half changed.
pub(crate) fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state
        .lock()
        .expect("nothing panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Cake {
        pieces: u32,
        line: Line,
    }

    impl Lines for Cake {
        type What = ();
        fn line(&mut self, (): ()) -> &mut Line {
            &mut self.line
        }
    }

    fn piece(cake: &mut Cake) -> Option<((), Option<Waker>)> {
        cake.pieces = cake.pieces.checked_sub(1)?;
        Some(((), None))
    }

    fn poll(turn: &mut Turn<'_, Cake>) -> bool {
        turn.poll(&mut Context::from_waker(Waker::noop()), piece)
            .is_ready()
    }

    #[test]
    fn who_comes_first_is_served_first() {
        let cake = Mutex::new(Cake::default());
        let [mut one, mut two] = std::array::from_fn(|_| Turn::new(&cake, ()));
        assert!(!poll(&mut one) && !poll(&mut two));
        lock(&cake).pieces = 1;
        assert!(!poll(&mut two), "it is not its turn");
        assert!(poll(&mut one));
        lock(&cake).pieces = 1;
        assert!(!poll(&mut Turn::new(&cake, ())), "somebody waits already");
        assert!(poll(&mut two));
    }

    #[test]
    fn who_gives_up_calls_the_next() {
        let cake = Mutex::new(Cake {
            pieces: 0,
            ..Cake::default()
        });
        let mut one = Turn::new(&cake, ());
        assert!(!poll(&mut one));
        let (woken, waker) = crate::pipe::tests::counter();
        let mut two = Turn::new(&cake, ());
        assert!(
            two.poll(&mut Context::from_waker(&waker), piece)
                .is_pending()
        );
        drop(one);
        assert_eq!(woken.count(), 1);
        lock(&cake).pieces = 1;
        assert!(poll(&mut two));
        assert!(lock(&cake).line.first().is_none());
    }
}
