//! Short responses that come from the gateway itself.

use crate::Failure;
use crate::body::{Body, full};
use crate::request_id::RequestId;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

/// Returns the response to a failure. It tells the client only what the client can use.
pub(super) fn failure_response(failure: &Failure, request: RequestId) -> Response<Body> {
    let text = match failure {
        Failure::Ended(_) | Failure::Failed(_) => "the function failed",
        Failure::Limit(_) => "the function reached a limit",
        Failure::NoAnswer => "the function did not answer",
        Failure::NotHttp(_) => "the function's response is not HTTP",
        Failure::Deadline(_) => "the function did not answer in time",
        Failure::TooLarge(_) => "the request's body is too large",
        Failure::Slow(_) | Failure::Idle(_) | Failure::Life(_) => {
            "the request took too long to arrive"
        }
        Failure::Malformed(_) => "the request's body is malformed",
        Failure::Overload(_) => "there are too many requests; try again later",
        Failure::Unusable(_) => "the function cannot be run",
        Failure::Gone => "the client disconnected",
    };
    let mut response = short_response(failure.status(), &format!("{text} (request {request})"));
    let fields = response.headers_mut();
    if failure.status() == StatusCode::SERVICE_UNAVAILABLE {
        fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    // The rest of such requests is not read.
    if matches!(
        failure,
        Failure::TooLarge(_) | Failure::Slow(_) | Failure::Malformed(_)
    ) {
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Returns a one-line response.
pub(super) fn short_response(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("{text}\n")));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if status == StatusCode::METHOD_NOT_ALLOWED {
        fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Returns the bytes of a response that bypasses hyper. The connection is closed afterwards.
pub(super) fn raw_response(status: StatusCode, text: &str) -> String {
    let (length, reason) = (
        text.len() + 1,
        status.canonical_reason().unwrap_or_default(),
    );
    let code = status.as_u16();
    format!(
        "HTTP/1.1 {code} {reason}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\n\r\n{text}\n"
    )
}
