//! Projects: functions, their settings, and the gateways that lead to them.
//!
//! A project file is either `lunatic.toml` or Embly's `embly-project.yml`. Reading a project opens
//! only its file and the files of the projects it depends on. Other paths in these files are only
//! checked for existence. All problems are reported at once, each with its file, line and column
//! and how to fix it.

mod check;
mod decode;
mod embly;
mod file;
mod function;
mod paths;
mod problem;
#[cfg(test)]
mod schema;
mod secret;
mod service;
#[cfg(test)]
mod tests;
mod tree;

use crate::{Gateway, ServiceConfig, Settings};
use check::Checked;
use service::ProjectService;
use std::path::{Path, PathBuf};

pub use function::{ProjectFunction, Recipe};
pub use problem::{Problem, ProjectError};

/// A project, including the functions of the projects it depends on.
#[derive(Debug)]
pub struct Project {
    file: PathBuf,
    checked: Checked,
}

impl Project {
    /// Finds the project file for a directory, either in the directory itself or in its nearest
    /// ancestor that has one.
    pub fn find(directory: &Path) -> Option<PathBuf> {
        paths::find(directory)
    }

    /// Reads a project file and the files of the projects it depends on. Relative paths are
    /// relative to the directory of the file that contains them.
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
    /// [`ProjectError`], which lists all problems.
    pub fn read(file: &Path) -> Result<Project, ProjectError> {
        Ok(Project {
            file: file.to_path_buf(),
            checked: check::read(file)?,
        })
    }

    /// Returns the project's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the directory of the project's file.
    pub fn directory(&self) -> &Path {
        paths::directory_of(&self.file)
    }

    /// Returns the files that were read: the project's own and those of the projects it depends on.
    pub fn files(&self) -> &[PathBuf] {
        &self.checked.files
    }

    /// Returns the functions: the project's own, and those of the projects it depends on, named
    /// `owner/name`. There is at least one.
    pub fn functions(&self) -> &[ProjectFunction] {
        &self.checked.functions
    }

    /// Returns the gateways, excluding those of the projects it depends on.
    pub fn gateways(&self) -> &[Gateway] {
        &self.checked.gateways
    }

    /// Reads the secrets of the service described by the project file, and returns the service's
    /// configuration. Returns `None` if the file does not describe a service.
    ///
    /// # Errors
    ///
    /// [`ProjectError`], which lists the secrets that cannot be read or are invalid.
    pub fn service(&self) -> Result<Option<ServiceConfig>, ProjectError> {
        let service = self.checked.service.as_ref();
        service.map(ProjectService::config).transpose()
    }

    /// Reads all functions' secrets and returns their settings, in the order of
    /// [`functions`](Project::functions).
    ///
    /// # Errors
    ///
    /// [`ProjectError`], which lists the secrets that cannot be read.
    pub fn settings(&self) -> Result<Vec<Settings>, ProjectError> {
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        for function in self.functions() {
            match function.settings() {
                Ok(settings) => all.push(settings),
                Err(error) => problems.extend(error.into_problems()),
            }
        }
        // Functions that share an environment have the same problems.
        problems.dedup_by_key(|problem| problem.to_string());
        ProjectError::of(problems)?;
        Ok(all)
    }
}
