//! Pauses between attempts, for when nothing reports that the next attempt would succeed.

use async_io::Timer;
use std::time::Duration;

/// A series of pauses, each twice as long as the one before, up to a maximum.
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) fn new(first: Duration, longest: Duration) -> Pauses {
        Pauses {
            next: first,
            longest,
        }
    }

    /// Waits before the next attempt.
    pub(crate) async fn pause(&mut self) {
        Timer::after(self.next).await;
        self.next = (2 * self.next).min(self.longest);
    }
}
