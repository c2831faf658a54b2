//! Components that handle HTTP requests.
//!
//! A component receives requests through `wasi:http/incoming-handler`, which it exports. Depending
//! on the function's [`Policy`](crate::Policy), each request gets its own instance, or a few
//! instances each serve one request after another. The response is sent as soon as the component
//! has set its head, while the component keeps running. Anything the component writes after that is
//! sent as the client reads it.

pub(crate) mod answer;
mod body;
mod grants;
mod instance;
pub(crate) mod instances;
mod interfaces;
mod job;
mod kept;
mod lambda;
mod pending;
mod pool;
mod spawn;

use lunatic_vm::Host;

/// Adds all interfaces that components can import.
pub(crate) fn add_to_host(host: &mut Host) {
    host.component("wasi:http", interfaces::link);
    host.resource_size(kept::size);
    host.component("rvm:lambda/host", lambda::link);
}
