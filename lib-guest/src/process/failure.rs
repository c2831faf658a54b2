//! Why a message was not sent.

use crate::error::LunaticError;
use lunatic_abi::Errno;
use rmp_serde::encode;
use std::fmt;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// The receiver's mailbox was full, and was still full after the sender had waited for one time
    /// slice.
    #[error("the receiver's mailbox is full")]
    MailboxFull,
    /// The message is larger than the receiver's environment allows.
    #[error("the message is larger than the receiver's environment accepts")]
    MessageTooLarge,
    /// The message carries a resource that the receiver's environment does not grant.
    #[error("the receiver's environment does not grant a resource in the message")]
    NotGranted,
    /// The value cannot be serialized.
    #[error("the value cannot be serialized: {0}")]
    SerializationFailed(encode::Error),
    /// The machine rejected the message for a reason unknown to this version of the library.
    #[error("the machine refused the message ({0:?})")]
    Refused(Errno),
}

impl SendFailure {
    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::MailboxFull => Self::MailboxFull,
            Errno::MessageTooLarge => Self::MessageTooLarge,
            Errno::NotGranted => Self::NotGranted,
            other => Self::Refused(other),
        }
    }

    fn errno(&self) -> Errno {
        match self {
            Self::MailboxFull => Errno::MailboxFull,
            Self::MessageTooLarge => Errno::MessageTooLarge,
            Self::NotGranted => Errno::NotGranted,
            Self::SerializationFailed(_) => Errno::InvalidInput,
            Self::Refused(errno) => *errno,
        }
    }
}

impl From<SendFailure> for LunaticError {
    fn from(failure: SendFailure) -> Self {
        LunaticError::new(failure.errno(), failure.to_string())
    }
}

/// A message that was not sent, and the reason why.
#[derive(thiserror::Error)]
#[error("{failure}")]
pub struct SendError<T> {
    /// The message.
    pub message: T,
    /// Why the message was not sent.
    #[source]
    pub failure: SendFailure,
}

// Implemented manually so that `unwrap` works for messages without `Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_by_the_machine_becomes_a_failure() {
        let full = SendFailure::from_errno(Errno::MailboxFull);
        assert!(matches!(full, SendFailure::MailboxFull));
        let error = LunaticError::from(full);
        assert_eq!(error.kind(), Errno::MailboxFull);
        assert_eq!(error.to_string(), "the receiver's mailbox is full");
        let other = SendFailure::from_errno(Errno::Exhausted);
        assert_eq!(LunaticError::from(other).kind(), Errno::Exhausted);
    }
}
