//! What the sockets promise, one module per subject. Everything happens on loopback, on ports that
//! the system chooses.

mod dns;
mod listener;
mod pair;
mod stream;
mod tls;
mod udp;
