//! The HTTP gateway.

use crate::ticket::Ticket;
use crate::{Code, Failure, Version};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use std::sync::Arc;

/// The body of a request or an answer. It is read as its reader wishes: nothing runs ahead by more than a piece.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Has a function answer a request, in a process of its own or in one of its pool.
///
/// The answer comes as soon as its head is there. Dropping the future, or the answer's body before its end, kills the
/// process: nobody waits for what it does.
pub(crate) async fn answer(
    version: &Arc<Version>,
    ticket: &Arc<Ticket>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Failure> {
    match version.code() {
        Code::Spark(spark) => crate::spark::answer(version, spark, ticket, request).await,
        Code::Component(component) => crate::component::answer(version, component, ticket, request).await,
        Code::Program(_) => Err(Failure::Unusable("it is a program, which takes connections and no requests".into())),
    }
}
