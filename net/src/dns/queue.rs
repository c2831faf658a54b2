//! Decides which lookups run and which wait. This module neither starts threads nor does lookups.

use crate::turns::Turns;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// The result of a lookup.
pub(super) type Answer = io::Result<Vec<SocketAddr>>;

/// A lookup, shared by the task that waits for it and the thread that runs it.
pub(super) struct Question {
    /// The owner on whose behalf the lookup runs.
    pub(super) owner: u64,
    pub(super) host: String,
    pub(super) port: u16,
    reply: Mutex<Reply>,
}

/// The state that the thread and the task share.
#[derive(Default)]
struct Reply {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Question {
    pub(super) fn new(owner: u64, host: String, port: u16) -> Arc<Question> {
        Arc::new(Question {
            owner,
            host,
            port,
            reply: Mutex::default(),
        })
    }

    /// Stores the answer and wakes the task if it is still waiting.
    pub(super) fn answer(&self, answer: Answer) {
        let mut reply = self.reply();
        reply.answer = Some(answer);
        let waker = reply.waker.take();
        drop(reply);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the answer, or stores the task's waker.
    pub(super) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut reply = self.reply();
        match reply.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                reply.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn reply(&self) -> MutexGuard<'_, Reply> {
        self.reply
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// The threads that perform lookups, and the questions that wait for them. Owners take turns.
pub(super) struct Queue {
    turns: Turns<Arc<Question>>,
    max_waiting: usize,
}

/// The error returned when no thread is free for the owner and the owner's queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    pub(super) fn new(threads: NonZero<usize>, max_waiting: usize) -> Queue {
        Queue {
            turns: Turns::new(threads),
            max_waiting,
        }
    }

    /// Reserves a thread for the question and returns true, or queues the question and returns
    /// false. If a thread was reserved, the caller has to start it; the thread then calls
    /// [`next`](Queue::next) for more questions.
    pub(super) fn admit(&mut self, question: &Arc<Question>) -> Result<bool, Full> {
        let owner = question.owner;
        if self.turns.take(owner) {
            return Ok(true);
        }
        if self.turns.waiting(owner) >= self.max_waiting {
            return Err(Full);
        }
        self.turns.wait(owner, Arc::clone(question));
        Ok(false)
    }

    /// Returns the next question for a thread that has finished one of this owner's questions. If
    /// no question is waiting, counts the thread as free.
    pub(super) fn next(&mut self, finished: u64) -> Option<Arc<Question>> {
        self.turns.give_back(finished).map(|(_, question)| question)
    }

    /// Removes a question from the queue if it is still queued.
    pub(super) fn remove(&mut self, question: &Arc<Question>) {
        self.turns
            .remove(question.owner, |waiting| Arc::ptr_eq(waiting, question));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Arc<Question> {
        Question::new(1, "host".to_owned(), 1)
    }

    #[test]
    fn questions_get_a_thread_then_a_place_then_a_refusal() {
        let mut queue = Queue::new(NonZero::new(2).expect("2 is not 0"), 1);
        assert_eq!(queue.admit(&question()), Ok(true));
        // A single owner never takes all threads.
        assert_eq!(queue.admit(&question()), Ok(false));
        assert_eq!(queue.admit(&question()), Err(Full));
        let others = || Question::new(2, "host".to_owned(), 1);
        assert_eq!(queue.admit(&others()), Ok(true));
        assert_eq!(
            queue.admit(&others()),
            Ok(false),
            "the other owner has its own queue"
        );
    }

    #[test]
    fn a_thread_goes_to_the_question_that_has_waited_longest() {
        let mut queue = Queue::new(NonZero::<usize>::MIN, 3);
        let [first, second, third] = [question(), question(), question()];
        assert_eq!(queue.admit(&question()), Ok(true));
        for waiting in [&first, &second, &third] {
            assert_eq!(queue.admit(waiting), Ok(false));
        }
        queue.remove(&second);
        assert!(Arc::ptr_eq(
            &queue.next(1).expect("two questions are waiting"),
            &first
        ));
        assert!(Arc::ptr_eq(
            &queue.next(1).expect("one question is waiting"),
            &third
        ));
        assert!(queue.next(1).is_none());
        assert_eq!(queue.admit(&first), Ok(true), "the thread is free again");
    }

    #[test]
    fn removing_a_question_that_is_not_queued_changes_nothing() {
        let mut queue = Queue::new(NonZero::<usize>::MIN, 1);
        let (runs, waits) = (question(), question());
        assert_eq!(queue.admit(&runs), Ok(true));
        assert_eq!(queue.admit(&waits), Ok(false));
        queue.remove(&runs);
        assert_eq!(queue.admit(&question()), Err(Full));
    }
}
