//! Cases about the state of a task: it is woken, paused, parked and given up by several threads.

use super::check;
use crate::state::{Paused, Released, State};
use crate::sync::{Arc, AtomicUsize, Ordering};
use loom::thread;

/// A task whose turns read how many messages have been sent to it.
struct Task {
    state: State,
    messages: AtomicUsize,
    /// The number of threads that are using the future.
    users: AtomicUsize,
    /// The state of the future: the messages that its last turn saw. The accesses are relaxed, so
    /// that a turn sees those of the turn before only if the state orders them.
    seen: AtomicUsize,
    dropped: AtomicUsize,
    freed: AtomicUsize,
}

impl Task {
    /// Creates a ready task with the given number of references, including the queue's.
    fn new(references: usize) -> Arc<Task> {
        let state = State::ready();
        (1..references).for_each(|_| state.add_reference());
        Arc::new(Task {
            state,
            messages: AtomicUsize::new(0),
            users: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
        })
    }

    fn use_future(&self, act: impl FnOnce()) {
        assert_eq!(self.users.fetch_add(1, Ordering::Relaxed), 0);
        act();
        self.users.fetch_sub(1, Ordering::Relaxed);
    }

    /// Runs the ready task until it waits. Returns whether it is parked.
    fn run(&self, parks: bool) -> bool {
        loop {
            if !self.state.start() {
                self.drop_future();
                return false;
            }
            self.use_future(|| {
                let (seen, sent) = (&self.seen, &self.messages);
                let present = sent.load(Ordering::Relaxed);
                assert!(seen.load(Ordering::Relaxed) <= present);
                seen.store(present, Ordering::Relaxed);
            });
            match self.state.pause(parks) {
                Paused::Waiting => return parks,
                Paused::Woken => {}
                Paused::Abandoned => {
                    self.drop_future();
                    return false;
                }
            }
        }
    }

    fn drop_future(&self) {
        self.use_future(|| {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        });
        if self.state.finish() {
            self.freed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives up a reference.
    fn release(&self) {
        match self.state.release() {
            Released::Kept => {}
            Released::Last => {
                self.freed.fetch_add(1, Ordering::Relaxed);
            }
            Released::Abandoned => {
                self.run(false);
            }
        }
    }

    /// Uses up a waker, or a parked task's reference.
    fn wake(&self) {
        if self.state.wake() {
            self.run(false);
        } else {
            self.release();
        }
    }

    fn send(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    /// Checks that the task is over: its future has been dropped, and its memory freed, once.
    fn check_is_over(&self, messages: usize) {
        assert_eq!(self.seen.load(Ordering::Relaxed), messages);
        assert_eq!(self.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(self.freed.load(Ordering::Relaxed), 1);
    }
}

/// Two threads send a message to a task while it runs, and wake it. A turn sees both messages, no
/// two threads use the task at the same time, and it is dropped once its last waker is gone.
pub fn a_woken_task_sees_what_it_was_woken_for() {
    check(3, || {
        let task = Task::new(3);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let task = Arc::clone(&task);
                thread::spawn(move || task.send())
            })
            .collect();
        task.run(false);
        for sender in senders {
            sender.join().expect("waking does not panic");
        }
        task.check_is_over(2);
    });
}

/// The last wakers of a task are dropped while it pauses. It is dropped once.
pub fn a_task_whose_wakers_are_dropped_is_dropped_once() {
    check(3, || {
        let task = Task::new(3);
        let owners: Vec<_> = (0..2)
            .map(|_| {
                let task = Arc::clone(&task);
                thread::spawn(move || task.release())
            })
            .collect();
        task.run(false);
        for owner in owners {
            owner.join().expect("dropping a waker does not panic");
        }
        task.check_is_over(0);
    });
}

/// A task is woken while it is being parked, and while its worker resumes it. It sees the message.
pub fn a_parked_task_is_resumed_or_woken() {
    check(3, || {
        let task = Task::new(2);
        let sender = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.send())
        };
        if task.run(true) {
            task.wake();
        }
        sender.join().expect("waking does not panic");
        task.check_is_over(1);
    });
}
