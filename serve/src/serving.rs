//! A request while a version serves it: counted, and told of when it ends.

use crate::ticket::Ticket;
use crate::{Failure, Version};
use std::sync::Arc;
use std::time::Instant;

/// A request that a version serves. It ends in one way: it was [`answered`](Serving::answered), it
/// [`failed`](Serving::failed), or it is dropped, since nobody waits for it any longer.
pub(crate) struct Serving {
    version: Arc<Version>,
    ticket: Arc<Ticket>,
    since: Instant,
    has_ended: bool,
}

impl Serving {
    /// Begins to serve. This comes before the process is there.
    pub(crate) fn begin(version: &Arc<Version>, ticket: &Arc<Ticket>) -> Serving {
        ticket.given_to(version);
        version.metrics().began();
        Serving {
            version: version.clone(),
            ticket: ticket.clone(),
            since: Instant::now(),
            has_ended: false,
        }
    }

    /// The answer was sent to its end.
    pub(crate) fn answered(mut self) {
        self.version.log().collect();
        self.end(None);
    }

    /// There is no answer, or it broke off. The log tells why.
    pub(crate) fn failed(mut self, failure: &Failure) {
        self.version
            .log()
            .failed(&self.ticket, self.version.number(), failure);
        self.end(Some(failure));
    }

    fn end(&mut self, failure: Option<&Failure>) {
        self.has_ended = true;
        self.version.metrics().ended(failure, self.since.elapsed());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.has_ended {
            self.version.log().collect();
            self.end(Some(&Failure::Gone));
        }
    }
}
