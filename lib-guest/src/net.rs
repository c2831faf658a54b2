//! TCP, TLS, UDP and name lookups, modelled on [`std::net`].
//!
//! Only the calling process waits for a peer. A failed call returns a [`std::io::Error`] whose kind
//! identifies the reason and whose source is the machine's [`LunaticError`](crate::LunaticError).

mod dns;
mod socket;
mod tcp;
mod tls;
mod udp;

pub use dns::{SocketAddrIterator, ToSocketAddrs, resolve, resolve_timeout};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use tls::{TlsIncoming, TlsListener, TlsStream};
pub use udp::UdpSocket;
