//! Modules: wasm bytes, checked and compiled.
//!
//! A [`Module`] is compiled once for each engine and shared by all its processes: when the first process needs it there,
//! and for a first one at once.

use crate::engine::{Code, Engine, Image, Kind};
use crate::environment::Grants;
use crate::host::{self, Guest};
use crate::process::Shells;
use crate::vm::Machine;
use lunatic_abi::Generation;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use wasmtime::{ExternType, FuncType, InstancePre, UnknownImportError, Val, ValType};

mod generation;
mod places;
mod prepared;
mod requirements;
mod unroll;

pub use places::Place;
pub(crate) use prepared::Exports;
use prepared::Prepared;
pub(crate) use requirements::Requirements;

/// A checked and compiled module, ready to be spawned. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    machine: Arc<Machine>,
    name: Box<str>,
    /// As they were given.
    bytes: Box<[u8]>,
    /// As they are compiled.
    prepared: Prepared,
    requirements: Requirements,
    /// The code for each engine, by the number of its kind.
    compiled: [OnceLock<Compiled>; Kind::COUNT],
    /// The exported functions, by name, and what they take.
    entries: OnceLock<Vec<Entry>>,
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
struct Entry {
    name: Box<str>,
    parameters: Box<[ValType]>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(image) = &self.prepared.image {
            self.machine.engines.forget(image);
        }
    }
}

/// The code for one engine, and what was linked from it: one for each set of grants.
pub(crate) struct Compiled {
    module: wasmtime::Module,
    generation: Generation,
    linked: Mutex<Vec<Arc<Linked>>>,
}

/// What was linked for a set of grants.
pub(crate) struct Linked {
    grants: Box<[u64]>,
    pub(crate) pre: InstancePre<Guest>,
    /// What the memory of an instance begins with.
    pub(crate) image: Option<Arc<Image>>,
    /// Instances that wait for a process.
    pub(crate) shells: Shells,
}

/// So many are kept. A guest can make more sets of grants than anybody could use.
const MAX_LINKED: usize = 64;

/// Why bytes are not a module of this machine.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// They are neither wasm nor text that describes a module.
    #[error("not a wasm module: {0}")]
    Malformed(String),
    /// They are a component, where a module is due.
    #[error(
        "this is a component; a core module is needed here (build it for wasm32-wasip1, or unwrap it)"
    )]
    Component,
    /// They are larger than a module may be.
    #[error("the module has {0} bytes; at most {MAX_MODULE_SIZE} are compiled")]
    TooLarge(usize),
    /// It is made of more than its author may have compiled.
    #[error("{found} {what}, and at most {allowed} are compiled (at offset {offset:#x})")]
    Excessive {
        /// What there is too much of.
        what: &'static str,
        /// How much there is, counted up to the offset.
        found: u64,
        /// How much there may be.
        allowed: u64,
        /// Where it is found to be too much, in bytes.
        offset: usize,
    },
    /// It imports something that the machine does not have.
    #[error("nothing provides the import `{name}`{hint}")]
    UnknownImport {
        /// The import, as `namespace::name`.
        name: String,
        /// What to do about it, beginning with a separator; may be empty.
        hint: String,
    },
    /// It imports a function that the machine has with another type.
    #[error("the module was built for another generation of the interface: {0}")]
    ImportType(String),
    /// It was built for a generation of the interface that the machine does not have.
    #[error(
        "the module was built with version {versions} of the guest crate `lunatic`, as its import `{import}` shows; \
         build it with version 0.14.1 or 0.7.4, or with this project's `lunatic`"
    )]
    Generation {
        /// The versions of the published guest crate that make such modules.
        versions: &'static str,
        /// The import that shows it, as `namespace::name`.
        import: String,
    },
    /// Its imports are of different generations of the interface.
    #[error(
        "the module mixes generations of the interface: no version of the guest crate `lunatic` has both the imports \
         `{one}` and `{other}`; build all parts of it with one version"
    )]
    MixedGenerations {
        /// An import of one generation, as `namespace::name`.
        one: String,
        /// An import of another.
        other: String,
    },
}

/// The largest module that is compiled, in bytes.
pub(crate) const MAX_MODULE_SIZE: usize = 64 << 20;

impl Module {
    /// Checks and compiles a module, from the binary or the text format. Takes milliseconds to seconds; what was compiled
    /// before may come from the machine's cache.
    pub(crate) fn new(
        machine: &Arc<Machine>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Module, ModuleError> {
        if bytes.len() > MAX_MODULE_SIZE {
            return Err(ModuleError::TooLarge(bytes.len()));
        }
        let bytes =
            wat::parse_bytes(bytes).map_err(|error| ModuleError::Malformed(error.to_string()))?;
        let requirements = Requirements::read(&bytes)?;
        let first = machine.engines.kind_of_next(Code::Plain);
        let engine = machine
            .engines
            .get(first)
            .map_err(|error| ModuleError::Malformed(format!("{error:#}")))?;
        let prepared = Prepared::new(&bytes);
        let (prepared, plain) = match Compiled::new(machine, engine, &prepared) {
            Ok(plain) => (prepared, plain),
            // Whatever is wrong is to be said of what was given.
            Err(_) => {
                let prepared = Prepared::untouched(&bytes);
                let plain = Compiled::new(machine, engine, &prepared)?;
                (prepared, plain)
            }
        };
        plain.check_imports(engine)?;
        let compiled: [OnceLock<Compiled>; Kind::COUNT] = Default::default();
        let _ = compiled[first.index()].set(plain);
        Ok(Module(Arc::new(Inner {
            machine: machine.clone(),
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
            .machine
            .engines
            .get(kind)
            .map_err(|error| ModuleError::Malformed(format!("{error:#}")))?;
        let place = &inner.compiled[kind.index()];
        let compiled = match place.get() {
            Some(compiled) => compiled,
            None => {
                let compiled = Compiled::new(&inner.machine, engine, &inner.prepared)?;
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
        let (module, machine) = (self.clone(), self.0.machine.clone());
        self.0.machine.scheduler().spawn(async move {
            machine.compiler.run(move || work(&module)).await;
        });
    }

    /// Returns what is linked for an engine and a set of grants.
    pub(crate) fn link(
        &self,
        kind: Kind,
        grants: &Grants,
    ) -> Result<(&Engine, Arc<Linked>), LinkError> {
        let (engine, compiled) = self.compiled(kind)?;
        let linked = compiled.link(engine, grants, self.0.prepared.image.as_ref())?;
        Ok((engine, linked))
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
    fn entries(&self) -> &[Entry] {
        self.0.entries.get_or_init(|| {
            let entry = |export: wasmtime::ExportType<'_>| {
                let parameters = export.ty().func()?.params().collect();
                Some(Entry {
                    name: export.name().into(),
                    parameters,
                })
            };
            let mut entries: Vec<Entry> = self.any().exports().filter_map(entry).collect();
            entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            entries
        })
    }
}

/// Why a module was not linked for a process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Link(#[from] wasmtime::Error),
}

/// Why a function cannot be a process's entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The module exports no such function.
    #[error("the module `{module}` exports no function `{function}`")]
    NoFunction {
        /// The name that was asked for.
        function: String,
        /// The module.
        module: String,
    },
    /// It takes other parameters.
    #[error("the function `{function}` takes ({expected}), not ({given})")]
    BadParameters {
        /// The function.
        function: String,
        /// The types that it takes.
        expected: String,
        /// The types that it was to be given.
        given: String,
    },
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
        machine: &Machine,
        engine: &Engine,
        prepared: &Prepared,
    ) -> Result<Compiled, ModuleError> {
        let written_out = || match engine.kind().code() {
            Code::Plain => prepared.written_out(),
            Code::Metered => Cow::Borrowed(&*prepared.bytes),
        };
        let module = machine
            .cache
            .load(engine.wasmtime(), &prepared.bytes, written_out)
            .map_err(|error| ModuleError::Malformed(format!("{error:#}")))?;
        let generation = generation::of(&module)?;
        Ok(Compiled {
            module,
            generation,
            linked: Mutex::new(Vec::new()),
        })
    }

    /// Checks that every import is one of the machine's, with its type.
    fn check_imports(&self, engine: &Engine) -> Result<(), ModuleError> {
        let Err(error) = engine.linker(self.generation).instantiate_pre(&self.module) else {
            return Ok(());
        };
        let Some(unknown) = error.downcast_ref::<UnknownImportError>() else {
            return Err(ModuleError::ImportType(format!("{error:#}")));
        };
        let name = format!("{}::{}", unknown.module(), unknown.name())
            .escape_debug()
            .to_string();
        let hint = match unknown.ty() {
            ExternType::Func(_) => hint(unknown.module()),
            _ => ": the machine provides functions only, no memories, tables or globals",
        };
        Err(ModuleError::UnknownImport {
            name,
            hint: hint.into(),
        })
    }

    /// Links the module: functions that are granted are the machine's, the others are traps that say so.
    fn link(
        &self,
        engine: &Engine,
        grants: &Grants,
        image: Option<&Arc<Image>>,
    ) -> wasmtime::Result<Arc<Linked>> {
        let mut linked = self
            .linked
            .lock()
            .expect("no panic happens while modules are linked");
        if let Some(known) = linked.iter().find(|known| *known.grants == *grants.key()) {
            return Ok(known.clone());
        }
        let denied: Vec<_> = self
            .module
            .imports()
            .filter(|import| !grants.allows(&import_name(import)))
            .collect();
        let pre = if denied.is_empty() {
            engine
                .linker(self.generation)
                .instantiate_pre(&self.module)?
        } else {
            let mut linker = engine.linker(self.generation).clone();
            linker.allow_shadowing(true);
            for import in denied {
                if let ExternType::Func(ty) = import.ty() {
                    let name = import_name(&import);
                    linker.func_new(import.module(), import.name(), ty, move |_, _, _| {
                        Err(host::denied(&name))
                    })?;
                }
            }
            linker.instantiate_pre(&self.module)?
        };
        if linked.len() == MAX_LINKED {
            linked.remove(0);
        }
        let new = Arc::new(Linked {
            grants: grants.key().into(),
            pre,
            image: image.cloned(),
            shells: Shells::default(),
        });
        linked.push(new.clone());
        Ok(new)
    }
}

fn import_name(import: &wasmtime::ImportType<'_>) -> String {
    format!("{}::{}", import.module(), import.name())
}

/// Says what may be wrong with a module that imports something unknown.
fn hint(namespace: &str) -> &'static str {
    match namespace {
        "lunatic" => {
            ": the module was built with version 0.1 to 0.3 of the guest crate; build it with version 0.14.1 or 0.7.4, or with this project's `lunatic`"
        }
        "lunatic::plugin" => ": it is a plugin of Lunatic 0.6 or 0.7; this machine has no plugins",
        "env" => ": it is probably a C function that was not linked in",
        "__wbindgen_placeholder__" | "wbg" => {
            ": the module was built for a browser; build it for wasm32-wasip1"
        }
        _ if namespace.starts_with("lunatic::") => ": this version of the machine does not have it",
        _ => ": a host program can provide it with `VmBuilder::host`",
    }
}
