//! A request that a version is serving.

use crate::Failure;
use crate::Version;
use crate::request_info::RequestInfo;
use std::sync::Arc;
use std::time::Instant;

/// Tracks a request that a version is serving, in the metrics and the log. The request ends when it
/// is [`answered`](InFlight::answered), when it has [`failed`](InFlight::failed), or when this
/// value is dropped because the client disconnected.
pub(crate) struct InFlight {
    version: Arc<Version>,
    request: Arc<RequestInfo>,
    since: Instant,
    has_ended: bool,
}

impl InFlight {
    /// Counts a request as started. Must be called before its process is spawned.
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

    /// Ends the request after its complete response has been sent.
    pub(crate) fn answered(mut self) {
        self.version.log().collect();
        self.end(None);
    }

    /// Ends a request that got no response or an incomplete one, and logs the reason.
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
