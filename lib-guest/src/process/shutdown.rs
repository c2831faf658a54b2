//! Asking a process to exit.

use super::handle::Process;
use crate::host;
use crate::message::ExitReason;
use crate::reply::{PendingReply, RequestError};
use crate::tag::{SHUTDOWN, Tag};
use std::time::Duration;

impl<T> Process<T> {
    /// Asks the process to exit, waits for it to do so, and returns the exit reason. If `timeout`
    /// expires first, the process is killed; `None` waits indefinitely.
    ///
    /// The process receives [`ReceiveError::Shutdown`](crate::ReceiveError::Shutdown), so it exits
    /// normally if it returns when a receive fails. A process that only receives with tags does not
    /// notice the request. If the process is already dead, this returns [`ExitReason::NoProcess`]
    /// immediately.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{process, ExitReason, Mailbox};
    /// use std::time::Duration;
    ///
    /// #[lunatic::main]
    /// fn main(_: Mailbox<()>) {
    ///     let printer = process::spawn(|mailbox: Mailbox<String>| {
    ///         while let Ok(text) = mailbox.receive() {
    ///             println!("{text}");
    ///         }
    ///         println!("that was all");
    ///     })
    ///     .unwrap();
    ///     printer.send("one".into());
    ///     assert_eq!(printer.shutdown(Some(Duration::from_secs(5))), ExitReason::Normal);
    /// }
    /// ```
    pub fn shutdown(&self, timeout: Option<Duration>) -> ExitReason {
        let end = PendingReply::from(Tag::new_reply(), self.id());
        // A process whose mailbox is full would not receive the request in time anyway.
        if self.post(SHUTDOWN, &()).is_err() {
            self.kill();
        }
        let mut timeout = host::milliseconds_or_forever(timeout);
        loop {
            let ended = end.wait::<()>(timeout);
            let reason = match ended {
                Err(RequestError::Died(reason)) => reason,
                Err(RequestError::NobodyLeft) => ExitReason::Unknown,
                // The timeout has expired, or another process has sent a message with this tag.
                _ => {
                    self.kill();
                    timeout = lunatic_abi::FOREVER;
                    continue;
                }
            };
            end.settle(&ended);
            return reason;
        }
    }
}
