//! Messages that are sent after a delay.

use crate::envelope;
use crate::error::LunaticError;
use crate::host;
use crate::process::failure::SendFailure;
use crate::process::handle::Process;
use crate::tag::Tag;
use serde::Serialize;
use std::time::Duration;

/// A message that will be sent later. The timer keeps running if the `Timer` is dropped or the
/// process that set it exits.
#[derive(Debug)]
pub struct Timer {
    id: u64,
}

impl Timer {
    /// Stops the timer. Returns false if the message has already been sent.
    pub fn cancel(self) -> bool {
        host::timer::cancel_timer(self.id) != 0
    }
}

impl<T: Serialize> Process<T> {
    /// Sends a message after `delay`, which is rounded up to whole milliseconds.
    ///
    /// If the message cannot be delivered when the timer fires, it is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the limit on timers is reached, or if the value cannot be serialized.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{process, Mailbox};
    /// use std::time::Duration;
    ///
    /// #[lunatic::main]
    /// fn main(mailbox: Mailbox<String>) {
    ///     let this = process::this(&mailbox);
    ///     let tea = this.send_after("tea".into(), Duration::from_secs(180)).unwrap();
    ///     let coffee = this.send_after("coffee".into(), Duration::from_secs(30)).unwrap();
    ///     assert_eq!(mailbox.receive().unwrap(), "coffee");
    ///     assert!(tea.cancel());
    ///     assert!(!coffee.cancel());
    /// }
    /// ```
    pub fn send_after(&self, message: T, delay: Duration) -> Result<Timer, LunaticError> {
        self.tag_send_after(Tag::NONE, message, delay)
    }

    /// Like [`send_after`](Self::send_after), but sends the message with a tag.
    pub fn tag_send_after(
        &self,
        tag: Tag,
        message: T,
        delay: Duration,
    ) -> Result<Timer, LunaticError> {
        let delay = host::milliseconds(delay);
        let timer = envelope::seal(&message, |bytes, sockets| {
            LunaticError::or_value(|timer| {
                host::timer::send_bytes_after(self.id(), tag.id(), bytes, sockets, delay, timer)
            })
        })
        .map_err(SendFailure::SerializationFailed)?;
        timer.map(|id| Timer { id })
    }
}
