//! `lunatic::environment`: configurations and environments, which determine what processes may call
//! and how much they may use.

use crate::environment::{Name, Permissions};
use crate::guest::call::MAX_TEXT;
use crate::guest::kinds::{Bytes, ConfigId, EnvironmentId, ModuleId, OutU64, Text, Words};
use crate::guest::mail::{TOO_LARGE, draft};
use crate::guest::{Call, Failure, HostError};
use crate::spawn::request::SpawnRequest;
use lunatic_abi::{Errno, Limit, OWN};
use lunatic_process::Pid;

pub(super) fn create_empty_config(call: &mut Call<'_>, out: OutU64) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let guest = call.guest();
    if !guest.domain().config().permissions.create_configs {
        let error = HostError::new(
            Errno::NotGranted,
            "the environment does not let its processes create configurations",
        );
        return call.answer(out, Err(error));
    }
    let nothing = guest.machine().catalogue.nothing();
    let config = guest.new_config(nothing, Permissions::ALL);
    let id = call.keep_config(config);
    call.answer(out, id)
}

pub(super) fn config_allow_namespace(
    call: &mut Call<'_>,
    id: ConfigId,
    prefix: Text,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let prefix = call.short_text(prefix, MAX_TEXT)?;
    call.config(id)?;
    if !call.guest().domain().grants().allows_any(&prefix) {
        let text = format!(
            "functions whose names begin with `{}` cannot be allowed: this environment has none",
            prefix.escape_debug()
        );
        return call.answer(out, Err(HostError::new(Errno::NotGranted, text)));
    }
    // Rights that the creator lacks are dropped when the environment is created.
    call.config(id)?.allow(&prefix);
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
    call.config(id)?;
    let Some(limit) = Limit::from_number(limit) else {
        let text = format!("there is no limit with the number {limit}");
        return call.answer(out, Err(HostError::new(Errno::InvalidInput, text)));
    };
    call.config(id)?.limit(limit, value);
    call.answer(out, Ok(0))
}

pub(super) fn create(call: &mut Call<'_>, id: ConfigId, out: OutU64) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let config = call.config(id)?.clone();
    let guest = call.guest();
    let environments = guest.handles().environments.len();
    let result = guest
        .check_room(environments, "environments")
        .and_then(|()| {
            let account = guest.process().host_memory();
            let made = guest.environment().inner(config, true, account);
            made.map_err(|error| HostError::new(Errno::LimitReached, error))
        });
    let result = result.map(|environment| guest.handles().environments.insert(environment));
    call.answer(out, result)
}

pub(super) fn drop(call: &mut Call<'_>, id: EnvironmentId) -> Result<(), Failure> {
    let removed = call.guest().handles().environments.remove(id.0);
    removed.map(std::mem::drop)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the table of host functions defines the parameters"
)]
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
    let request = SpawnRequest::read_permitted(call, module_id, function, parameters)?;
    let environment = match environment_id.0 {
        OWN => None,
        _ => Some(call.environment(environment_id)?),
    };
    let message = match draft(call, tag, data, sockets) {
        Ok(draft) => match draft.copy(call).await {
            Ok(message) => (tag != 0).then_some(message),
            Err(reached) => {
                let error = HostError::new(Errno::LimitReached, reached);
                return call.answer(out, Err(error));
            }
        },
        Err(Failure::Errno(errno)) => {
            return call.answer(out, Err(HostError::new(errno, TOO_LARGE)));
        }
        Err(trap) => return Err(trap),
    };
    let spawned = request
        .spawn(call, environment.as_ref(), link, message)
        .await;
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
    let environment = call.environment(environment_id)?;
    let registrar = call.guest().process().pid();
    let name = Name::new(&name, &version).map_err(|error| error.errno())?;
    environment
        .register(&name, process, registrar)
        .map_err(|error| error.errno())?;
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
    let environment = call.environment(environment_id)?;
    let name = Name::new(&name, &version).map_err(|error| error.errno())?;
    let caller = call.guest().process().pid();
    environment
        .unregister(&name, caller)
        .map_err(|error| error.errno())?;
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
    let environment = call.environment(environment_id)?;
    let found = environment
        .lookup(&name, &query)
        .map_err(|error| error.errno())?;
    call.put(out, found.number().to_le_bytes());
    Ok(0)
}
