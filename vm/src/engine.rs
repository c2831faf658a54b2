//! Wasmtime, set up.
//!
//! Two choices make an engine for modules. One is whether its code counts fuel: code that counts costs up to half its speed,
//! so it is compiled only for environments that limit compute. The other is the profile: how memories and stacks lie in
//! the address space, and with it whether code checks each access to memory. Components have engines of their own, whose
//! memories are wasmtime's. Nothing outside this file names the settings; a module, a store and a linker belong to one
//! [`Engine`] and say so.

use crate::host::{Guest, Linkers};
use lunatic_abi::Generation;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wasmtime::{
    Config, InstanceAllocationStrategy, Linker, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails, WasmFeatures, component,
};

mod arena;
mod ceilings;
mod image;
mod memory;
mod pages;
mod stack;

pub use ceilings::{Capacity, Ceiling};
pub(crate) use ceilings::{Ceilings, Slot};
pub(crate) use image::Image;
pub(crate) use memory::{Memories, beginning_with};

/// Whether code counts what it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// It does not, and cannot be limited exactly.
    Plain,
    /// Every instruction costs fuel.
    Metered,
}

/// How the memories and stacks of processes lie in the address space.
///
/// What a program does is the same in both, except for how deep it can recurse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Every memory has the 4 GiB that it can address to itself, so that no access needs a check: for speed. There is address
    /// space for some 28,000, and the kernel's usual bound on mappings allows as many. Code has 1 MiB of stack.
    Fast,
    /// A memory has little more room than it uses, and moves when it outgrows that; each access is checked: for many. Code has
    /// 384 KiB of stack.
    Dense,
}

/// What an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Modules.
    Module(Code, Profile),
    /// Components.
    Component(Code),
}

impl Kind {
    pub(crate) fn code(self) -> Code {
        match self {
            Kind::Module(code, _) | Kind::Component(code) => code,
        }
    }
}

/// What wasm may use of the host's stack, and all of it. The rest is for host functions.
struct StackSize {
    wasm: usize,
    all: usize,
}

const WIDE_STACK: StackSize = StackSize {
    wasm: 1 << 20,
    all: 2 << 20,
};
const NARROW_STACK: StackSize = StackSize {
    wasm: 384 << 10,
    all: 768 << 10,
};

/// The largest memory that a module can have, in bytes: what 32 bits can address.
const MAX_MEMORY: usize = 1 << 32;

/// How much of a component's memory and tables stays resident when its slot is used again. Pages below this are set back by
/// copying, which is cheaper than giving them back to the kernel and taking new ones.
const KEEP_RESIDENT: usize = 256 << 10;

/// One set-up of wasmtime, and what is linked for it.
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    kind: Kind,
    linkers: Linkers,
    /// Where the memories of modules lie.
    memories: Option<Arc<Memories>>,
}

impl Engine {
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns every host function, for core modules of a generation.
    pub(crate) fn linker(&self, generation: Generation) -> &Linker<Guest> {
        self.linkers.of(generation)
    }

    /// Returns every host function, for components.
    pub(crate) fn component_linker(&self) -> &component::Linker<Guest> {
        self.linkers.components()
    }
}

/// Links host functions for a new engine.
pub(crate) type Link = Box<dyn Fn(&wasmtime::Engine) -> wasmtime::Result<Linkers> + Send + Sync>;

/// The engines of a machine. Each is made when it is needed first.
pub(crate) struct Engines {
    engines: [OnceLock<Engine>; Kind::COUNT],
    ceilings: Ceilings,
    link: Link,
    /// Held while one is made.
    making: Mutex<()>,
}

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Module(Code::Plain, Profile::Fast),
        Kind::Module(Code::Plain, Profile::Dense),
        Kind::Module(Code::Metered, Profile::Fast),
        Kind::Module(Code::Metered, Profile::Dense),
        Kind::Component(Code::Plain),
        Kind::Component(Code::Metered),
    ];

    /// How many there are.
    pub(crate) const COUNT: usize = Kind::ALL.len();

    /// Returns its place among all.
    pub(crate) fn number(self) -> usize {
        Kind::ALL
            .iter()
            .position(|&kind| kind == self)
            .expect("all are there")
    }
}

impl Engines {
    pub(crate) fn new(link: Link, ceilings: Ceilings) -> Engines {
        Engines {
            engines: Default::default(),
            ceilings,
            link,
            making: Mutex::new(()),
        }
    }

    pub(crate) fn get(&self, kind: Kind) -> wasmtime::Result<&Engine> {
        let place = &self.engines[kind.number()];
        if let Some(engine) = place.get() {
            return Ok(engine);
        }
        // One at a time: a second engine that is thrown away would take as much address space for a moment.
        let _turn = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = place.get() {
            return Ok(engine);
        }
        let engine = make(kind, &self.link)?;
        Ok(place.get_or_init(|| engine))
    }

    /// Returns the engine for the next process of a module.
    pub(crate) fn kind_of_next(&self, code: Code) -> Kind {
        Kind::Module(code, self.ceilings.profile_of_next())
    }

    /// Returns the engine that many further processes will run in, where that is another one than the next will.
    pub(crate) fn kind_of_many(&self, code: Code) -> Option<Kind> {
        self.ceilings
            .profile_of_many()
            .map(|profile| Kind::Module(code, profile))
    }

    /// Returns how many processes there is room for.
    pub(crate) fn capacity(&self) -> Capacity {
        self.ceilings.capacity()
    }

    /// Takes what a process needs of what is bounded.
    pub(crate) fn take(&self, kind: Kind, memories: u32) -> Result<Slot, Ceiling> {
        self.ceilings.take(kind, memories).or_else(|_| {
            // What is kept for the next processes of others may be what this one lacks.
            self.memories().for_each(|memories| memories.trim());
            self.ceilings.take(kind, memories)
        })
    }

    /// Gives up what is kept for an image: its module is gone.
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

    /// Moves the clock on: whoever has run since the last beat gives the others a turn.
    pub(crate) fn increment_epoch(&self) {
        for engine in self.engines.iter().filter_map(OnceLock::get) {
            engine.engine.increment_epoch();
        }
    }
}

fn make(kind: Kind, link: &Link) -> wasmtime::Result<Engine> {
    let mut config = config(kind.code());
    let memories = match kind {
        Kind::Module(_, profile) => Some(lay_out(&mut config, profile)),
        Kind::Component(_) => {
            config
                .max_wasm_stack(WIDE_STACK.wasm)
                .async_stack_size(WIDE_STACK.all)
                .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
            None
        }
    };
    let engine = wasmtime::Engine::new(&config)?;
    let linkers = link(&engine)?;
    Ok(Engine {
        engine,
        kind,
        linkers,
        memories,
    })
}

fn config(code: Code) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(code == Code::Metered)
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
        );
    config
}

/// Lets memories and stacks lie as a profile says.
fn lay_out(config: &mut Config, profile: Profile) -> Arc<Memories> {
    let stack = match profile {
        Profile::Fast => {
            config
                .memory_reservation(MAX_MEMORY as u64)
                .memory_guard_size(memory::GUARD as u64)
                .memory_may_move(false);
            WIDE_STACK
        }
        Profile::Dense => {
            config
                .memory_reservation(0)
                .memory_guard_size(0)
                .memory_reservation_for_growth(0)
                .memory_may_move(true);
            NARROW_STACK
        }
    };
    let memories = Arc::new(Memories::new(profile));
    config
        // Memories begin with images of our own making, where they begin with any.
        .memory_init_cow(false)
        .guard_before_linear_memory(false)
        .max_wasm_stack(stack.wasm)
        .async_stack_size(stack.all)
        .with_host_memory(Arc::new(memory::Creator(memories.clone())))
        .with_host_stack(Arc::new(stack::Stacks::new(stack.all)))
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    memories
}

/// The pool of an engine for components: each is made of several modules, whose data are larger than what they write of it,
/// and which wasmtime maps for them.
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
