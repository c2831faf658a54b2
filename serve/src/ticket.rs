//! What is known of a request while it is served.

use crate::Version;
use lunatic_vm::Process;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::SystemTime;

/// The number of a request: in the log, in the answer's `x-request-id`, and told to the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(uuid::Uuid);

impl RequestId {
    /// Returns one that no other request has. Later ones are greater.
    pub(crate) fn next() -> RequestId {
        // Random bits for each would be a call of the system for each. So they are drawn once, and a number is counted.
        static DRAWN: LazyLock<[u8; 16]> = LazyLock::new(|| uuid::Uuid::now_v7().into_bytes());
        static LATEST: AtomicU64 = AtomicU64::new(0);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // A clock that is set back does not take the numbers with it.
        let millis = LATEST.fetch_max(millis, Ordering::SeqCst).max(millis);
        // The first three bytes share their bits with the version of the format.
        let mut rest = [0; 10];
        rest[3..7].copy_from_slice(&COUNT.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        rest[7..].copy_from_slice(&DRAWN[13..]);
        RequestId(uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid())
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
        Ticket {
            id: RequestId::next(),
            client,
            is_secure,
            version: OnceLock::new(),
            process: OnceLock::new(),
        }
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
            version
                .log()
                .serves(process.pid(), version.number(), self.id);
        }
    }

    /// Returns the process that serves it, once there is one.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_greater_than_the_one_before() {
        let mut numbers = (0..10_000).map(|_| RequestId::next().0);
        let first = numbers.next().expect("there are many");
        numbers.fold(first, |before, next| {
            assert!(next > before, "{next} came after {before}");
            next
        });
    }
}
