//! Values that a project file only refers to. They are read when a function starts serving and are
//! never displayed.

use super::problem::{Problem, Source, Span};
use crate::bounded_file;
use std::path::PathBuf;
use std::sync::Arc;

/// The maximum size of a secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// A reference to a value.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub(super) origin: Origin,
    /// The file that contains the reference.
    pub(super) source: Arc<Source>,
    pub(super) span: Span,
}

/// Where a value is stored.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Variable(String),
    File(PathBuf),
}

impl Secret {
    /// Reads the value.
    pub(super) fn read(&self) -> Result<String, Problem> {
        self.value()
            .map_err(|(message, help)| self.problem(message, Some(help)))
    }

    /// Creates a problem located at the reference.
    pub(super) fn problem(&self, message: String, help: Option<String>) -> Problem {
        Problem::new(&self.source, Some(self.span), message, help)
    }

    fn value(&self) -> Result<String, (String, String)> {
        match &self.origin {
            Origin::Variable(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => (
                    format!(
                        "the environment variable `{name}`, which holds this secret, is not set"
                    ),
                    format!("set it when you start `lunatic`: `{name}=… lunatic serve`"),
                ),
                std::env::VarError::NotUnicode(_) => (
                    format!("the environment variable `{name}` is not UTF-8"),
                    "a secret must be valid UTF-8".to_string(),
                ),
            }),
            Origin::File(path) => {
                let mut value = bounded_file::read_text(path, MAX_SECRET).map_err(|error| {
                    let message = format!(
                        "`{}`, which holds this secret, cannot be read: {error}",
                        path.display()
                    );
                    (message, "the path is relative to this file".to_string())
                })?;
                let end = value
                    .strip_suffix('\n')
                    .map(|value| value.strip_suffix('\r').unwrap_or(value).len());
                value.truncate(end.unwrap_or(value.len()));
                Ok(value)
            }
        }
    }
}
