//! One process, as others reach it.
//!
//! A [`ProcessCell`] is the state that signals act on, the lock around it and the means to wake the
//! process. What the process runs is somewhere else and belongs to nobody else.

use super::exit::{Exit, LimitReached};
use super::links::ExitNotices;
use super::mailbox::{Mail, Mailbox, MailboxLimits, Message, Wanted};
use super::pid::Pid;
use super::signal::Signal;
use super::state::{Outcome, State, Undelivered};
use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use lunatic_abi::Limit;
use std::task::{Context, Poll, Waker};

/// The state of one process, behind its lock.
pub struct ProcessCell {
    pid: Pid,
    limits: MailboxLimits,
    shared: Mutex<Shared>,
    /// Set, under the lock, once the process is about to end; read without it before every turn.
    is_ending: AtomicBool,
    /// How many turns the process has had.
    turns: AtomicU64,
}

struct Shared {
    state: State,
    /// Wakes the process. Set on its first turn.
    waker: Option<Waker>,
    /// How the process ended. Set once all that it had is released and others were told, which is
    /// later than its death.
    ended: Option<Exit>,
    /// Whoever waits for that.
    waiting: Vec<Waker>,
}

/// Why a message was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than the receiver's environment accepts.
    TooLarge(LimitReached),
    /// The mailbox has no room.
    Full(LimitReached),
}

/// How many ends a process can be told of at least, however few messages its mailbox may hold:
/// whoever keeps senders short does not lose sight of its children.
const MIN_ENDS: u64 = 1_000;

impl AsRef<ProcessCell> for ProcessCell {
    fn as_ref(&self) -> &ProcessCell {
        self
    }
}

impl ProcessCell {
    /// Makes the cell of a new process.
    pub fn new(pid: Pid, limits: MailboxLimits) -> ProcessCell {
        ProcessCell {
            pid,
            limits,
            shared: Mutex::new(Shared {
                state: State::new(),
                waker: None,
                ended: None,
                waiting: Vec::new(),
            }),
            is_ending: AtomicBool::new(false),
            turns: AtomicU64::new(0),
        }
    }

    /// Returns its pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it is alive.
    pub fn is_alive(&self) -> bool {
        !self.lock().state.is_dead()
    }

    /// Returns how many pieces of mail wait in its mailbox, and their bytes.
    pub fn mailbox_size(&self) -> (usize, u64) {
        self.lock().state.mailbox_size()
    }

    /// Waits until it has ended and returns how. By then everything that it had is released.
    pub async fn exited(&self) -> Exit {
        std::future::poll_fn(|context| {
            let mut shared = self.lock();
            if let Some(exit) = &shared.ended {
                return Poll::Ready(exit.clone());
            }
            if !shared
                .waiting
                .iter()
                .any(|waker| waker.will_wake(context.waker()))
            {
                shared.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Returns how it has ended, once everything that it had is released.
    pub fn exit(&self) -> Option<Exit> {
        self.lock().ended.clone()
    }

    /// Applies a signal and returns whether the process was alive to take it.
    pub fn signal(&self, signal: Signal) -> bool {
        let mut shared = self.lock();
        let outcome = shared.state.signal(signal);
        if shared.state.ending().is_some() {
            // Release pairs with the Acquire in `ending`; the lock orders it for everybody else.
            self.is_ending.store(true, Ordering::Release);
        }
        self.wake(shared, outcome);
        outcome != Outcome::Dead
    }

    /// Checks that a message is not larger than the process accepts.
    pub fn check_size(&self, message: &Message) -> Result<(), Refusal> {
        let (size, allowed) = (message.size() as u64, self.limits.message_bytes);
        if size <= allowed {
            return Ok(());
        }
        Err(Refusal::TooLarge(LimitReached {
            limit: Limit::MessageBytes,
            allowed,
            wanted: Some(size),
        }))
    }

    /// Puts a message into the mailbox, or gives it back and says why not. A message to the dead is
    /// dropped.
    pub fn deliver(&self, message: Message) -> Result<(), (Message, Refusal)> {
        if let Err(refusal) = self.check_size(&message) {
            return Err((message, refusal));
        }
        let mut shared = self.lock();
        match shared.state.message(message, self.limits) {
            Ok(outcome) => {
                self.wake(shared, outcome);
                Ok(())
            }
            // Dropped after the lock, since what is attached may take time to close.
            Err(Undelivered::Dead(message)) => {
                drop(shared);
                drop(message);
                Ok(())
            }
            Err(Undelivered::Full(message, reached)) => Err((message, Refusal::Full(reached))),
        }
    }

    /// Remembers what the process waits for from now on.
    pub fn expect(&self, wanted: &Wanted, since: u64, forever: bool) {
        self.lock().state.expect(wanted, since, forever);
    }

    /// Takes what a receive asks for, or remembers that the process waits for it.
    pub fn receive(&self, wanted: &Wanted, since: u64, forever: bool) -> Option<Mail> {
        self.lock().state.receive(wanted, since, forever)
    }

    /// Takes what the process waits for, if it has come.
    pub fn receive_awaited(&self) -> Option<Mail> {
        self.lock().state.receive_awaited()
    }

    /// Ends a receive, answered or not.
    pub fn stop_waiting(&self) {
        self.lock().state.stop_waiting();
    }

    /// Returns the sequence number of the next piece of mail, which is how many it got so far.
    pub fn next_sequence(&self) -> u64 {
        self.lock().state.next_sequence()
    }

    /// Handles the notice that no other process of the program is left, which may be out of date.
    pub fn on_alone(&self) {
        let shared = self.lock();
        let outcome = shared.state.on_alone();
        self.wake(shared, outcome);
    }

    /// Sets whether the process is notified of failures of links or killed by them, as it is at
    /// first.
    pub fn set_notified(&self, is_notified: bool) {
        self.lock().state.links().set_notified(is_notified);
    }

    /// Checks that the process, whose turn it is, may be told of one more end.
    pub fn room_for_end(&self) -> Result<(), LimitReached> {
        self.lock()
            .state
            .room_for_end(self.limits.messages.max(MIN_ENDS))
    }

    pub(crate) fn remember_link(&self, pid: Pid, tag: i64) -> bool {
        self.lock().state.links().link(pid, tag)
    }

    pub(crate) fn forget_link(&self, pid: Pid) {
        self.lock().state.links().unlink(pid);
    }

    pub(crate) fn remember_monitor(&self, pid: Pid, tag: i64) -> bool {
        self.lock().state.links().watch(pid, tag)
    }

    /// Forgets a monitor; returns whether there was one, and whether there are others of the same
    /// process.
    pub(crate) fn forget_monitor(&self, pid: Pid, tag: i64) -> (bool, bool) {
        let mut shared = self.lock();
        let links = shared.state.links();
        (links.unwatch(pid, tag), links.watches(pid))
    }

    pub(crate) fn no_process(&self, pid: Pid, tag: i64) {
        self.lock().state.no_process(pid, tag);
    }

    /// Returns why the process ends on its next turn, if it does.
    pub fn ending(&self) -> Option<Exit> {
        if !self.is_ending() {
            return None;
        }
        self.lock().state.ending().cloned()
    }

    /// Whether the process ends on its next turn.
    pub fn is_ending(&self) -> bool {
        // Acquire pairs with the Release in `signal`.
        self.is_ending.load(Ordering::Acquire)
    }

    /// Begins a turn. On the first one, remembers how to wake the process.
    pub fn begin_turn(&self, context: &Context<'_>) {
        // Relaxed, and in two steps: only the process itself changes it and relies on it.
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns + 1, Ordering::Relaxed);
        if turns == 0 {
            self.set_waker(context);
        }
    }

    /// Remembers how to wake the process.
    pub fn set_waker(&self, context: &Context<'_>) {
        self.lock().waker = Some(context.waker().clone());
    }

    /// Returns how many turns the process has had.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Ends the process: from now on every signal finds it dead. Returns who is told, and the mail
    /// that nobody will read.
    pub(crate) fn die(&self, exit: &Exit) -> (ExitNotices, Mailbox) {
        let mut shared = self.lock();
        shared.waker = None;
        shared.state.die(exit)
    }

    /// Tells whoever waits for its end, once everything that the process had is released.
    pub(crate) fn settle(&self, exit: Exit) {
        let waiting = {
            let mut shared = self.lock();
            shared.ended = Some(exit);
            std::mem::take(&mut shared.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared
            .lock()
            .expect("nothing panics while it holds a process's lock")
    }

    /// Wakes the process if it has to, without its lock: a waker may run anything, even this
    /// process's end.
    fn wake(&self, shared: MutexGuard<'_, Shared>, outcome: Outcome) {
        if outcome != Outcome::Wake {
            return;
        }
        let waker = shared.waker.clone();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
