//! `lunatic::process`: spawning, monitoring and killing processes.

use crate::environment::{Name, Permissions};
use crate::guest::call::MAX_TEXT;
use crate::guest::kinds::{Bytes, ConfigId, Millis, ModuleId, OutU64, Text};
use crate::guest::{Call, Failure, HostError};
use crate::machine::THIS_NODE;
use crate::spawn::request::{SpawnRequest, Spawned, check_permission, compile, environment_for};
use crate::timer;
use lunatic_abi::{Limit, OWN};
use lunatic_process::Pid;

pub(super) async fn compile_module(
    call: &mut Call<'_>,
    data: Bytes,
    module: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(module)?;
    let range = call.range(data)?;
    if !call.guest().domain().config().permissions.compile_modules {
        return Ok(-1);
    }
    let modules = call.guest().handles().modules.len();
    if let Err(error) = call.guest().check_room(modules, "modules") {
        return call.answer(out, Err(error));
    }
    let result = compile(call, range)
        .await
        .map(|module| call.guest().handles().modules.insert(module));
    call.answer(out, result)
}

pub(super) fn drop_module(call: &mut Call<'_>, module: ModuleId) -> Result<(), Failure> {
    call.guest().handles().modules.remove(module.0).map(drop)
}

pub(super) fn create_config(call: &mut Call<'_>) -> Result<u64, Failure> {
    let guest = call.guest();
    if !guest.domain().config().permissions.create_configs {
        return Ok(u64::MAX);
    }
    let grants = guest.domain().grants().clone();
    let config = guest.new_config(grants, Permissions::NONE);
    call.keep_config(config)
        .map_err(|error| Failure::trap(error.text))
}

pub(super) fn drop_config(call: &mut Call<'_>, id: ConfigId) -> Result<(), Failure> {
    call.guest().handles().configs.remove(id.0).map(drop)
}

pub(super) fn config_set_max_memory(
    call: &mut Call<'_>,
    id: ConfigId,
    bytes: u64,
) -> Result<(), Failure> {
    call.config(id)?.limit(Limit::Memory, bytes);
    Ok(())
}

pub(super) fn config_get_max_memory(call: &mut Call<'_>, id: ConfigId) -> Result<u64, Failure> {
    Ok(call.config(id)?.limits.get(Limit::Memory))
}

pub(super) fn config_set_max_fuel(
    call: &mut Call<'_>,
    id: ConfigId,
    units: u64,
) -> Result<(), Failure> {
    call.config(id)?
        .limit(Limit::Compute, if units == 0 { u64::MAX } else { units });
    Ok(())
}

pub(super) fn config_get_max_fuel(call: &mut Call<'_>, id: ConfigId) -> Result<u64, Failure> {
    Ok(match call.config(id)?.limits.get(Limit::Compute) {
        u64::MAX => 0,
        units => units,
    })
}

macro_rules! permissions {
    ($($can:ident $set:ident: $permission:ident;)*) => {$(
        pub(super) fn $can(call: &mut Call<'_>, id: ConfigId) -> Result<i32, Failure> {
            Ok(call.config(id)?.permissions.$permission.into())
        }

        pub(super) fn $set(call: &mut Call<'_>, id: ConfigId, can: i32) -> Result<(), Failure> {
            call.config(id)?.permissions.$permission = can != 0;
            Ok(())
        }
    )*};
}

permissions! {
    config_can_compile_modules config_set_can_compile_modules: compile_modules;
    config_can_create_configs config_set_can_create_configs: create_configs;
    config_can_spawn_processes config_set_can_spawn_processes: spawn_processes;
}

pub(super) async fn spawn(
    call: &mut Call<'_>,
    link: i64,
    config_id: ConfigId,
    module_id: ModuleId,
    function: Text,
    parameters: Bytes,
    process: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(process)?;
    let request = SpawnRequest::read_permitted(call, module_id, function, parameters)?;
    let spawned = request.spawn_configured(call, config_id, link).await?;
    call.answer(out, spawned.map(Pid::number))
}

/// The result of `get_or_spawn` if a process already has the name.
const FOUND: i32 = 2;

#[expect(
    clippy::too_many_arguments,
    reason = "the table of host functions defines the parameters"
)]
pub(super) async fn get_or_spawn(
    call: &mut Call<'_>,
    name: Text,
    link: i64,
    config_id: ConfigId,
    module_id: ModuleId,
    function: Text,
    parameters: Bytes,
    node: OutU64,
    process: OutU64,
) -> Result<i32, Failure> {
    let (node, out) = (call.out(node)?, call.out(process)?);
    let text = call.short_text(name, MAX_TEXT)?;
    let module = call.module(module_id)?;
    let request = SpawnRequest::read(call, module, function, parameters)?;
    if config_id.0 != OWN {
        // The configuration is checked even if the process does not have to be spawned, so that
        // whether a call is valid does not depend on which caller comes first.
        call.config(config_id)?;
    }
    let own = call.guest().environment().clone();
    let found = match own.lookup(&text, "*") {
        Ok(pid) => Ok(Spawned { pid, is_new: false }),
        Err(_) => {
            // The permission is needed only by callers that have to spawn.
            check_permission(call)?;
            match (Name::unversioned(&text), environment_for(call, config_id)?) {
                (Ok(name), Ok(environment)) => {
                    request
                        .spawn_named(call, environment.as_ref(), link, None, Some(&name))
                        .await
                }
                (Err(error), _) => Err(HostError::new(error.errno(), error)),
                (_, Err(error)) => Err(error),
            }
        }
    };
    let is_found = matches!(found, Ok(Spawned { is_new: false, .. }));
    let code = call.answer(out, found.map(|spawned| spawned.pid.number()))?;
    call.put(node, THIS_NODE.to_le_bytes());
    Ok(if is_found { FOUND } else { code })
}

pub(super) async fn sleep_ms(_: &mut Call<'_>, time: Millis) -> Result<(), Failure> {
    match time.duration() {
        Some(time) => {
            timer::after(time).await;
        }
        None => std::future::pending().await,
    }
    Ok(())
}

pub(super) fn die_when_link_dies(call: &mut Call<'_>, die: i32) -> Result<(), Failure> {
    call.guest().cell().set_notified(die == 0);
    Ok(())
}

pub(super) fn process_id(call: &mut Call<'_>) -> Result<u64, Failure> {
    Ok(call.guest().process().pid().number())
}

pub(super) fn environment_id(call: &mut Call<'_>) -> Result<u64, Failure> {
    Ok(call.guest().domain().id())
}

pub(super) fn link(call: &mut Call<'_>, tag: i64, process: Pid) -> Result<(), Failure> {
    let guest = call.guest();
    guest.room_for_end()?;
    guest
        .machine()
        .link(guest.process(), process, tag)
        .map_err(Failure::limit)
}

pub(super) fn unlink(call: &mut Call<'_>, process: Pid) -> Result<(), Failure> {
    let guest = call.guest();
    guest.machine().unlink(guest.process(), process);
    Ok(())
}

pub(super) fn monitor(call: &mut Call<'_>, process: Pid) -> Result<(), Failure> {
    monitor_tagged(call, 0, process)
}

pub(super) fn stop_monitoring(call: &mut Call<'_>, process: Pid) -> Result<(), Failure> {
    stop_monitoring_tagged(call, 0, process).map(drop)
}

pub(super) fn monitor_tagged(call: &mut Call<'_>, tag: i64, process: Pid) -> Result<(), Failure> {
    let guest = call.guest();
    guest.room_for_end()?;
    guest.machine().monitor(guest.process(), process, tag);
    Ok(())
}

pub(super) fn stop_monitoring_tagged(
    call: &mut Call<'_>,
    tag: i64,
    process: Pid,
) -> Result<i32, Failure> {
    let guest = call.guest();
    let was_there = guest
        .machine()
        .stop_monitoring(guest.process(), process, tag);
    Ok(was_there.into())
}

pub(super) fn kill(call: &mut Call<'_>, process: Pid) -> Result<(), Failure> {
    if let Some(process) = call.guest().machine().process(process) {
        process.kill();
    }
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_>, process: Pid) -> Result<i32, Failure> {
    Ok(call.guest().machine().process(process).is_some().into())
}
