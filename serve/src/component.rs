//! Components that handle HTTP requests.

use crate::gateway::http::Body;
use crate::ticket::Ticket;
use crate::{Failure, Version};
use lunatic_vm::{Component, Host};
use std::sync::Arc;

/// Adds what components import.
pub(crate) fn add_to_host(_host: &mut Host) {}

/// Whether a component exports what requests are given to.
pub(crate) fn handles_requests(_component: &Component) -> bool {
    true
}

/// Has a component answer a request.
pub(crate) async fn answer(
    _version: &Arc<Version>,
    _component: &Component,
    _ticket: &Arc<Ticket>,
    _request: http::Request<Body>,
) -> Result<http::Response<Body>, Failure> {
    Err(Failure::NoAnswer)
}
