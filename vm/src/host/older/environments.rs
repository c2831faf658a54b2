//! Configurations and environments, including adding modules to environments and spawning them
//! there.

use super::handles::room_for_handle;
use crate::environment::Permissions;
use crate::guest::call::MAX_TEXT;
use crate::guest::kinds::{AddedModuleId, Bytes, ConfigId, EnvironmentId, OutU64, Text};
use crate::guest::{AddedModule, Call, Failure, HostError};
use crate::host::{environment, wasi};
use crate::machine::Environment;
use crate::module::Module;
use crate::spawn::request::{SpawnRequest, compile};
use lunatic_abi::{Errno, Limit};

pub(super) fn create_config(
    call: &mut Call<'_>,
    memory: u64,
    compute: u64,
) -> Result<u64, Failure> {
    let guest = call.guest();
    if !guest.domain().config().permissions.create_configs {
        return Err(Failure::trap(
            "the environment does not let its processes create configurations",
        ));
    }
    // This generation does not have separate permissions. The granted functions determine what
    // processes may do.
    let nothing = guest.machine().catalogue.nothing();
    let mut config = guest.new_config(nothing, Permissions::ALL);
    config.limit(Limit::Memory, memory);
    config.limit(
        Limit::Compute,
        if compute == 0 { u64::MAX } else { compute },
    );
    call.keep_config(config)
        .map_err(|error| Failure::trap(error.text))
}

pub(super) fn allow_namespace(
    call: &mut Call<'_>,
    id: ConfigId,
    prefix: Text,
) -> Result<(), Failure> {
    let prefix = call.short_text(prefix, MAX_TEXT)?;
    call.config(id)?.allow(&prefix);
    Ok(())
}

pub(super) async fn preopen_dir(
    call: &mut Call<'_>,
    id: ConfigId,
    directory: Text,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    match wasi::preopen(call, id, directory).await? {
        Ok(()) => Ok(0),
        Err(error) => call.answer(out, Err(HostError::new(Errno::NotGranted, error))),
    }
}

pub(super) fn add_plugin(
    call: &mut Call<'_>,
    id: ConfigId,
    data: Bytes,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    call.range(data)?;
    call.config(id)?;
    let text = "this machine has no plugins; build what the plugin adds into the module";
    call.answer(out, Err(HostError::new(Errno::Other, text)))
}

pub(super) fn create_environment(
    call: &mut Call<'_>,
    id: ConfigId,
    out: OutU64,
) -> Result<i32, Failure> {
    environment::create(call, id, out)
}

pub(super) fn create_remote_environment(
    call: &mut Call<'_>,
    id: ConfigId,
    name: Text,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let name = call.short_text(name, MAX_TEXT)?;
    call.config(id)?;
    let text = format!(
        "there is no node `{}`: this machine is the only one",
        name.escape_debug()
    );
    call.answer(out, Err(HostError::new(Errno::NotFound, text)))
}

pub(super) fn this_env(call: &mut Call<'_>) -> Result<u64, Failure> {
    let guest = call.guest();
    let environments = guest.handles().environments.len();
    guest.room_for(environments, "environments")?;
    let own = guest.environment().clone();
    Ok(guest.handles().environments.insert(own))
}

pub(super) fn drop_environment(call: &mut Call<'_>, id: EnvironmentId) -> Result<(), Failure> {
    environment::drop(call, id)
}

pub(super) async fn add_module(
    call: &mut Call<'_>,
    id: EnvironmentId,
    data: Bytes,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let range = call.range(data)?;
    let environment = call.environment(id)?;
    let result = match check_adding(call) {
        Ok(()) => compile(call, range)
            .await
            .map(|module| keep(call, module, environment)),
        Err(error) => Err(error),
    };
    call.answer(out, result)
}

pub(super) fn add_this_module(
    call: &mut Call<'_>,
    id: EnvironmentId,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let environment = call.environment(id)?;
    let module = call.own_module().clone();
    let result = check_room(call).map(|()| keep(call, module, environment));
    call.answer(out, result)
}

/// Checks that the caller may compile, and may hold the resulting module.
fn check_adding(call: &mut Call<'_>) -> Result<(), HostError> {
    if !call.guest().domain().config().permissions.compile_modules {
        let text = "the environment does not let its processes compile modules";
        return Err(HostError::new(Errno::NotGranted, text));
    }
    check_room(call)
}

fn check_room(call: &mut Call<'_>) -> Result<(), HostError> {
    let modules = call.guest().handles().added_modules.len();
    call.guest().check_room(modules, "modules")
}

fn keep(call: &mut Call<'_>, module: Module, environment: Environment) -> u64 {
    call.guest().handles().added_modules.insert(AddedModule {
        module,
        environment,
    })
}

pub(super) fn drop_module(call: &mut Call<'_>, id: AddedModuleId) -> Result<(), Failure> {
    call.guest().handles().added_modules.remove(id.0).map(drop)
}

pub(super) async fn spawn(
    call: &mut Call<'_>,
    link: i64,
    id: AddedModuleId,
    function: Text,
    parameters: Bytes,
    out: OutU64,
) -> Result<i32, Failure> {
    let AddedModule {
        module,
        environment,
    } = call.guest().handles().added_modules.get(id.0)?.clone();
    let request = SpawnRequest::read(call, module, function, parameters)?;
    spawn_requested(call, request, &environment, link, out).await
}

pub(super) async fn inherit_spawn(
    call: &mut Call<'_>,
    link: i64,
    function: Text,
    parameters: Bytes,
    out: OutU64,
) -> Result<i32, Failure> {
    let module = call.own_module().clone();
    let environment = call.guest().environment().clone();
    let request = SpawnRequest::read(call, module, function, parameters)?;
    spawn_requested(call, request, &environment, link, out).await
}

async fn spawn_requested(
    call: &mut Call<'_>,
    request: SpawnRequest,
    environment: &Environment,
    link: i64,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    room_for_handle(call)?;
    let result = if call.guest().domain().config().permissions.spawn_processes {
        let spawned = request.spawn(call, Some(environment), link, None).await;
        spawned.map(|pid| call.guest().handles().processes.insert(pid))
    } else {
        Err(HostError::new(
            Errno::NotGranted,
            "the environment does not let its processes spawn",
        ))
    };
    call.answer(out, result)
}
