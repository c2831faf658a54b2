//! TLS over TCP. A [`TlsListener`] presents its [`Identity`], and a [`TlsStream`] connects to
//! servers that its [`Trust`] accepts.
//!
//! Versions 1.2 and 1.3 are implemented by rustls with ring. Clients do not present certificates,
//! and there is no protocol negotiation (ALPN). Sessions are not resumed: each connection begins
//! with a full handshake, and no state is kept from one connection to the next. The computation for
//! a handshake takes milliseconds, so it runs on `blocking`'s threads rather than on the threads
//! that run the futures. After that, encryption and decryption take microseconds.

mod credentials;
mod handshake;
mod listener;
mod stream;
mod wire;

pub use credentials::{Identity, MAX_PEM_SIZE, Trust};
pub use listener::{HandshakeLimits, TlsListener};
pub use stream::{TlsStream, Wait};
