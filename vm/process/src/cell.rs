//! The part of a process that other processes and the host can reach.
//!
//! A [`ProcessCell`] consists of the state that signals act on, the lock around that state and the
//! means to wake the process. The code that the process runs and its memory are kept elsewhere and
//! belong to the process alone.

use super::exit::{Exit, LimitReached, SHORT_REASON};
use super::links::ExitNotices;
use super::mailbox::{MAIL_BYTES, Mail, Mailbox, MailboxLimits, Message, Wanted};
use super::pid::Pid;
use super::purse::{Ledger, Purse};
use super::signal::Signal;
use super::state::{END_BYTES, Outcome, State, Undelivered};
use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use lunatic_abi::Limit;
use std::task::{Context, Poll, Waker};

/// The state of one process, behind a lock.
pub struct ProcessCell {
    pid: Pid,
    limits: MailboxLimits,
    /// The purse that pays for the mail. `None` if the mail is free.
    purse: Option<std::sync::Arc<dyn Purse>>,
    shared: Mutex<Shared>,
    /// Set under the lock once the process is about to end; read without the lock before every
    /// turn.
    is_ending: AtomicBool,
    /// How many turns the process has had.
    turns: AtomicU64,
}

struct Shared {
    state: State,
    /// How much of the mail is paid for.
    ledger: Ledger,
    /// Wakes the process. Set on its first turn.
    waker: Option<Waker>,
    /// How the process ended. Set once everything that the process held has been released and other
    /// processes have been notified, which is later than its death.
    ended: Option<Exit>,
    /// The tasks that wait for `ended`.
    waiting: Vec<Waker>,
}

/// Why a message was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The message is larger than the receiver's environment accepts.
    TooLarge(LimitReached),
    /// The mailbox has no room.
    Full(LimitReached),
}

/// The minimum number of ends that a process can be notified of, however few messages its mailbox
/// may hold. A process with a small mailbox can therefore still monitor its children.
const MIN_ENDS: u64 = 1_000;

impl AsRef<ProcessCell> for ProcessCell {
    fn as_ref(&self) -> &ProcessCell {
        self
    }
}

impl ProcessCell {
    /// Creates the cell of a new process.
    pub fn new(pid: Pid, limits: MailboxLimits) -> ProcessCell {
        ProcessCell {
            pid,
            limits,
            purse: None,
            shared: Mutex::new(Shared {
                state: State::new(),
                ledger: Ledger::default(),
                waker: None,
                ended: None,
                waiting: Vec::new(),
            }),
            is_ending: AtomicBool::new(false),
            turns: AtomicU64::new(0),
        }
    }

    /// Sets the purse that pays for the mail of a new process.
    pub fn paid_by(self, purse: std::sync::Arc<dyn Purse>) -> ProcessCell {
        ProcessCell {
            purse: Some(purse),
            ..self
        }
    }

    /// Returns the process's pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns whether the process is alive.
    pub fn is_alive(&self) -> bool {
        !self.lock().state.is_dead()
    }

    /// Returns how many pieces of mail are waiting in the mailbox, and their total size in bytes.
    pub fn mailbox_size(&self) -> (usize, u64) {
        self.lock().state.mailbox_size()
    }

    /// Waits until the process has ended and returns how it ended. By then, everything that the
    /// process held has been released.
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

    /// Returns how the process ended. Returns `None` until everything that the process held has
    /// been released.
    pub fn exit(&self) -> Option<Exit> {
        self.lock().ended.clone()
    }

    /// Applies a signal and returns whether the process was alive to receive it.
    pub fn signal(&self, signal: Signal) -> bool {
        let mut shared = self.lock();
        let signal = self.affordable(&mut shared, signal);
        let outcome = shared.state.signal(signal);
        if shared.state.ending().is_some() {
            // Release pairs with the Acquire in `is_ending`. For all other readers, the lock
            // provides the ordering.
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

    /// Puts a message into the mailbox, or returns the message with the reason why it was refused.
    /// A message to a dead process is dropped.
    pub fn deliver(&self, message: Message) -> Result<(), (Message, Refusal)> {
        if let Err(refusal) = self.check_size(&message) {
            return Err((message, refusal));
        }
        let mut shared = self.lock();
        let weight = MAIL_BYTES.saturating_add(message.size() as u64);
        if let Err(reached) = self.afford(&mut shared, weight) {
            return Err((message, Refusal::Full(reached)));
        }
        match shared.state.message(message, self.limits) {
            Ok(outcome) => {
                self.wake(shared, outcome);
                Ok(())
            }
            // The message is dropped after the lock is released, because attachments may take time
            // to close.
            Err(Undelivered::Dead(message)) => {
                drop(shared);
                drop(message);
                Ok(())
            }
            Err(Undelivered::Full(message, reached)) => Err((message, Refusal::Full(reached))),
        }
    }

    /// Records what the process now waits for.
    pub fn expect(&self, wanted: &Wanted, since: u64, forever: bool) {
        self.lock().state.expect(wanted, since, forever);
    }

    /// Takes the mail that a receive wants, or records that the process waits for that mail.
    pub fn receive(&self, wanted: &Wanted, since: u64, forever: bool) -> Option<Mail> {
        let mut shared = self.lock();
        let mail = shared.state.receive(wanted, since, forever)?;
        self.settle_mail(&mut shared);
        Some(mail)
    }

    /// Takes the mail that the process is waiting for, if that mail has arrived.
    pub fn receive_awaited(&self) -> Option<Mail> {
        let mut shared = self.lock();
        let mail = shared.state.receive_awaited()?;
        self.settle_mail(&mut shared);
        Some(mail)
    }

    /// Ends a receive, whether or not mail has arrived.
    pub fn stop_waiting(&self) {
        self.lock().state.stop_waiting();
    }

    /// Returns the sequence number of the next piece of mail to arrive, which equals the number of
    /// pieces that have arrived so far.
    pub fn next_sequence(&self) -> u64 {
        self.lock().state.next_sequence()
    }

    /// Handles the notice that no other process of the program is left. The notice may be outdated.
    pub fn on_alone(&self) {
        let shared = self.lock();
        let outcome = shared.state.on_alone();
        self.wake(shared, outcome);
    }

    /// Sets whether the process is notified of failures of linked processes or, as initially,
    /// killed by them.
    pub fn set_notified(&self, is_notified: bool) {
        self.lock().state.links().set_notified(is_notified);
    }

    /// Checks that the process, which must be the one that is running, may be notified of another
    /// end.
    pub fn room_for_end(&self) -> Result<(), LimitReached> {
        let mut shared = self.lock();
        shared
            .state
            .room_for_end(self.limits.messages.max(MIN_ENDS))?;
        self.afford(&mut shared, END_BYTES)
    }

    /// Pays for more mail.
    fn afford(&self, shared: &mut Shared, more: u64) -> Result<(), LimitReached> {
        let Some(purse) = self.purse.as_deref().filter(|_| !shared.state.is_dead()) else {
            return Ok(());
        };
        let weight = shared.state.weight().saturating_add(more);
        shared.ledger.afford(weight, Some(purse))
    }

    /// Returns the payment for mail that has been removed.
    fn settle_mail(&self, shared: &mut Shared) {
        let weight = shared.state.weight();
        shared.ledger.settle(weight, self.purse.as_deref());
    }

    /// Returns a form of the signal that the process can keep. A notice of an end is never dropped.
    /// The notice itself was paid for when the link or monitor was created, but its text was not.
    /// If there is no room for the whole text, only the beginning is kept.
    fn affordable(&self, shared: &mut Shared, signal: Signal) -> Signal {
        let (Signal::LinkDied { exit, .. } | Signal::ProcessDied { exit, .. }) = &signal else {
            return signal;
        };
        let length = exit.text_length();
        if length <= SHORT_REASON || self.afford(shared, length as u64).is_ok() {
            return signal;
        }
        match signal {
            Signal::ProcessDied { pid, exit } => Signal::ProcessDied {
                pid,
                exit: exit.told(SHORT_REASON),
            },
            // The exit is kept only if the process is notified. If the process dies because of the
            // exit, the whole exit is passed on.
            Signal::LinkDied { pid, exit } if shared.state.links().is_notified() => {
                Signal::LinkDied {
                    pid,
                    exit: exit.told(SHORT_REASON),
                }
            }
            other => other,
        }
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

    /// Removes a monitor. Returns whether the monitor existed, and whether other monitors of the
    /// same process remain.
    pub(crate) fn forget_monitor(&self, pid: Pid, tag: i64) -> (bool, bool) {
        let mut shared = self.lock();
        let links = shared.state.links();
        (links.unwatch(pid, tag), links.watches(pid))
    }

    pub(crate) fn no_process(&self, pid: Pid, tag: i64) {
        self.lock().state.no_process(pid, tag);
    }

    /// Returns why the process will end on its next turn, or `None` if it will not.
    pub fn ending(&self) -> Option<Exit> {
        if !self.is_ending() {
            return None;
        }
        self.lock().state.ending().cloned()
    }

    /// Returns whether the process will end on its next turn.
    pub fn is_ending(&self) -> bool {
        // Acquire pairs with the Release in `signal`.
        self.is_ending.load(Ordering::Acquire)
    }

    /// Begins a turn. On the first turn, records how to wake the process.
    pub fn begin_turn(&self, context: &Context<'_>) {
        // Relaxed, and in two steps, because only the process itself changes the count and relies
        // on it.
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns + 1, Ordering::Relaxed);
        if turns == 0 {
            self.set_waker(context);
        }
    }

    /// Records how to wake the process.
    pub fn set_waker(&self, context: &Context<'_>) {
        self.lock().waker = Some(context.waker().clone());
    }

    /// Returns how many turns the process has had.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Ends the process. Afterwards, every signal finds the process dead. Returns which processes
    /// to notify, and the unread mail.
    pub(crate) fn die(&self, exit: &Exit) -> (ExitNotices, Mailbox) {
        let mut shared = self.lock();
        shared.waker = None;
        shared.ledger.close(self.purse.as_deref());
        shared.state.die(exit)
    }

    /// Notifies all tasks that wait for the process's end. Called once everything that the process
    /// held has been released.
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
            .expect("no code panics while it holds this lock")
    }

    /// Wakes the process if the outcome requires it. The process's lock is released first, because
    /// a waker may run arbitrary code, including code that ends this process.
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
