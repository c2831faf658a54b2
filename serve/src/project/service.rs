//! The service described by a project file.

use super::function::{SecretUse, with_secrets};
use super::problem::ProjectError;
use super::secret::{Origin, Secret};
use crate::{ServiceConfig, Settings, StorageSettings, TlsFiles, Token};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The `service` section of a project file.
#[derive(Debug)]
pub(super) struct ProjectService {
    pub(super) deploy: Option<SocketAddr>,
    pub(super) invoke: Option<SocketAddr>,
    pub(super) storage: ProjectStorage,
    pub(super) token: Option<Secret>,
    pub(super) tls: Option<TlsFiles>,
    pub(super) settings: Settings,
    pub(super) secrets: Vec<SecretUse>,
}

/// Where functions are stored.
#[derive(Debug)]
pub(super) enum ProjectStorage {
    Directory(PathBuf),
    S3(BTreeMap<String, StorageOption>),
}

/// A storage option.
#[derive(Debug)]
pub(super) enum StorageOption {
    Text(String),
    Secret(Secret),
}

impl ProjectService {
    /// Reads the secrets and returns the configuration.
    pub(super) fn config(&self) -> Result<ServiceConfig, ProjectError> {
        let mut problems = Vec::new();
        let default = ServiceConfig::default();
        let storage = match &self.storage {
            ProjectStorage::Directory(directory) => StorageSettings::Directory(directory.clone()),
            ProjectStorage::S3(options) => {
                let mut read = BTreeMap::new();
                for (name, option) in options {
                    match option {
                        StorageOption::Text(text) => _ = read.insert(name.clone(), text.clone()),
                        StorageOption::Secret(secret) => match secret.read() {
                            Ok(value) => _ = read.insert(name.clone(), value),
                            Err(problem) => problems.push(problem),
                        },
                    }
                }
                StorageSettings::S3(read)
            }
        };
        let token = self.token.as_ref().and_then(|secret| {
            let token = match &secret.origin {
                // The file is read again for each deploy.
                Origin::File(path) => {
                    Token::in_file(path).map_err(|error| secret.problem(error.to_string(), None))
                }
                Origin::Variable(_) => secret.read().and_then(|text| {
                    Token::new(&text).map_err(|error| secret.problem(error.to_string(), None))
                }),
            };
            token.map_err(|problem| problems.push(problem)).ok()
        });
        let defaults = with_secrets(&self.settings, &self.secrets, &mut problems);
        ProjectError::of(problems)?;
        Ok(ServiceConfig {
            deploy: self.deploy.unwrap_or(default.deploy),
            invoke: self.invoke.unwrap_or(default.invoke),
            tls: self.tls.clone(),
            storage,
            token,
            defaults,
            ..default
        })
    }
}
