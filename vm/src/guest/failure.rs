//! How host functions fail.

use super::meter::Rejected;
use lunatic_abi::Errno;
use lunatic_process::LimitReached;
use std::fmt;

/// Why a host function failed.
#[derive(Debug)]
pub enum Failure {
    /// The guest gets an error code and continues.
    Errno(Errno),
    /// The guest broke a rule of the interface. Its process is terminated with this sentence as the
    /// reason.
    Trap(String),
    /// The guest ended, or reached a limit, while it ran code on behalf of the host function.
    Guest(wasmtime::Error),
}

impl Failure {
    /// Returns the failure that terminates a process for reaching a limit.
    pub fn limit(reached: LimitReached) -> Failure {
        Failure::Guest(Rejected(reached).into())
    }

    /// Terminates the process with a sentence about what its guest did wrong.
    pub fn trap(what: impl fmt::Display) -> Failure {
        Failure::Trap(what.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Errno(errno) => write!(f, "{errno:?}"),
            Failure::Trap(sentence) => f.write_str(sentence),
            Failure::Guest(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Errno(errno)
    }
}

/// A failure that is reported to the guest as an id, with which the guest can request the message.
#[derive(Debug, Clone)]
pub(crate) struct HostError {
    pub(crate) errno: Errno,
    pub(crate) text: String,
}

/// The maximum length of an error message, in bytes. Messages can quote names chosen by the guest.
pub(super) const MAX_ERROR_TEXT: usize = 2048;

impl HostError {
    pub(crate) fn new(errno: Errno, text: impl fmt::Display) -> HostError {
        let mut text = text.to_string();
        if text.len() > MAX_ERROR_TEXT {
            text.truncate(text.floor_char_boundary(MAX_ERROR_TEXT));
            text.push('…');
            text.shrink_to_fit();
        }
        HostError { errno, text }
    }
}
