//! What a project file says: functions, what each may use, and the gateways that lead to them.
//!
//! The file is `lunatic.toml`, or `embly-project.yml` as Embly has it. Reading one does nothing but read it and those of the
//! projects that it depends on; what it names is looked for and not opened. What is wrong is told all at once, each thing with
//! file, line, column and remedy.

mod check;
mod decode;
mod embly;
mod file;
mod problem;
mod secret;
mod service;
#[cfg(test)]
mod tests;
mod tree;

use crate::{Gateway, Name, ServiceConfig, Settings};
use secret::Secret;
use std::path::{Path, PathBuf};

pub use problem::{Problem, ProjectError};

/// The names that a project file has, the first that is there is taken.
const FILES: [&str; 2] = ["lunatic.toml", "embly-project.yml"];

/// A project, with the functions of the projects that it depends on.
#[derive(Debug)]
pub struct Project {
    file: PathBuf,
    /// Those of all projects that belong to it, its own the first.
    files: Vec<PathBuf>,
    functions: Vec<ProjectFunction>,
    gateways: Vec<Gateway>,
    service: Option<service::ProjectService>,
}

/// A function of a project.
#[derive(Clone, Debug)]
pub struct ProjectFunction {
    name: Name,
    recipe: Recipe,
    sources: Vec<PathBuf>,
    settings: Settings,
    secrets: Vec<SecretUse>,
}

/// What a secret is for.
#[derive(Clone, Debug)]
struct SecretUse {
    /// The function's environment variable; `None` is the client's secret.
    variable: Option<String>,
    secret: Secret,
}

/// How a function's wasm comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipe {
    /// Cargo builds a package.
    Cargo {
        /// That of the package.
        directory: PathBuf,
        /// What it is built for.
        target: &'static str,
        /// As `--profile` names it.
        profile: String,
        /// Which of its binaries, where that is said.
        binary: Option<String>,
    },
    /// A program builds it.
    Command {
        /// Where it runs.
        directory: PathBuf,
        /// The program and its arguments, at least one of these.
        command: Vec<String>,
        /// What it writes.
        output: PathBuf,
    },
    /// It is there already.
    Wasm(PathBuf),
}

impl Project {
    /// Finds the project file of a directory: there, or in the nearest one above it.
    pub fn find(directory: &Path) -> Option<PathBuf> {
        let is_here = directory == Path::new("");
        let absolute =
            std::path::absolute(if is_here { Path::new(".") } else { directory }).ok()?;
        let mut here = directory.to_path_buf();
        for _ in absolute.ancestors() {
            if let Some(file) = FILES
                .iter()
                .map(|name| here.join(name))
                .find(|file| file.is_file())
            {
                return Some(file);
            }
            here.push("..");
        }
        None
    }

    /// Reads a project file and those of the projects that it depends on. Relative paths in one are relative to it.
    ///
    /// ```no_run
    /// use lunatic_serve::Project;
    ///
    /// let file = Project::find(".".as_ref()).ok_or("there is no project here")?;
    /// let project = Project::read(&file)?;
    /// for function in project.functions() {
    ///     println!("{}", function.name());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ProjectError`] with everything that is wrong.
    pub fn read(file: &Path) -> Result<Project, ProjectError> {
        check::read(file)
    }

    /// Returns the JSON schema of `lunatic.toml`, by which editors complete and check it.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(file::File);
        let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
        text.push('\n');
        text
    }

    /// Returns the file that it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the directory that its file lies in.
    pub fn directory(&self) -> &Path {
        directory_of(&self.file)
    }

    /// Returns the files that were read: its own, and those of the projects that it depends on.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns the functions: its own, and as `owner/name` those of the projects that it depends on. At least one.
    pub fn functions(&self) -> &[ProjectFunction] {
        &self.functions
    }

    /// Returns the service that its file describes, with secrets read; `None` where it describes none.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] with the secrets that are not there or of no use.
    pub fn service(&self) -> Result<Option<ServiceConfig>, ProjectError> {
        self.service
            .as_ref()
            .map(service::ProjectService::config)
            .transpose()
    }

    /// Returns what every function may use, with secrets read, in their order.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] with all secrets that are not there.
    pub fn settings(&self) -> Result<Vec<Settings>, ProjectError> {
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        for function in &self.functions {
            match function.settings() {
                Ok(settings) => all.push(settings),
                Err(error) => problems.extend(error.into_problems()),
            }
        }
        // Functions in one environment lack the same.
        problems.dedup_by_key(|problem| problem.to_string());
        ProjectError::of(problems)?;
        Ok(all)
    }

    /// Returns the gateways. Those of projects that it depends on are not among them.
    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }
}

impl ProjectFunction {
    /// Returns the function's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns how its wasm comes about.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Returns what it is built from, beside the directory of its recipe.
    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    /// Reads the function's secrets, and returns what it may use.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] with the secrets that are not there.
    pub fn settings(&self) -> Result<Settings, ProjectError> {
        with_secrets(&self.settings, &self.secrets)
    }
}

/// Reads secrets, and returns settings with them.
fn with_secrets(settings: &Settings, secrets: &[SecretUse]) -> Result<Settings, ProjectError> {
    let mut settings = settings.clone();
    let mut problems = Vec::new();
    for SecretUse { variable, secret } in secrets {
        match (secret.read(), variable) {
            (Ok(value), Some(name)) => settings.variables.push((name.clone(), value)),
            (Ok(value), None) => settings.client_secret = Some(value),
            (Err(problem), _) => problems.push(problem),
        }
    }
    ProjectError::of(problems)?;
    Ok(settings)
}

/// Returns the directory that a file lies in.
fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
