//! The HTTP gateway. It speaks HTTP/1.1 and HTTP/2, in plaintext or over TLS, and routes each
//! request to its target.
//!
//! The gateway speaks HTTP and does not depend on guests. It passes each request to
//! [`answer`](crate::answer::answer), which returns a response or a [`Failure`](crate::Failure)
//! with a status. The gateway limits clients; functions are limited by their environments.

mod ahead;
mod body;
mod check;
mod connection;
mod exchange;
mod files;
pub(crate) mod framing;
mod guard;
pub(crate) mod listener;
mod reply;
mod request;
mod route;
pub(crate) mod serve;
pub(crate) mod setup;
mod tls;
mod wire;
