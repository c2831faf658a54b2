//! Waits for a socket, with a timeout for each of its operations.

use crate::deadline::Deadline;
use async_io::Async;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// An operation on a socket that a task can wait for. Each operation has its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading bytes from the stream.
    Read,
    /// Writing bytes to the stream.
    Write,
    /// Reading the next bytes without consuming them.
    Peek,
}

/// A socket and its timeouts, shared by all its handles. `None` means forever.
#[derive(Debug)]
pub(crate) struct Timed<S> {
    pub(crate) socket: Async<S>,
    timeouts: Mutex<[Option<Duration>; 3]>,
}

impl<S> Timed<S> {
    pub(crate) fn new(socket: Async<S>) -> Timed<S> {
        Timed {
            socket,
            timeouts: Mutex::default(),
        }
    }

    pub(crate) fn timeout(&self, operation: Operation) -> Option<Duration> {
        self.timeouts()[operation as usize]
    }

    pub(crate) fn set_timeout(&self, operation: Operation, timeout: Option<Duration>) {
        self.timeouts()[operation as usize] = timeout;
    }

    /// Prepares to wait for an operation. The operation's own timeout applies unless a different
    /// one is given. If the wait times out, the error message begins with `what`, such as "nothing
    /// to read".
    pub(crate) fn wait(
        &self,
        operation: Operation,
        what: &'static str,
        timeout: Option<Option<Duration>>,
    ) -> Wait<'_, S> {
        Wait {
            timed: self,
            operation,
            what,
            timeout,
            deadline: None,
        }
    }

    fn timeouts(&self) -> MutexGuard<'_, [Option<Duration>; 3]> {
        self.timeouts
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// A wait on behalf of one operation. It ends when the socket's timeout for the operation expires,
/// no matter how many spurious wakeups there are (which occur when another task was faster).
#[derive(Debug)]
#[must_use = "a wait does nothing until `ready` is awaited"]
pub struct Wait<'a, S> {
    timed: &'a Timed<S>,
    operation: Operation,
    what: &'static str,
    /// The timeout of this wait. If unset, the socket's own timeout at the start of the wait
    /// applies.
    timeout: Option<Option<Duration>>,
    /// Unset until the first wait, so that an operation that succeeds immediately does not read the
    /// clock.
    deadline: Option<Deadline>,
}

impl<S> Wait<'_, S> {
    /// Waits until the operation is worth another try. Call this method after a try has returned
    /// `WouldBlock`. With a timeout of zero, this method fails without checking the socket.
    ///
    /// A stream that has ended, was reset or was shut down is ready, and the next try reports the
    /// condition. The next try may still return `WouldBlock`.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the operation's timeout expires. No data is lost, and the socket remains
    /// usable.
    pub async fn ready(&mut self) -> io::Result<()> {
        let (timed, timeout) = (self.timed, self.timeout);
        let timeout = || timeout.unwrap_or_else(|| timed.timeout(self.operation));
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Deadline::after(timeout()));
        match self.operation {
            Operation::Read | Operation::Peek => {
                deadline.bound(self.what, timed.socket.readable()).await
            }
            Operation::Write => deadline.bound(self.what, timed.socket.writable()).await,
        }
    }
}
