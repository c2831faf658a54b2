//! Why a function was not built.

use crate::CodeError;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// A function was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The build program cannot be started.
    #[error("`{program}` cannot be started in `{}`: {error}", directory.display())]
    Start {
        /// The program.
        program: String,
        /// The directory it should have run in.
        directory: PathBuf,
        /// The underlying error.
        error: io::Error,
    },
    /// The compiler has no standard library for the target.
    #[error("there is no standard library for `{0}`")]
    Target(&'static str),
    /// The build program failed.
    #[error("`{program}` failed ({status})")]
    Failed {
        /// The program.
        program: String,
        /// The program's exit status.
        status: ExitStatus,
        /// The tail of its output.
        output: String,
    },
    /// Cargo did not build anything that can be run as a function.
    #[error("the package in `{}` does not build any wasm", .0.display())]
    NoBinary(PathBuf),
    /// Cargo built several binaries.
    #[error("the package builds several binaries: {}", .0.join(", "))]
    Binaries(Vec<String>),
    /// A file cannot be read.
    #[error("`{}` cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The underlying error.
        error: io::Error,
    },
    /// The build output is not a function.
    #[error("`{}` is not a function: {error}", path.display())]
    Code {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: CodeError,
    },
    /// The build output cannot be stored.
    #[error("`{}` cannot be written: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The underlying error.
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

    /// Returns how to fix this, if known.
    pub fn help(&self) -> Option<String> {
        match self {
            BuildError::Target(target) => Some(format!("`rustup target add {target}` installs it")),
            BuildError::Start { program, error, .. } if error.kind() == io::ErrorKind::NotFound => {
                Some(match program.as_str() {
                    "cargo" => "install Rust from https://rustup.rs".into(),
                    other => format!("`{other}` must be in the PATH"),
                })
            }
            BuildError::NoBinary(_) => Some(
                "the package needs a `src/main.rs`, or a library with `crate-type = [\"cdylib\"]`"
                    .into(),
            ),
            BuildError::Binaries(_) => {
                Some("`binary = \"…\"` selects the one to use as the function".into())
            }
            _ => None,
        }
    }
}
