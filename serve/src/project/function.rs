//! A function in a project.

use super::problem::{Problem, ProjectError};
use super::secret::Secret;
use crate::{Name, Settings};
use std::path::PathBuf;

/// A function in a project.
#[derive(Clone, Debug)]
pub struct ProjectFunction {
    pub(super) name: Name,
    pub(super) recipe: Recipe,
    pub(super) sources: Vec<PathBuf>,
    pub(super) settings: Settings,
    pub(super) secrets: Vec<SecretUse>,
}

/// How a function's wasm is produced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipe {
    /// Cargo builds a package.
    Cargo {
        /// The package's directory.
        directory: PathBuf,
        /// The compilation target.
        target: &'static str,
        /// The cargo profile.
        profile: String,
        /// The binary, if the project file names one.
        binary: Option<String>,
    },
    /// A command builds the function.
    Command {
        /// The directory to run the command in.
        directory: PathBuf,
        /// The program and its arguments. Never empty.
        command: Vec<String>,
        /// The file that the command writes.
        output: PathBuf,
    },
    /// The wasm already exists.
    Wasm(PathBuf),
}

/// Where a secret is used.
#[derive(Clone, Debug)]
pub(super) struct SecretUse {
    /// The function's environment variable, or `None` for the client's secret.
    pub(super) variable: Option<String>,
    pub(super) secret: Secret,
}

impl ProjectFunction {
    /// Returns the function's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns how the function's wasm is produced.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Returns the files and directories that the function is built from, in addition to those
    /// implied by its recipe.
    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    /// Reads the function's secrets and returns its settings.
    ///
    /// # Errors
    ///
    /// [`ProjectError`], which lists the secrets that cannot be read.
    pub fn settings(&self) -> Result<Settings, ProjectError> {
        let mut problems = Vec::new();
        let settings = with_secrets(&self.settings, &self.secrets, &mut problems);
        ProjectError::of(problems)?;
        Ok(settings)
    }
}

/// Returns settings that include the secrets that can be read.
pub(super) fn with_secrets(
    settings: &Settings,
    secrets: &[SecretUse],
    problems: &mut Vec<Problem>,
) -> Settings {
    let mut settings = settings.clone();
    for SecretUse { variable, secret } in secrets {
        match (secret.read(), variable) {
            (Ok(value), Some(name)) => settings.variables.push((name.clone(), value)),
            (Ok(value), None) => settings.client_secret = Some(value),
            (Err(problem), _) => problems.push(problem),
        }
    }
    settings
}
