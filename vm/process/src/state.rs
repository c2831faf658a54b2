//! The part of a process's state that other processes act on, as a plain state machine.
//!
//! There is no signal queue. Instead, a sender applies its signal to this state under the
//! receiver's lock. As a result, signals take effect in the order in which they were sent, a link
//! either exists or does not exist when a process dies, a sender learns immediately that a mailbox
//! is full, and a process is woken only by an event that it is waiting for.

use super::exit::{Exit, LimitReached};
use super::links::{ExitNotices, Links, Reaction};
use super::mailbox::{Mail, Mailbox, MailboxLimits, Message, Wanted};
use super::pid::Pid;
use super::signal::Signal;
use lunatic_abi::Limit;

/// What the sender of a signal must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing.
    Done,
    /// Wake the receiver.
    Wake,
    /// Nothing: the receiver is dead, and the signal had no effect.
    Dead,
}

/// Why a message was not put into a mailbox, along with the message.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// The receiver is dead or about to die. Messages to dead processes are dropped, as in Erlang.
    Dead(Message),
    /// The mailbox is full.
    Full(Message, LimitReached),
}

#[derive(Debug)]
enum Life {
    Alive,
    /// The process will die with this exit on its next turn.
    Ending(Exit),
    /// The process is dead, and other processes have been or are being notified.
    Dead,
}

/// A receive that a process is waiting in.
#[derive(Debug)]
struct Wait {
    wanted: Wanted,
    since: u64,
    /// Set if the process waits without a timeout. Such a wait can never finish once there are no
    /// other processes left.
    forever: bool,
}

/// The number of bytes charged for a death notice, including both sides of the link or monitor that
/// causes it.
pub(crate) const END_BYTES: u64 = 256;

/// The state of one process.
#[derive(Debug)]
pub(crate) struct State {
    life: Life,
    mailbox: Mailbox,
    links: Links,
    /// Set while the process sleeps in a receive.
    wait: Option<Wait>,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            life: Life::Alive,
            mailbox: Mailbox::default(),
            links: Links::default(),
            wait: None,
        }
    }

    /// Applies a signal.
    pub(crate) fn signal(&mut self, signal: Signal) -> Outcome {
        if self.is_dead() {
            return Outcome::Dead;
        }
        match signal {
            Signal::Kill => self.end(Exit::Killed),
            Signal::Link { pid, tag } => {
                self.links.link(pid, tag);
                Outcome::Done
            }
            Signal::Unlink { pid } => {
                self.links.unlink(pid);
                Outcome::Done
            }
            Signal::LinkDied { pid, exit } => match self.links.on_link_died(pid, &exit) {
                Reaction::None => Outcome::Done,
                Reaction::Die(exit) => self.end(exit),
                Reaction::Tell(mail) => self.deliver(mail),
            },
            Signal::Monitor { pid } => {
                self.links.add_watcher(pid);
                Outcome::Done
            }
            Signal::StopMonitoring { pid } => {
                self.links.remove_watcher(pid);
                Outcome::Done
            }
            Signal::ProcessDied { pid, exit } => {
                let mut outcome = Outcome::Done;
                for mail in self.links.on_process_died(pid, &exit) {
                    if self.deliver(mail) == Outcome::Wake {
                        outcome = Outcome::Wake;
                    }
                }
                outcome
            }
        }
    }

    /// Notifies the process that a process it tried to monitor does not exist.
    pub(crate) fn no_process(&mut self, pid: Pid, tag: i64) {
        if let Some(mail) = self.links.on_no_process(pid, tag) {
            self.deliver(mail);
        }
    }

    /// Checks that the process may link to or monitor another process. Death notices are never
    /// dropped, so their number is limited instead. Both the notices in the mailbox and one future
    /// notice for each link and monitor count toward the limit. Other processes pay for the links
    /// that they make, which do not count.
    pub(crate) fn room_for_end(&self, allowed: u64) -> Result<(), LimitReached> {
        let wanted = (self.mailbox.deaths() + self.links.expected()) as u64 + 1;
        if wanted <= allowed {
            return Ok(());
        }
        Err(LimitReached {
            limit: Limit::MailboxMessages,
            allowed,
            wanted: Some(wanted),
        })
    }

    /// Puts a message into the mailbox.
    #[cfg(test)]
    pub(crate) fn message(
        &mut self,
        message: Message,
        limits: MailboxLimits,
    ) -> Result<Outcome, Undelivered> {
        self.message_beside(message, limits, (0, 0))
    }

    /// Puts a message into the mailbox. Unless the message is awaited, it does not get the room
    /// that is reserved for the given numbers of messages and bytes.
    pub(crate) fn message_beside(
        &mut self,
        message: Message,
        limits: MailboxLimits,
        (messages, bytes): (u64, u64),
    ) -> Result<Outcome, Undelivered> {
        if !matches!(self.life, Life::Alive) {
            return Err(Undelivered::Dead(message));
        }
        let wakes = self
            .wait
            .as_ref()
            .is_some_and(|wait| wait.wanted.accepts_data(message.tag));
        let rest = MailboxLimits {
            messages: limits.messages.saturating_sub(messages),
            bytes: limits.bytes.saturating_sub(bytes),
            ..limits
        };
        let within = if wakes { limits } else { rest };
        let pushed = match self.mailbox.push(message, wakes, within) {
            // This is a reply that arrives after the owner has sent the request but before it waits
            // for the reply.
            Err((message, _)) if !wakes && self.links.is_expecting(message.tag) => {
                self.mailbox.push(message, true, limits)
            }
            pushed => pushed,
        };
        match pushed {
            Ok(()) => Ok(if wakes { Outcome::Wake } else { Outcome::Done }),
            Err((message, reached)) => Err(Undelivered::Full(message, reached)),
        }
    }

    /// Returns the number of bytes to charge for the process's mail, including one future death
    /// notice for each link and monitor, and excluding what other processes have paid for.
    pub(crate) fn weight(&self) -> u64 {
        let ends = self.links.expected() as u64 * END_BYTES;
        self.mailbox.weight().saturating_add(ends)
    }

    fn deliver(&mut self, mail: Mail) -> Outcome {
        let wakes = self
            .wait
            .as_ref()
            .is_some_and(|wait| wait.wanted.accepts(&mail));
        self.mailbox.push_death(mail);
        if wakes { Outcome::Wake } else { Outcome::Done }
    }

    /// Makes the process die with the given exit on its next turn. If the process is already about
    /// to die, the first reason is kept.
    fn end(&mut self, exit: Exit) -> Outcome {
        if matches!(self.life, Life::Alive) {
            self.life = Life::Ending(exit);
        }
        Outcome::Wake
    }

    /// Returns why the process will die on its next turn, or `None` if it will not.
    pub(crate) fn ending(&self) -> Option<&Exit> {
        match &self.life {
            Life::Ending(exit) => Some(exit),
            _ => None,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.life, Life::Dead)
    }

    /// Records what the process is now waiting for.
    pub(crate) fn expect(&mut self, wanted: &Wanted, since: u64, forever: bool) {
        self.wait = Some(Wait {
            wanted: wanted.clone(),
            since,
            forever,
        });
    }

    /// Takes the first mail that matches, or records that the process is waiting for it.
    pub(crate) fn receive(&mut self, wanted: &Wanted, since: u64, forever: bool) -> Option<Mail> {
        if let Some(mail) = self.mailbox.take(wanted, since) {
            self.stop_waiting();
            return Some(mail);
        }
        match &self.wait {
            // The process was woken for another reason and is waiting for the same mail as before.
            Some(wait) if wait.wanted == *wanted && wait.since == since => {}
            _ => self.expect(wanted, since, forever),
        }
        None
    }

    /// If the mail that the process is waiting for has arrived, takes it and ends the wait.
    pub(crate) fn receive_awaited(&mut self) -> Option<Mail> {
        let wait = self.wait.as_ref()?;
        let mail = self.mailbox.take(&wait.wanted, wait.since)?;
        self.stop_waiting();
        Some(mail)
    }

    /// Ends a receive, whether or not mail has arrived.
    pub(crate) fn stop_waiting(&mut self) {
        self.wait = None;
    }

    /// Called when this may be the only process left. If the process waits without a timeout, wakes
    /// it, so that it checks for itself.
    pub(crate) fn on_alone(&self) -> Outcome {
        if self.wait.as_ref().is_some_and(|wait| wait.forever) {
            Outcome::Wake
        } else {
            Outcome::Done
        }
    }

    /// Returns the sequence number that the next mail to arrive will get.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.mailbox.next_sequence()
    }

    /// Returns the number of messages and death notices in the mailbox, and the total size of the
    /// messages in bytes.
    pub(crate) fn mailbox_size(&self) -> (usize, u64) {
        (self.mailbox.len(), self.mailbox.bytes())
    }

    pub(crate) fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Makes the process, which is about to end, reject messages.
    pub(crate) fn close(&mut self, exit: &Exit) {
        self.wait = None;
        self.end(exit.clone());
    }

    /// Takes the first pieces of unread mail.
    pub(crate) fn take_mail(&mut self, most: usize) -> Vec<Mail> {
        let next = std::iter::from_fn(|| self.mailbox.take(&Wanted::Any, 0));
        next.take(most).collect()
    }

    /// Returns how many pieces of mail, links and monitors have to be handled when the process
    /// ends.
    pub(crate) fn burden(&self) -> usize {
        self.mailbox.len() + self.links.len()
    }

    /// Marks the process as dead. After that, signals have no effect. Returns which processes to
    /// notify, and the unread mail.
    pub(crate) fn die(&mut self, exit: &Exit) -> (ExitNotices, Mailbox) {
        debug_assert!(!self.is_dead(), "a process dies only once");
        self.wait = None;
        self.life = Life::Dead;
        (self.links.on_exit(exit), std::mem::take(&mut self.mailbox))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: MailboxLimits = MailboxLimits {
        message_bytes: u64::MAX,
        messages: u64::MAX,
        bytes: u64::MAX,
    };

    fn message(tag: i64) -> Message {
        Message {
            tag,
            ..Message::default()
        }
    }

    fn wait(state: &mut State, tags: &[i64], forever: bool) {
        assert!(
            state
                .receive(&Wanted::from_tags(tags), 0, forever)
                .is_none()
        );
    }

    #[test]
    fn only_awaited_mail_wakes_a_process() {
        let mut state = State::new();
        assert_eq!(
            state.message(message(1), WIDE).expect("there is room"),
            Outcome::Done
        );
        wait(&mut state, &[7], true);
        assert_eq!(
            state.message(message(2), WIDE).expect("there is room"),
            Outcome::Done
        );
        assert_eq!(
            state.message(message(7), WIDE).expect("there is room"),
            Outcome::Wake
        );
        assert!(state.receive(&Wanted::from_tags(&[7]), 0, true).is_some());
        assert_eq!(
            state.message(message(7), WIDE).expect("there is room"),
            Outcome::Done
        );
    }

    #[test]
    fn a_wait_continues_until_the_awaited_mail_is_taken() {
        let mut state = State::new();
        wait(&mut state, &[7, 8], true);
        state.message(message(1), WIDE).expect("there is room");
        assert!(state.receive_awaited().is_none());
        assert_eq!(
            state.message(message(8), WIDE).expect("there is room"),
            Outcome::Wake
        );
        assert!(matches!(
            state.receive_awaited(),
            Some(Mail::Data(Message { tag: 8, .. }))
        ));
        assert!(state.receive_awaited().is_none(), "the wait has ended");
    }

    #[test]
    fn t043_the_number_of_unread_death_notices_is_limited() {
        let mut state = State::new();
        for pid in 1..=3 {
            state
                .room_for_end(3)
                .expect("one of three notices is expected");
            state.links().watch(Pid(pid), 0);
        }
        let reached = state
            .room_for_end(3)
            .expect_err("three notices are already expected");
        assert_eq!(
            reached,
            LimitReached {
                limit: Limit::MailboxMessages,
                allowed: 3,
                wanted: Some(4)
            }
        );
        state.signal(Signal::ProcessDied {
            pid: Pid(1),
            exit: Exit::Normal,
        });
        state
            .room_for_end(3)
            .expect_err("one notice is waiting and two are expected");
        assert!(state.receive(&Wanted::Any, 0, true).is_some());
        state
            .room_for_end(3)
            .expect("only two notices are expected");
    }

    #[test]
    fn the_first_reason_to_end_is_kept() {
        let mut state = State::new();
        state.signal(Signal::Link {
            pid: Pid(1),
            tag: 0,
        });
        assert_eq!(
            state.signal(Signal::LinkDied {
                pid: Pid(1),
                exit: Exit::Status(2)
            }),
            Outcome::Wake
        );
        assert_eq!(state.signal(Signal::Kill), Outcome::Wake);
        assert!(matches!(
            state.ending(),
            Some(Exit::LinkDied { pid: Pid(1), .. })
        ));
    }

    #[test]
    fn t078_a_second_kill_changes_nothing() {
        let mut state = State::new();
        assert_eq!(state.signal(Signal::Kill), Outcome::Wake);
        assert_eq!(state.signal(Signal::Kill), Outcome::Wake);
        state.die(&Exit::Killed);
        assert_eq!(state.signal(Signal::Kill), Outcome::Dead);
    }

    #[test]
    fn a_full_mailbox_has_room_for_one_awaited_message() {
        let limits = MailboxLimits {
            messages: 2,
            bytes: 16,
            ..WIDE
        };
        let sized = |tag, size| Message {
            tag,
            data: vec![0; size],
            ..Message::default()
        };
        for full in [[sized(0, 1), sized(0, 1)], [sized(0, 0), sized(0, 16)]] {
            let mut state = State::new();
            for message in full {
                state.message(message, limits).expect("there is room");
            }
            assert!(matches!(
                state.message(sized(7, 4), limits),
                Err(Undelivered::Full(..))
            ));
            state.expect(&Wanted::from_tags(&[7]), 2, true);
            assert!(
                matches!(
                    state.message(sized(8, 0), limits),
                    Err(Undelivered::Full(..))
                ),
                "the message is not awaited"
            );
            assert_eq!(
                state
                    .message(sized(7, 4), limits)
                    .expect("the message is awaited"),
                Outcome::Wake
            );
            assert!(
                matches!(
                    state.message(sized(7, 4), limits),
                    Err(Undelivered::Full(..))
                ),
                "one awaited message has already been accepted"
            );
            assert!(state.receive(&Wanted::from_tags(&[7]), 2, true).is_some());
            assert!(
                matches!(
                    state.message(sized(7, 4), limits),
                    Err(Undelivered::Full(..))
                ),
                "the process is no longer waiting"
            );
        }
    }

    #[test]
    fn an_answer_finds_room_before_it_is_awaited() {
        let limits = MailboxLimits {
            messages: 1,
            ..WIDE
        };
        let mut state = State::new();
        state.links().watch(Pid(1), -1);
        state.links().watch(Pid(1), 0);
        state.message(message(0), limits).expect("there is room");
        for nobody_asked in [0, -2] {
            let refused = state.message(message(nobody_asked), limits);
            assert!(matches!(refused, Err(Undelivered::Full(..))));
        }
        assert_eq!(
            state
                .message(message(-1), limits)
                .expect("the message is awaited"),
            Outcome::Done
        );
        assert!(
            matches!(
                state.message(message(-1), limits),
                Err(Undelivered::Full(..))
            ),
            "one awaited message has already been accepted"
        );
        assert!(state.receive(&Wanted::Tag(-1), 0, true).is_some());
        state.links().unwatch(Pid(1), -1);
        assert!(matches!(
            state.message(message(-1), limits),
            Err(Undelivered::Full(..))
        ));
    }

    #[test]
    fn a_dead_process_accepts_nothing() {
        let mut state = State::new();
        state.message(message(0), WIDE).expect("there is room");
        state.signal(Signal::Monitor { pid: Pid(3) });
        let (notices, _) = state.die(&Exit::Normal);
        assert_eq!(notices.watchers, [Pid(3)]);
        assert!(matches!(
            state.message(message(0), WIDE),
            Err(Undelivered::Dead(_))
        ));
        assert_eq!(
            state.signal(Signal::Link {
                pid: Pid(1),
                tag: 0,
            }),
            Outcome::Dead
        );
        assert_eq!(state.signal(Signal::Monitor { pid: Pid(1) }), Outcome::Dead);
    }

    #[test]
    fn the_notice_of_being_alone_wakes_a_wait_without_a_timeout_but_does_not_end_it() {
        let mut state = State::new();
        assert_eq!(state.on_alone(), Outcome::Done);
        wait(&mut state, &[], false);
        assert_eq!(state.on_alone(), Outcome::Done);
        state.stop_waiting();
        wait(&mut state, &[], true);
        assert_eq!(state.on_alone(), Outcome::Wake);
        assert!(state.receive(&Wanted::Any, 0, true).is_none());
    }
}
