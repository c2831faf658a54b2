//! Why the service refuses requests, and with which status.

use http::{HeaderValue, Method, StatusCode};
use std::fmt::Display;

/// Why a request was refused. Nothing has changed in that case.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// A message that says what is wrong, with what, and how to fix it.
    pub(super) sentence: String,
    /// If the request used the wrong method, the methods that are allowed.
    pub(super) allow: Option<HeaderValue>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, sentence: impl Display) -> Refusal {
        Refusal {
            status,
            sentence: sentence.to_string(),
            allow: None,
        }
    }

    /// Refuses a request because of its method.
    pub(super) fn not_allowed(methods: &[Method]) -> Refusal {
        let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
        let methods = methods.join(", ");
        let allow = HeaderValue::from_str(&methods).ok();
        Refusal {
            allow,
            ..Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("the allowed methods are: {methods}"),
            )
        }
    }

    /// Refuses an invalid request.
    pub(super) fn bad_request(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// Refuses wasm that is not a function.
    pub(super) fn unfit(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, sentence)
    }

    /// Refuses a name or path that does not exist.
    pub(super) fn not_found(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, sentence)
    }

    /// Refuses a request because too many others are in progress.
    pub(super) fn busy(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, sentence)
    }
}
