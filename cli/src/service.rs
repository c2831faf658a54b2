//! `lunatic serve --deploy`: the service as the command line describes it.

use crate::client;
use crate::command_line::ServiceFlags;
use crate::failure::Failure;
use crate::run::not_started;
use lunatic_serve::{Functions, Service, ServiceConfig, StorageSettings, Token};

/// Opens the service, if it is asked for: what is stored serves from then on.
pub(crate) fn open(functions: &Functions, flags: &ServiceFlags) -> Result<Option<Service>, Failure> {
    let Some(deploy) = &flags.deploy else { return Ok(None) };
    let defaults = ServiceConfig::default();
    let config = ServiceConfig {
        deploy: client::address(*deploy, client::DEPLOY)?,
        invoke: client::address(flags.invoke, client::INVOKE)?,
        token: token(flags)?,
        storage: flags.storage.clone().map_or(defaults.storage, StorageSettings::Directory),
        ..defaults
    };
    Service::open(functions, config).map(Some).map_err(not_started)
}

fn token(flags: &ServiceFlags) -> Result<Option<Token>, Failure> {
    if let Some(file) = &flags.token_file {
        return Token::in_file(file).map(Some).map_err(not_started);
    }
    match std::env::var(client::TOKEN) {
        Ok(text) => {
            let token = Token::new(&text);
            token.map(Some).map_err(|error| not_started(format!("the variable {}: {error}", client::TOKEN)))
        }
        Err(_) => Ok(None),
    }
}
