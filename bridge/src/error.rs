//! Bridge errors.

use lunatic_vm::{BuildError, EntryError, Exit, ModuleError, SpawnError, printable};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The reason why a module cannot be called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    File {
        /// The file's path.
        path: PathBuf,
        /// Why it cannot be read.
        error: std::io::Error,
    },
    /// The bytes are not a module that the machine can run.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The machine cannot be created.
    #[error(transparent)]
    Machine(#[from] BuildError),
    /// A required function is missing.
    #[error("the module exports no function `{}`; it has {}", printable(.wanted), list(.exported))]
    Missing {
        /// The function's name.
        wanted: String,
        /// The functions that the module does export.
        exported: Vec<String>,
    },
    /// A function's type is not the same as in the previous version.
    #[error("the type of the function `{}` was {then} and is now {now}", printable(.function))]
    Changed {
        /// The function's name.
        function: String,
        /// Its type in the previous version.
        then: String,
        /// Its current type.
        now: String,
    },

    /// An instance cannot be created.
    #[error("the module cannot be instantiated: {0}")]
    Instance(#[from] InstanceError),
}

/// The reason why an instance could not be created.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// The machine refused to create the instance.
    #[error("{0}")]
    Refused(Arc<SpawnError>),
    /// The instance ended while it was starting.
    #[error("it {0}")]
    Ended(Exit),
    /// The instance did not start in time and was killed.
    #[error("its start function did not return within {0:?}")]
    Late(Duration),
}

/// The reason why a call did not return a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The argument cannot be expressed as JSON.
    #[error("the argument cannot be expressed as JSON: {0}")]
    Argument(#[source] serde_json::Error),
    /// The argument does not fit in the guest's memory.
    #[error(
        "the argument needs {wanted} bytes of the guest's memory, which has {size} and may not grow large enough"
    )]
    TooLarge {
        /// The number of bytes that the argument needs, or `u64::MAX` if that number does not fit in
        /// a `u64`.
        wanted: u64,
        /// The memory's size.
        size: u64,
    },
    /// The function does not exist or takes different parameters.
    #[error("{0}")]
    Function(#[from] EntryError),
    /// The function returned an error.
    #[error("the function failed: {0}")]
    Failed(String),
    /// The call trapped or reached a limit, which ended its instance.
    #[error("the call ended its instance, which {0}")]
    Ended(Exit),
    /// The call took too long, and its instance was terminated.
    #[error("the call took longer than {0:?}")]
    TimedOut(Duration),
    /// The answer is malformed.
    #[error("the function's answer is malformed: {0}")]
    Answer(String),
    /// No instance could be created.
    #[error("the module cannot be instantiated: {0}")]
    Instance(#[from] InstanceError),
    /// Too many calls are already waiting for an instance.
    #[error("{0} calls are already waiting for an instance")]
    Busy(usize),
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_string(),
        names => names
            .iter()
            .map(|name| format!("`{}`", printable(name)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
