//! What can go wrong.

use lunatic_vm::{BuildError, EntryError, Exit, ModuleError, SpawnError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a module cannot be called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no module that the machine runs.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The machine cannot be set up.
    #[error(transparent)]
    Machine(#[from] BuildError),
    /// A function that was asked for is not there.
    #[error("the module exports no function `{wanted}`; it has {}", list(.there))]
    Missing {
        /// The function.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// A function has another type than in the version before.
    #[error("the function `{function}` was {then} and is {now} now")]
    Changed {
        /// The function.
        function: String,
        /// Its type in the version before.
        then: String,
        /// Its type now.
        now: String,
    },
    /// The file cannot be watched.
    #[error("{} cannot be watched for changes: {error}", path.display())]
    Watch {
        /// Which.
        path: PathBuf,
        /// Why.
        error: notify::Error,
    },
    /// An instance cannot be made.
    #[error("no instance of the module can be made: {0}")]
    Instance(#[from] InstanceError),
}

/// Why there is no instance.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// It was refused.
    #[error("{0}")]
    Refused(Arc<SpawnError>),
    /// It ended while it was made.
    #[error("it {0}")]
    Ended(Exit),
    /// It did not begin in time, and was killed.
    #[error("its start function did not return within {0:?}")]
    Late(Duration),
}

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The argument cannot be JSON.
    #[error("the argument cannot be JSON: {0}")]
    Argument(#[source] serde_json::Error),
    /// The argument does not fit the guest's memory.
    #[error(
        "the argument needs {wanted} bytes of the guest's memory, which has {size} and may not grow so far"
    )]
    TooLarge {
        /// How many bytes, as far as they can be counted.
        wanted: u64,
        /// How large the memory is.
        size: u64,
    },
    /// There is no such function, or it is none that can be called so.
    #[error("{0}")]
    Function(#[from] EntryError),
    /// The function answered that it failed.
    #[error("the function failed: {0}")]
    Failed(String),
    /// The instance ended in the call: it trapped, or reached a limit.
    #[error("the call ended its instance, which {0}")]
    Ended(Exit),
    /// The time was over. The instance that was at it has been ended.
    #[error("the call took longer than {0:?}")]
    TimedOut(Duration),
    /// The answer makes no sense.
    #[error("the answer of the function is wrong: {0}")]
    Answer(String),
    /// No instance could be made.
    #[error("no instance of the module can be made: {0}")]
    Instance(#[from] InstanceError),
    /// Too many calls wait for an instance already.
    #[error("{0} calls wait for an instance already")]
    Busy(usize),
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_string(),
        names => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
