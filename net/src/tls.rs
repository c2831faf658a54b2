//! TLS over TCP: a [`TlsListener`] presents its [`Identity`], and a [`TlsStream`] connects to
//! servers for which its [`Trust`] vouches.
//!
//! Versions 1.2 and 1.3, by rustls with ring. Clients present no certificate, no protocol is
//! negotiated (ALPN), and no session is resumed: each connection begins with a full handshake, and
//! nothing is kept from one connection to another. The computation for a handshake takes
//! milliseconds, so it runs on the threads of `blocking` rather than where the futures run;
//! encrypting and decrypting afterwards takes microseconds.

mod credentials;
mod handshake;
mod listener;
mod stream;
mod wire;

pub use credentials::{Identity, MAX_PEM_SIZE, Trust};
pub use listener::{HandshakeLimits, TlsListener};
pub use stream::{TlsStream, Wait};
