//! Why an outbound call failed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The maximum number of calls that a function can have in progress. A call is in progress until
/// its response has been read. Further calls wait for at most as long as connecting may take.
pub(super) const CALLS: usize = 64;

/// Why an outbound call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// No rule permits the call.
    #[error("`{0}` may not be called: the function's outbound rules do not allow it")]
    NotAllowed(String),
    /// The URL cannot be called.
    #[error("this is not a URL that can be called: {0}")]
    Address(String),
    /// The host resolves to an address that may not be connected to.
    #[error("`{host}` may not be called at {address}, {}", if *.is_private {
        "which is in a private network: it may be called only if private addresses are allowed"
    } else {
        "which is not the address of a host on the internet"
    })]
    Prohibited {
        /// The host that was called.
        host: String,
        /// The address it resolves to.
        address: IpAddr,
        /// Whether the address could be connected to if private addresses were allowed.
        is_private: bool,
    },
    /// The host is this program, which is administered at that address.
    #[error("`{0}` may not be called at {1}: this program itself is administered there")]
    Reserved(String, SocketAddr),
    /// The host was not found.
    #[error("the host `{0}` was not found: {1}")]
    Name(String, String),
    /// The host was not found in time.
    #[error("the host `{0}` was not found within {1:?}")]
    NameTime(String, Duration),
    /// No connection could be made.
    #[error("cannot connect to {0}")]
    Connect(String),
    /// The peer could not prove its identity, or does not speak TLS.
    #[error("cannot establish TLS with {0}")]
    Tls(String),
    /// No connection was made in time.
    #[error("no connection was made within {0:?}")]
    ConnectTime(Duration),
    /// No response, or no more of it, arrived in time.
    #[error("{0} within {1:?}")]
    Time(&'static str, Duration),
    /// The maximum number of calls is already in progress.
    #[error("{CALLS} calls by this function are in progress, and none ended within {0:?}")]
    Busy(Duration),
    /// The peer does not speak HTTP, or disconnected.
    #[error("the call failed: {0}")]
    Protocol(String),
}
