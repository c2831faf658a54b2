//! TLS over TCP. A [`TlsListener`] presents its [`Identity`], and a [`TlsStream`] connects to
//! servers that its [`Trust`] accepts.
//!
//! Versions 1.2 and 1.3 are implemented by rustls with ring. Clients present no certificate, and no
//! protocol is negotiated (ALPN). Sessions are not resumed: each connection begins with a full
//! handshake, and no state is kept from one connection to the next. The computation for a handshake
//! takes milliseconds, so it runs on the threads of `blocking` rather than on the threads that run
//! the futures. Encrypting and decrypting afterwards takes microseconds.

mod credentials;
mod handshake;
mod listener;
mod stream;
mod wire;

pub use credentials::{Identity, MAX_PEM_SIZE, Trust};
pub use listener::{HandshakeLimits, TlsListener};
pub use stream::{TlsStream, Wait};
