//! The state of one process that others act on: a plain state machine.
//!
//! There is no queue of signals: a sender applies its signal to this state under the receiver's
//! lock. So signals take effect in the order in which they were sent, a link either exists or not
//! when a process dies, a sender learns at once that a mailbox is full, and a process is woken only
//! by what it waits for.

use super::exit::{Exit, LimitReached};
use super::links::{ExitNotices, Links, Reaction};
use super::mailbox::{Mail, Mailbox, MailboxLimits, Message, Wanted};
use super::pid::Pid;
use super::signal::Signal;
use lunatic_abi::Limit;

/// What the sender of a signal has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing.
    Done,
    /// Wake the receiver.
    Wake,
    /// The receiver is dead; the signal had no effect.
    Dead,
}

/// Why a message was not put into a mailbox, along with the message.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// The receiver is dead or about to be. Messages to the dead are dropped, as in Erlang.
    Dead(Message),
    /// The mailbox has no room.
    Full(Message, LimitReached),
}

#[derive(Debug)]
enum Life {
    Alive,
    /// It ends with this exit on its next turn.
    Ending(Exit),
    /// It has ended, and others have been told or are being told.
    Dead,
}

/// What a process waits for in a receive.
#[derive(Debug)]
struct Wait {
    wanted: Wanted,
    since: u64,
    /// Set if the process waits without a timeout, so that it waits in vain once it is alone.
    forever: bool,
}

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

    /// Answers a monitor of a process that does not exist.
    pub(crate) fn no_process(&mut self, pid: Pid, tag: i64) {
        if let Some(mail) = self.links.on_no_process(pid, tag) {
            self.deliver(mail);
        }
    }

    /// Checks that the process may be told of another end. Notices of ends are never dropped, so
    /// the number that can exist is bounded: those in the mailbox, and one for each link and
    /// monitor.
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
    pub(crate) fn message(
        &mut self,
        message: Message,
        limits: MailboxLimits,
    ) -> Result<Outcome, Undelivered> {
        if !matches!(self.life, Life::Alive) {
            return Err(Undelivered::Dead(message));
        }
        let wakes = self
            .wait
            .as_ref()
            .is_some_and(|wait| wait.wanted.accepts_data(message.tag));
        match self.mailbox.push(message, wakes, limits) {
            Ok(()) => Ok(if wakes { Outcome::Wake } else { Outcome::Done }),
            Err((message, reached)) => Err(Undelivered::Full(message, reached)),
        }
    }

    fn deliver(&mut self, mail: Mail) -> Outcome {
        let wakes = self
            .wait
            .as_ref()
            .is_some_and(|wait| wait.wanted.accepts(&mail));
        self.mailbox.push_death(mail);
        if wakes { Outcome::Wake } else { Outcome::Done }
    }

    /// Makes the process end with this exit on its next turn. The first reason stays.
    fn end(&mut self, exit: Exit) -> Outcome {
        if matches!(self.life, Life::Alive) {
            self.life = Life::Ending(exit);
        }
        Outcome::Wake
    }

    /// Returns why the process ends on its next turn, if it does.
    pub(crate) fn ending(&self) -> Option<&Exit> {
        match &self.life {
            Life::Ending(exit) => Some(exit),
            _ => None,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.life, Life::Dead)
    }

    /// Remembers what the process waits for from now on.
    pub(crate) fn expect(&mut self, wanted: &Wanted, since: u64, forever: bool) {
        self.wait = Some(Wait {
            wanted: wanted.clone(),
            since,
            forever,
        });
    }

    /// Takes the mail that a receive wants, or remembers that the process waits for it.
    pub(crate) fn receive(&mut self, wanted: &Wanted, since: u64, forever: bool) -> Option<Mail> {
        if let Some(mail) = self.mailbox.take(wanted, since) {
            self.stop_waiting();
            return Some(mail);
        }
        match &self.wait {
            // The process was woken for another reason and waits for the same mail as before.
            Some(wait) if wait.wanted == *wanted && wait.since == since => {}
            _ => self.expect(wanted, since, forever),
        }
        None
    }

    /// Takes the mail that the process waits for, if it has arrived, and ends the wait.
    pub(crate) fn receive_awaited(&mut self) -> Option<Mail> {
        let wait = self.wait.as_ref()?;
        let mail = self.mailbox.take(&wait.wanted, wait.since)?;
        self.stop_waiting();
        Some(mail)
    }

    /// Ends a receive, answered or not.
    pub(crate) fn stop_waiting(&mut self) {
        self.wait = None;
    }

    /// Handles the notice that no other process is left, which may be out of date. It only wakes a
    /// process that waits without a timeout, and decides nothing: the process checks for itself.
    pub(crate) fn on_alone(&self) -> Outcome {
        if self.wait.as_ref().is_some_and(|wait| wait.forever) {
            Outcome::Wake
        } else {
            Outcome::Done
        }
    }

    /// Returns the sequence number of the next piece of mail.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.mailbox.next_sequence()
    }

    /// Returns how many pieces of mail wait, and their total size in bytes.
    pub(crate) fn mailbox_size(&self) -> (usize, u64) {
        (self.mailbox.len(), self.mailbox.bytes())
    }

    pub(crate) fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Ends the process: from now on every signal finds it dead. Returns which processes to tell,
    /// and the mail that will never be read.
    pub(crate) fn die(&mut self, exit: &Exit) -> (ExitNotices, Mailbox) {
        debug_assert!(!self.is_dead(), "a process ends once");
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
    fn only_what_is_waited_for_wakes() {
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
    fn a_wait_goes_on_until_what_it_is_for_is_taken() {
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
        assert!(state.receive_awaited().is_none(), "the wait is over");
    }

    #[test]
    fn t043_ends_that_nobody_reads_are_bounded() {
        let mut state = State::new();
        for pid in 1..=3 {
            state.room_for_end(3).expect("this is one of three");
            state.links().watch(Pid(pid), 0);
        }
        let reached = state.room_for_end(3).expect_err("three can come");
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
            .expect_err("one waits and two can come");
        assert!(state.receive(&Wanted::Any, 0, true).is_some());
        state.room_for_end(3).expect("two can come");
    }

    #[test]
    fn the_first_reason_to_end_stays() {
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
    fn a_full_mailbox_has_room_for_one_message_that_is_waited_for() {
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
                "it is not waited for"
            );
            assert_eq!(
                state
                    .message(sized(7, 4), limits)
                    .expect("it is waited for"),
                Outcome::Wake
            );
            assert!(
                matches!(
                    state.message(sized(7, 4), limits),
                    Err(Undelivered::Full(..))
                ),
                "one was there already"
            );
            assert!(state.receive(&Wanted::from_tags(&[7]), 2, true).is_some());
            assert!(
                matches!(
                    state.message(sized(7, 4), limits),
                    Err(Undelivered::Full(..))
                ),
                "nobody waits any more"
            );
        }
    }

    #[test]
    fn the_dead_take_nothing() {
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
                tag: 0
            }),
            Outcome::Dead
        );
        assert_eq!(state.signal(Signal::Monitor { pid: Pid(1) }), Outcome::Dead);
    }

    #[test]
    fn the_news_of_being_alone_wakes_a_wait_without_a_time_limit_and_ends_none() {
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
