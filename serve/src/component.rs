//! Components that handle HTTP requests.
//!
//! A component exports `wasi:http/incoming-handler`, through which it is given requests: one
//! instance for each, or a few instances that serve one request after the other, as the function's
//! [`Policy`](crate::Policy) says. Its response is sent when the component has set the head, while
//! it works on; what it writes afterwards is sent as the client reads.

pub(crate) mod answer;
mod body;
mod grants;
mod instance;
pub(crate) mod instances;
mod interfaces;
mod job;
mod lambda;
mod pending;
mod pool;
mod spawn;

use lunatic_vm::Host;

/// Adds what components import.
pub(crate) fn add_to_host(host: &mut Host) {
    host.component("wasi:http", interfaces::link);
    host.component("rvm:lambda/host", lambda::link);
}
