//! A request while a version serves it.

use crate::Failure;
use crate::Version;
use crate::request_info::RequestInfo;
use std::sync::Arc;
use std::time::Instant;

/// Accounts for a request that a version serves, in the metrics and the log. It is
/// [`answered`](InFlight::answered), it has [`failed`](InFlight::failed), or it is dropped because
/// its client is gone.
pub(crate) struct InFlight {
    version: Arc<Version>,
    request: Arc<RequestInfo>,
    since: Instant,
    has_ended: bool,
}

impl InFlight {
    /// Counts a request as begun, which must happen before its process is spawned.
    pub(crate) fn begin(version: &Arc<Version>, request: &Arc<RequestInfo>) -> InFlight {
        request.set_log(version.log(), version.number());
        version.metrics().began();
        InFlight {
            version: version.clone(),
            request: request.clone(),
            since: Instant::now(),
            has_ended: false,
        }
    }

    /// Ends it after its whole response was sent.
    pub(crate) fn answered(mut self) {
        self.version.log().collect();
        self.end(None);
    }

    /// Ends it without a response, or with one that broke off, and logs why.
    pub(crate) fn failed(mut self, failure: &Failure) {
        self.request.failed(failure);
        self.end(Some(failure));
    }

    fn end(&mut self, failure: Option<&Failure>) {
        self.has_ended = true;
        self.version.metrics().ended(failure, self.since.elapsed());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.has_ended {
            self.version.log().collect();
            self.end(Some(&Failure::Gone));
        }
    }
}
