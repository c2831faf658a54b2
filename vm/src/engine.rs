//! Wasmtime, set up.
//!
//! Two choices make an engine. One is whether its code counts fuel: code that counts costs up to half its speed, so it is
//! compiled only for environments that limit compute. The other is where memories and stacks come from. Nothing outside
//! this file names either choice's settings; a module, a store and a linker belong to one [`Engine`] and say so.

use crate::host::Guest;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use wasmtime::{
    Config, InstanceAllocationStrategy, Linker, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails, component,
};

/// Whether code counts what it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// It does not, and cannot be limited exactly.
    Plain,
    /// Every instruction costs fuel.
    Metered,
}

/// Host stack of a process: what wasm may use of it, and all of it. The rest is for host functions.
const WASM_STACK: usize = 1 << 20;
const STACK: usize = 2 << 20;

/// The largest memory that a module can have, in bytes: what 32 bits can address.
const MAX_MEMORY: usize = 1 << 32;

/// Slots for processes whose code does not count, and for those whose code does. A slot is address space: 4 GiB for the
/// memory, so that no access needs a bounds check. Every live process costs six mappings of the kernel's, of which there
/// are 65,530 by default, so that more slots would be of no use there.
const PLAIN_SLOTS: u32 = 10_000;
const METERED_SLOTS: u32 = 4_000;

/// How much of a memory and of a table stays resident when its slot is used again. Pages below this are set back by
/// copying, which is cheaper than giving them back to the kernel and taking new ones.
const KEEP_RESIDENT: usize = 256 << 10;

/// One set-up of wasmtime, and what is linked for it.
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    code: Code,
    linker: Linker<Guest>,
    components: component::Linker<Guest>,
    /// Slots that are taken.
    taken: Arc<AtomicU32>,
}

/// A slot for a process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Returns every host function, for core modules.
    pub(crate) fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }

    /// Returns every host function, for components.
    pub(crate) fn component_linker(&self) -> &component::Linker<Guest> {
        &self.components
    }

    /// Takes a slot for a process; `None` where all are taken.
    pub(crate) fn take_slot(&self) -> Option<Slot> {
        // Relaxed: it is a count of its own. The pool's slot is free before this one is given back, as a process gives it
        // back after its store is gone.
        let free = |taken| (taken < self.slots()).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Slot(self.taken.clone()))
    }

    /// Returns how many processes can run on it at the same time.
    pub(crate) fn slots(&self) -> u32 {
        match self.code {
            Code::Plain => PLAIN_SLOTS,
            Code::Metered => METERED_SLOTS,
        }
    }
}

/// Fills the linkers of a new engine with host functions.
pub(crate) type Link =
    Box<dyn Fn(&mut Linker<Guest>, &mut component::Linker<Guest>) -> wasmtime::Result<()> + Send + Sync>;

/// The engines of a machine. The one for metered code is made when it is needed first.
pub(crate) struct Engines {
    plain: Engine,
    metered: OnceLock<Engine>,
    link: Link,
}

impl Engines {
    pub(crate) fn new(link: Link) -> wasmtime::Result<Engines> {
        Ok(Engines { plain: make(Code::Plain, &link)?, metered: OnceLock::new(), link })
    }

    pub(crate) fn get(&self, code: Code) -> wasmtime::Result<&Engine> {
        match code {
            Code::Plain => Ok(&self.plain),
            Code::Metered => {
                if let Some(engine) = self.metered.get() {
                    return Ok(engine);
                }
                // Where two threads come here at once, one engine is thrown away.
                let engine = make(Code::Metered, &self.link)?;
                Ok(self.metered.get_or_init(|| engine))
            }
        }
    }

    /// Moves the clock on: whoever has run since the last beat gives the others a turn.
    pub(crate) fn increment_epoch(&self) {
        self.plain.engine.increment_epoch();
        if let Some(metered) = self.metered.get() {
            metered.engine.increment_epoch();
        }
    }
}

fn make(code: Code, link: &Link) -> wasmtime::Result<Engine> {
    let engine = wasmtime::Engine::new(&config(code))?;
    let mut linker = Linker::new(&engine);
    let mut components = component::Linker::new(&engine);
    link(&mut linker, &mut components)?;
    Ok(Engine { engine, code, linker, components, taken: Arc::default() })
}

fn config(code: Code) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(code == Code::Metered)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(STACK)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(64))
        // What a guest of this machine has no use for is not there to be attacked.
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(code)));
    config
}

fn pool(code: Code) -> PoolingAllocationConfig {
    let slots = match code {
        Code::Plain => PLAIN_SLOTS,
        Code::Metered => METERED_SLOTS,
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots)
        .total_memories(slots)
        .total_tables(slots)
        .total_stacks(slots)
        .total_component_instances(slots)
        .max_core_instances_per_component(16)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .max_memories_per_module(8)
        .max_tables_per_module(8)
        .max_memory_size(MAX_MEMORY)
        .table_elements(100_000)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(1 << 20)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .async_stack_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(wasmtime::Enabled::Auto)
        .max_unused_warm_slots(slots);
    pool
}
