//! Code shared by the host functions that spawn: reading what to spawn, and choosing the
//! environment to spawn it in.

use super::{NewName, SpawnError, SpawnOptions, spawn_alike};
use crate::compiler::{self, Job};
use crate::engine::{EngineKind, Mappings, Shortage};
use crate::environment::{Charge, Name, Permit, RegistryError};
use crate::guest::call::{Range, at_most};
use crate::guest::kinds::{Bytes, ConfigId, ModuleId, Text};
use crate::guest::{Call, Failure, Guest, HostError};
use crate::machine::Environment;
use crate::module::{Module, ModuleError, Payment};
use crate::run::{self, Parameters, Template};
use lunatic_abi::{Errno, Limit, OWN, parameter};
use lunatic_process::{LimitReached, Message, Pid, Purse};
use std::sync::{Arc, Mutex, MutexGuard};
use wasmtime::{V128, Val};

/// The maximum length of a function name to look up, in bytes.
const MAX_FUNCTION_NAME: usize = 64 << 10;

/// The maximum number of parameters passed to a function.
const MAX_PARAMETERS: usize = 64;

/// Compiles a module for a guest without blocking a worker.
pub(crate) async fn compile(call: &mut Call<'_>, range: Range) -> Result<Module, HostError> {
    let bad = |error: ModuleError| match error {
        ModuleError::Limit(_) => HostError::new(Errno::LimitReached, error),
        _ => HostError::new(Errno::BadModule, error),
    };
    let machine = call.guest().machine().clone();
    let limits = &machine.compile_limits;
    limits.check_size(range.len()).map_err(bad)?;
    let pressure = machine.engines.pressure();
    if pressure.shortage() >= Shortage::Compiles {
        let left = pressure.left() >> 20;
        let text = format!(
            "only {left} MiB of memory is left, so the module cannot be compiled now; try again later"
        );
        return Err(HostError::new(Errno::Exhausted, text));
    }
    if !call.bytes(range).starts_with(b"\0asm") {
        // The text format is meant for people. Accepting it from guests would only expose another
        // parser to attack.
        return Err(HostError::new(
            Errno::BadModule,
            "the bytes are not a wasm module in the binary format",
        ));
    }
    let pid = call.guest().process().pid();
    let own = call.own_module().name();
    // If the guest's own module was compiled by a guest, replace its suffix, so that names do not
    // grow.
    let origin = own.split(COMPILED_BY).next().unwrap_or(own);
    let name = format!("{origin}{COMPILED_BY}{pid})");
    let payment = pay(call, range.len())?;
    let program = call.guest().domain().program().number();
    let turn = machine.compiler.turn(program).await;
    // The bytes are not copied until now, so that a waiting request does not use host memory.
    let bytes = call.copied(range).await;
    let load = move |job: Job| {
        let (compiler, limits) = (&machine.compiler, &machine.compile_limits);
        run::load_module(compiler, limits, &name, &bytes, &job, Some(payment))
    };
    compiler::run(turn, load).await.map_err(bad)
}

/// A module that a guest compiles is named after the guest's own module, followed by this text.
const COMPILED_BY: &str = " (compiled by ";

/// A guest's share of the machine's resources for a module that it compiles.
struct ModuleShare {
    charge: Mutex<Charge>,
    /// The descriptor for the module's image.
    _descriptor: Permit,
    _mappings: Mappings,
}

/// The number of mappings that compiled code uses.
const MAPPINGS: u32 = 4;

impl Purse for ModuleShare {
    fn pay(&self, bytes: u64) -> Result<(), LimitReached> {
        self.charge().grow(bytes)
    }

    fn refund(&self, bytes: u64) {
        self.charge().shrink(bytes);
    }
}

impl ModuleShare {
    fn charge(&self) -> MutexGuard<'_, Charge> {
        self.charge
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// Pays in advance for a module of `size` bytes that the caller is about to compile.
fn pay(call: &mut Call<'_>, size: usize) -> Result<Payment, HostError> {
    let paid = Payment::in_advance(size);
    let guest = call.guest();
    let descriptor = guest.domain().quota().permit(Limit::Descriptors, 1);
    let mappings = Mappings::take(MAPPINGS).ok_or_else(|| {
        HostError::new(
            Errno::Exhausted,
            "the kernel allows no more mappings; raise the limit with `sysctl -w vm.max_map_count=1048576`",
        )
    })?;
    let share = ModuleShare {
        charge: Mutex::new(guest.charge(paid)?),
        _descriptor: descriptor.map_err(|reached| HostError::new(Errno::LimitReached, reached))?,
        _mappings: mappings,
    };
    Ok(Payment {
        purse: Box::new(share),
        paid,
    })
}

/// Returns the environment for processes spawned with a configuration, or `None` for the caller's
/// own environment if no configuration is given. The inner error says why the environment could not
/// be created.
pub(crate) fn environment_for(
    call: &mut Call<'_>,
    id: ConfigId,
) -> Result<Result<Option<Environment>, HostError>, Failure> {
    if id.0 == OWN {
        return Ok(Ok(None));
    }
    let config = call.config(id)?.clone();
    let guest = call.guest();
    let account = guest.process().host_memory();
    let made = guest.environment().inner(config, false, account);
    Ok(made
        .map(Some)
        .map_err(|error| HostError::new(Errno::LimitReached, error)))
}

/// Traps if the caller may not spawn.
pub(crate) fn check_permission(call: &mut Call<'_>) -> Result<(), Failure> {
    if call.guest().domain().config().permissions.spawn_processes {
        return Ok(());
    }
    Err(Failure::trap(
        "the environment does not let its processes spawn",
    ))
}

/// What to spawn, as read from the guest's memory.
pub(crate) struct SpawnRequest {
    entry: Entry,
    parameters: Parameters,
}

/// The function to run.
enum Entry {
    /// The function of the caller's own module that the caller itself, or its latest child, was
    /// spawned to run.
    Known(Arc<Template>),
    Other {
        module: Module,
        function: String,
    },
}

/// The process that holds a name after a spawn.
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    /// Set unless another process already had the name.
    pub(crate) is_new: bool,
}

impl SpawnRequest {
    pub(crate) fn read(
        call: &mut Call<'_>,
        module: Module,
        function: Text,
        parameters: Bytes,
    ) -> Result<SpawnRequest, Failure> {
        let function = call.short_text(function, MAX_FUNCTION_NAME)?;
        let entry = Entry::Other { module, function };
        SpawnRequest::read_parameters(call, entry, parameters)
    }

    /// Reads what to spawn. Traps if the caller may not spawn.
    pub(crate) fn read_permitted(
        call: &mut Call<'_>,
        module: ModuleId,
        function: Text,
        parameters: Bytes,
    ) -> Result<SpawnRequest, Failure> {
        let request = match known(call, module, function)? {
            Some(template) => {
                let entry = Entry::Known(template);
                SpawnRequest::read_parameters(call, entry, parameters)?
            }
            None => {
                let module = call.module(module)?;
                SpawnRequest::read(call, module, function, parameters)?
            }
        };
        check_permission(call)?;
        Ok(request)
    }

    fn read_parameters(
        call: &mut Call<'_>,
        entry: Entry,
        parameters: Bytes,
    ) -> Result<SpawnRequest, Failure> {
        let range = call.range(parameters)?;
        let parameters = parse_parameters(call.bytes(range))?;
        Ok(SpawnRequest { entry, parameters })
    }

    /// Spawns the process in an environment created from a configuration, or in the caller's own.
    pub(crate) async fn spawn_configured(
        self,
        call: &mut Call<'_>,
        config: ConfigId,
        link: i64,
    ) -> Result<Result<Pid, HostError>, Failure> {
        Ok(match environment_for(call, config)? {
            Ok(environment) => self.spawn(call, environment.as_ref(), link, None).await,
            Err(error) => Err(error),
        })
    }

    /// Spawns the process in an environment, or in the caller's own. The message, if any, is the
    /// first in the process's mailbox.
    pub(crate) async fn spawn(
        self,
        call: &mut Call<'_>,
        environment: Option<&Environment>,
        link: i64,
        message: Option<Message>,
    ) -> Result<Pid, HostError> {
        self.spawn_named(call, environment, link, message, None)
            .await
            .map(|spawned| spawned.pid)
    }

    /// Spawns a process under a name in the caller's environment, unless the name is taken.
    pub(crate) async fn spawn_named(
        self,
        call: &mut Call<'_>,
        environment: Option<&Environment>,
        link: i64,
        message: Option<Message>,
        name: Option<&Name>,
    ) -> Result<Spawned, HostError> {
        let SpawnRequest { entry, parameters } = self;
        let own = call.guest().environment();
        let is_own = environment.is_none_or(|environment| environment.is_same(own));
        let entry = match entry {
            Entry::Known(template) if is_own && template.kind() == own.kind_of_next() => {
                Entry::Known(template)
            }
            Entry::Known(template) => Entry::Other {
                module: template.module().clone(),
                function: template.function().to_string(),
            },
            other => other,
        };
        if let Entry::Other { module, .. } = &entry {
            let environment = environment.unwrap_or(own);
            let kind = environment.kind_of_next();
            if !module.is_compiled(kind) {
                compile_for(environment.clone(), module.clone(), kind).await;
            }
        }
        if link != 0 {
            call.guest().check_room_for_end()?;
        }
        let parent = call.guest().process().clone();
        let own = call.guest().environment();
        let new_name = |name| NewName {
            environment: own,
            name,
            registrar: parent.pid(),
        };
        let options = SpawnOptions {
            parent: Some(parent.pid()),
            link: (link != 0).then_some((&parent, link)),
            message,
            is_main: false,
            name: name.map(new_name),
        };
        let (spawned, template) = match entry {
            Entry::Known(template) => (spawn_alike(&template, parameters, options), Some(template)),
            Entry::Other { module, function } => {
                let environment = environment.unwrap_or(own);
                match environment.spawn_first(&module, &function, parameters, options) {
                    Ok((process, template)) => (Ok(process), Some(template)),
                    Err(error) => (Err(error), None),
                }
            }
        };
        if let Some(template) = template {
            remember(call.guest(), template);
        }
        match spawned {
            Ok(process) => Ok(Spawned {
                pid: process.pid(),
                is_new: true,
            }),
            Err(SpawnError::Name(RegistryError::Taken(_, pid))) => {
                Ok(Spawned { pid, is_new: false })
            }
            Err(error) => Err(HostError::new(error.errno(), error)),
        }
    }
}

/// Compiles a module for processes of an environment, which takes too long to do on a worker. Any
/// failure occurs again when a process is spawned, and is reported then.
async fn compile_for(environment: Environment, module: Module, kind: EngineKind) {
    let program = environment.domain().program().number();
    let turn = environment.machine().compiler.turn(program).await;
    let _ = compiler::run(turn, move |_| module.compiled(kind).map(drop)).await;
}

/// Returns the template of the caller's latest child, or of the caller itself, if it is for this
/// function of the caller's own module.
fn known(
    call: &mut Call<'_>,
    module: ModuleId,
    function: Text,
) -> Result<Option<Arc<Template>>, Failure> {
    if module.0 != OWN {
        return Ok(None);
    }
    let (mut memory, guest) = call.parts()?;
    let range = memory.range(function)?;
    let template = guest
        .template()
        .and_then(|template| template.downcast::<Template>().ok());
    Ok(template.filter(|template| template.function().as_bytes() == memory.bytes(range)))
}

/// The number of children after which a parent's next children no longer share references with the
/// parent and its siblings.
const MANY_CHILDREN: u32 = 8;

/// Keeps the template of a child for the next one. A template for another module or environment is
/// not kept, because it would keep these alive.
fn remember(guest: &mut Guest, template: Arc<Template>) {
    let children = guest.count_child();
    let is_own = guest.environment().is_same(template.environment())
        && guest
            .module()
            .is_some_and(|own| own.is_same(template.module()));
    if children == MANY_CHILDREN && is_own {
        guest.set_template(Arc::new(template.anew()));
    } else if is_own {
        guest.set_template(template);
    }
}

/// Parses a function's parameters.
fn parse_parameters(bytes: &[u8]) -> Result<Parameters, Failure> {
    let (records, rest) = bytes.as_chunks::<{ parameter::SIZE }>();
    if !rest.is_empty() {
        return Err(Failure::trap(format!(
            "{} bytes of parameters are not a whole number of {}-byte records",
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
                return Err(Failure::trap(format!("{other:#x} is not a parameter type")));
            }
        })
    };
    Parameters::collect(records.iter().map(value))
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
        let values = parse_parameters(&bytes).expect("all records are valid");
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
        assert!(
            parse_parameters(&[])
                .expect("an empty list is valid")
                .is_empty()
        );
    }
}
