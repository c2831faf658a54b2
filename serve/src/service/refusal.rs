//! Why the service does not do what it is asked, and the status that says so.

use http::{HeaderValue, Method, StatusCode};
use std::fmt::Display;

/// The service does not do it, and nothing has changed.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What is wrong, with what, and the remedy.
    pub(super) sentence: String,
    /// The methods that would do, where another was used.
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

    /// It is not to be asked so.
    pub(super) fn not_allowed(methods: &[Method]) -> Refusal {
        let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
        let methods = methods.join(", ");
        let allow = HeaderValue::from_str(&methods).ok();
        Refusal {
            allow,
            ..Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("this takes {methods}"),
            )
        }
    }

    /// What was asked cannot be.
    pub(super) fn bad_request(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// What was sent is no function.
    pub(super) fn unfit(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, sentence)
    }

    /// There is nothing of that name.
    pub(super) fn not_found(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, sentence)
    }

    /// Others have to be done first.
    pub(super) fn busy(sentence: impl Display) -> Refusal {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, sentence)
    }
}
