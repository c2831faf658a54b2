//! Wasmtime engines and their settings.
//!
//! Engines for modules differ in two ways. The first is whether code counts fuel. Counting fuel can
//! halve the speed of code, so such code is compiled only for environments that limit compute. The
//! second is the profile, which determines how memories and stacks are laid out in the address
//! space, and hence whether code checks each memory access. Components have separate engines, whose
//! memories wasmtime allocates. The settings are used only in this file. Each module, store and
//! linker belongs to one [`Engine`], which the types enforce.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is `engine.rs`"
)]

use std::any::Any;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wasmtime::{
    Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
    WasmFeatures,
};

mod arena;
mod ceilings;
mod image;
mod kind;
mod mappings;
mod memory;
mod pages;
mod pressure;
mod stack;

pub use ceilings::{Capacity, Ceiling};
pub(crate) use ceilings::{Ceilings, Reservation};
pub(crate) use image::Image;
pub use kind::Profile;
pub(crate) use kind::{Code, EngineKind};
pub(crate) use mappings::{MAX_POOLED, Mappings};
pub(crate) use memory::{Memories, Written, with_image};
pub(crate) use pages::Moment;
pub(crate) use pressure::Pressure;
pub use pressure::Shortage;

/// The stack size of a process, in bytes.
struct StackSize {
    /// The part that wasm code may use. The rest is reserved for host functions.
    wasm: usize,
    all: usize,
}

const FAST_STACK: StackSize = StackSize {
    wasm: 1 << 20,
    all: 2 << 20,
};
const DENSE_STACK: StackSize = StackSize {
    wasm: 384 << 10,
    all: 768 << 10,
};

/// The number of bytes of a component's memory and tables that stay resident when its slot is
/// reused. This part is reset by writing to it, which is cheaper than returning the pages to the
/// kernel and faulting in new ones.
const KEEP_RESIDENT: usize = 256 << 10;

/// A wasmtime engine and the linkers created for it.
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    kind: EngineKind,
    linked: Linked,
    /// The allocator for module memories. `None` for components, whose memories wasmtime allocates.
    memories: Option<Arc<Memories>>,
}

impl Engine {
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    pub(crate) fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Returns this engine's linked imports.
    pub(crate) fn linked<T: 'static>(&self) -> &T {
        self.linked
            .downcast_ref()
            .expect("a machine uses the same type for all its engines")
    }
}

/// The imports available to guests. Only higher layers know the concrete type.
pub(crate) type Linked = Box<dyn Any + Send + Sync>;

/// Links host functions for a new engine.
pub(crate) type Link = Box<dyn Fn(&wasmtime::Engine) -> wasmtime::Result<Linked> + Send + Sync>;

/// The engines of a machine. Each is created on first use.
pub(crate) struct Engines {
    engines: [OnceLock<Engine>; EngineKind::COUNT],
    ceilings: Ceilings,
    link: Link,
    /// The names of the functions that guests can import, as `namespace::name`.
    provided: Arc<[String]>,
    /// Held while an engine is created.
    making: Mutex<()>,
}

impl Engines {
    pub(crate) fn new(link: Link, provided: &[String], ceilings: Ceilings) -> Engines {
        Engines {
            engines: Default::default(),
            ceilings,
            link,
            provided: provided.into(),
            making: Mutex::new(()),
        }
    }

    pub(crate) fn get(&self, kind: EngineKind) -> wasmtime::Result<&Engine> {
        let slot = &self.engines[kind.index()];
        if let Some(engine) = slot.get() {
            return Ok(engine);
        }
        // Engines are created one at a time, because a second engine of the same kind, even if
        // dropped immediately, would take up as much address space as the first.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = slot.get() {
            return Ok(engine);
        }
        let engine = make(kind, &self.link)?;
        Ok(slot.get_or_init(|| engine))
    }

    /// Returns the names of the functions that guests can import, as `namespace::name`.
    pub(crate) fn provided(&self) -> &[String] {
        &self.provided
    }

    /// Returns the kind of engine for the next process that runs a module.
    pub(crate) fn kind_of_next(&self, code: Code) -> EngineKind {
        EngineKind::Module(code, self.ceilings.profile_of_next())
    }

    /// If the kind of engine is about to change after the next few processes, returns the new kind.
    pub(crate) fn kind_of_many(&self, code: Code) -> Option<EngineKind> {
        self.ceilings
            .profile_of_many()
            .map(|profile| EngineKind::Module(code, profile))
    }

    /// Returns the memory pressure monitor.
    pub(crate) fn pressure(&self) -> &Arc<Pressure> {
        self.ceilings.pressure()
    }

    /// Returns how many processes the machine has capacity for.
    pub(crate) fn capacity(&self) -> Capacity {
        self.ceilings.capacity()
    }

    /// Returns what is currently refused, for a spawn that is about to take its resources.
    pub(crate) fn shortage_at_spawn(&self) -> Shortage {
        self.ceilings.shortage_at_spawn()
    }

    /// Reserves the limited resources that a process needs. Relies on the last reading of the
    /// remaining memory; see [`Engines::shortage_at_spawn`].
    pub(crate) fn take(&self, kind: EngineKind, memories: u32) -> Result<Reservation, Ceiling> {
        self.ceilings.take(kind, memories).or_else(|_| {
            // Memories pooled for other modules may hold the resources that this process needs.
            self.memories().for_each(|memories| memories.trim());
            self.ceilings.take(kind, memories)
        })
    }

    /// Releases the memories pooled for an image whose module has been dropped.
    pub(crate) fn forget(&self, image: &Arc<Image>) {
        for memories in self.memories() {
            memories.forget(image);
        }
    }

    fn memories(&self) -> impl Iterator<Item = &Arc<Memories>> {
        self.engines
            .iter()
            .filter_map(OnceLock::get)
            .filter_map(|engine| engine.memories.as_ref())
    }

    /// Advances the epoch, which makes code that has been running since the last tick yield.
    pub(crate) fn increment_epoch(&self) {
        for engine in self.engines.iter().filter_map(OnceLock::get) {
            engine.engine.increment_epoch();
        }
    }
}

fn make(kind: EngineKind, link: &Link) -> wasmtime::Result<Engine> {
    let mut config = config(kind.code());
    let memories = match kind {
        EngineKind::Module(_, profile) => Some(lay_out(&mut config, profile)),
        EngineKind::Component(_) => {
            config
                .max_wasm_stack(FAST_STACK.wasm)
                .async_stack_size(FAST_STACK.all)
                .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
            None
        }
    };
    let engine = wasmtime::Engine::new(&config)?;
    let linked = link(&engine)?;
    Ok(Engine {
        engine,
        kind,
        linked,
        memories,
    })
}

fn config(code: Code) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(code == Code::Metered)
        .cranelift_opt_level(OptLevel::Speed)
        // Reading debug information would cost a worker milliseconds at each trap.
        // `source_locations` reads it on request.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(64))
        // Features that guests do not need are disabled to reduce the attack surface.
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
        );
    config
}

/// Returns an engine that compiles code for engines of the given kind. Nothing runs in this engine,
/// so it does not reserve any address space.
pub(crate) fn compiling(kind: EngineKind) -> wasmtime::Result<wasmtime::Engine> {
    let mut config = config(kind.code());
    if let EngineKind::Module(_, profile) = kind {
        lay_out_code(&mut config, profile);
    }
    wasmtime::Engine::new(&config)
}

/// Configures the memory and stack layout that compiled code relies on under a profile. Returns the
/// stack size.
fn lay_out_code(config: &mut Config, profile: Profile) -> StackSize {
    let stack = match profile {
        Profile::Fast => {
            config
                .memory_reservation(memory::ADDRESSABLE as u64)
                .memory_guard_size(memory::GUARD as u64)
                .memory_may_move(false);
            FAST_STACK
        }
        Profile::Dense => {
            config
                .memory_reservation(0)
                .memory_guard_size(0)
                .memory_reservation_for_growth(0)
                .memory_may_move(true);
            DENSE_STACK
        }
    };
    config
        // Memories are initialized from this crate's own images.
        .memory_init_cow(false)
        .guard_before_linear_memory(false)
        .max_wasm_stack(stack.wasm)
        .async_stack_size(stack.all);
    stack
}

/// Sets up the allocation of memories and stacks for a profile.
fn lay_out(config: &mut Config, profile: Profile) -> Arc<Memories> {
    let stack = lay_out_code(config, profile);
    let memories = Arc::new(Memories::new(profile));
    config
        .with_host_memory(Arc::new(memory::Creator(memories.clone())))
        .with_host_stack(Arc::new(stack::Stacks::new(stack.all)))
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    memories
}

/// Configures the pool of an engine for components. Wasmtime maps a component's initial data
/// copy-on-write, because its modules modify little of it.
fn pool() -> PoolingAllocationConfig {
    let slots = ceilings::COMPONENT_SLOTS;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(16 * slots)
        .total_memories(slots)
        .total_tables(2 * slots)
        .total_stacks(slots)
        .total_component_instances(slots)
        .max_core_instances_per_component(16)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .max_memories_per_module(8)
        .max_tables_per_module(8)
        .max_memory_size(memory::ADDRESSABLE)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash, Hasher};

    #[test]
    fn code_compiled_elsewhere_fits_each_kind_of_engine() {
        let hash = |engine: &wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let link: Link = Box::new(|_| Ok(Box::new(())));
        for index in 0..EngineKind::COUNT {
            let kind = EngineKind::of_index(index).expect("every index below `COUNT` has a kind");
            let elsewhere = compiling(kind).expect("the settings are valid");
            let here = make(kind, &link).expect("there is enough address space");
            assert_eq!(hash(here.wasmtime()), hash(&elsewhere), "{kind:?}");
        }
    }
}
