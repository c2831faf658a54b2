//! The calls that wait for an instance, and the instances that wait for a call.
//!
//! At any time, only one of the two sides waits. A call that finds an idle instance is given to
//! that instance directly, so that its caller knows whom to wake, and can run the instance on its
//! own thread. Jobs are otherwise taken in order.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A queue of jobs, shared by callers and instances.
pub(crate) struct Queue<J>(Mutex<State<J>>);

struct State<J> {
    /// The jobs that no instance has been given. If there are any, no instance is idle.
    waiting: VecDeque<J>,
    /// The instances that are waiting. The last one waited most recently, so its memory is most
    /// likely to be in a cache.
    idle: Vec<Idle>,
    /// The jobs given to instances that have not taken them yet.
    given: Vec<(u64, J)>,
    /// The number of the next seat.
    next: u64,
    /// Set once no more jobs will arrive.
    is_closed: bool,
}

struct Idle {
    seat: u64,
    waker: Waker,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// The job was given to an idle instance, which the caller must wake.
    Given(Waker),
    /// The job is waiting. This many jobs have not been taken by an instance yet, including those
    /// that instances have been given.
    Waiting(usize),
}

/// An instance's place at a queue. If it is dropped, the job that the instance was given but has
/// not taken goes to another instance.
pub(crate) struct Seat<J> {
    queue: Arc<Queue<J>>,
    number: u64,
    /// Whether the instance is, or was, listed as idle since it last took a job.
    is_listed: bool,
}

impl<J> Queue<J> {
    pub(crate) fn new() -> Arc<Queue<J>> {
        Arc::new(Queue(Mutex::new(State {
            waiting: VecDeque::new(),
            idle: Vec::new(),
            given: Vec::new(),
            next: 0,
            is_closed: false,
        })))
    }

    /// Gives a job to an idle instance or, if there is none, appends it. If `most` jobs are waiting
    /// already, returns the job.
    pub(crate) fn push(&self, job: J, most: usize) -> Result<Pushed, J> {
        let mut state = self.state();
        if let Some(Idle { seat, waker }) = state.idle.pop() {
            state.given.push((seat, job));
            return Ok(Pushed::Given(waker));
        }
        if state.waiting.len() >= most {
            return Err(job);
        }
        state.waiting.push_back(job);
        Ok(Pushed::Waiting(state.untaken()))
    }

    /// Gives a job to an idle instance, or returns the job if there is none.
    pub(crate) fn give(&self, job: J) -> Result<Waker, J> {
        let mut state = self.state();
        let Some(Idle { seat, waker }) = state.idle.pop() else {
            return Err(job);
        };
        state.given.push((seat, job));
        Ok(waker)
    }

    /// Returns how many jobs have not been taken by an instance yet.
    pub(crate) fn untaken(&self) -> usize {
        self.state().untaken()
    }

    /// Takes a job that no instance has been given.
    pub(crate) fn take(&self) -> Option<J> {
        self.state().waiting.pop_front()
    }

    /// Ends every instance that runs out of jobs.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let idle = mem::take(&mut state.idle);
        drop(state);
        for Idle { waker, .. } in idle {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Seat<J> {
    pub(crate) fn new(queue: &Arc<Queue<J>>) -> Seat<J> {
        let mut state = queue.state();
        let number = state.next;
        state.next += 1;
        drop(state);
        Seat {
            queue: queue.clone(),
            number,
            is_listed: false,
        }
    }

    /// Waits for a job. Returns `None` if the queue is closed and no jobs are left.
    ///
    /// `idle` counts the instance as idle. It is dropped at the same moment at which the job no
    /// longer counts as untaken, so that a caller who compares the two numbers never finds an
    /// instance idle that is about to work.
    pub(crate) async fn next<I>(&mut self, idle: I) -> Option<J> {
        let mut idle = Some(idle);
        std::future::poll_fn(|context| self.poll_next(context, &mut idle)).await
    }

    fn poll_next<I>(&mut self, context: &mut Context<'_>, idle: &mut Option<I>) -> Poll<Option<J>> {
        let mut state = self.queue.state();
        if self.is_listed {
            if let Some(job) = state.take_given(self.number) {
                *idle = None;
                self.is_listed = false;
                return Poll::Ready(Some(job));
            }
            let own = |idle: &&mut Idle| idle.seat == self.number;
            if let Some(idle) = state.idle.iter_mut().find(own) {
                // Something else has woken the instance.
                idle.waker.clone_from(context.waker());
                return Poll::Pending;
            }
        }
        if let Some(job) = state.waiting.pop_front() {
            *idle = None;
            return Poll::Ready(Some(job));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        let (seat, waker) = (self.number, context.waker().clone());
        state.idle.push(Idle { seat, waker });
        self.is_listed = true;
        Poll::Pending
    }
}

impl<J> State<J> {
    fn untaken(&self) -> usize {
        self.waiting.len() + self.given.len()
    }

    fn take_given(&mut self, seat: u64) -> Option<J> {
        let position = self.given.iter().position(|(to, _)| *to == seat)?;
        Some(self.given.swap_remove(position).1)
    }
}

impl<J> Drop for Seat<J> {
    fn drop(&mut self) {
        if !self.is_listed {
            return;
        }
        let mut state = self.queue.state();
        state.idle.retain(|idle| idle.seat != self.number);
        let Some(job) = state.take_given(self.number) else {
            return;
        };
        // The job has been waiting for longer than any other.
        match state.idle.pop() {
            Some(Idle { seat, waker }) => {
                state.given.push((seat, job));
                drop(state);
                waker.wake();
            }
            None => state.waiting.push_front(job),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// An instance at a queue.
    struct Instance {
        seat: Seat<u32>,
        woken: Arc<Woken>,
    }

    impl Instance {
        fn new(queue: &Arc<Queue<u32>>) -> Instance {
            Instance {
                seat: Seat::new(queue),
                woken: Arc::default(),
            }
        }

        fn poll(&mut self) -> Poll<Option<u32>> {
            let waker = self.woken.clone().into();
            self.seat
                .poll_next(&mut Context::from_waker(&waker), &mut Some(()))
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    /// Pushes a job that is given to an instance, and wakes the instance.
    fn give(queue: &Queue<u32>, job: u32) {
        match queue.push(job, 100) {
            Ok(Pushed::Given(waker)) => waker.wake(),
            other => panic!("no instance was idle: {other:?}"),
        }
    }

    #[test]
    fn jobs_wait_in_order_up_to_a_limit() {
        let queue = Queue::new();
        for (job, waiting) in [(1, 1), (2, 2)] {
            let pushed = queue.push(job, 2);
            assert!(matches!(pushed, Ok(Pushed::Waiting(length)) if length == waiting));
        }
        assert!(matches!(queue.push(3, 2), Err(3)));
        let mut instance = Instance::new(&queue);
        assert_eq!(instance.poll(), Poll::Ready(Some(1)));
        assert_eq!(queue.take(), Some(2));
        assert_eq!(queue.untaken(), 0);
        assert_eq!(instance.poll(), Poll::Pending);
    }

    #[test]
    fn a_job_is_given_to_the_instance_that_became_idle_last() {
        let queue = Queue::new();
        let (mut one, mut other) = (Instance::new(&queue), Instance::new(&queue));
        assert_eq!(one.poll(), Poll::Pending);
        assert_eq!(other.poll(), Poll::Pending);
        // A spurious wake-up changes nothing.
        assert_eq!(one.poll(), Poll::Pending);
        give(&queue, 1);
        assert_eq!((one.woken(), other.woken()), (0, 1));
        assert_eq!(one.poll(), Poll::Pending);
        give(&queue, 2);
        assert_eq!(one.poll(), Poll::Ready(Some(2)));
        assert_eq!(other.poll(), Poll::Ready(Some(1)));
        assert!(matches!(queue.push(3, 100), Ok(Pushed::Waiting(1))));
        assert_eq!(one.poll(), Poll::Ready(Some(3)));
    }

    #[test]
    fn a_job_that_an_ending_instance_has_not_taken_goes_to_another() {
        let queue = Queue::new();
        let (mut one, mut other) = (Instance::new(&queue), Instance::new(&queue));
        assert_eq!(other.poll(), Poll::Pending);
        assert_eq!(one.poll(), Poll::Pending);
        give(&queue, 1);
        drop(one);
        assert_eq!(other.woken(), 1);
        assert_eq!(other.poll(), Poll::Ready(Some(1)));
        assert_eq!(other.poll(), Poll::Pending);
        give(&queue, 2);
        // A job that has been given but not taken still needs an instance.
        assert!(matches!(queue.push(3, 100), Ok(Pushed::Waiting(2))));
        drop(other);
        let mut last = Instance::new(&queue);
        assert_eq!(last.poll(), Poll::Ready(Some(2)));
        assert_eq!(last.poll(), Poll::Ready(Some(3)));
        assert_eq!(last.poll(), Poll::Pending);
        // An idle instance that ends is not given any more jobs.
        drop(last);
        assert!(matches!(queue.push(4, 100), Ok(Pushed::Waiting(1))));
    }

    #[test]
    fn an_instance_is_idle_until_it_takes_a_job() {
        let queue = Queue::new();
        let mut seat = Seat::new(&queue);
        let idle = Arc::new(());
        let counted = Arc::downgrade(&idle);
        let mut idle = Some(idle);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(seat.poll_next(&mut context, &mut idle), Poll::Pending);
        give(&queue, 1);
        assert_eq!((queue.untaken(), counted.strong_count()), (1, 1));
        assert_eq!(
            seat.poll_next(&mut context, &mut idle),
            Poll::Ready(Some(1))
        );
        assert_eq!((queue.untaken(), counted.strong_count()), (0, 0));
    }

    #[test]
    fn instances_of_a_closed_queue_do_the_remaining_jobs() {
        let queue = Queue::new();
        let (mut one, mut other) = (Instance::new(&queue), Instance::new(&queue));
        assert_eq!(one.poll(), Poll::Pending);
        assert_eq!(other.poll(), Poll::Pending);
        give(&queue, 1);
        assert!(other.woken() == 1);
        queue.close();
        assert_eq!(one.woken(), 1);
        assert_eq!(one.poll(), Poll::Ready(None));
        assert_eq!(other.poll(), Poll::Ready(Some(1)));
        assert_eq!(other.poll(), Poll::Ready(None));
    }
}
