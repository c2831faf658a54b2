//! Checked and compiled wasm modules.
//!
//! A [`Module`] is compiled at most once for each engine, and all processes that run it in an
//! engine share the code. It is compiled for one engine on creation, and for each other engine when
//! a process first needs it there.

use crate::compiler::{Compiler, Job};
use crate::engine::{Code, Engine, EngineKind, Image};
use lunatic_abi::Generation;
use lunatic_process::Purse;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use wasmtime::{ExternType, FuncType, Val, ValType};

mod component;
mod error;
mod extension;
mod generation;
mod imports;
mod prepared;
mod requirements;
mod source;
mod symbols;
mod unroll;

pub use component::Component;
pub(crate) use error::binary;
pub use error::{EntryError, ModuleError};
use extension::Extension;
use prepared::Prepared;
pub(crate) use prepared::{Exports, copied_data};
pub(crate) use requirements::{Requirements, TABLE_ELEMENT};
pub use source::source_locations;
use symbols::{NamesOnly, Symbols};

/// A checked and compiled module, ready to be spawned. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    compiler: Arc<Compiler>,
    /// How to compile the code for other engines.
    job: Job,
    generation: Generation,
    name: Box<str>,
    /// The original bytes.
    bytes: Arc<[u8]>,
    /// The symbols of the plain and the metered code. `None` for a module that a guest compiled,
    /// because traps keep symbols alive after the module is gone.
    symbols: Option<[Arc<Symbols>; 2]>,
    /// The bytes to compile.
    prepared: Prepared,
    requirements: Requirements,
    /// The code for each engine, indexed by kind.
    compiled: [OnceLock<Compiled>; EngineKind::COUNT],
    /// The exported functions with their parameter types, sorted by name.
    entry_points: OnceLock<Vec<EntryPoint>>,
    /// The kind of engine that the module was compiled for first. That code determines the module's
    /// exports.
    first_kind: EngineKind,
    /// Whether an instance can be reset and reused for another process.
    serves_again: OnceLock<bool>,
    /// The number of processes that ended before `serves_again` was known.
    served: AtomicU32,
    /// Set once `compile_ahead` has been called.
    is_compiled_ahead: AtomicBool,
    /// The purse that pays for the module. Set if a guest compiled it.
    purse: Option<Box<dyn Purse>>,
}

/// The payment for a module that a guest compiles. It lasts until the module is dropped.
pub(crate) struct Payment {
    pub(crate) purse: Box<dyn Purse>,
    /// The number of bytes that are already paid for.
    pub(crate) paid: u64,
}

/// The size of a module in bytes, excluding its wasm bytes and code. This covers wasmtime's tables
/// and mappings.
const MODULE: u64 = 32 << 10;

impl Payment {
    /// Returns how many bytes to pay for before compiling a module of `size` bytes.
    pub(crate) fn in_advance(size: usize) -> u64 {
        MODULE + 3 * size as u64
    }

    /// Pays for exactly `bytes` bytes.
    fn settle(&mut self, bytes: u64) -> Result<(), ModuleError> {
        match bytes.checked_sub(self.paid) {
            Some(more) => self.purse.pay(more).map_err(ModuleError::Limit)?,
            None => self.purse.refund(self.paid - bytes),
        }
        self.paid = bytes;
        Ok(())
    }
}

/// The size of an import or an export in the tables of a compiled module, in bytes.
const NAME: u64 = 256;

/// The position of a function among a module's exported functions, sorted by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryPointIndex(usize);

/// A function that can serve as a process's entry point.
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
    /// The result of linking the module.
    pub(crate) linked: Extension,
}

impl Module {
    /// Checks and compiles a module in binary or text format. Unless the code is cached, this can
    /// take anywhere from milliseconds to seconds. Does not check whether the machine provides the
    /// module's imports; linking does that.
    pub(crate) fn new(
        compiler: &Arc<Compiler>,
        name: &str,
        bytes: &[u8],
        job: &Job,
        mut payment: Option<Payment>,
    ) -> Result<Module, ModuleError> {
        let bytes = binary(bytes)?;
        let requirements = Requirements::read(&bytes)?;
        // Do everything that can be checked without compiling first, because compiling can take
        // minutes.
        let imports = imports::read(&bytes)?;
        let generation = generation::of(&imports)?;
        imports::check(&imports, compiler.engines.provided())?;
        let first = compiler.engines.kind_of_next(Code::Plain);
        let engine = compiler.engines.get(first)?;
        let prepared = Prepared::new(&bytes, payment.is_some());
        let (prepared, plain) = match Compiled::new(compiler, engine, &prepared, generation, job) {
            Ok(plain) => (prepared, plain),
            Err(stopped @ ModuleError::Stopped(_)) => return Err(stopped),
            // Error messages must refer to the original bytes, so compile those unchanged.
            Err(_) => {
                let prepared = Prepared::untouched(&bytes);
                let plain = Compiled::new(compiler, engine, &prepared, generation, job)?;
                (prepared, plain)
            }
        };
        if let Some(payment) = &mut payment {
            let bytes = bytes.len() + prepared.size();
            payment.settle(MODULE + bytes as u64 + plain.size())?;
        }
        let bytes: Arc<[u8]> = bytes.into();
        // A guest's module must not stay in memory after the guest stops paying for it, but traps,
        // which hold the symbols, may outlive the module.
        let symbols = payment.is_none().then(|| {
            let code_shift = prepared.code_shift;
            let is_own = !job.is_foreign();
            [true, false]
                .map(|is_unrolled| Arc::new(Symbols::new(&bytes, code_shift, is_unrolled, is_own)))
        });
        let compiled: [OnceLock<Compiled>; EngineKind::COUNT] = Default::default();
        let _ = compiled[first.index()].set(plain);
        Ok(Module(Arc::new(Inner {
            compiler: compiler.clone(),
            job: job.again(),
            generation,
            name: name.into(),
            bytes,
            symbols,
            prepared,
            requirements,
            compiled,
            first_kind: first,
            entry_points: OnceLock::new(),
            serves_again: OnceLock::new(),
            served: AtomicU32::new(0),
            is_compiled_ahead: AtomicBool::new(false),
            purse: payment.map(|payment| payment.purse),
        })))
    }

    /// Returns the module's name, as used in reports.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the names of the exported functions, in module order.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.any()
            .exports()
            .filter(|export| matches!(export.ty(), ExternType::Func(_)))
            .map(|export| export.name())
    }

    /// Returns the imports, each as a namespace and a name.
    pub fn imports(&self) -> impl Iterator<Item = (&str, &str)> {
        self.any()
            .imports()
            .map(|import| (import.module(), import.name()))
    }

    /// Returns the type of an exported function.
    pub fn function(&self, name: &str) -> Option<FuncType> {
        match self.any().get_export(name)? {
            ExternType::Func(ty) => Some(ty),
            _ => None,
        }
    }

    pub(crate) fn requirements(&self) -> &Requirements {
        &self.0.requirements
    }

    /// If a guest compiled the module, charges it for additional data stored with the module.
    pub(crate) fn pay(&self, bytes: u64) -> Result<(), ModuleError> {
        match &self.0.purse {
            Some(purse) => purse.pay(bytes).map_err(ModuleError::Limit),
            None => Ok(()),
        }
    }

    /// Removes the module's code from the cache. Call this if the code will not be needed again.
    pub fn forget(&self) {
        let inner = &self.0;
        for kind in EngineKind::all().filter(|kind| self.is_compiled(*kind)) {
            if let Ok(engine) = inner.compiler.engines.get(kind) {
                let bytes = &inner.prepared.bytes;
                inner.compiler.forget(engine, &inner.job, bytes);
            }
        }
    }

    /// Returns the kind of engine that the module was compiled for first.
    pub(crate) fn first_kind(&self) -> EngineKind {
        self.0.first_kind
    }

    /// Returns the code that was compiled first. Code for other engines has the same exports.
    fn any(&self) -> &wasmtime::Module {
        &self.0.compiled[self.0.first_kind.index()]
            .get()
            .expect("the first kind is compiled by `new`")
            .module
    }

    /// Returns whether the code for an engine has already been compiled.
    pub(crate) fn is_compiled(&self, kind: EngineKind) -> bool {
        self.0.compiled[kind.index()].get().is_some()
    }

    /// Returns the code for an engine, compiling it first if necessary, which can block for a long
    /// time.
    pub(crate) fn compiled(&self, kind: EngineKind) -> Result<(&Engine, &Compiled), ModuleError> {
        let inner = &*self.0;
        let engine = inner.compiler.engines.get(kind)?;
        let slot = &inner.compiled[kind.index()];
        let compiled = match slot.get() {
            Some(compiled) => compiled,
            None => {
                let (job, generation) = (inner.job.again(), inner.generation);
                let prepared = &inner.prepared;
                let compiled = Compiled::new(&inner.compiler, engine, prepared, generation, &job)?;
                let size = compiled.size();
                self.pay(size)?;
                let mut is_second = true;
                let kept = slot.get_or_init(|| {
                    is_second = false;
                    compiled
                });
                if let Some(purse) = inner.purse.as_ref().filter(|_| is_second) {
                    purse.refund(size);
                }
                kept
            }
        };
        Ok((engine, compiled))
    }

    /// Compiles code that will soon be needed for an engine, in the background. Does nothing after
    /// the first call.
    pub(crate) fn compile_ahead(&self, kind: EngineKind) {
        let inner = &self.0;
        if self.is_compiled(kind) || inner.is_compiled_ahead.swap(true, Ordering::Relaxed) {
            return;
        }
        // Ignore errors: they recur, and are reported, when the code is needed.
        self.in_background(move |module| drop(module.compiled(kind)));
    }

    /// Runs a task with the module in the background, not on a worker.
    fn in_background(&self, work: impl FnOnce(&Module) + Send + 'static) {
        let module = self.clone();
        self.0.compiler.run_detached(move || work(&module));
    }

    /// Returns the image of an instance's initial memory, if there is one.
    pub(crate) fn image(&self) -> Option<&Arc<Image>> {
        self.0.prepared.image.as_ref()
    }

    /// Returns the exports used to reset an instance to its initial state, or `None` if it cannot
    /// be reset.
    pub(crate) fn beginning(&self) -> Option<&Exports> {
        let prepared = &self.0.prepared;
        prepared
            .exports
            .as_ref()
            .filter(|_| prepared.image_is_complete)
    }

    /// Returns whether an instance can be reset and reused for another process. Returns false until
    /// this is known: scanning all of a module's code takes a while, so it is done in the
    /// background, and only for modules that are spawned several times.
    pub(crate) fn serves_again(&self) -> bool {
        /// The number of processes after which the code is scanned.
        const CHECK_AFTER: u32 = 4;
        let inner = &self.0;
        if let Some(serves_again) = inner.serves_again.get() {
            return *serves_again;
        }
        if inner.served.fetch_add(1, Ordering::Relaxed) + 1 == CHECK_AFTER {
            self.in_background(Module::check_tables);
        }
        false
    }

    fn check_tables(&self) {
        self.0
            .serves_again
            .get_or_init(|| prepared::leaves_tables_alone(&self.0.bytes));
    }

    /// Returns the symbols of the code that a module's processes run. For a component or a guest's
    /// module, they contain nothing beyond the names stored in the trap itself.
    pub(crate) fn symbols(
        module: Option<&Module>,
        code: Code,
    ) -> Arc<dyn lunatic_process::Symbols> {
        match (module.and_then(|module| module.0.symbols.as_ref()), code) {
            (Some([plain, _]), Code::Plain) => plain.clone(),
            (Some([_, metered]), Code::Metered) => metered.clone(),
            (None, _) => Arc::new(NamesOnly),
        }
    }

    /// Returns whether the module has symbols, in which case traps need not store function names.
    pub(crate) fn has_symbols(&self) -> bool {
        self.0.symbols.is_some()
    }

    /// Checks that a function exists and takes the given parameters.
    pub(crate) fn check_entry(&self, function: &str, parameters: &[Val]) -> Result<(), EntryError> {
        let index = self.entry_point(function)?;
        self.check_parameters(index, parameters)
    }

    /// Finds an exported function.
    pub(crate) fn entry_point(&self, function: &str) -> Result<EntryPointIndex, EntryError> {
        self.entry_points()
            .binary_search_by(|entry| (*entry.name).cmp(function))
            .map(EntryPointIndex)
            .map_err(|_| EntryError::NoFunction {
                function: function.escape_debug().to_string(),
                module: self.0.name.to_string(),
            })
    }

    /// Checks that a function takes the given parameters.
    pub(crate) fn check_parameters(
        &self,
        index: EntryPointIndex,
        parameters: &[Val],
    ) -> Result<(), EntryError> {
        let entry = &self.entry_points()[index.0];
        let expected = &entry.parameters;
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
            function: entry.name.escape_debug().to_string(),
            expected: expected.join(", "),
            given: given.join(", "),
        })
    }

    /// Returns whether both handles refer to the same module.
    pub(crate) fn is_same(&self, other: &Module) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the exported functions with their parameters, sorted by name. Cached because
    /// wasmtime looks up types under a lock, which every spawn would otherwise take.
    fn entry_points(&self) -> &[EntryPoint] {
        self.0.entry_points.get_or_init(|| {
            let entry = |export: wasmtime::ExportType<'_>| {
                let parameters = export.ty().func()?.params().collect();
                Some(EntryPoint {
                    name: export.name().into(),
                    parameters,
                })
            };
            let mut entry_points: Vec<EntryPoint> =
                self.any().exports().filter_map(entry).collect();
            entry_points.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            entry_points
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

impl fmt::Debug for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payment({} bytes)", self.paid)
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.0.name).finish()
    }
}

impl Compiled {
    /// Returns the size, in bytes, of the code and its associated data.
    fn size(&self) -> u64 {
        let range = self.module.image_range();
        let code = range.end.addr() - range.start.addr();
        let names = self.module.imports().len() + self.module.exports().len();
        code as u64 + names as u64 * NAME
    }

    fn new(
        compiler: &Compiler,
        engine: &Engine,
        prepared: &Prepared,
        generation: Generation,
        job: &Job,
    ) -> Result<Compiled, ModuleError> {
        let bytes = || match engine.kind().code() {
            Code::Plain => prepared.unrolled(),
            Code::Metered => Cow::Borrowed(&*prepared.bytes),
        };
        let module = compiler.compile(engine, job, &prepared.bytes, bytes)?;
        Ok(Compiled {
            module,
            generation,
            linked: Extension::default(),
        })
    }
}
