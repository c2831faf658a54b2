//! `lunatic::process`: spawn, watch, end.

use super::distributed::THIS_NODE;
use super::environment::MAX_TEXT;
use crate::environment::{Config, Permissions};
use crate::environment::{Name, RegistryError};
use crate::guest::HostError;
use crate::guest::call::{Range, at_most};
use crate::guest::kinds::{Bytes, ConfigId, Millis, ModuleId, OutU64, Text};
use crate::guest::{Call, Failure};
use crate::machine::Environment;
use crate::module::{MAX_MODULE_SIZE, Module, ModuleError};
use crate::run;
use crate::spawn::{NewName, SpawnError, SpawnOptions};
use lunatic_abi::{Errno, Limit, OWN, parameter};
use lunatic_process::{LimitReached, Message, Pid};
use wasmtime::{V128, Val};

/// The longest name of a function that is looked for, in bytes, and the most parameters that one is given.
const MAX_FUNCTION_NAME: usize = 64 << 10;
const MAX_PARAMETERS: usize = 64;

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

/// Compiles a module of the guest's, off the workers.
pub(super) async fn compile(call: &mut Call<'_>, range: Range) -> Result<Module, HostError> {
    let bad = |error: ModuleError| HostError::new(Errno::BadModule, error);
    if range.len() > MAX_MODULE_SIZE {
        return Err(bad(ModuleError::TooLarge(range.len())));
    }
    let bytes = call.bytes(range).to_vec();
    if !bytes.starts_with(b"\0asm") {
        // Text is for people: a guest's is not worth a second parser to be attacked.
        return Err(HostError::new(
            Errno::BadModule,
            "not a wasm module in the binary format",
        ));
    }
    let compiler = call.guest().machine().compiler.clone();
    let pid = call.guest().process().pid();
    let name = format!("{} (compiled by {pid})", own_module(call).name());
    let shared = compiler.clone();
    compiler
        .run(move || run::load_module(&shared, &name, &bytes))
        .await
        .map_err(bad)
}

pub(super) fn drop_module(call: &mut Call<'_>, module: ModuleId) -> Result<(), Failure> {
    call.guest()
        .handles()
        .modules
        .remove(module.0)
        .map(drop)
        .ok_or_else(|| unknown_module(module))
}

/// Returns a module by its id, or the caller's own.
pub(super) fn module(call: &mut Call<'_>, id: ModuleId) -> Result<Module, Failure> {
    if id.0 == OWN {
        return Ok(own_module(call).clone());
    }
    call.guest()
        .handles()
        .modules
        .get(id.0)
        .cloned()
        .ok_or_else(|| unknown_module(id))
}

pub(super) fn own_module<'a>(call: &'a mut Call<'_>) -> &'a Module {
    call.guest()
        .module()
        .expect("the rows are linked into core modules only")
}

fn unknown_module(id: ModuleId) -> Failure {
    Failure::trap(format!("there is no module {}", id.0))
}

/// Returns a configuration by its id.
pub(super) fn config<'a>(call: &'a mut Call<'_>, id: ConfigId) -> Result<&'a mut Config, Failure> {
    let unknown = || Failure::trap(format!("there is no configuration {}", id.0));
    call.guest()
        .handles()
        .configs
        .get_mut(id.0)
        .ok_or_else(unknown)
}

pub(super) fn create_config(call: &mut Call<'_>) -> Result<u64, Failure> {
    let guest = call.guest();
    if !guest.domain().config().permissions.create_configs {
        return Ok(u64::MAX);
    }
    let configs = guest.handles().configs.len();
    guest.room_for(configs, "configurations")?;
    let mut config = Config::new(guest.domain().grants().clone());
    config.limits = *guest.environment().limits();
    config.permissions = Permissions::NONE;
    Ok(guest.handles().configs.insert(config))
}

pub(super) fn drop_config(call: &mut Call<'_>, id: ConfigId) -> Result<(), Failure> {
    config(call, id)?;
    call.guest().handles().configs.remove(id.0);
    Ok(())
}

pub(super) fn config_set_max_memory(
    call: &mut Call<'_>,
    id: ConfigId,
    bytes: u64,
) -> Result<(), Failure> {
    config(call, id)?.limit(Limit::Memory, bytes);
    Ok(())
}

pub(super) fn config_get_max_memory(call: &mut Call<'_>, id: ConfigId) -> Result<u64, Failure> {
    Ok(config(call, id)?.limits.get(Limit::Memory))
}

pub(super) fn config_set_max_fuel(
    call: &mut Call<'_>,
    id: ConfigId,
    units: u64,
) -> Result<(), Failure> {
    config(call, id)?.limit(Limit::Compute, if units == 0 { u64::MAX } else { units });
    Ok(())
}

pub(super) fn config_get_max_fuel(call: &mut Call<'_>, id: ConfigId) -> Result<u64, Failure> {
    Ok(match config(call, id)?.limits.get(Limit::Compute) {
        u64::MAX => 0,
        units => units,
    })
}

pub(super) fn config_can_compile_modules(
    call: &mut Call<'_>,
    id: ConfigId,
) -> Result<i32, Failure> {
    Ok(config(call, id)?.permissions.compile_modules.into())
}

pub(super) fn config_set_can_compile_modules(
    call: &mut Call<'_>,
    id: ConfigId,
    can: i32,
) -> Result<(), Failure> {
    config(call, id)?.permissions.compile_modules = can != 0;
    Ok(())
}

pub(super) fn config_can_create_configs(call: &mut Call<'_>, id: ConfigId) -> Result<i32, Failure> {
    Ok(config(call, id)?.permissions.create_configs.into())
}

pub(super) fn config_set_can_create_configs(
    call: &mut Call<'_>,
    id: ConfigId,
    can: i32,
) -> Result<(), Failure> {
    config(call, id)?.permissions.create_configs = can != 0;
    Ok(())
}

pub(super) fn config_can_spawn_processes(
    call: &mut Call<'_>,
    id: ConfigId,
) -> Result<i32, Failure> {
    Ok(config(call, id)?.permissions.spawn_processes.into())
}

pub(super) fn config_set_can_spawn_processes(
    call: &mut Call<'_>,
    id: ConfigId,
    can: i32,
) -> Result<(), Failure> {
    config(call, id)?.permissions.spawn_processes = can != 0;
    Ok(())
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
    let module = module(call, module_id)?;
    let entry = Entry::read(call, module, function, parameters)?;
    check_permission(call)?;
    let spawned = match place_of_birth(call, config_id)? {
        Ok(environment) => entry.spawn(call, &environment, link, None).await,
        Err(error) => Err(error),
    };
    call.answer(out, spawned.map(Pid::number))
}

/// What `get_or_spawn` returns where the name was found.
const FOUND: i32 = 2;

#[expect(clippy::too_many_arguments, reason = "a row of the table")]
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
    let module = module(call, module_id)?;
    let entry = Entry::read(call, module, function, parameters)?;
    if config_id.0 != OWN {
        // Also where it is not needed: whether a call is wrong does not depend on who comes first.
        config(call, config_id)?;
    }
    let own = call.guest().environment().clone();
    let found = match own.lookup(&text, "*") {
        Ok(pid) => Ok(Spawned { pid, is_new: false }),
        Err(_) => {
            // Only who has to spawn must be allowed to.
            check_permission(call)?;
            match (Name::unversioned(&text), place_of_birth(call, config_id)?) {
                (Ok(name), Ok(environment)) => {
                    entry
                        .spawn_named(call, &environment, link, None, Some(&name))
                        .await
                }
                (Err(error), _) => Err(HostError::new(super::environment::errno(&error), error)),
                (_, Err(error)) => Err(error),
            }
        }
    };
    let is_found = matches!(found, Ok(Spawned { is_new: false, .. }));
    let code = call.answer(out, found.map(|spawned| spawned.pid.number()))?;
    call.put(node, THIS_NODE.to_le_bytes());
    Ok(if is_found { FOUND } else { code })
}

/// Returns the environment of processes that are spawned with a configuration, or with the caller's own; or why there is none.
pub(super) fn place_of_birth(
    call: &mut Call<'_>,
    id: ConfigId,
) -> Result<Result<Environment, HostError>, Failure> {
    if id.0 == OWN {
        return Ok(Ok(call.guest().environment().clone()));
    }
    let config = config(call, id)?.clone();
    let made = call.guest().environment().inner(config, false);
    Ok(made.map_err(|error| HostError::new(Errno::LimitReached, error)))
}

/// Traps where the caller may not spawn.
pub(super) fn check_permission(call: &mut Call<'_>) -> Result<(), Failure> {
    if call.guest().domain().config().permissions.spawn_processes {
        return Ok(());
    }
    Err(Failure::trap(
        "the environment does not let its processes spawn",
    ))
}

/// What a spawn was asked for, read from the guest's memory.
pub(super) struct Entry {
    module: Module,
    function: String,
    parameters: Vec<Val>,
}

/// What a spawn of a process with a name led to.
struct Spawned {
    pid: Pid,
    /// Not so where another process has the name that it was to get.
    is_new: bool,
}

impl Entry {
    pub(super) fn read(
        call: &mut Call<'_>,
        module: Module,
        function: Text,
        parameters: Bytes,
    ) -> Result<Entry, Failure> {
        let function = call.short_text(function, MAX_FUNCTION_NAME)?;
        let range = call.range(parameters)?;
        let parameters = parse_parameters(call.bytes(range))?;
        Ok(Entry {
            module,
            function,
            parameters,
        })
    }

    /// Spawns. The message, if any, is the first in the process's mailbox.
    pub(super) async fn spawn(
        self,
        call: &mut Call<'_>,
        environment: &Environment,
        link: i64,
        message: Option<Message>,
    ) -> Result<Pid, HostError> {
        self.spawn_named(call, environment, link, message, None)
            .await
            .map(|spawned| spawned.pid)
    }

    /// Spawns a process that has a name of the caller's environment, if nobody has it.
    async fn spawn_named(
        self,
        call: &mut Call<'_>,
        environment: &Environment,
        link: i64,
        message: Option<Message>,
        name: Option<&Name>,
    ) -> Result<Spawned, HostError> {
        let kind = environment.kind_of_next();
        if !self.module.is_compiled(kind) {
            // Code is compiled on first need, which takes long: not on a worker.
            let module = self.module.clone();
            // What goes wrong here goes wrong again below, where it is told.
            let _ = environment
                .machine()
                .compiler
                .run(move || module.compiled(kind).map(drop))
                .await;
        }
        let parent = call.guest().process().clone();
        if link != 0
            && let Err(reached) = parent.cell().room_for_end()
        {
            return Err(HostError::new(Errno::LimitReached, too_many_ends(reached)));
        }
        let own = call.guest().environment();
        let new_name = |name| NewName {
            environment: own,
            name,
            registrar: parent.pid(),
        };
        let options = SpawnOptions {
            link: (link != 0).then_some((&parent, link)),
            message,
            is_main: false,
            name: name.map(new_name),
        };
        match environment.spawn_with(&self.module, &self.function, &self.parameters, options) {
            Ok(process) => Ok(Spawned {
                pid: process.pid(),
                is_new: true,
            }),
            Err(SpawnError::Name(RegistryError::Taken(_, pid))) => {
                Ok(Spawned { pid, is_new: false })
            }
            Err(error) => Err(HostError::new(errno(&error), error)),
        }
    }
}

fn errno(error: &SpawnError) -> Errno {
    use crate::module::EntryError;
    match error {
        SpawnError::Entry(EntryError::NoFunction { .. }) => Errno::NoFunction,
        SpawnError::Entry(EntryError::BadParameters { .. }) => Errno::BadParameters,
        SpawnError::Limit(_) => Errno::LimitReached,
        SpawnError::Ceiling(_) => Errno::Exhausted,
        SpawnError::Module(_) | SpawnError::Link(_) => Errno::BadModule,
        SpawnError::NotGranted(_) => Errno::NotGranted,
        SpawnError::Message(error) => error.errno(),
        SpawnError::Name(error) => super::environment::errno(error),
        SpawnError::Ending => Errno::Other,
    }
}

/// Reads the records of a spawn's parameters.
fn parse_parameters(bytes: &[u8]) -> Result<Vec<Val>, Failure> {
    let (records, rest) = bytes.as_chunks::<{ parameter::SIZE }>();
    if !rest.is_empty() {
        return Err(Failure::trap(format!(
            "{} bytes of parameters are no whole records of {}",
            bytes.len(),
            parameter::SIZE
        )));
    }
    at_most(MAX_PARAMETERS, records.len(), "parameters")?;
    let value = |record: &[u8; parameter::SIZE]| {
        let bits = u128::from_le_bytes(
            record[1..]
                .try_into()
                .expect("a record is a byte and 16 bytes"),
        );
        Ok(match record[0] {
            parameter::I32 => Val::I32(bits as i32),
            parameter::I64 => Val::I64(bits as i64),
            parameter::F32 => Val::F32(bits as u32),
            parameter::F64 => Val::F64(bits as u64),
            parameter::V128 => Val::V128(V128::from(bits)),
            other => {
                return Err(Failure::trap(format!(
                    "{other:#x} is no type of a parameter"
                )));
            }
        })
    };
    records.iter().map(value).collect()
}

pub(super) async fn sleep_ms(_: &mut Call<'_>, time: Millis) -> Result<(), Failure> {
    match time.duration() {
        Some(time) => {
            super::message::timer(time).await;
        }
        None => std::future::pending().await,
    }
    Ok(())
}

pub(super) fn die_when_link_dies(call: &mut Call<'_>, die: i32) -> Result<(), Failure> {
    call.guest().cell().set_told(die == 0);
    Ok(())
}

pub(super) fn process_id(call: &mut Call<'_>) -> Result<u64, Failure> {
    Ok(call.guest().process().pid().number())
}

pub(super) fn environment_id(call: &mut Call<'_>) -> Result<u64, Failure> {
    Ok(call.guest().environment().number())
}

/// Returns what is said to a process that would be told of more ends than it may.
pub(super) fn too_many_ends(reached: LimitReached) -> String {
    format!("links, monitors and ends that wait to be received count as messages: {reached}")
}

pub(super) fn link(call: &mut Call<'_>, tag: i64, process: Pid) -> Result<(), Failure> {
    call.guest()
        .cell()
        .room_for_end()
        .map_err(|reached| Failure::trap(too_many_ends(reached)))?;
    let guest = call.guest();
    guest.machine().link(guest.process(), process, tag);
    Ok(())
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
    let guest = call.guest();
    guest.machine().stop_monitoring(guest.process(), process, 0);
    Ok(())
}

pub(super) fn monitor_tagged(call: &mut Call<'_>, tag: i64, process: Pid) -> Result<(), Failure> {
    call.guest()
        .cell()
        .room_for_end()
        .map_err(|reached| Failure::trap(too_many_ends(reached)))?;
    let guest = call.guest();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_bits() {
        let mut bytes = Vec::new();
        for (kind, bits) in [
            (parameter::I32, u128::from(u32::MAX)),
            (parameter::I64, 7),
            (parameter::F32, u128::from(1.5f32.to_bits())),
            (parameter::F64, u128::from(2.5f64.to_bits())),
            (parameter::V128, u128::MAX - 1),
        ] {
            bytes.push(kind);
            bytes.extend(bits.to_le_bytes());
        }
        let values = parse_parameters(&bytes).expect("all records are good");
        assert_eq!(values[0].i32(), Some(-1));
        assert_eq!(values[1].i64(), Some(7));
        assert_eq!(values[2].f32(), Some(1.5));
        assert_eq!(values[3].f64(), Some(2.5));
        assert_eq!(values[4].v128().map(u128::from), Some(u128::MAX - 1));
    }

    #[test]
    fn half_a_parameter_and_an_unknown_type_are_refused() {
        assert!(parse_parameters(&[parameter::I32; parameter::SIZE - 1]).is_err());
        assert!(parse_parameters(&[0x11; parameter::SIZE]).is_err());
        assert!(parse_parameters(&[]).expect("none is fine").is_empty());
    }
}
