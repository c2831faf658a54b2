//! Why a function did not answer a request.

use http::StatusCode;
use lunatic_vm::{Exit, ExitKind, SpawnError};
use std::time::Duration;

/// Why a function did not answer a request. Each failure has an HTTP status and a message for the
/// log. The client sees only the status and its reason phrase.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The process trapped, failed or was killed before it answered.
    #[error("the function {0}")]
    Ended(Exit),
    /// The function reported a failure, with the reason.
    #[error("the function failed: {}", lunatic_vm::printable(.0))]
    Failed(String),
    /// The process reached a limit of its environment.
    #[error("the function {0}")]
    Limit(Exit),
    /// The process ended normally without an answer.
    #[error("the function ended without an answer")]
    NoAnswer,
    /// The function's answer is not valid HTTP.
    #[error("the function's answer is not HTTP: {0}")]
    NotHttp(String),
    /// The function did not answer in time.
    #[error("the function did not answer within {0:?}")]
    Deadline(Duration),
    /// The request's body is larger than the function accepts.
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(u64),
    /// The request's body violates HTTP or is incomplete.
    #[error("the request's body is malformed: {0}")]
    Malformed(String),
    /// The client did not send its request in time.
    #[error("the client took longer than {0:?} to send its request")]
    Slow(Duration),
    /// A connection was idle for too long.
    #[error("nothing came or went on the connection for {0:?}")]
    Idle(Duration),
    /// A connection reached its maximum lifetime.
    #[error("the connection was open for {0:?}, which is as long as it may be")]
    Life(Duration),
    /// The maximum number of requests is already being served, or the machine has no room for
    /// another process.
    #[error("{0}")]
    Overload(String),
    /// The function cannot run in its environment, regardless of the request.
    #[error("the function cannot be run: {0}")]
    Unusable(String),
    /// The client disconnected.
    #[error("the client went away")]
    Gone,
}

impl Failure {
    /// Returns the failure of a request whose process exited without answering.
    pub fn of_exit(exit: Exit) -> Failure {
        match exit.kind() {
            ExitKind::Normal => Failure::NoAnswer,
            ExitKind::Limit => Failure::Limit(exit),
            _ => Failure::Ended(exit),
        }
    }

    /// Returns the failure of a request for which no process could be spawned.
    pub fn of_spawn(error: SpawnError) -> Failure {
        match error {
            SpawnError::Limit(_) | SpawnError::Ceiling(_) | SpawnError::Ending => {
                Failure::Overload(error.to_string())
            }
            error => Failure::Unusable(error.to_string()),
        }
    }

    /// Returns the status for the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Failure::Ended(_) | Failure::Failed(_) | Failure::Unusable(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Failure::Limit(_) | Failure::Overload(_) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::NoAnswer | Failure::NotHttp(_) => StatusCode::BAD_GATEWAY,
            Failure::Deadline(_) | Failure::Idle(_) | Failure::Life(_) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Failure::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::Malformed(_) => StatusCode::BAD_REQUEST,
            Failure::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            // No client receives this status; other servers use it in their logs.
            Failure::Gone => StatusCode::from_u16(499).expect("499 has three digits"),
        }
    }

    /// Returns the name of this failure in metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Failure::Ended(exit) if exit.trap().is_some() => "trap",
            Failure::Ended(_) | Failure::Failed(_) => "failed",
            Failure::Limit(_) => "limit",
            Failure::NoAnswer => "no_answer",
            Failure::NotHttp(_) => "not_http",
            Failure::Deadline(_) => "deadline",
            Failure::TooLarge(_) => "too_large",
            Failure::Malformed(_) => "malformed",
            Failure::Slow(_) => "slow",
            Failure::Idle(_) => "idle",
            Failure::Life(_) => "life",
            Failure::Overload(_) => "overload",
            Failure::Unusable(_) => "unusable",
            Failure::Gone => "gone",
        }
    }
}
