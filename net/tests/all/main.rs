//! Tests what the sockets promise, with one module per subject. All tests use the loopback
//! interface and ports that the system chooses.

mod dns;
mod listener;
mod pair;
mod stream;
mod tls;
mod udp;
