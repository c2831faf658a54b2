//! Component-model guests that run as processes.
//!
//! A component can import WASI 0.2 and the interfaces that the embedder adds. The parts of WASI
//! that it may use depend on its environment. If `wasi:filesystem` and `wasi:cli` are granted, it
//! gets the environment's directories, variables and arguments; if `wasi:sockets` is granted, it
//! gets sockets. Every component has access to clocks, random numbers and streams.

use super::error::{ModuleError, binary};
use super::extension::Extension;
use super::requirements::Requirements;
use crate::compiler::{Compiler, Job};
use crate::engine::{Code, Engine, EngineKind};
use std::fmt;
use std::sync::{Arc, OnceLock};
use wasmtime::component;

/// A checked and compiled component, ready to be spawned. Cheap to clone.
#[derive(Clone)]
pub struct Component(Arc<Inner>);

struct Inner {
    compiler: Arc<Compiler>,
    /// How to compile the code for other engines.
    job: Job,
    name: Box<str>,
    bytes: Box<[u8]>,
    imports: Vec<String>,
    exports: Vec<String>,
    requirements: Requirements,
    plain: CompiledComponent,
    metered: OnceLock<CompiledComponent>,
}

/// The code for one engine.
pub(crate) struct CompiledComponent {
    pub(crate) component: component::Component,
    /// The result of linking the component.
    pub(crate) linked: Extension,
}

impl Component {
    /// Checks a component in binary or text format, and compiles it unless its code is cached. Does
    /// not check whether the machine provides the component's imports; linking does that.
    pub(crate) fn new(
        compiler: &Arc<Compiler>,
        name: &str,
        bytes: &[u8],
        job: &Job,
    ) -> Result<Component, ModuleError> {
        let bytes = binary(bytes)?;
        let requirements = Requirements::of_component(&bytes)?;
        let engine = compiler.engines.get(EngineKind::Component(Code::Plain))?;
        let plain = compile(compiler, engine, &bytes, job)?;
        let ty = plain.component.component_type();
        let imports = ty
            .imports(engine.wasmtime())
            .map(|(name, _)| name.to_string())
            .collect();
        let exports = ty
            .exports(engine.wasmtime())
            .map(|(name, _)| name.to_string())
            .collect();
        let inner = Inner {
            compiler: compiler.clone(),
            job: job.again(),
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

    /// Returns the component's name, as used in reports.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the names of the component's imports, such as `wasi:cli/environment@0.2.3`.
    pub fn imports(&self) -> impl Iterator<Item = &str> {
        self.0.imports.iter().map(String::as_str)
    }

    /// Returns the names of the component's exports, such as `wasi:http/incoming-handler@0.2.3`.
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

    /// Removes the component's code from the cache. Call this if the code will not be needed again.
    pub fn forget(&self) {
        let Inner {
            compiler,
            job,
            bytes,
            ..
        } = &*self.0;
        for code in [Code::Plain, Code::Metered] {
            let is_compiled = code == Code::Plain || self.0.metered.get().is_some();
            if is_compiled && let Ok(engine) = compiler.engines.get(EngineKind::Component(code)) {
                compiler.forget(engine, job, bytes);
            }
        }
    }

    pub(crate) fn requirements(&self) -> &Requirements {
        &self.0.requirements
    }

    /// Returns the code for an engine, compiling it first if necessary, which can block for a long
    /// time.
    pub(crate) fn compiled(
        &self,
        code: Code,
    ) -> Result<(&Engine, &CompiledComponent), ModuleError> {
        let inner = &*self.0;
        let engine = inner.compiler.engines.get(EngineKind::Component(code))?;
        let compiled = match code {
            Code::Plain => &inner.plain,
            Code::Metered => match inner.metered.get() {
                Some(compiled) => compiled,
                None => {
                    let job = inner.job.again();
                    let compiled = compile(&inner.compiler, engine, &inner.bytes, &job)?;
                    inner.metered.get_or_init(|| compiled)
                }
            },
        };
        Ok((engine, compiled))
    }
}

fn compile(
    compiler: &Compiler,
    engine: &Engine,
    bytes: &[u8],
    job: &Job,
) -> Result<CompiledComponent, ModuleError> {
    let component = compiler.compile(engine, job, bytes, || bytes.into())?;
    Ok(CompiledComponent {
        component,
        linked: Extension::default(),
    })
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Component").field(&self.0.name).finish()
    }
}
