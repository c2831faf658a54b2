//! The HTTP gateway: HTTP/1.1 and HTTP/2, in clear or over TLS, and from each request to what
//! answers it.
//!
//! It speaks HTTP and knows no guest: a request goes to [`answer`](crate::answer::answer) and comes
//! back as a response or as a [`Failure`](crate::Failure), which has a status. What clients may do
//! is bounded here; what functions may do, by their environment.

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
