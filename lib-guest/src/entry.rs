//! How a function of this program becomes the first function of a new process.
//!
//! A process is a new instance of a module, started at an exported function. All functions of this program lie in its
//! table at the same places in every instance, so that a place is enough to name one: the parent passes two places, and
//! the export calls what is there. The first is that of a starter, which knows the types; a number does not tell them.

use crate::envelope::{self, Delivery};
use crate::mailbox::Mailbox;
use crate::module::Param;
use crate::supervisor::{self, Plan};
use crate::tag::CONTEXT;
use crate::task;
use lunatic_abi::parameter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hint::black_box;
use std::io::Write;
use std::mem::transmute;

/// The name of the export. It carries the version, because two versions of this library may be linked into one program,
/// and a word that no published version of the crate uses there.
macro_rules! export {
    () => {
        concat!("_lunatic_spawn_entry_", env!("CARGO_PKG_VERSION"))
    };
}

pub(crate) const EXPORT: &str = export!();

/// Starts a spawned process. Nothing is asked of the machine before the function runs, so that a process can be spawned
/// where next to nothing is granted.
#[unsafe(export_name = export!())]
extern "C" fn spawn_entry(starter: *const (), function: *const ()) {
    // SAFETY: the parent passes what `Entry` holds: the place of a starter. In wasm, a place that holds anything of
    // another type is a trap.
    let starter: fn(*const ()) = unsafe { transmute(starter) };
    starter(function);
    flush_output();
}

/// Writes what the function printed without ending the line, as `main` does at its end and `std::process::exit`.
///
/// Where nothing was printed the machine is asked for nothing, but `stdout` makes its buffer. A process that has filled its
/// memory ends well without.
pub(crate) fn flush_output() {
    /// More than that buffer takes.
    const ROOM: usize = 2_048;
    if black_box(&mut Vec::<u8>::new()).try_reserve(ROOM).is_ok() {
        // Output that nobody takes is no reason to fail.
        let _ = std::io::stdout().flush();
    }
}

/// A function to begin with, and the starter that knows its type.
pub(crate) struct Entry {
    starter: fn(*const ()),
    function: *const (),
}

impl Entry {
    pub(crate) fn new<T>(function: fn(Mailbox<T>)) -> Self {
        Self {
            starter: start::<T>,
            function: function as *const (),
        }
    }

    pub(crate) fn with_context<C: DeserializeOwned, T>(function: fn(C, Mailbox<T>)) -> Self {
        Self {
            starter: start_with::<C, T>,
            function: function as *const (),
        }
    }

    /// A task: a function whose result is reported.
    pub(crate) fn task<C: DeserializeOwned, R: Serialize>(function: fn(C) -> R) -> Self {
        Self {
            starter: start_task::<C, R>,
            function: function as *const (),
        }
    }

    /// A supervisor, which begins with a function that says what it supervises.
    pub(crate) fn supervisor(tree: fn(&mut Plan)) -> Self {
        Self {
            starter: start_supervisor,
            function: tree as *const (),
        }
    }

    /// Returns the parameters of [`EXPORT`], as the machine reads them.
    pub(crate) fn parameters(&self) -> [u8; 2 * parameter::SIZE] {
        // A place in the table is 32 bits wide, and so is an address where there is a table.
        let starter = Param::I32(self.starter as usize as i32);
        let function = Param::I32(self.function as usize as i32);
        let mut parameters = [0; 2 * parameter::SIZE];
        parameters[..parameter::SIZE].copy_from_slice(&starter.to_bytes());
        parameters[parameter::SIZE..].copy_from_slice(&function.to_bytes());
        parameters
    }
}

fn start<T>(function: *const ()) {
    // SAFETY: `Entry::new` pairs this starter with functions of this type.
    let function: fn(Mailbox<T>) = unsafe { transmute(function) };
    // SAFETY: the process begins here, so it has no mailbox yet.
    function(unsafe { Mailbox::new() });
}

fn start_with<C: DeserializeOwned, T>(function: *const ()) {
    // SAFETY: `Entry::with_context` pairs this starter with functions of this type.
    let function: fn(C, Mailbox<T>) = unsafe { transmute(function) };
    let context = context();
    // SAFETY: as in `start`.
    function(context, unsafe { Mailbox::new() });
}

fn start_task<C: DeserializeOwned, R: Serialize>(function: *const ()) {
    // SAFETY: `Entry::task` pairs this starter with functions of this type.
    let function: fn(C) -> R = unsafe { transmute(function) };
    let (birth, context) = context();
    task::run(birth, context, function);
}

fn start_supervisor(tree: *const ()) {
    // SAFETY: `Entry::supervisor` pairs this starter with functions of this type.
    let tree: fn(&mut Plan) = unsafe { transmute(tree) };
    let (birth, ()) = context();
    supervisor::run(birth, tree);
}

/// Receives what this process was spawned with.
fn context<C: DeserializeOwned>() -> C {
    // It came with the spawn itself, so there is nothing to wait for.
    let context = envelope::receive(&[CONTEXT], 0, |delivery| match delivery {
        Delivery::Arrived(arrival) => arrival.open(),
        Delivery::TimedOut | Delivery::NobodyLeft => {
            panic!("this process was spawned without its context")
        }
    });
    context.unwrap_or_else(|error| {
        panic!("the context that this process was spawned with cannot be read: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_carries_the_version() {
        assert_eq!(
            EXPORT,
            format!("_lunatic_spawn_entry_{}", env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn an_entry_is_two_places_of_32_bits() {
        fn nothing(_: Mailbox<()>) {}
        let entry = Entry::new(nothing);
        let parameters = entry.parameters();
        assert_eq!(
            parameters[..17],
            Param::I32(entry.starter as usize as i32).to_bytes()
        );
        assert_eq!(
            parameters[17..],
            Param::I32(entry.function as usize as i32).to_bytes()
        );
    }
}
