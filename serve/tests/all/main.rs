//! Functions, gateways and the service, over real sockets.

mod http;
mod service;
mod tcp;
