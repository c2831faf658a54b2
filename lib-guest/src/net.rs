//! TCP, TLS, UDP and names of hosts, with the shapes of [`std::net`].
//!
//! A process that waits for a peer waits alone: others go on. Every call that fails does so with an
//! [`std::io::Error`] whose kind says why, and whose source is the machine's
//! [`LunaticError`](crate::LunaticError).

mod dns;
mod socket;
mod tcp;
mod tls;
mod udp;

pub use dns::{SocketAddrIterator, ToSocketAddrs, resolve, resolve_timeout};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use tls::{TlsIncoming, TlsListener, TlsStream};
pub use udp::UdpSocket;
