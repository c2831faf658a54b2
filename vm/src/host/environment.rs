//! `lunatic::environment`: what processes may use and call.

use super::message::TOO_LARGE;
use super::process::{Entry, check_permission, config, module};
use crate::environment::{Config, Permissions};
use crate::environment::{Name, RegistryError};
use crate::guest::HostError;
use crate::guest::kinds::{Bytes, ConfigId, EnvironmentId, ModuleId, OutU64, Text, Words};
use crate::guest::{Call, Failure};
use crate::machine::Environment;
use lunatic_abi::{Errno, Limit, OWN};
use lunatic_process::Pid;

/// The longest prefix, name, version or query that is looked at, in bytes. What is longer cannot be a good one.
pub(super) const MAX_TEXT: usize = 4096;

pub(super) fn create_empty_config(call: &mut Call<'_>, out: OutU64) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let guest = call.guest();
    if !guest.domain().config().permissions.create_configs {
        let error = HostError::new(
            Errno::NotGranted,
            "the environment does not let its processes make configurations",
        );
        return call.answer(out, Err(error));
    }
    let configs = guest.handles().configs.len();
    if let Err(error) = guest.check_room(configs, "configurations") {
        return call.answer(out, Err(error));
    }
    let mut config = Config::new(guest.machine().catalogue.nothing());
    config.limits = *guest.environment().limits();
    config.permissions = Permissions::ALL;
    let id = guest.handles().configs.insert(config);
    call.answer(out, Ok(id))
}

pub(super) fn config_allow_namespace(
    call: &mut Call<'_>,
    id: ConfigId,
    prefix: Text,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let prefix = call.short_text(prefix, MAX_TEXT)?;
    config(call, id)?;
    if !call.guest().domain().grants().allows_any(&prefix) {
        let text = format!(
            "no function that begins with `{}` can be allowed: this environment has none",
            prefix.escape_debug()
        );
        return call.answer(out, Err(HostError::new(Errno::NotGranted, text)));
    }
    // What the creator lacks is taken away again when the environment is made.
    config(call, id)?.allow(&prefix);
    call.answer(out, Ok(0))
}

pub(super) fn config_set_limit(
    call: &mut Call<'_>,
    id: ConfigId,
    limit: u32,
    value: u64,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    config(call, id)?;
    let Some(limit) = Limit::from_number(limit) else {
        let text = format!("no limit has the number {limit}");
        return call.answer(out, Err(HostError::new(Errno::InvalidInput, text)));
    };
    config(call, id)?.limit(limit, value);
    call.answer(out, Ok(0))
}

pub(super) fn create(call: &mut Call<'_>, id: ConfigId, out: OutU64) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let config = config(call, id)?.clone();
    let guest = call.guest();
    let environments = guest.handles().environments.len();
    let result = guest
        .check_room(environments, "environments")
        .and_then(|()| {
            let made = guest.environment().inner(config, true);
            made.map_err(|error| HostError::new(Errno::LimitReached, error))
        });
    let result = result.map(|environment| guest.handles().environments.insert(environment));
    call.answer(out, result)
}

pub(super) fn drop(call: &mut Call<'_>, id: EnvironmentId) -> Result<(), Failure> {
    call.guest()
        .handles()
        .environments
        .remove(id.0)
        .map(std::mem::drop)
        .ok_or_else(|| unknown(id))
}

/// Returns an environment by its id, or the caller's own.
pub(super) fn environment(call: &mut Call<'_>, id: EnvironmentId) -> Result<Environment, Failure> {
    if id.0 == OWN {
        return Ok(call.guest().environment().clone());
    }
    call.guest()
        .handles()
        .environments
        .get(id.0)
        .cloned()
        .ok_or_else(|| unknown(id))
}

fn unknown(id: EnvironmentId) -> Failure {
    Failure::trap(format!("there is no environment {}", id.0))
}

#[expect(clippy::too_many_arguments, reason = "a row of the table")]
pub(super) async fn spawn(
    call: &mut Call<'_>,
    environment_id: EnvironmentId,
    module_id: ModuleId,
    link: i64,
    function: Text,
    parameters: Bytes,
    tag: i64,
    data: Bytes,
    sockets: Words,
    process: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(process)?;
    let module = module(call, module_id)?;
    let entry = Entry::read(call, module, function, parameters)?;
    check_permission(call)?;
    let environment = environment(call, environment_id)?;
    let message = match super::message::compose(call, tag, data, sockets) {
        Ok(message) => (tag != 0).then_some(message),
        Err(Failure::Errno(errno)) => {
            return call.answer(out, Err(HostError::new(errno, TOO_LARGE)));
        }
        Err(trap) => return Err(trap),
    };
    let spawned = entry.spawn(call, &environment, link, message).await;
    call.answer(out, spawned.map(Pid::number))
}

pub(super) fn register(
    call: &mut Call<'_>,
    environment_id: EnvironmentId,
    name: Text,
    version: Text,
    process: Pid,
) -> Result<u32, Failure> {
    let name = call.short_text(name, MAX_TEXT)?;
    let version = call.short_text(version, MAX_TEXT)?;
    let environment = environment(call, environment_id)?;
    let registrar = call.guest().process().pid();
    let name = Name::new(&name, &version).map_err(|error| errno(&error))?;
    environment
        .register(&name, process, registrar)
        .map_err(|error| errno(&error))?;
    Ok(0)
}

pub(super) fn unregister(
    call: &mut Call<'_>,
    environment_id: EnvironmentId,
    name: Text,
    version: Text,
) -> Result<u32, Failure> {
    let name = call.short_text(name, MAX_TEXT)?;
    let version = call.short_text(version, MAX_TEXT)?;
    let environment = environment(call, environment_id)?;
    let caller = call.guest().process().pid();
    let name = Name::new(&name, &version).map_err(|error| errno(&error))?;
    environment
        .unregister(&name, caller)
        .map_err(|error| errno(&error))?;
    Ok(0)
}

pub(super) fn lookup(
    call: &mut Call<'_>,
    environment_id: EnvironmentId,
    name: Text,
    query: Text,
    process: OutU64,
) -> Result<u32, Failure> {
    let out = call.out(process)?;
    let name = call.short_text(name, MAX_TEXT)?;
    let query = call.short_text(query, MAX_TEXT)?;
    let environment = environment(call, environment_id)?;
    let found = environment
        .lookup(&name, &query)
        .map_err(|error| errno(&error))?;
    call.put(out, found.number().to_le_bytes());
    Ok(0)
}

/// Returns the number that guests are told.
pub(super) fn errno(error: &RegistryError) -> Errno {
    match error {
        RegistryError::BadName => Errno::InvalidInput,
        RegistryError::BadVersion(_) | RegistryError::BadQuery(_) => Errno::BadVersion,
        RegistryError::Taken(..) => Errno::NameTaken,
        RegistryError::NotFound(_) => Errno::NameNotFound,
        RegistryError::NotOwner(..) => Errno::NotGranted,
        RegistryError::NoProcess(_) => Errno::NoProcess,
        RegistryError::Limit(_) => Errno::LimitReached,
    }
}
