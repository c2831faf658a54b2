//! Passes a request to a function in the way that its kind of code requires.

use crate::body::Body;
use crate::request_info::RequestInfo;
use crate::{Code, Failure, Functions, Version};
use std::sync::Arc;

/// Has a function answer a request, either in a new process or in a pooled instance.
///
/// Returns the response as soon as its head is available. Dropping the future, or dropping the
/// response's body before its end, kills the process, because the result is no longer needed.
pub(crate) async fn answer(
    functions: &Functions,
    version: &Arc<Version>,
    info: &Arc<RequestInfo>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Failure> {
    match version.code() {
        Code::Spark(spark) => {
            crate::spark::answer::answer(functions, version, spark, info, request).await
        }
        Code::Component(component) => {
            crate::component::answer::answer(version, component, info, request).await
        }
        Code::Program(_) => Err(Failure::Unusable(
            "it is a program, which handles connections, not requests".into(),
        )),
    }
}
