//! What is known of a request while it is served.

use crate::request_id::RequestId;
use crate::{Failure, Log};
use lunatic_vm::Process;
use std::net::SocketAddr;
use std::sync::OnceLock;

/// A request, as gateways and functions know it.
pub(crate) struct RequestInfo {
    pub(crate) id: RequestId,
    /// Where it came from, if it came over the network.
    pub(crate) client: Option<SocketAddr>,
    /// Whether it came over TLS.
    pub(crate) is_secure: bool,
    /// The log of the function that serves it, and the function's version.
    log: OnceLock<(Log, u64)>,
    process: OnceLock<Process>,
}

impl RequestInfo {
    pub(crate) fn new(client: Option<SocketAddr>, is_secure: bool) -> RequestInfo {
        RequestInfo {
            id: RequestId::next(),
            client,
            is_secure,
            log: OnceLock::new(),
            process: OnceLock::new(),
        }
    }

    /// Sets the log that will be told how the request ended, and the version that serves it.
    pub(crate) fn set_log(&self, log: &Log, version: u64) {
        let _ = self.log.set((log.clone(), version));
    }

    /// Notes which process serves it; if there are several, only the first counts. From now on,
    /// what the process writes is logged under this request.
    pub(crate) fn served_by(&self, process: &Process) {
        if self.process.set(process.clone()).is_ok()
            && let Some((log, version)) = self.log.get()
        {
            log.serves(process.pid(), *version, self.id);
        }
    }

    /// Logs why it was not answered.
    pub(crate) fn failed(&self, failure: &Failure) {
        if let Some((log, version)) = self.log.get() {
            let process = self.process().map(Process::pid);
            log.failed(self.id, process, *version, failure);
        }
    }

    /// Returns the process that serves it, once there is one.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.get()
    }
}
