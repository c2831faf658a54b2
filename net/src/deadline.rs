//! The time by which an operation must complete. A deadline is not a timer: a timer is created only
//! when a task has to wait.

use async_io::Timer;
use futures_lite::future;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// A timeout that has started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    timeout: Duration,
    /// `None` if the deadline never passes.
    end: Option<Instant>,
}

impl Deadline {
    /// Returns the deadline that is `timeout` from now. Without a timeout, or with one that the
    /// clock cannot represent, the deadline never passes.
    pub(crate) fn after(timeout: Option<Duration>) -> Deadline {
        let timeout = timeout.unwrap_or(Duration::MAX);
        Deadline {
            timeout,
            end: Instant::now().checked_add(timeout),
        }
    }

    /// Waits for `work`, or fails with `TimedOut` and a message that begins with `what`, such as
    /// "no answer". The work is polled first, and at least once even if the deadline has passed.
    pub(crate) async fn bound<T>(
        self,
        what: &str,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let Some(end) = self.end else {
            return work.await;
        };
        let give_up = async {
            Timer::at(end).await;
            let late = format!("{what} within {:?}", self.timeout);
            Err(io::Error::new(ErrorKind::TimedOut, late))
        };
        future::or(work, give_up).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const OVER: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn work_that_is_done_is_not_late() {
        let bound = Deadline::after(OVER).bound("no answer", ready(Ok(7)));
        assert_eq!(future::block_on(bound).expect("the work is done"), 7);
    }

    #[test]
    fn work_that_is_late_times_out() {
        let bound = Deadline::after(OVER).bound("no answer", pending::<io::Result<()>>());
        let error = future::block_on(bound).expect_err("the work never ends");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "no answer within 0ns");
    }
}
