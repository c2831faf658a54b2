//! What a process receives: messages, and signals that report other processes' exits.

use crate::tag::Tag;
use lunatic_abi::{ExitKind, Limit, MessageHeader, MessageKind};
use rmp_serde::decode;
use std::fmt;

/// What a [`LinkMailbox`](crate::LinkMailbox) receives.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox, Message};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<String>) {
///     let (_, mailbox) = process::spawn_link(mailbox, |_: Mailbox<()>| panic!("on purpose")).unwrap();
///     match mailbox.receive() {
///         Message::Normal(Ok(text)) => println!("a message: {text}"),
///         Message::Normal(Err(error)) => println!("no message: {error}"),
///         Message::Signal(signal) => println!("{signal}"),
///     }
/// }
/// ```
#[derive(Debug)]
pub enum Message<T> {
    /// The message, or the reason there isn't one.
    Normal(Result<T, ReceiveError>),
    /// A linked process failed, or a monitored process exited.
    Signal(Signal),
}

impl<T> Message<T> {
    /// Returns true if this is a signal.
    pub fn is_signal(&self) -> bool {
        matches!(self, Self::Signal(_))
    }

    /// Returns the signal, if this is one.
    pub fn signal(&self) -> Option<&Signal> {
        match self {
            Self::Signal(signal) => Some(signal),
            Self::Normal(_) => None,
        }
    }

    /// Returns the message or the error.
    ///
    /// # Panics
    ///
    /// Panics if this is a signal.
    pub fn normal_or_unwrap(self) -> Result<T, ReceiveError> {
        match self {
            Self::Normal(message) => message,
            Self::Signal(signal) => panic!("a signal arrived instead of a message: {signal}"),
        }
    }
}

/// Why a receive returned no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The message is not of the mailbox's type. It has been dropped.
    #[error("the message is not of the expected type: {0}")]
    DeserializationFailed(decode::Error),
    /// The timeout expired. No message is lost: a later receive returns messages that arrive late.
    #[error("no message arrived in time")]
    Timeout,
    /// The receive would never return: no other process in the program is alive, and no timer is
    /// set.
    #[error("no process is left that could send a message")]
    NobodyLeft,
    /// A signal arrived, for example because a monitored process exited. Only a
    /// [`Mailbox`](crate::Mailbox) reports signals this way.
    #[error("a signal arrived instead of a message: {0}")]
    Signal(Signal),
    /// This process has been asked to exit by [`Process::shutdown`](crate::Process::shutdown) or by
    /// its [`Supervisor`](crate::Supervisor), and will be killed if it takes too long.
    ///
    /// Only a receive without tags returns this.
    #[error("this process has been asked to exit")]
    Shutdown,
}

/// A notification that a process has exited.
///
/// The `Display` output is a human-readable sentence, and may say more than the
/// [`reason`](Self::reason).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signal {
    /// Why this process was notified.
    pub kind: SignalKind,
    /// The tag of the link. [`Tag::NONE`] if the process was monitored, or if it spawned this
    /// process with a link.
    pub tag: Tag,
    /// The id of the process that exited, as returned by [`Process::id`](crate::Process::id).
    pub pid: u64,
    /// Why the process exited.
    pub reason: ExitReason,
    /// The machine's description of why the process exited.
    pub sentence: String,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process <{:x}> ", self.pid)?;
        match self.sentence.as_str() {
            "" => self.reason.fmt(f),
            sentence => f.write_str(sentence),
        }
    }
}

impl Signal {
    /// Reads a signal, or returns `None` if this is a message.
    pub(crate) fn read(header: &MessageHeader, data: &[u8]) -> Option<Self> {
        let kind = match MessageKind::from_number(header.kind) {
            Some(MessageKind::LinkDied) => SignalKind::LinkDied,
            Some(MessageKind::ProcessDied) => SignalKind::ProcessDied,
            _ => return None,
        };
        Some(Self {
            kind,
            tag: Tag::from_id(header.tag),
            pid: header.pid,
            reason: ExitReason::from_numbers(header.exit, header.detail),
            sentence: String::from_utf8_lossy(data).into_owned(),
        })
    }
}

/// Why a process is notified of another process's exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignalKind {
    /// The process was linked to the other process, which failed.
    LinkDied,
    /// The process [monitored](crate::Process::monitor) the other process, which exited for any
    /// reason.
    ProcessDied,
}

/// Why a process exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitReason {
    /// The process's function returned, or the process exited with status 0. Linked processes are
    /// not notified of this.
    Normal,
    /// The process exited with a status other than 0.
    Status(i32),
    /// The process trapped. This is also the reason after a panic.
    Trapped,
    /// The process was killed.
    Killed,
    /// The process reached one of its environment's limits. `None` if this library does not know
    /// the limit.
    Limit(Option<Limit>),
    /// A process linked to this process failed.
    LinkDied,
    /// The process was already dead, or never existed.
    NoProcess,
    /// The machine itself failed due to a bug.
    Fault,
    /// The machine gave a reason unknown to this version of the library.
    Unknown,
}

impl ExitReason {
    fn from_numbers(kind: u32, detail: u64) -> Self {
        match ExitKind::from_number(kind) {
            Some(ExitKind::Normal) => Self::Normal,
            // A status has 32 bits; the machine passes it as an unsigned number.
            Some(ExitKind::Status) => Self::Status(detail as i32),
            Some(ExitKind::Trapped) => Self::Trapped,
            Some(ExitKind::Killed) => Self::Killed,
            Some(ExitKind::Limit) => {
                Self::Limit(u32::try_from(detail).ok().and_then(Limit::from_number))
            }
            Some(ExitKind::LinkDied) => Self::LinkDied,
            Some(ExitKind::NoProcess) => Self::NoProcess,
            Some(ExitKind::Fault) => Self::Fault,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("ended normally"),
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Trapped => f.write_str("trapped"),
            Self::Killed => f.write_str("was killed"),
            Self::Limit(Some(limit)) => {
                let (what, unit) = limit.words(u64::MAX);
                write!(f, "reached a limit: {what}, in {unit}")
            }
            Self::Limit(None) => f.write_str("reached a limit"),
            Self::LinkDied => f.write_str("died with a process that it was linked to"),
            Self::NoProcess => f.write_str("does not exist"),
            Self::Fault => f.write_str("was terminated by a failure of the machine"),
            Self::Unknown => f.write_str("exited for a reason unknown to this library"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: MessageKind, exit: ExitKind, detail: u64) -> MessageHeader {
        MessageHeader {
            kind: kind as u32,
            exit: exit as u32,
            tag: 4,
            pid: 0x2a,
            detail,
            ..Default::default()
        }
    }

    #[test]
    fn a_signal_is_read_with_its_reason() {
        let limit = header(
            MessageKind::LinkDied,
            ExitKind::Limit,
            Limit::Compute as u64,
        );
        let signal = Signal::read(&limit, b"reached a limit: of 1 unit")
            .expect("the header describes a signal");
        assert_eq!(signal.kind, SignalKind::LinkDied);
        assert_eq!((signal.tag.id(), signal.pid), (4, 42));
        assert_eq!(signal.reason, ExitReason::Limit(Some(Limit::Compute)));
        assert_eq!(
            signal.to_string(),
            "process <2a> reached a limit: of 1 unit"
        );

        let status = header(
            MessageKind::ProcessDied,
            ExitKind::Status,
            u64::from(u32::MAX),
        );
        let signal = Signal::read(&status, b"").expect("the header describes a signal");
        assert_eq!(signal.kind, SignalKind::ProcessDied);
        assert_eq!(signal.reason, ExitReason::Status(-1));
        assert_eq!(signal.to_string(), "process <2a> exited with status -1");
    }

    #[test]
    fn a_limit_is_named_in_words() {
        let compute = ExitReason::Limit(Some(Limit::Compute));
        assert_eq!(
            compute.to_string(),
            "reached a limit: the compute of a process, in units"
        );
    }

    #[test]
    fn a_message_is_not_a_signal() {
        assert_eq!(
            Signal::read(&header(MessageKind::Data, ExitKind::Normal, 0), b""),
            None
        );
    }

    #[test]
    fn every_kind_of_exit_has_a_reason_and_newer_kinds_are_unknown() {
        for &kind in ExitKind::ALL {
            assert_ne!(
                ExitReason::from_numbers(kind as u32, 0),
                ExitReason::Unknown,
                "{kind:?}"
            );
        }
        assert_eq!(ExitReason::from_numbers(1000, 0), ExitReason::Unknown);
        assert_eq!(
            ExitReason::from_numbers(ExitKind::Limit as u32, u64::MAX),
            ExitReason::Limit(None)
        );
    }

    #[test]
    #[should_panic(expected = "process <2a> was killed")]
    fn unwrapping_a_signal_reports_the_signal() {
        let killed = header(MessageKind::LinkDied, ExitKind::Killed, 0);
        let signal = Signal::read(&killed, b"was killed").expect("the header describes a signal");
        let _ = Message::<()>::Signal(signal).normal_or_unwrap();
    }
}
