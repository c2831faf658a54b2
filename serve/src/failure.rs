//! Why a function did not answer a request.

use http::StatusCode;
use lunatic_vm::{Exit, ExitKind, SpawnError};
use std::time::Duration;

/// Why a function did not answer a request. Each failure has an HTTP status and a message for the
/// log. The client sees only the status and a short, fixed text.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The process trapped, failed or was killed before it answered.
    #[error("the function {0}")]
    Ended(Exit),
    /// The function reported a failure, with the reason.
    #[error("the function failed: {}", lunatic_vm::printable(.0))]
    Failed(String),
    /// The process reached one of its environment's limits.
    #[error("the function {0}")]
    Limit(Exit),
    /// The process ended normally without a response.
    #[error("the function ended without a response")]
    NoAnswer,
    /// The function's response is not valid HTTP.
    #[error("the function's response is not HTTP: {0}")]
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
    #[error("no data was sent or received on the connection for {0:?}")]
    Idle(Duration),
    /// A connection reached its maximum lifetime.
    #[error("the connection was open for {0:?}, which is the maximum")]
    Life(Duration),
    /// The maximum number of requests is already being served, or the machine cannot run another
    /// process.
    #[error("{0}")]
    Overload(String),
    /// The function cannot run in its environment, regardless of the request.
    #[error("the function cannot be run: {0}")]
    Unusable(String),
    /// The client disconnected.
    #[error("the client disconnected")]
    Gone,
}

impl Failure {
    /// Returns the failure of a request whose process exited without answering it.
    pub fn of_exit(exit: Exit) -> Failure {
        match exit.kind() {
            ExitKind::Normal => Failure::NoAnswer,
            ExitKind::Limit => Failure::Limit(exit),
            _ => Failure::Ended(exit),
        }
    }

    /// Returns the failure of a request whose process could not be spawned.
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
        let (status, _) = self.reported();
        StatusCode::from_u16(status).expect("every status below has three digits")
    }

    /// Returns this failure's name in metrics.
    pub fn outcome(&self) -> &'static str {
        self.reported().1
    }

    /// Returns the status for the client and the name in metrics.
    fn reported(&self) -> (u16, &'static str) {
        match self {
            Failure::Ended(exit) if exit.trap().is_some() => (500, "trap"),
            Failure::Ended(_) | Failure::Failed(_) => (500, "failed"),
            Failure::Unusable(_) => (500, "unusable"),
            Failure::Limit(_) => (503, "limit"),
            Failure::Overload(_) => (503, "overload"),
            Failure::NoAnswer => (502, "no_answer"),
            Failure::NotHttp(_) => (502, "not_http"),
            Failure::Deadline(_) => (504, "deadline"),
            Failure::Idle(_) => (504, "idle"),
            Failure::Life(_) => (504, "life"),
            Failure::TooLarge(_) => (413, "too_large"),
            Failure::Malformed(_) => (400, "malformed"),
            Failure::Slow(_) => (408, "slow"),
            // This status is never sent to a client. Other servers use it in their logs.
            Failure::Gone => (499, "gone"),
        }
    }
}
