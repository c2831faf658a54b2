//! Instances, and those that wait for their next process.
//!
//! Most processes of a program are of one module, live shortly and end well. What such a one leaves is an instance whose memory
//! is a few pages away from what a new instance begins with, and whose globals are known. It is set back to that and serves
//! the next process, which costs a fraction of making an instance, and can tell it from a new one by nothing: pages that were
//! written are written over, also those that were swapped out meanwhile, and an instance that can have changed in any other
//! way (it grew, it trapped, it was killed, its code can change a table) serves nobody again.

use super::run;
use super::{Exit, Process};
use crate::engine::{Code, Image, Kind, Memories, beginning_with};
use crate::environment::Permit;
use crate::host::{Guest, Origin};
use crate::module::{Linked, Module};
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wasmtime::{Func, Global, Instance, Memory, Store, TypedFunc, Val};

/// So many instances wait at most, of all modules together.
pub(crate) const MAX_WAITING: u32 = 512;

/// An instance of a module, with what it runs in.
pub(crate) struct Shell {
    store: Store<Guest>,
    instance: Instance,
    kind: Kind,
    /// Functions that were called: each is looked up once. Never more than the module exports.
    functions: Vec<(Box<str>, Callee)>,
    /// What it has to be set back to; `None` where it cannot be.
    beginning: Option<Beginning>,
}

/// What an instance begins with.
struct Beginning {
    memory: Option<(Memory, usize)>,
    globals: Vec<(Global, Val)>,
}

/// A function of an instance. Where its type is one that many entries have, a call need not look it up.
enum Callee {
    Nothing(TypedFunc<(), ()>),
    Number(TypedFunc<i32, ()>),
    Numbers(TypedFunc<(i32, i32), ()>),
    /// Any other, with how many results it has.
    Other(Func, usize),
}

impl Shell {
    /// Makes an instance, which runs the module's start function.
    pub(super) async fn new(
        engine: &wasmtime::Engine,
        kind: Kind,
        guest: Guest,
        linked: &Linked,
    ) -> Result<Shell, Exit> {
        let mut store = run::store(engine, kind, guest);
        let made = {
            let mut making = pin!(linked.pre.instantiate_async(&mut store));
            std::future::poll_fn(|context| {
                beginning_with(linked.image.as_ref(), || making.as_mut().poll(context))
            })
            .await
        };
        let instance = match made {
            Ok(instance) => instance,
            Err(error) => return Err(run::exit_of(&mut store, &error)),
        };
        let module = store
            .data()
            .module()
            .expect("the instance is a module's")
            .clone();
        let beginning = Beginning::of(&mut store, instance, &module);
        Ok(Shell {
            store,
            instance,
            kind,
            functions: Vec::new(),
            beginning,
        })
    }

    /// Begins to serve another process.
    pub(super) fn enter(&mut self, process: Process, origin: Origin, memory: Permit) {
        self.store.data_mut().enter(process, origin, memory);
        run::begin(&mut self.store, self.kind);
    }

    pub(super) fn store(&mut self) -> &mut Store<Guest> {
        &mut self.store
    }

    pub(super) fn guest(&self) -> &Guest {
        self.store.data()
    }

    pub(super) fn instance(&self) -> Instance {
        self.instance
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Calls a function that was checked to be there and to take these parameters.
    pub(super) async fn call(
        &mut self,
        function: &str,
        parameters: &[Val],
    ) -> Result<Vec<Val>, Exit> {
        let place = self.place_of(function);
        let Shell {
            store, functions, ..
        } = self;
        let callee = &functions[place].1;
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
            (Callee::Other(callee, results), _) => {
                let mut results = vec![Val::I32(0); *results];
                callee
                    .call_async(store, parameters, &mut results)
                    .await
                    .map(|()| results)
            }
            _ => unreachable!("the parameters were checked"),
        };
        self.charge_compute();
        called.map_err(|error| run::exit_of(&mut self.store, &error))
    }

    /// Returns where a function is among those that were called. They are few, and most are the same one.
    fn place_of(&mut self, function: &str) -> usize {
        if let Some(place) = self
            .functions
            .iter()
            .position(|(name, _)| **name == *function)
        {
            return place;
        }
        let found = self
            .instance
            .get_func(&mut self.store, function)
            .expect("the function was checked to be there");
        let callee = Callee::of(found, &self.store);
        self.functions.push((function.into(), callee));
        self.functions.len() - 1
    }

    /// Counts what was computed since that was done last.
    fn charge_compute(&mut self) {
        // Where compute is not counted, asking for it makes an error each time.
        if self.kind.code() == Code::Plain {
            return;
        }
        if let Ok(fuel) = self.store.get_fuel() {
            // What is over the bound now is found by the next process to spend or to begin.
            let _ = self.store.data_mut().meter().charge_compute(fuel);
        }
    }

    /// Sets the instance back to its beginning. Says no where that cannot be done, or costs more than a new one.
    fn set_back(&mut self, image: Option<&Image>) -> bool {
        let Some(beginning) = &self.beginning else {
            return false;
        };
        if let Some((memory, size)) = beginning.memory {
            if memory.data_size(&self.store) != size {
                return false;
            }
            // SAFETY: the memory is this instance's, of which nothing runs, and begins with this image.
            if unsafe { Memories::reset(memory.data_mut(&mut self.store).into(), image) }.is_none()
            {
                return false;
            }
        }
        for (global, value) in &beginning.globals {
            global
                .set(&mut self.store, *value)
                .expect("the global can change and had a value of its type");
        }
        true
    }
}

impl Drop for Shell {
    /// However the guest ends, also where it is killed in the middle of a slice, what it computed counts.
    fn drop(&mut self) {
        if self.store.data().has_process() {
            self.charge_compute();
        }
    }
}

impl Beginning {
    fn of(store: &mut Store<Guest>, instance: Instance, module: &Module) -> Option<Beginning> {
        let exports = module.beginning()?;
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
        Callee::Other(function, function.ty(store).results().len())
    }
}

/// Instances of a module that wait for their next process, in several parts, so that workers do not wait for each other.
#[derive(Default)]
pub(crate) struct Shells([Mutex<Vec<Waiting>>; PARTS]);

const PARTS: usize = 8;

/// An instance that waits.
struct Waiting {
    shell: Shell,
    _place: Place,
}

/// One of the places for instances that wait, until it is dropped.
struct Place;

/// The places that are taken.
static TAKEN: AtomicU32 = AtomicU32::new(0);

impl Place {
    fn take() -> Option<Place> {
        let more = |taken: u32| (taken < MAX_WAITING).then_some(taken + 1);
        TAKEN
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shells {
    /// Takes an instance that waits: the one that this thread gave last, or another's.
    pub(super) fn take(&self) -> Option<Shell> {
        let own = own_part();
        let waiting = (0..PARTS).find_map(|part| self.part((own + part) % PARTS).pop())?;
        Some(waiting.shell)
    }

    /// Lets an instance wait whose process has ended well, and whose memory begins with this image; drops it where it serves
    /// nobody again.
    pub(super) fn give(&self, mut shell: Shell, image: Option<&Image>) {
        let module = shell.guest().module().expect("the instance is a module's");
        if shell.beginning.is_none() || !module.serves_again() {
            return;
        }
        let Some(place) = Place::take() else { return };
        if shell.set_back(image) {
            // What belongs to the process goes with it.
            shell.store.data_mut().leave();
            self.part(own_part()).push(Waiting {
                shell,
                _place: place,
            });
        }
    }

    fn part(&self, number: usize) -> MutexGuard<'_, Vec<Waiting>> {
        self.0[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the part that a thread gives to and takes from first.
fn own_part() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % PARTS;
    }
    OWN.with(|own| *own)
}

impl fmt::Debug for Shells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shells").finish_non_exhaustive()
    }
}
