//! TLS over TCP: a [`TlsListener`] answers with its [`Identity`], a [`TlsStream`] connects to whom its
//! [`Trust`] vouches for.
//!
//! Versions 1.2 and 1.3, by rustls with ring. Clients show no certificate, no protocol is negotiated
//! (ALPN), and no session is resumed: each connection begins with a whole handshake, and nothing of one
//! is kept for another. The arithmetic of a handshake takes milliseconds, so it is done on the threads of
//! `blocking` and not where the futures run; that of the bytes after it takes microseconds.

mod credentials;
mod handshake;
mod listener;
mod stream;

pub use credentials::{Identity, LARGEST_PEM, Trust};
pub use listener::{Handshakes, TlsListener};
pub use stream::{TlsStream, Wait};
