//! Why a call was not answered.

use std::net::IpAddr;
use std::time::Duration;

/// Calls of a function that can be under way, until their responses have been read. Further calls
/// wait for as long as a connection may take.
pub(super) const CALLS: usize = 64;

/// Why a call was not answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// No rule allows it.
    #[error("`{0}` may not be called: the function's outbound rules do not allow it")]
    NotAllowed(String),
    /// Its address cannot be called.
    #[error("this is not an address that can be called: {0}")]
    Address(String),
    /// The host has an address that may not be connected to.
    #[error("`{host}` may not be called at {address}, {}", if *.is_private {
        "which is in a private network: the function may call there only if private addresses are allowed"
    } else {
        "which is not the address of a host on the internet"
    })]
    Prohibited {
        /// The host that was called.
        host: String,
        /// Its address.
        address: IpAddr,
        /// Whether it would be allowed if private addresses were.
        is_private: bool,
    },
    /// The host was not found.
    #[error("the host `{0}` was not found: {1}")]
    Name(String, String),
    /// The host was not found in time.
    #[error("the host `{0}` was not found within {1:?}")]
    NameTime(String, Duration),
    /// No connection could be made.
    #[error("cannot connect to {0}")]
    Connect(String),
    /// The other side is not the one that it should be, or does not speak TLS.
    #[error("no TLS with {0}")]
    Tls(String),
    /// There was no connection in time.
    #[error("there was no connection within {0:?}")]
    ConnectTime(Duration),
    /// The response did not begin, or did not go on, in time.
    #[error("{0} within {1:?}")]
    Time(&'static str, Duration),
    /// There are as many calls as are allowed.
    #[error("{CALLS} calls of this function are under way, and none ended within {0:?}")]
    Busy(Duration),
    /// The other side does not speak HTTP, or broke off.
    #[error("the call failed: {0}")]
    Protocol(String),
}
