//! Errors that the machine returns.

use crate::host;
use lunatic_abi::Errno;
use std::borrow::Cow;
use std::{fmt, io};

/// An error from the machine: a kind for programs to match on, and a message for people to read.
///
/// # Example
///
/// If a limit was reached, a later attempt may succeed. Other errors are not worth retrying:
///
/// ```no_run
/// use lunatic::{process, Errno, Mailbox};
///
/// fn worker(_: Mailbox<()>) {}
///
/// match process::spawn(worker) {
///     Ok(_) => println!("it works"),
///     Err(error) if error.kind() == Errno::LimitReached => println!("later: {error}"),
///     Err(error) => panic!("never: {error}"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunaticError {
    kind: Errno,
    text: Cow<'static, str>,
}

impl LunaticError {
    /// Returns the kind of error.
    pub fn kind(&self) -> Errno {
        self.kind
    }

    pub(crate) fn new(kind: Errno, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// Fetches the error with this id from the machine, and releases the id.
    pub(crate) fn from_id(id: u64) -> Self {
        let kind = host::error::kind(id);
        let mut text = vec![0; host::error::string_size(id) as usize];
        // SAFETY: `to_string` writes exactly `string_size` bytes, which is the size of the buffer.
        unsafe { host::error::raw::to_string(id, text.as_mut_ptr()) };
        host::error::drop(id);
        Self::new(
            Errno::from_number(kind).unwrap_or(Errno::Other),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Makes a call that writes either a value or an error id.
    pub(crate) fn or_value(call: impl FnOnce(&mut u64) -> i32) -> Result<u64, Self> {
        let mut value = 0;
        let result = call(&mut value);
        Self::check(result, value)
    }

    /// Interprets the result of a call: 0 with a value, 1 with an error id, or a timeout.
    pub(crate) fn check(result: i32, value: u64) -> Result<u64, Self> {
        match result {
            0 => Ok(value),
            lunatic_abi::TIMED_OUT => Err(Self::new(Errno::TimedOut, "the operation timed out")),
            _ => Err(Self::from_id(value)),
        }
    }
}

impl fmt::Display for LunaticError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LunaticError {}

/// Maps the kind to the closest [`io::ErrorKind`], and keeps the error itself as the source.
impl From<LunaticError> for io::Error {
    fn from(error: LunaticError) -> Self {
        io::Error::new(io_kind(error.kind), error)
    }
}

fn io_kind(kind: Errno) -> io::ErrorKind {
    match kind {
        Errno::MailboxFull => io::ErrorKind::WouldBlock,
        Errno::NotGranted | Errno::PermissionDenied => io::ErrorKind::PermissionDenied,
        Errno::LimitReached => io::ErrorKind::QuotaExceeded,
        Errno::NoProcess | Errno::NameNotFound | Errno::NoFunction | Errno::NotFound => {
            io::ErrorKind::NotFound
        }
        Errno::NameTaken => io::ErrorKind::AlreadyExists,
        Errno::MessageTooLarge | Errno::BadVersion | Errno::BadParameters | Errno::InvalidInput => {
            io::ErrorKind::InvalidInput
        }
        Errno::BadModule | Errno::BadTls => io::ErrorKind::InvalidData,
        Errno::TimedOut => io::ErrorKind::TimedOut,
        Errno::ConnectionRefused => io::ErrorKind::ConnectionRefused,
        Errno::ConnectionReset => io::ErrorKind::ConnectionReset,
        Errno::ConnectionAborted => io::ErrorKind::ConnectionAborted,
        Errno::NotConnected => io::ErrorKind::NotConnected,
        Errno::AddrInUse => io::ErrorKind::AddrInUse,
        Errno::AddrNotAvailable => io::ErrorKind::AddrNotAvailable,
        Errno::BrokenPipe => io::ErrorKind::BrokenPipe,
        Errno::NetworkUnreachable => io::ErrorKind::NetworkUnreachable,
        Errno::HostUnreachable => io::ErrorKind::HostUnreachable,
        Errno::Exhausted => io::ErrorKind::OutOfMemory,
        // Later versions of the machine may add kinds that are unknown here.
        _ => io::ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_needs_no_error_id() {
        let error =
            LunaticError::check(lunatic_abi::TIMED_OUT, 0).expect_err("a timeout is an error");
        assert_eq!(error.kind(), Errno::TimedOut);
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn only_failures_without_a_matching_kind_become_other() {
        for &kind in Errno::ALL {
            let vague = matches!(kind, Errno::Success | Errno::Other);
            assert_eq!(io_kind(kind) == io::ErrorKind::Other, vague, "{kind:?}");
        }
    }

    #[test]
    fn an_io_error_keeps_the_sentence() {
        let error = LunaticError::new(Errno::AddrInUse, "127.0.0.1:80 is in use");
        assert_eq!(io::Error::from(error).to_string(), "127.0.0.1:80 is in use");
    }
}
