//! The part of a process that other processes and the host can access.
//!
//! A [`ProcessCell`] consists of the state that signals act on, the lock around that state and the
//! waker for the process. The process's code and memory are stored elsewhere and are accessed only
//! by the process itself.

use super::exit::{Exit, LimitReached, SHORT_REASON};
use super::links::ExitNotices;
use super::mailbox::{MAIL_BYTES, Mail, Mailbox, MailboxLimits, Message, Wanted};
use super::pid::Pid;
use super::purse::{Ledger, Paid, Purse};
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
    /// Set under the lock once the process is about to die; read without the lock before every
    /// turn.
    is_ending: AtomicBool,
    /// The number of turns the process has had.
    turns: AtomicU64,
}

struct Shared {
    state: State,
    /// How much of the mail is paid for.
    ledger: Ledger,
    /// How many messages, and bytes of messages, have found the mailbox full. Room that becomes
    /// free is reserved for them.
    late: (u64, u64),
    /// Wakes the process. Set on its first turn.
    waker: Option<Waker>,
    /// How the process ended. Set some time after its death, once everything that it held has been
    /// released and other processes have been notified.
    ended: Option<Exit>,
    /// The tasks that are waiting for `ended` to be set.
    waiting: Vec<Waker>,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The message exceeds the size limit of the receiver's environment.
    TooLarge(LimitReached),
    /// The mailbox is full.
    Full(LimitReached),
}

/// The minimum number of death notices that a process may receive, no matter how few messages its
/// mailbox may hold. Even a process with a small mailbox can therefore monitor its children.
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
                late: (0, 0),
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

    /// Returns the number of messages and death notices in the mailbox, and the total size of the
    /// messages in bytes.
    pub fn mailbox_size(&self) -> (usize, u64) {
        self.lock().state.mailbox_size()
    }

    /// Waits until the process has ended and everything that it held has been released. Returns how
    /// it ended.
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

    /// Checks that a message does not exceed the size that the process accepts.
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

    /// Puts a message into the mailbox, or returns the message and the reason it was refused. A
    /// message to a dead process is dropped.
    pub fn deliver(&self, message: Message) -> Result<(), (Message, Refusal)> {
        self.deliver_in_turn(message, false)
    }

    /// Like [`ProcessCell::deliver`], but can also use room that is reserved for late messages.
    pub fn deliver_late(&self, message: Message) -> Result<(), (Message, Refusal)> {
        self.deliver_in_turn(message, true)
    }

    /// Reserves room for one more message of `size` bytes. Other messages do not get that room when
    /// it becomes free, unless they are awaited.
    pub fn keep_room(&self, size: usize) {
        let (messages, bytes) = &mut self.lock().late;
        *messages += 1;
        *bytes += size as u64;
    }

    /// Undoes one call of [`ProcessCell::keep_room`].
    pub fn release_room(&self, size: usize) {
        let (messages, bytes) = &mut self.lock().late;
        *messages -= 1;
        *bytes -= size as u64;
    }

    fn deliver_in_turn(&self, message: Message, is_late: bool) -> Result<(), (Message, Refusal)> {
        if let Err(refusal) = self.check_size(&message) {
            return Err((message, refusal));
        }
        let mut shared = self.lock();
        let weight = MAIL_BYTES.saturating_add(message.size() as u64);
        if let Err(reached) = self.afford(&mut shared, weight) {
            return Err((message, Refusal::Full(reached)));
        }
        let kept = if is_late { (0, 0) } else { shared.late };
        match shared.state.message_beside(message, self.limits, kept) {
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

    /// Records what the process is now waiting for.
    pub fn expect(&self, wanted: &Wanted, since: u64, forever: bool) {
        self.lock().state.expect(wanted, since, forever);
    }

    /// Takes the first mail that matches, or records that the process is waiting for it.
    pub fn receive(&self, wanted: &Wanted, since: u64, forever: bool) -> Option<Mail> {
        let mut shared = self.lock();
        let mail = shared.state.receive(wanted, since, forever)?;
        self.settle_mail(&mut shared);
        Some(mail)
    }

    /// If the mail that the process is waiting for has arrived, takes it.
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

    /// Returns the sequence number that the next mail to arrive will get. This equals the number of
    /// messages and death notices that have arrived so far.
    pub fn next_sequence(&self) -> u64 {
        self.lock().state.next_sequence()
    }

    /// Called when this may be the only process left in the program. If the process waits without a
    /// timeout, wakes it, so that it checks for itself.
    pub fn on_alone(&self) {
        let shared = self.lock();
        let outcome = shared.state.on_alone();
        self.wake(shared, outcome);
    }

    /// Sets whether failures of linked processes notify this process or, by default, kill it.
    pub fn set_notified(&self, is_notified: bool) {
        self.lock().state.links().set_notified(is_notified);
    }

    /// Checks that the process, which must be the currently running one, may be notified of another
    /// death.
    pub fn room_for_end(&self) -> Result<(), LimitReached> {
        let mut shared = self.lock();
        shared
            .state
            .room_for_end(self.limits.messages.max(MIN_ENDS))?;
        self.afford(&mut shared, END_BYTES)
    }

    /// Pays for the other side of a link, including the notice that the other process may get.
    pub(crate) fn pay_for_link(&self) -> Result<Paid, LimitReached> {
        Paid::new(self.purse.as_ref(), END_BYTES)
    }

    /// Links this process to the process `pid`, which is making the link, unless this process is
    /// dead. Returns whether this process is alive.
    pub(crate) fn accept_link(&self, pid: Pid, tag: i64, paid: Paid) -> bool {
        let mut shared = self.lock();
        let is_alive = !shared.state.is_dead();
        if is_alive {
            shared.state.links().accept_link(pid, tag, paid);
        }
        is_alive
    }

    /// Pays for more mail.
    fn afford(&self, shared: &mut Shared, more: u64) -> Result<(), LimitReached> {
        let Some(purse) = self.purse.as_deref().filter(|_| !shared.state.is_dead()) else {
            return Ok(());
        };
        let weight = shared.state.weight().saturating_add(more);
        shared.ledger.afford(weight, Some(purse))
    }

    /// Refunds the payment for mail that has been removed.
    fn settle_mail(&self, shared: &mut Shared) {
        let weight = shared.state.weight();
        shared.ledger.settle(weight, self.purse.as_deref());
    }

    /// Returns the signal in a form that the process can afford to keep. A death notice is never
    /// dropped. The notice itself was paid for when the link or monitor was created, but its text
    /// was not. The process that made the link or monitor pays for the text too. If that process
    /// cannot afford the whole text, only the beginning is kept.
    fn affordable(&self, shared: &mut Shared, signal: Signal) -> Signal {
        let (Signal::LinkDied { exit, pid } | Signal::ProcessDied { exit, pid }) = &signal else {
            return signal;
        };
        let length = exit.text_length();
        if length <= SHORT_REASON {
            return signal;
        }
        let is_link = matches!(signal, Signal::LinkDied { .. });
        let paid = match shared.state.links().paid(*pid) {
            Some(paid) if is_link => paid.add(length as u64),
            _ => self.afford(shared, length as u64),
        };
        if paid.is_ok() {
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

    /// Removes a monitor. Returns whether the monitor existed, and whether this process still
    /// monitors `pid` with other tags.
    pub(crate) fn forget_monitor(&self, pid: Pid, tag: i64) -> (bool, bool) {
        let mut shared = self.lock();
        let links = shared.state.links();
        (links.unwatch(pid, tag), links.watches(pid))
    }

    pub(crate) fn no_process(&self, pid: Pid, tag: i64) {
        self.lock().state.no_process(pid, tag);
    }

    /// Returns why the process will die on its next turn, or `None` if it will not.
    pub fn ending(&self) -> Option<Exit> {
        if !self.is_ending() {
            return None;
        }
        self.lock().state.ending().cloned()
    }

    /// Returns whether the process will die on its next turn.
    pub fn is_ending(&self) -> bool {
        // Acquire pairs with the Release in `signal`.
        self.is_ending.load(Ordering::Acquire)
    }

    /// Begins a turn. On the first turn, records how to wake the process.
    pub fn begin_turn(&self, context: &Context<'_>) {
        // Relaxed, and a separate load and store, because only the process itself changes the count
        // and relies on it.
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

    /// Returns the number of turns the process has had.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Returns how many pieces of mail, links and monitors have to be handled when the process
    /// ends.
    pub fn burden(&self) -> usize {
        self.lock().state.burden()
    }

    /// Makes the process, which is about to end with the given exit, reject messages.
    pub fn close(&self, exit: &Exit) {
        self.lock().state.close(exit);
    }

    /// Drops the first pieces of unread mail. Returns whether there may be more to drop.
    pub fn drop_mail(&self, most: usize) -> bool {
        let mail = {
            let mut shared = self.lock();
            let mail = shared.state.take_mail(most);
            self.settle_mail(&mut shared);
            mail
        };
        mail.len() == most
    }

    /// Marks the process as dead. After that, signals have no effect. Returns which processes to
    /// notify, and the unread mail.
    pub(crate) fn die(&self, exit: &Exit) -> (ExitNotices, Mailbox) {
        let mut shared = self.lock();
        shared.waker = None;
        shared.ledger.close(self.purse.as_deref());
        shared.state.die(exit)
    }

    /// Wakes all tasks that are waiting for the process to end. Called once everything that the
    /// process held has been released.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: i64) -> Message {
        Message {
            tag,
            ..Message::default()
        }
    }

    #[test]
    fn room_that_is_kept_for_a_late_message_is_not_given_to_another() {
        let limits = MailboxLimits {
            message_bytes: 100,
            messages: 2,
            bytes: 100,
        };
        let cell = ProcessCell::new(Pid::from_number(1), limits);
        for tag in [1, 2] {
            cell.deliver(message(tag)).expect("there is room");
        }
        cell.deliver(message(3)).expect_err("the mailbox is full");
        cell.keep_room(0);
        cell.deliver_late(message(3))
            .expect_err("the mailbox is full");
        cell.receive(&Wanted::Any, 0, false)
            .expect("two messages are waiting");
        cell.deliver(message(4)).expect_err("the room is kept");
        cell.expect(&Wanted::Tag(7), 0, true);
        cell.deliver(message(7)).expect("the message is awaited");
        cell.receive_awaited().expect("the message has arrived");
        cell.deliver_late(message(3))
            .expect("the room is kept for this");
        cell.release_room(0);
        cell.receive(&Wanted::Any, 0, false)
            .expect("two messages are waiting");
        cell.deliver(message(5))
            .expect("no room is kept any longer");
    }

    #[test]
    fn the_mail_of_a_process_that_ends_is_dropped_in_portions_and_none_is_added() {
        let limits = MailboxLimits {
            message_bytes: 100,
            messages: 1_000,
            bytes: 1_000,
        };
        let cell = ProcessCell::new(Pid::from_number(1), limits);
        for tag in 0..1_000 {
            cell.deliver(message(tag)).expect("there is room");
        }
        cell.close(&Exit::Normal);
        assert_eq!(cell.burden(), 1_000);
        assert!(cell.drop_mail(600));
        assert_eq!(cell.burden(), 400);
        cell.deliver(message(1)).expect("the message is dropped");
        assert!(!cell.drop_mail(600));
        assert_eq!(cell.burden(), 0);
    }
}
