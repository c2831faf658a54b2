//! Who looks up now and who waits for a turn. It starts no thread and looks nothing up.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// What a look-up ends with.
pub(super) type Answer = io::Result<Vec<SocketAddr>>;

/// One look-up, shared by the task that waits for it and the thread that does it.
pub(super) struct Question {
    pub(super) host: String,
    pub(super) port: u16,
    reply: Mutex<Reply>,
}

/// The way from the thread to the task.
#[derive(Default)]
struct Reply {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Question {
    pub(super) fn new(host: String, port: u16) -> Arc<Question> {
        Arc::new(Question {
            host,
            port,
            reply: Mutex::default(),
        })
    }

    /// Hands the answer over and wakes the task, if it still waits.
    pub(super) fn answer(&self, answer: Answer) {
        let mut reply = self.reply();
        reply.answer = Some(answer);
        let waker = reply.waker.take();
        drop(reply);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the answer, or leaves word whom to wake.
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
            .expect("nothing panics while it holds a reply")
    }
}

/// As many turns as threads may look up at once, and the queue for them, first come, first served.
pub(super) struct Turns {
    free: usize,
    waiting: VecDeque<Arc<Question>>,
    most_waiting: usize,
}

/// No turn is free, and the queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Turns {
    pub(super) fn new(turns: NonZero<usize>, most_waiting: usize) -> Turns {
        Turns {
            free: turns.get(),
            waiting: VecDeque::new(),
            most_waiting,
        }
    }

    /// Takes a turn for this question (true: the caller starts a thread, which ends with
    /// [`pass_on`](Turns::pass_on)), or a place in the queue (false).
    pub(super) fn ask(&mut self, question: &Arc<Question>) -> Result<bool, Refused> {
        if self.free > 0 {
            self.free -= 1;
            return Ok(true);
        }
        if self.waiting.len() >= self.most_waiting {
            return Err(Refused);
        }
        self.waiting.push_back(Arc::clone(question));
        Ok(false)
    }

    /// Gives a turn to the next question, or back.
    pub(super) fn pass_on(&mut self) -> Option<Arc<Question>> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.free += 1;
        }
        next
    }

    /// Takes a question out of the queue, if it is there.
    pub(super) fn forget(&mut self, question: &Arc<Question>) {
        self.waiting
            .retain(|waiting| !Arc::ptr_eq(waiting, question));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Arc<Question> {
        Question::new("host".to_owned(), 1)
    }

    #[test]
    fn turns_then_places_then_refusal() {
        let mut turns = Turns::new(NonZero::new(2).expect("2 is not 0"), 1);
        assert_eq!(turns.ask(&question()), Ok(true));
        assert_eq!(turns.ask(&question()), Ok(true));
        assert_eq!(turns.ask(&question()), Ok(false));
        assert_eq!(turns.ask(&question()), Err(Refused));
    }

    #[test]
    fn a_turn_goes_to_whoever_waits_longest() {
        let mut turns = Turns::new(NonZero::<usize>::MIN, 3);
        let [first, second, third] = [question(), question(), question()];
        assert_eq!(turns.ask(&question()), Ok(true));
        for waiting in [&first, &second, &third] {
            assert_eq!(turns.ask(waiting), Ok(false));
        }
        turns.forget(&second);
        assert!(Arc::ptr_eq(&turns.pass_on().expect("two wait"), &first));
        assert!(Arc::ptr_eq(&turns.pass_on().expect("one waits"), &third));
        assert!(turns.pass_on().is_none());
        assert_eq!(turns.ask(&first), Ok(true), "the turn came back");
    }

    #[test]
    fn forgetting_one_that_does_not_wait_changes_nothing() {
        let mut turns = Turns::new(NonZero::<usize>::MIN, 1);
        let (runs, waits) = (question(), question());
        assert_eq!(turns.ask(&runs), Ok(true));
        assert_eq!(turns.ask(&waits), Ok(false));
        turns.forget(&runs);
        assert_eq!(turns.ask(&question()), Err(Refused));
    }
}
