//! Wasmtime, set up.
//!
//! Two choices make an engine. One is whether its code counts fuel: code that counts costs up to half its speed, so it is
//! compiled only for environments that limit compute. The other is where memories and stacks come from. Nothing outside
//! this file names either choice's settings; a module, a store and a linker belong to one [`Engine`] and say so.

use crate::host::{Guest, Linkers};
use lunatic_abi::Generation;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wasmtime::{
    Config, InstanceAllocationStrategy, Linker, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails, WasmFeatures,
    component,
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

/// Slots for processes, unless the builder is told otherwise. A slot is address space: 4 GiB for the memory, so that no
/// access needs a bounds check.
pub(crate) const DEFAULT_SLOTS: u32 = 10_000;

/// At most so many of them are for processes whose code counts.
const METERED_SLOTS: u32 = 2_000;

/// What a slot costs of the kernel's mappings: the memory's image, what follows it, what is not accessible yet, the stack
/// and its guard. So many are left for everything else.
const MAPPINGS_OF_A_SLOT: u32 = 6;
const OTHER_MAPPINGS: u32 = 4_000;

/// How much of a memory and of a table stays resident when its slot is used again. Pages below this are set back by
/// copying, which is cheaper than giving them back to the kernel and taking new ones.
const KEEP_RESIDENT: usize = 256 << 10;

/// One set-up of wasmtime, and what is linked for it.
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    code: Code,
    linkers: Linkers,
    slots: Arc<Slots>,
    /// Slots of this engine's that are taken.
    taken: Arc<AtomicU32>,
}

/// The slots of a machine, for all its engines together.
#[derive(Debug)]
struct Slots {
    taken: AtomicU32,
    /// How many there are.
    all: u32,
    /// How many the kernel's bound on mappings allows.
    mappable: u32,
}

impl Slots {
    /// Returns how many processes can run at the same time, of those whose code counts or of the others.
    fn of(&self, code: Code) -> u32 {
        match code {
            Code::Plain => self.all,
            Code::Metered => self.all.min(METERED_SLOTS),
        }
    }
}

/// The slots of a process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    /// How many of its own engine are taken.
    taken: Arc<AtomicU32>,
    count: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.count, Ordering::Relaxed);
        self.slots.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// As many processes are alive as the machine can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotsTaken {
    /// All slots of the pool are taken.
    #[error("all {0} slots for processes of this kind are taken; end some processes first")]
    Pool(u32),
    /// The kernel allows no more mappings.
    #[error(
        "{0} processes are alive, and the kernel allows no more mappings; raise it with `sysctl -w vm.max_map_count=1048576`"
    )]
    Mappings(u32),
}

impl Engine {
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Returns every host function, for core modules of a generation.
    pub(crate) fn linker(&self, generation: Generation) -> &Linker<Guest> {
        self.linkers.of(generation)
    }

    /// Returns every host function, for components.
    pub(crate) fn component_linker(&self) -> &component::Linker<Guest> {
        self.linkers.components()
    }

    /// Takes slots for a process, as many as it has memories or tables: the pool has a place for each.
    pub(crate) fn take_slots(&self, count: u32) -> Result<Slot, SlotsTaken> {
        let all = self.slots.of(self.code);
        let mappable = self.slots.mappable;
        take(&self.slots.taken, count, mappable).ok_or(SlotsTaken::Mappings(mappable))?;
        if take(&self.taken, count, all).is_none() {
            self.slots.taken.fetch_sub(count, Ordering::Relaxed);
            return Err(SlotsTaken::Pool(all));
        }
        Ok(Slot { slots: self.slots.clone(), taken: self.taken.clone(), count })
    }
}

/// Links host functions for a new engine.
pub(crate) type Link = Box<dyn Fn(&wasmtime::Engine) -> wasmtime::Result<Linkers> + Send + Sync>;

/// The engines of a machine. The one for metered code is made when it is needed first.
pub(crate) struct Engines {
    plain: Engine,
    metered: OnceLock<Engine>,
    link: Link,
    slots: Arc<Slots>,
    /// Held while the second engine is made.
    making: Mutex<()>,
}

impl Engines {
    pub(crate) fn new(link: Link, slots: u32) -> wasmtime::Result<Engines> {
        let slots = Arc::new(Slots { taken: AtomicU32::new(0), all: slots, mappable: mappable() });
        Ok(Engines {
            plain: make(Code::Plain, &link, &slots)?,
            metered: OnceLock::new(),
            link,
            slots,
            making: Mutex::new(()),
        })
    }

    pub(crate) fn get(&self, code: Code) -> wasmtime::Result<&Engine> {
        match code {
            Code::Plain => Ok(&self.plain),
            Code::Metered => {
                if let Some(engine) = self.metered.get() {
                    return Ok(engine);
                }
                // One at a time: a second engine that is thrown away would take as much address space for a moment.
                let _turn = self.making.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(engine) = self.metered.get() {
                    return Ok(engine);
                }
                let engine = make(Code::Metered, &self.link, &self.slots)?;
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

fn make(code: Code, link: &Link, slots: &Arc<Slots>) -> wasmtime::Result<Engine> {
    let engine = wasmtime::Engine::new(&config(code, slots.of(code)))?;
    let linkers = link(&engine)?;
    Ok(Engine { engine, code, linkers, slots: slots.clone(), taken: Arc::default() })
}

fn config(code: Code, slots: u32) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(code == Code::Metered)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(STACK)
        .cranelift_opt_level(OptLevel::Speed)
        // To read debug information takes a worker milliseconds, at every death. `Module::places` does it for who asks.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(64))
        // What a guest of this machine has no use for is not there to be attacked.
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_features(
            WasmFeatures::GC
                | WasmFeatures::EXCEPTIONS
                | WasmFeatures::FUNCTION_REFERENCES
                | WasmFeatures::THREADS
                | WasmFeatures::SHARED_EVERYTHING_THREADS
                | WasmFeatures::STACK_SWITCHING,
            false,
        )
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    config
}

/// Takes some of so many, if they are left.
fn take(taken: &AtomicU32, count: u32, all: u32) -> Option<()> {
    // Relaxed: it is a count of its own. The pool's slot is free before this one is given back, as a process gives it back
    // after its store is gone.
    let more = |taken: u32| taken.checked_add(count).filter(|&sum| sum <= all);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(drop)
}

/// Returns for how many processes the kernel has mappings.
fn mappable() -> u32 {
    // Where there is no such bound, there is no such file.
    let Ok(text) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else { return u32::MAX };
    let mappings: u32 = text.trim().parse().unwrap_or(u32::MAX);
    mappings.saturating_sub(OTHER_MAPPINGS) / MAPPINGS_OF_A_SLOT
}

fn pool(slots: u32) -> PoolingAllocationConfig {
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
