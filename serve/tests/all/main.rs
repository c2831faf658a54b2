//! Functions, gateways and the service, over real sockets.

mod http;
mod projects;
mod service;
mod tcp;
