//! Components that handle HTTP requests.
//!
//! A component exports `wasi:http/incoming-handler`, through which it receives requests: either one
//! instance per request, or a few instances that each serve one request after another, depending on
//! the function's [`Policy`](crate::Policy). The response is sent as soon as the component has set
//! its head, while the component continues to run; anything written afterwards is sent as the
//! client reads.

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

/// Adds everything that components can import.
pub(crate) fn add_to_host(host: &mut Host) {
    host.component("wasi:http", interfaces::link);
    host.component("rvm:lambda/host", lambda::link);
}
