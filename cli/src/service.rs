//! `lunatic serve --deploy`: opens the service that the command line and the project describe.

use crate::client;
use crate::command_line::ServiceFlags;
use crate::failure::{Failure, not_started};
use lunatic_serve::{Functions, Service, ServiceConfig, StorageSettings, Token};

/// Opens the service, if flags or the project ask for one, and starts serving the stored functions.
/// Flags take precedence over the project file.
pub(crate) fn open(
    functions: &Functions,
    described: Option<ServiceConfig>,
    flags: &ServiceFlags,
) -> Result<Option<Service>, Failure> {
    let deploy = flags.deploy.flatten();
    let mut config = match described {
        Some(config) => ServiceConfig {
            deploy: deploy.unwrap_or(config.deploy),
            invoke: flags.invoke.unwrap_or(config.invoke),
            ..config
        },
        None if flags.deploy.is_none() => return Ok(None),
        None => ServiceConfig {
            deploy: client::address(deploy, client::DEPLOY)?,
            invoke: client::address(flags.invoke, client::INVOKE)?,
            ..ServiceConfig::default()
        },
    };
    if config.token.is_none() || flags.token_file.is_some() {
        config.token = token(flags)?;
    }
    if let Some(storage) = &flags.storage {
        config.storage = StorageSettings::from(storage.clone());
    }
    Service::open(functions, config)
        .map(Some)
        .map_err(not_started)
}

fn token(flags: &ServiceFlags) -> Result<Option<Token>, Failure> {
    if let Some(file) = &flags.token_file {
        return Token::in_file(file).map(Some).map_err(not_started);
    }
    match std::env::var(client::TOKEN) {
        Ok(text) => {
            let token = Token::new(&text);
            token
                .map(Some)
                .map_err(|error| not_started(format!("the variable {}: {error}", client::TOKEN)))
        }
        Err(_) => Ok(None),
    }
}
