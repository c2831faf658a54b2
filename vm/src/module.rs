//! Modules: wasm bytes, checked and compiled.
//!
//! A [`Module`] is compiled once for each engine and shared by all its processes: when the first process needs it there,
//! and for a first one at once.

use crate::compiler::Compiler;
use crate::engine::{Code, Engine, Image, Kind};
use lunatic_abi::Generation;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use wasmtime::{ExternType, FuncType, Val, ValType};

mod component;
mod error;
mod extension;
mod generation;
mod places;
mod prepared;
mod requirements;
mod unroll;

pub use component::Component;
pub(crate) use error::MAX_MODULE_SIZE;
pub use error::{EntryError, ModuleError};
use extension::Extension;
pub(crate) use places::demangle;
pub use places::{Place, places};
pub(crate) use prepared::Exports;
use prepared::Prepared;
pub(crate) use requirements::Requirements;

/// A checked and compiled module, ready to be spawned. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    compiler: Arc<Compiler>,
    name: Box<str>,
    /// As they were given.
    bytes: Arc<[u8]>,
    /// As they are compiled.
    prepared: Prepared,
    requirements: Requirements,
    /// The code for each engine, by the number of its kind.
    compiled: [OnceLock<Compiled>; Kind::COUNT],
    /// The exported functions, by name, and what they take.
    entries: OnceLock<Vec<EntryPoint>>,
    /// The code that was there first, to look at what the module exports.
    first: Kind,
    /// Whether an instance can be set back and serve the next process.
    serves_again: OnceLock<bool>,
    /// How many processes ended before that was known.
    served: AtomicU32,
    /// Set when code was asked for before it was needed.
    is_compiled_ahead: AtomicBool,
}

/// A function that a process can begin with.
struct EntryPoint {
    name: Box<str>,
    parameters: Box<[ValType]>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(image) = &self.prepared.image {
            self.compiler.engines.forget(image);
        }
    }
}

/// The code for one engine.
pub(crate) struct Compiled {
    pub(crate) module: wasmtime::Module,
    pub(crate) generation: Generation,
    /// What was linked from it.
    pub(crate) linked: Extension,
}

impl Module {
    /// Checks and compiles a module, from the binary or the text format; whether its imports are provided is checked when it is
    /// linked. Takes milliseconds to seconds; what was compiled before may come from the cache.
    pub(crate) fn new(
        compiler: &Arc<Compiler>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Module, ModuleError> {
        if bytes.len() > MAX_MODULE_SIZE {
            return Err(ModuleError::TooLarge(bytes.len()));
        }
        let bytes =
            wat::parse_bytes(bytes).map_err(|error| ModuleError::Malformed(error.to_string()))?;
        let requirements = Requirements::read(&bytes)?;
        let first = compiler.engines.kind_of_next(Code::Plain);
        let engine = compiler
            .engines
            .get(first)
            .map_err(|error| ModuleError::Malformed(format!("{error:#}")))?;
        let prepared = Prepared::new(&bytes);
        let (prepared, plain) = match Compiled::new(compiler, engine, &prepared) {
            Ok(plain) => (prepared, plain),
            // Whatever is wrong is to be said of what was given.
            Err(_) => {
                let prepared = Prepared::untouched(&bytes);
                let plain = Compiled::new(compiler, engine, &prepared)?;
                (prepared, plain)
            }
        };
        let compiled: [OnceLock<Compiled>; Kind::COUNT] = Default::default();
        let _ = compiled[first.index()].set(plain);
        Ok(Module(Arc::new(Inner {
            compiler: compiler.clone(),
            name: name.into(),
            bytes: bytes.into(),
            prepared,
            requirements,
            compiled,
            first,
            entries: OnceLock::new(),
            serves_again: OnceLock::new(),
            served: AtomicU32::new(0),
            is_compiled_ahead: AtomicBool::new(false),
        })))
    }

    /// Returns the name that it was given, for reports.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the names of the functions that it exports, in the order of the module.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.any()
            .exports()
            .filter(|export| matches!(export.ty(), ExternType::Func(_)))
            .map(|export| export.name())
    }

    /// Returns what it imports, each as its namespace and its name.
    pub fn imports(&self) -> impl Iterator<Item = (&str, &str)> {
        self.any()
            .imports()
            .map(|import| (import.module(), import.name()))
    }

    /// Returns the type of a function that it exports.
    pub fn function(&self, name: &str) -> Option<FuncType> {
        match self.any().get_export(name)? {
            ExternType::Func(ty) => Some(ty),
            _ => None,
        }
    }

    pub(crate) fn requirements(&self) -> &Requirements {
        &self.0.requirements
    }

    /// Returns the bytes that it was made from, in the binary format.
    pub(crate) fn bytes(&self) -> &Arc<[u8]> {
        &self.0.bytes
    }

    /// Returns the engine that it was compiled for first.
    pub(crate) fn first(&self) -> Kind {
        self.0.first
    }

    /// Returns the code that was compiled first, which exports what all do.
    fn any(&self) -> &wasmtime::Module {
        &self.0.compiled[self.0.first.index()]
            .get()
            .expect("it was compiled with the module")
            .module
    }

    /// Whether the code for an engine is there, so that a spawn need not compile it.
    pub(crate) fn is_compiled(&self, kind: Kind) -> bool {
        self.0.compiled[kind.index()].get().is_some()
    }

    /// Returns the code for an engine. Compiles it where that was not done before, which takes as long as it takes.
    pub(crate) fn compiled(&self, kind: Kind) -> Result<(&Engine, &Compiled), ModuleError> {
        let inner = &*self.0;
        let engine = inner
            .compiler
            .engines
            .get(kind)
            .map_err(|error| ModuleError::Malformed(format!("{error:#}")))?;
        let place = &inner.compiled[kind.index()];
        let compiled = match place.get() {
            Some(compiled) => compiled,
            None => {
                let compiled = Compiled::new(&inner.compiler, engine, &inner.prepared)?;
                place.get_or_init(|| compiled)
            }
        };
        Ok((engine, compiled))
    }

    /// Compiles the code for an engine elsewhere, if that was not asked for before: somebody will need it soon.
    pub(crate) fn compile_ahead(&self, kind: Kind) {
        let inner = &self.0;
        if self.is_compiled(kind) || inner.is_compiled_ahead.swap(true, Ordering::Relaxed) {
            return;
        }
        // What goes wrong here goes wrong again for who needs it, and is told there.
        self.elsewhere(move |module| drop(module.compiled(kind)));
    }

    /// Does something with the module off the workers, for which nobody waits.
    fn elsewhere(&self, work: impl FnOnce(&Module) + Send + 'static) {
        let module = self.clone();
        self.0.compiler.run_detached(move || work(&module));
    }

    /// Returns what the memory of an instance begins with, where that is known.
    pub(crate) fn image(&self) -> Option<&Arc<Image>> {
        self.0.prepared.image.as_ref()
    }

    /// Returns what an instance begins with, so that it can be set back to it; `None` where that is not known.
    pub(crate) fn beginning(&self) -> Option<&Exports> {
        let prepared = &self.0.prepared;
        prepared.exports.as_ref().filter(|_| prepared.is_laid_out)
    }

    /// Whether an instance that is set back can serve the next process. It is not known at first: a module that is spawned
    /// once is not worth the time that it takes to read all of its code, which is spent elsewhere.
    pub(crate) fn serves_again(&self) -> bool {
        /// After so many processes it is looked at.
        const OFTEN: u32 = 4;
        let inner = &self.0;
        if let Some(serves_again) = inner.serves_again.get() {
            return *serves_again;
        }
        if inner.served.fetch_add(1, Ordering::Relaxed) + 1 == OFTEN {
            self.elsewhere(Module::look_at_tables);
        }
        false
    }

    fn look_at_tables(&self) {
        self.0
            .serves_again
            .get_or_init(|| prepared::leaves_tables_alone(&self.0.bytes));
    }

    /// Returns where an instruction is in the module as it was given, from where it is in what was compiled.
    pub(crate) fn offset(&self, code: Code, compiled: usize) -> usize {
        self.0.prepared.original(compiled, code == Code::Plain)
    }

    /// Checks that a function is there and takes these parameters.
    pub(crate) fn check_entry(&self, function: &str, parameters: &[Val]) -> Result<(), EntryError> {
        let entries = self.entries();
        let Ok(place) = entries.binary_search_by(|entry| (*entry.name).cmp(function)) else {
            return Err(EntryError::NoFunction {
                function: function.escape_debug().to_string(),
                module: self.0.name.to_string(),
            });
        };
        let expected = &entries[place].parameters;
        let fits = expected.len() == parameters.len()
            && expected
                .iter()
                .zip(parameters)
                .all(|(expected, value)| type_matches(expected, value));
        if fits {
            return Ok(());
        }
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        let given: Vec<&str> = parameters.iter().map(type_name).collect();
        Err(EntryError::BadParameters {
            function: function.escape_debug().to_string(),
            expected: expected.join(", "),
            given: given.join(", "),
        })
    }

    /// Returns the exported functions with what they take, by name. Wasmtime looks a type up under a lock, which every spawn
    /// would take.
    fn entries(&self) -> &[EntryPoint] {
        self.0.entries.get_or_init(|| {
            let entry = |export: wasmtime::ExportType<'_>| {
                let parameters = export.ty().func()?.params().collect();
                Some(EntryPoint {
                    name: export.name().into(),
                    parameters,
                })
            };
            let mut entries: Vec<EntryPoint> = self.any().exports().filter_map(entry).collect();
            entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            entries
        })
    }
}

fn type_matches(expected: &ValType, value: &Val) -> bool {
    matches!(
        (expected, value),
        (ValType::I32, Val::I32(_))
            | (ValType::I64, Val::I64(_))
            | (ValType::F32, Val::F32(_))
            | (ValType::F64, Val::F64(_))
            | (ValType::V128, Val::V128(_))
    )
}

fn type_name(value: &Val) -> &'static str {
    match value {
        Val::I32(_) => "i32",
        Val::I64(_) => "i64",
        Val::F32(_) => "f32",
        Val::F64(_) => "f64",
        Val::V128(_) => "v128",
        _ => "a reference",
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.0.name).finish()
    }
}

impl Compiled {
    fn new(
        compiler: &Compiler,
        engine: &Engine,
        prepared: &Prepared,
    ) -> Result<Compiled, ModuleError> {
        let written_out = || match engine.kind().code() {
            Code::Plain => prepared.written_out(),
            Code::Metered => Cow::Borrowed(&*prepared.bytes),
        };
        let module = compiler
            .cache
            .load(engine.wasmtime(), &prepared.bytes, written_out)
            .map_err(|error| ModuleError::Malformed(format!("{error:#}")))?;
        let generation = generation::of(&module)?;
        Ok(Compiled {
            module,
            generation,
            linked: Extension::default(),
        })
    }
}
