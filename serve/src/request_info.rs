//! Information about a request while it is being served.

use crate::request_id::RequestId;
use crate::{Failure, Log};
use lunatic_vm::Process;
use std::net::SocketAddr;
use std::sync::OnceLock;

/// A request, as seen by gateways and functions.
pub(crate) struct RequestInfo {
    pub(crate) id: RequestId,
    /// The client's address, if the request arrived over the network.
    pub(crate) client: Option<SocketAddr>,
    /// Whether the request arrived over TLS.
    pub(crate) is_secure: bool,
    /// The log of the function serving the request, and the function's version.
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

    /// Sets the log that records how the request ended, and the version serving the request.
    pub(crate) fn set_log(&self, log: &Log, version: u64) {
        let _ = self.log.set((log.clone(), version));
    }

    /// Records which process serves the request, so that its later output is logged under this
    /// request. If there are several processes, only the first is recorded.
    pub(crate) fn served_by(&self, process: &Process) {
        if self.process.set(process.clone()).is_ok()
            && let Some((log, version)) = self.log.get()
        {
            log.serves(process.pid(), *version, self.id);
        }
    }

    /// Logs why the request was not answered.
    pub(crate) fn failed(&self, failure: &Failure) {
        if let Some((log, version)) = self.log.get() {
            let process = self.process().map(Process::pid);
            log.failed(self.id, process, *version, failure);
        }
    }

    /// Returns the process serving the request, once there is one.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.get()
    }
}
