//! What is known of a request while it is served.

use crate::Version;
use lunatic_vm::Process;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// The number of a request: in the log, in the answer's `x-request-id`, and told to the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(uuid::Uuid);

impl RequestId {
    /// Returns one that no other request has. Later ones are greater.
    pub(crate) fn next() -> RequestId {
        RequestId(uuid::Uuid::now_v7())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A request, as gateways, functions and the log know it.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) id: RequestId,
    /// Who asked, where that is known.
    pub(crate) client: Option<SocketAddr>,
    /// Whether it came over TLS.
    pub(crate) is_secure: bool,
    version: OnceLock<Arc<Version>>,
    process: OnceLock<Process>,
}

impl Ticket {
    pub(crate) fn new(client: Option<SocketAddr>, is_secure: bool) -> Ticket {
        Ticket { id: RequestId::next(), client, is_secure, version: OnceLock::new(), process: OnceLock::new() }
    }

    /// Takes note of the version that serves it.
    pub(crate) fn given_to(&self, version: &Arc<Version>) {
        let _ = self.version.set(version.clone());
    }

    /// Takes note of the process that serves it: the first, where there are several. The lines that the process writes from
    /// now on are this request's.
    pub(crate) fn served_by(&self, process: &Process) {
        if self.process.set(process.clone()).is_ok()
            && let Some(version) = self.version.get()
        {
            version.log().serves(process.pid(), version.number(), self.id);
        }
    }

    /// Returns the process that serves it, once there is one.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.get()
    }
}
