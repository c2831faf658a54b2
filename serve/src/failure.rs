//! Why a request was not answered by its function.

use http::StatusCode;
use lunatic_vm::{Exit, ExitKind, SpawnError};
use std::time::Duration;

/// Why a function did not answer. Each has one status, and one sentence for the log; a client is told no more than the status
/// and its short text.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The process ended otherwise than well before it answered: it trapped, failed, or was killed.
    #[error("the function {0}")]
    Ended(Exit),
    /// The function itself says that it failed, and why.
    #[error("the function failed: {}", lunatic_vm::printable(.0))]
    Failed(String),
    /// The process met a limit of its environment.
    #[error("the function {0}")]
    Limit(Exit),
    /// The process ended well and had not answered.
    #[error("the function ended without an answer")]
    NoAnswer,
    /// What it answered is not HTTP.
    #[error("the function's answer is not HTTP: {0}")]
    NotHttp(String),
    /// It did not answer in time.
    #[error("the function did not answer within {0:?}")]
    Deadline(Duration),
    /// The request's body is larger than the function takes.
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(u64),
    /// The request's body is not what HTTP says, or ends before it is whole.
    #[error("the request's body is malformed: {0}")]
    Malformed(String),
    /// The client did not send its request in time.
    #[error("the client took longer than {0:?} to send its request")]
    Slow(Duration),
    /// Nothing came or went on a connection for as long as that may be so.
    #[error("nothing came or went on the connection for {0:?}")]
    Idle(Duration),
    /// A connection was open for as long as it may be.
    #[error("the connection was open for {0:?}, which is as long as it may be")]
    Life(Duration),
    /// There are as many requests as there may be, or the machine has no room for a process.
    #[error("{0}")]
    Overload(String),
    /// The function's environment cannot run it, which says nothing of the request.
    #[error("the function cannot be run: {0}")]
    Unusable(String),
    /// The client went away.
    #[error("the client went away")]
    Gone,
}

impl Failure {
    /// Returns what a process's end means for the request that it had not answered.
    pub fn of_exit(exit: Exit) -> Failure {
        match exit.kind() {
            ExitKind::Normal => Failure::NoAnswer,
            ExitKind::Limit => Failure::Limit(exit),
            _ => Failure::Ended(exit),
        }
    }

    /// Returns what it means that no process was spawned.
    pub fn of_spawn(error: SpawnError) -> Failure {
        match error {
            SpawnError::Limit(_) | SpawnError::Ceiling(_) | SpawnError::Ending => {
                Failure::Overload(error.to_string())
            }
            error => Failure::Unusable(error.to_string()),
        }
    }

    /// Returns the status that a client gets.
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
            // Nobody reads it; this is what logs of others say.
            Failure::Gone => StatusCode::from_u16(499).expect("it has three digits"),
        }
    }

    /// Returns one word for metrics.
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
