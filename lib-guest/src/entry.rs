//! Makes a function of this program the entry function of a new process.
//!
//! A process is a new instance of a module, started at an exported function. Every function of this
//! program has the same index in the table of every instance, so an index is enough to identify a
//! function. The parent passes two indices, and the export calls the functions that they identify.
//! The first index identifies a starter, which knows the type of the second function. The starter
//! is needed because an index alone does not reveal the type of a function.

use crate::envelope::{self, Delivery};
use crate::mailbox::Mailbox;
use crate::module::param::Param;
use crate::tag::CONTEXT;
use lunatic_abi::parameter;
use serde::de::DeserializeOwned;
use std::hint::black_box;
use std::io::Write;
use std::mem::{transmute, transmute_copy};

/// The name of the export. It contains the version, because two versions of this library may be
/// linked into one program. It also contains a word that no published version of the crate uses in
/// this name.
macro_rules! export {
    () => {
        concat!("_lunatic_spawn_entry_", env!("CARGO_PKG_VERSION"))
    };
}

pub(crate) const EXPORT: &str = export!();

/// Starts a spawned process. No functions of the machine are called before the given function runs,
/// so that a process can be spawned even if almost nothing is granted.
#[unsafe(export_name = export!())]
extern "C" fn spawn_entry(starter: *const (), function: *const ()) {
    // SAFETY: the parent passes the two fields of an `EntryPoint`, the first of which is the index
    // of a starter. In wasm, calling an index that holds a function of a different type traps.
    let starter: fn(*const ()) = unsafe { transmute(starter) };
    starter(function);
    flush_output();
}

/// Writes any unfinished line that the function has printed, as returning from `main` and
/// `std::process::exit` do.
///
/// If nothing was printed, no calls to the machine are made, but `stdout` allocates its buffer. A
/// process whose memory is full skips this step and still ends normally.
pub(crate) fn flush_output() {
    /// A size greater than that of the buffer of `stdout`.
    const ROOM: usize = 2_048;
    if black_box(&mut Vec::<u8>::new()).try_reserve(ROOM).is_ok() {
        // A failure to write the output does not make the process fail.
        let _ = std::io::stdout().flush();
    }
}

/// A function pointer that a process can start with.
pub(crate) trait FirstFunction: Copy {
    /// Calls the function in a process that starts with it.
    fn call(self);
}

impl<T> FirstFunction for fn(Mailbox<T>) {
    fn call(self) {
        // SAFETY: the process starts here, so it has no mailbox yet.
        self(unsafe { Mailbox::new() });
    }
}

impl<C: DeserializeOwned, T> FirstFunction for fn(C, Mailbox<T>) {
    fn call(self) {
        let context = context();
        // SAFETY: as above.
        self(context, unsafe { Mailbox::new() });
    }
}

/// Where a process starts: a function, and the starter that knows the function's type.
pub(crate) struct EntryPoint {
    starter: fn(*const ()),
    function: *const (),
}

impl EntryPoint {
    pub(crate) fn new<F: FirstFunction>(function: F) -> Self {
        const { assert!(size_of::<F>() == size_of::<*const ()>()) };
        Self {
            starter: start::<F>,
            // SAFETY: a function pointer and a raw pointer have the same size, and any bytes form a
            // valid raw pointer.
            function: unsafe { transmute_copy(&function) },
        }
    }

    /// Returns the parameters of [`EXPORT`], in the form that the machine reads.
    pub(crate) fn parameters(&self) -> [u8; 2 * parameter::SIZE] {
        // An index is 32 bits wide, and so is a pointer on targets that have a table.
        let starter = Param::I32(self.starter as usize as i32);
        let function = Param::I32(self.function as usize as i32);
        let mut parameters = [0; 2 * parameter::SIZE];
        parameters[..parameter::SIZE].copy_from_slice(&starter.to_bytes());
        parameters[parameter::SIZE..].copy_from_slice(&function.to_bytes());
        parameters
    }
}

fn start<F: FirstFunction>(function: *const ()) {
    // SAFETY: `EntryPoint::new` pairs this starter with functions of this type.
    let function: F = unsafe { transmute_copy(&function) };
    function.call();
}

/// Receives the value that this process was spawned with.
pub(crate) fn context<C: DeserializeOwned>() -> C {
    // The spawn itself delivered the value, so the process does not have to wait.
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
            format!("{}{}", lunatic_abi::ENTRY_PREFIX, env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn an_entry_consists_of_two_indices_of_32_bits() {
        let nothing: fn(Mailbox<()>) = |_| ();
        let entry = EntryPoint::new(nothing);
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
