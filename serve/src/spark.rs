//! Sparks: modules that read and write bytes.

use crate::gateway::http::Body;
use crate::ticket::Ticket;
use crate::{Failure, Version};
use lunatic_vm::{Host, Module};
use std::sync::Arc;

/// Adds what sparks import.
pub(crate) fn add_to_host(_host: &mut Host) {}

/// Returns the function that a module begins with.
pub(crate) fn entry(module: &Module) -> Option<&'static str> {
    ["_start", "main"].into_iter().find(|name| module.function(name).is_some())
}

/// Whether a module reads and writes bytes, or is a program that takes connections as messages.
pub(crate) fn is_spark(_module: &Module) -> bool {
    true
}

/// Has a spark answer a request.
pub(crate) async fn answer(
    _version: &Arc<Version>,
    _module: &Module,
    _ticket: &Arc<Ticket>,
    _request: http::Request<Body>,
) -> Result<http::Response<Body>, Failure> {
    Err(Failure::NoAnswer)
}
