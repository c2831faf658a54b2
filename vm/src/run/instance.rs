//! Instances, and the pool of instances that are waiting to be reused.
//!
//! Most processes in a program run the same module, are short-lived and end normally. Such a
//! process leaves behind an instance whose memory differs from a new instance's in only a few
//! pages, and whose globals are known. Resetting this instance for the next process costs a
//! fraction of creating a new one. A reset instance is indistinguishable from a new one: all
//! modified pages, even those that have been swapped out, are overwritten. An instance that may
//! have changed in any other way (because its memory grew, it trapped or was killed, or its code
//! can change a table) is not reused.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unsafe_code,
    reason = "runs instances, and resets entire memories"
)]

use super::linked::Linked;
use super::outcome::exit_of;
use super::store;
use crate::engine::{Code, EngineKind, Image, MAX_POOLED, Memories, Moment, Written, with_image};
use crate::guest::{Guest, MemoryShare, Setting};
use crate::machine::Process;
use crate::module::Module;
use crate::tally::{PARTS, Tally, own_part};
use crossbeam_utils::CachePadded;
use lunatic_process::Exit;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use wasmtime::{Func, Global, Memory, Store, TypedFunc, Val};

/// A module instance and its store.
pub(crate) struct Instance {
    store: Store<Guest>,
    instance: wasmtime::Instance,
    kind: EngineKind,
    /// The functions called so far, so that each function is looked up only once. There are at most
    /// as many as the module's exports.
    functions: Vec<(Box<str>, Callee)>,
    /// The state to reset the instance to, or `None` if it cannot be reset.
    beginning: Option<Beginning>,
    /// The pages of the memory that had been written to when the instance was last reset.
    written: Option<Written>,
}

/// An instance's initial state.
struct Beginning {
    memory: Option<(Memory, usize)>,
    globals: Vec<(Global, Val)>,
}

/// The maximum number of mutable globals in an instance that can be reset. Compilers generate only
/// a few.
const MAX_GLOBALS: usize = 1_024;

/// A function of an instance. If its type is common for entry points, it is stored with that type.
enum Callee {
    Nothing(TypedFunc<(), ()>),
    Number(TypedFunc<i32, ()>),
    Numbers(TypedFunc<(i32, i32), ()>),
    /// The type of most functions that the bridge calls.
    Length(TypedFunc<(i32, i32), i32>),
    /// Any other function, with its number of results.
    Other(Func, usize),
}

impl Instance {
    /// Creates an instance, which runs the module's start function.
    pub(super) async fn new(guest: Guest, linked: &Linked) -> Result<Instance, Exit> {
        let (kind, pre) = (linked.kind, &linked.pre);
        let mut store = store::new(pre.module().engine(), kind, guest);
        let made = {
            let image = linked.image.as_ref();
            let mut making = pin!(pre.instantiate_async(&mut store));
            std::future::poll_fn(|context| with_image(image, || making.as_mut().poll(context)))
                .await
        };
        let instance = match made {
            Ok(instance) => instance,
            Err(error) => return Err(exit_of(store.data(), &error)),
        };
        let module = store
            .data()
            .module()
            .expect("the guest is a module")
            .clone();
        let beginning = Beginning::of(&mut store, instance, &module);
        Ok(Instance {
            store,
            instance,
            kind,
            functions: Vec::new(),
            beginning,
            written: None,
        })
    }

    /// Prepares the instance for its next process.
    pub(super) fn enter(&mut self, process: Process, setting: Arc<Setting>, memory: MemoryShare) {
        self.store.data_mut().enter(process, setting, memory);
        store::begin(&mut self.store, self.kind);
    }

    pub(super) fn store(&mut self) -> &mut Store<Guest> {
        &mut self.store
    }

    pub(super) fn guest(&self) -> &Guest {
        self.store.data()
    }

    pub(super) fn guest_mut(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    pub(super) fn exports(&self) -> wasmtime::Instance {
        self.instance
    }

    pub(super) fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Calls a function. The caller must have checked that the function exists and takes these
    /// parameters.
    pub(super) async fn call(
        &mut self,
        function: &str,
        parameters: &[Val],
    ) -> Result<Vec<Val>, Exit> {
        let position = self.position_of(function);
        let Instance {
            store, functions, ..
        } = self;
        let callee = &functions[position].1;
        let called = match (callee, parameters) {
            (Callee::Nothing(callee), []) => {
                callee.call_async(store, ()).await.map(|()| Vec::new())
            }
            (Callee::Number(callee), &[Val::I32(number)]) => {
                callee.call_async(store, number).await.map(|()| Vec::new())
            }
            (Callee::Numbers(callee), &[Val::I32(one), Val::I32(other)]) => callee
                .call_async(store, (one, other))
                .await
                .map(|()| Vec::new()),
            (Callee::Length(callee), &[Val::I32(one), Val::I32(other)]) => callee
                .call_async(store, (one, other))
                .await
                .map(|length| vec![Val::I32(length)]),
            (Callee::Other(callee, results), _) => {
                let mut results = vec![Val::I32(0); *results];
                callee
                    .call_async(store, parameters, &mut results)
                    .await
                    .map(|()| results)
            }
            _ => unreachable!("the parameters have been checked"),
        };
        self.charge_compute();
        called.map_err(|error| exit_of(self.store.data(), &error))
    }

    /// Returns a function's position among those called so far. A linear search is enough, because
    /// there are only a few, and most calls are to the same function.
    fn position_of(&mut self, function: &str) -> usize {
        if let Some(position) = self
            .functions
            .iter()
            .position(|(name, _)| **name == *function)
        {
            return position;
        }
        let found = self
            .instance
            .get_func(&mut self.store, function)
            .expect("the existence of the function has been checked");
        let callee = Callee::of(found, &self.store);
        self.functions.push((function.into(), callee));
        self.functions.len() - 1
    }

    /// Charges for the compute used since the last call.
    fn charge_compute(&mut self) {
        // If fuel is not counted, asking for it would create an error each time.
        if self.kind.code() == Code::Plain {
            return;
        }
        if let Ok(fuel) = self.store.get_fuel() {
            // If this exceeds a limit, the next process to compute or start is stopped.
            let _ = self.store.data_mut().meter().charge_compute(fuel);
        }
    }

    /// Resets the instance. `since` is explained at [`InstancePool::put_back`]. Returns false if it cannot be reset, or if that would cost more than
    /// creating a new one.
    fn reset(&mut self, image: Option<&Image>, since: Option<Moment>) -> bool {
        let Some(beginning) = &self.beginning else {
            return false;
        };
        if let Some((memory, size)) = beginning.memory {
            if memory.data_size(&self.store) != size {
                return false;
            }
            let bytes = memory.data_mut(&mut self.store).into();
            // SAFETY: the memory belongs to this instance, no code is running in it, its initial
            // contents are those of `image`, and `written` is used only for it. Nobody else writes
            // to the memory of a process or of a pooled instance.
            let is_reset = unsafe { Memories::reset_again(bytes, image, &mut self.written, since) };
            if !is_reset {
                return false;
            }
        }
        for (global, value) in &beginning.globals {
            global
                .set(&mut self.store, *value)
                .expect("the global is mutable, and the value has the global's type");
        }
        true
    }
}

impl Drop for Instance {
    /// The guest's compute is charged no matter how the guest ends, even if it is killed in the
    /// middle of a slice.
    fn drop(&mut self) {
        if self.store.data().has_process() {
            self.charge_compute();
        }
    }
}

impl Beginning {
    fn of(
        store: &mut Store<Guest>,
        instance: wasmtime::Instance,
        module: &Module,
    ) -> Option<Beginning> {
        let exports = module.beginning()?;
        if exports.globals.len() > MAX_GLOBALS {
            return None;
        }
        let memory = match &exports.memory {
            Some(name) => {
                let memory = instance.get_memory(&mut *store, name)?;
                Some((memory, memory.data_size(&*store)))
            }
            None => None,
        };
        let mut globals = Vec::with_capacity(exports.globals.len());
        for name in &exports.globals {
            let global = instance.get_global(&mut *store, name)?;
            globals.push((global, global.get(&mut *store)));
        }
        Some(Beginning { memory, globals })
    }
}

impl Callee {
    fn of(function: Func, store: &Store<Guest>) -> Callee {
        if let Ok(function) = function.typed(store) {
            return Callee::Nothing(function);
        }
        if let Ok(function) = function.typed(store) {
            return Callee::Number(function);
        }
        if let Ok(function) = function.typed(store) {
            return Callee::Numbers(function);
        }
        if let Ok(function) = function.typed(store) {
            return Callee::Length(function);
        }
        Callee::Other(function, function.ty(store).results().len())
    }
}

/// A module's pooled instances, which are waiting for their next process. The pool is split into
/// parts, so that workers do not wait for each other.
#[derive(Default)]
pub(crate) struct InstancePool([CachePadded<Mutex<Vec<Pooled>>>; PARTS]);

/// The maximum number of bytes that the host may hold for a pooled instance. These bytes do not
/// count toward any limit.
const MAX_POOLED_BYTES: u64 = 64 << 10;

/// A pooled instance.
struct Pooled {
    instance: Instance,
    _slot: PoolSlot,
}

/// A slot for a pooled instance. Released on drop.
struct PoolSlot;

/// The number of slots in use.
static TAKEN: LazyLock<Tally<1>> = LazyLock::new(Tally::default);

impl PoolSlot {
    fn take() -> Option<PoolSlot> {
        let taken = TAKEN.take(0, 1, MAX_POOLED.into());
        taken.ok().map(|()| PoolSlot)
    }
}

impl Drop for PoolSlot {
    fn drop(&mut self) {
        TAKEN.give_back(0, 1);
    }
}

impl InstancePool {
    /// Takes an instance, preferably the one that this thread put back most recently.
    pub(super) fn take(&self) -> Option<Instance> {
        let own = own_part();
        let pooled = (0..PARTS).find_map(|part| self.part((own + part) % PARTS).pop())?;
        Some(pooled.instance)
    }

    /// Puts back an instance whose process has ended normally, or drops it if it cannot be reused.
    /// The memory's initial contents must be those of `image`.
    ///
    /// `since` is a moment of the current thread, if only this thread, and only since that moment,
    /// has used the instance after it was taken out of the pool.
    pub(super) fn put_back(
        &self,
        mut instance: Instance,
        image: Option<&Image>,
        since: Option<Moment>,
    ) {
        let module = instance.guest().module().expect("the guest is a module");
        let is_small = module.requirements().host <= MAX_POOLED_BYTES;
        if instance.beginning.is_none() || !is_small || !module.serves_again() {
            return;
        }
        let Some(slot) = PoolSlot::take() else {
            return;
        };
        if instance.reset(image, since) {
            // This drops everything that belongs to the process.
            instance.store.data_mut().leave();
            self.part(own_part()).push(Pooled {
                instance,
                _slot: slot,
            });
        }
    }

    fn part(&self, number: usize) -> MutexGuard<'_, Vec<Pooled>> {
        self.0[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for InstancePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstancePool").finish_non_exhaustive()
    }
}
