//! Modules and components linked to the host functions that they import.

use super::instance::InstancePool;
use crate::compile_limits::CompileLimits;
use crate::compiler::{Compiler, Job};
use crate::engine::{Code, Engine, EngineKind, Image};
use crate::environment::Grants;
use crate::guest::Guest;
use crate::module::{Component, Module, ModuleError, Payment};
use lunatic_abi::Generation;
use std::sync::{Arc, Mutex};
use wasmtime::{ExternType, InstancePre, Linker, component};

/// Everything that guests can import, for one engine.
pub(crate) struct Linkers {
    /// One linker for each generation, in the order of the generations.
    pub(crate) core: Vec<Linker<Guest>>,
    pub(crate) components: component::Linker<Guest>,
}

impl Linkers {
    fn of(engine: &Engine) -> &Linkers {
        engine.linked()
    }

    fn core(&self, generation: Generation) -> &Linker<Guest> {
        &self.core[generation as usize]
    }
}

/// A module linked for an engine and a set of grants.
pub(crate) struct Linked {
    /// The kind of engine that the module is linked for.
    pub(crate) kind: EngineKind,
    grants: Box<[u64]>,
    pub(crate) pre: InstancePre<Guest>,
    /// The initial contents of an instance's memory.
    pub(crate) image: Option<Arc<Image>>,
    /// Pooled instances, which are waiting for their next process.
    pub(crate) pool: InstancePool,
}

/// A module's linked forms for one engine, one for each set of grants.
#[derive(Default)]
struct AllLinked(Mutex<Vec<Arc<Linked>>>);

/// The maximum number of linked forms that are kept. It is limited because guests can create any
/// number of sets of grants.
const MAX_LINKED: usize = 64;

/// The size of a linked import, in bytes.
const LINKED_IMPORT: u64 = 256;

/// Why a module was not linked for a process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Link(#[from] wasmtime::Error),
}

/// Compiles a module, and checks that the machine provides all of its imports, with matching types.
/// Code that is not the host's own must be within the compile limits.
pub(crate) fn load_module(
    compiler: &Arc<Compiler>,
    limits: &CompileLimits,
    name: &str,
    bytes: &[u8],
    job: &Job,
    payment: Option<Payment>,
) -> Result<Module, ModuleError> {
    if job.is_foreign() {
        limits.check(bytes)?;
    }
    let module = Module::new(compiler, name, bytes, job, payment)?;
    let (engine, compiled) = module.compiled(module.first_kind())?;
    let linker = Linkers::of(engine).core(compiled.generation);
    match linker.instantiate_pre(&compiled.module) {
        Ok(_) => Ok(module),
        // `Module::new` has checked that no imports are missing, so the only possible error is a
        // mismatched type.
        Err(error) => Err(ModuleError::ImportType(format!("{error:#}"))),
    }
}

/// Links a module for an engine and a set of grants. Functions that are not granted are replaced by
/// stubs that trap with an explanation.
pub(crate) fn link(
    module: &Module,
    kind: EngineKind,
    grants: &Grants,
) -> Result<Arc<Linked>, LinkError> {
    let (engine, compiled) = module.compiled(kind)?;
    let all = compiled.linked.get_or_init(AllLinked::default);
    let mut all = all
        .0
        .lock()
        .expect("no code panics while it holds this lock");
    if let Some(known) = all.iter().find(|known| *known.grants == *grants.key()) {
        return Ok(known.clone());
    }
    let linker = Linkers::of(engine).core(compiled.generation);
    let denied: Vec<_> = compiled
        .module
        .imports()
        .filter(|import| !grants.allows(&import_name(import)))
        .collect();
    let pre = if denied.is_empty() {
        linker.instantiate_pre(&compiled.module)?
    } else {
        let mut linker = linker.clone();
        linker.allow_shadowing(true);
        for import in denied {
            if let ExternType::Func(ty) = import.ty() {
                let name = import_name(&import);
                let trap = move |_: wasmtime::Caller<'_, Guest>, _: &[_], _: &mut [_]| {
                    Err(not_granted(&name))
                };
                linker.func_new(import.module(), import.name(), ty, trap)?;
            }
        }
        linker.instantiate_pre(&compiled.module)?
    };
    if all.len() == MAX_LINKED {
        all.remove(0);
    } else {
        module.pay(compiled.module.imports().len() as u64 * LINKED_IMPORT)?;
    }
    let linked = Arc::new(Linked {
        kind,
        grants: grants.key().into(),
        pre,
        image: module.image().cloned(),
        pool: InstancePool::default(),
    });
    all.push(linked.clone());
    Ok(linked)
}

/// Returns the error for a call to a function that the environment does not grant.
fn not_granted(name: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!(
        "the environment does not grant `{name}`; grant it with `--allow {name}` or `Config::allow_namespace(\"{name}\")`"
    ))
}

/// Compiles a component, and checks that the machine provides all of its imports.
pub(crate) fn load_component(
    compiler: &Arc<Compiler>,
    limits: &CompileLimits,
    name: &str,
    bytes: &[u8],
    job: &Job,
) -> Result<Component, ModuleError> {
    if job.is_foreign() {
        limits.check(bytes)?;
    }
    let component = Component::new(compiler, name, bytes, job)?;
    link_component(&component, Code::Plain)?;
    Ok(component)
}

/// Links a component for an engine. The process's WASI context determines which parts of WASI are
/// granted.
pub(crate) fn link_component(
    component: &Component,
    code: Code,
) -> Result<&component::InstancePre<Guest>, ModuleError> {
    let (engine, compiled) = component.compiled(code)?;
    if let Some(pre) = compiled.linked.get() {
        return Ok(pre);
    }
    let linkers = Linkers::of(engine);
    let pre = linkers
        .components
        .instantiate_pre(&compiled.component)
        .map_err(|error| ModuleError::UnknownImport {
            name: format!("{error:#}"),
            hint: ": a host program can provide it with `Host::component`".into(),
        })?;
    Ok(compiled.linked.get_or_init(|| pre))
}

fn import_name(import: &wasmtime::ImportType<'_>) -> String {
    format!("{}::{}", import.module(), import.name())
}
