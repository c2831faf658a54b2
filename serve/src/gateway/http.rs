//! The HTTP gateway: speaks HTTP/1.1 and HTTP/2, in plaintext or over TLS, and routes each request
//! to what answers it.
//!
//! It speaks HTTP and knows nothing about guests: a request goes to
//! [`answer`](crate::answer::answer) and comes back as a response or as a
//! [`Failure`](crate::Failure), which has a status. Clients are limited here; functions are limited
//! by their environment.

mod body;
mod check;
mod connection;
mod exchange;
mod files;
mod framing;
mod guard;
pub(crate) mod listener;
mod reply;
mod request;
mod route;
pub(crate) mod serve;
pub(crate) mod setup;
mod tls;
mod wire;
