//! Request ids.

use http::HeaderName;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

/// The header field with a request's id. It is always set here, no matter what the client sends.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Identifies a request: in the log, in the response's `x-request-id`, and to the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(uuid::Uuid);

impl RequestId {
    /// Returns a unique id. Later ids are greater.
    pub(crate) fn next() -> RequestId {
        // New random bits for each id would take a system call every time, so they are drawn only
        // once, and a counter distinguishes the ids.
        static RANDOM: LazyLock<[u8; 16]> = LazyLock::new(|| uuid::Uuid::now_v7().into_bytes());
        static LATEST: AtomicU64 = AtomicU64::new(0);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // Ids keep increasing even if the clock is set back.
        let millis = LATEST.fetch_max(millis, Ordering::SeqCst).max(millis);
        // The version bits of the UUID are among the first three bytes.
        let mut rest = [0; 10];
        rest[3..7].copy_from_slice(&COUNT.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        rest[7..].copy_from_slice(&RANDOM[13..]);
        RequestId(uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_greater_than_the_previous_id() {
        let mut ids = (0..10_000).map(|_| RequestId::next().0);
        let first = ids.next().expect("ten thousand were generated");
        ids.fold(first, |before, next| {
            assert!(next > before, "{next} came after {before}");
            next
        });
    }
}
