//! Components: guests of the component model, as bodies of processes.
//!
//! A component gets WASI 0.2 and what the embedder adds. What it may use of WASI is decided by what its context holds: the
//! directories, variables and arguments of its environment where `wasi:filesystem` and `wasi:cli` are granted, sockets where
//! `wasi:sockets` is. Clocks, random numbers and streams every component has.

use crate::engine::{Code, Engine, Kind};
use crate::host::Guest;
use crate::module::{MAX_MODULE_SIZE, ModuleError, Requirements};
use crate::vm::Machine;
use std::fmt;
use std::sync::{Arc, OnceLock};
use wasmtime::component::InstancePre;

/// A checked and compiled component, ready to be spawned. Cheap to clone.
#[derive(Clone)]
pub struct Component(Arc<Inner>);

struct Inner {
    machine: Arc<Machine>,
    name: Box<str>,
    bytes: Box<[u8]>,
    imports: Vec<String>,
    exports: Vec<String>,
    requirements: Requirements,
    plain: InstancePre<Guest>,
    metered: OnceLock<InstancePre<Guest>>,
}

impl Component {
    /// Checks and compiles a component, from the binary or the text format; what was compiled before may come from the
    /// machine's cache.
    pub(crate) fn new(
        machine: &Arc<Machine>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Component, ModuleError> {
        if bytes.len() > MAX_MODULE_SIZE {
            return Err(ModuleError::TooLarge(bytes.len()));
        }
        let bytes =
            wat::parse_bytes(bytes).map_err(|error| ModuleError::Malformed(error.to_string()))?;
        let requirements = Requirements::of_component(&bytes)?;
        let engine = machine
            .engines
            .get(Kind::Component(Code::Plain))
            .map_err(malformed)?;
        let plain = compile(machine, engine, &bytes)?;
        let ty = plain.component().component_type();
        let imports = ty
            .imports(engine.wasmtime())
            .map(|(name, _)| name.to_string())
            .collect();
        let exports = ty
            .exports(engine.wasmtime())
            .map(|(name, _)| name.to_string())
            .collect();
        let inner = Inner {
            machine: machine.clone(),
            name: name.into(),
            imports,
            exports,
            requirements,
            bytes: bytes.into(),
            plain,
            metered: OnceLock::new(),
        };
        Ok(Component(Arc::new(inner)))
    }

    /// Returns the name that it was given, for reports.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the names of what it imports, such as `wasi:cli/environment@0.2.3`.
    pub fn imports(&self) -> impl Iterator<Item = &str> {
        self.0.imports.iter().map(String::as_str)
    }

    /// Returns the names of what it exports, such as `wasi:http/incoming-handler@0.2.3`.
    ///
    /// ```
    /// let vm = lunatic_vm::Vm::builder().build()?;
    /// let component = vm.component("empty", br#"(component (instance) (export "my:pets/cat" (instance 0)))"#)?;
    /// assert!(component.exports().eq(["my:pets/cat"]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exports(&self) -> impl Iterator<Item = &str> {
        self.0.exports.iter().map(String::as_str)
    }

    pub(crate) fn requirements(&self) -> &Requirements {
        &self.0.requirements
    }

    /// Returns what is linked for an engine. Compiles it where that was not done before, which takes as long as it takes.
    pub(crate) fn compiled(
        &self,
        code: Code,
    ) -> Result<(&Engine, &InstancePre<Guest>), ModuleError> {
        let inner = &*self.0;
        let engine = inner
            .machine
            .engines
            .get(Kind::Component(code))
            .map_err(malformed)?;
        let pre = match code {
            Code::Plain => &inner.plain,
            Code::Metered => match inner.metered.get() {
                Some(pre) => pre,
                None => {
                    let pre = compile(&inner.machine, engine, &inner.bytes)?;
                    inner.metered.get_or_init(|| pre)
                }
            },
        };
        Ok((engine, pre))
    }
}

fn compile(
    machine: &Machine,
    engine: &Engine,
    bytes: &[u8],
) -> Result<InstancePre<Guest>, ModuleError> {
    let component = machine
        .cache
        .load(engine.wasmtime(), bytes, || bytes.into())
        .map_err(malformed)?;
    engine
        .component_linker()
        .instantiate_pre(&component)
        .map_err(|error| ModuleError::UnknownImport {
            name: format!("{error:#}"),
            hint: ": a host program can provide it with `Host::component`".into(),
        })
}

fn malformed(error: wasmtime::Error) -> ModuleError {
    ModuleError::Malformed(format!("{error:#}"))
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Component").field(&self.0.name).finish()
    }
}
