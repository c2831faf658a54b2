//! Tests functions, gateways and the service, over real sockets.

mod alone;
mod components;
mod guests;
#[path = "../../examples/host_function.rs"]
mod host_function;
mod http;
mod projects;
mod service;
mod sparks;
mod tcp;
