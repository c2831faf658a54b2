//! Failures as seen by Elixir: a kind for programs and a message for people.

use lunatic_bridge::{CallError, LoadError, WorkerError};
use rustler::{Encoder, Env, NifUnitEnum, Term};

/// The kind of a failure, as an atom.
#[derive(Clone, Copy, Debug, NifUnitEnum)]
pub(crate) enum Kind {
    Argument,
    Failed,
    Ended,
    Timeout,
    Function,
    TooLarge,
    Busy,
    Answer,
    Instance,
    Stopped,
    Cancelled,
    File,
    Module,
    Internal,
}

/// A failure.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
        }
    }
}

impl Encoder for Failure {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (self.kind, &self.message).encode(env)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        let kind = match &error {
            CallError::Argument(_) => Kind::Argument,
            CallError::TooLarge { .. } => Kind::TooLarge,
            CallError::Busy(_) => Kind::Busy,
            CallError::Function(_) => Kind::Function,
            CallError::Failed(_) => Kind::Failed,
            CallError::Ended(_) => Kind::Ended,
            CallError::TimedOut(_) => Kind::Timeout,
            CallError::Answer(_) => Kind::Answer,
            _ => Kind::Instance,
        };
        Failure::new(kind, error.to_string())
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Failure {
        match error {
            WorkerError::Call(error) => error.into(),
            error => Failure::new(Kind::Stopped, error.to_string()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        let kind = match &error {
            LoadError::File { .. } => Kind::File,
            LoadError::Missing { .. } | LoadError::Changed { .. } => Kind::Function,
            LoadError::Instance(_) | LoadError::Machine(_) => Kind::Instance,
            _ => Kind::Module,
        };
        Failure::new(kind, error.to_string())
    }
}
