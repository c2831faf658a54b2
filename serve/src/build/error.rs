//! Why a function was not built.

use crate::CodeError;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// A function was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The program that builds it cannot be started.
    #[error("`{program}` cannot be started in `{}`: {error}", directory.display())]
    Start {
        /// The program.
        program: String,
        /// The directory in which it was to run.
        directory: PathBuf,
        /// Why it cannot.
        error: io::Error,
    },
    /// The compiler has no standard library for the target.
    #[error("there is no standard library for `{0}`")]
    Target(&'static str),
    /// The program that builds it failed.
    #[error("`{program}` failed ({status})")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// Cargo built nothing that can be run.
    #[error("the package in `{}` builds no wasm", .0.display())]
    NoBinary(PathBuf),
    /// Cargo built several binaries.
    #[error("the package builds several binaries: {}", .0.join(", "))]
    Binaries(Vec<String>),
    /// A file cannot be read.
    #[error("`{}` cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot.
        error: io::Error,
    },
    /// What was built is not a function.
    #[error("`{}` is not a function: {error}", path.display())]
    Code {
        /// The file.
        path: PathBuf,
        /// Why it is not.
        error: CodeError,
    },
    /// What was built cannot be stored.
    #[error("`{}` cannot be written: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why it cannot.
        error: io::Error,
    },
}

impl BuildError {
    /// Returns the compiler's output, if it ran and failed.
    pub fn output(&self) -> Option<&str> {
        match self {
            BuildError::Failed { output, .. } => Some(output),
            _ => None,
        }
    }

    /// Returns the remedy, if there is a known one.
    pub fn help(&self) -> Option<String> {
        match self {
            BuildError::Target(target) => Some(format!("`rustup target add {target}` installs it")),
            BuildError::Start { program, error, .. } if error.kind() == io::ErrorKind::NotFound => {
                Some(match program.as_str() {
                    "cargo" => "Rust comes from https://rustup.rs".into(),
                    other => format!("`{other}` has to be in the PATH"),
                })
            }
            BuildError::NoBinary(_) => Some(
                "it needs a `src/main.rs`, or a library with `crate-type = [\"cdylib\"]`".into(),
            ),
            BuildError::Binaries(_) => {
                Some("`binary = \"…\"` says which of them the function is".into())
            }
            _ => None,
        }
    }
}
