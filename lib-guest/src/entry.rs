//! Starts a new process at any function of this program.
//!
//! A process is a new instance of a module, started at an exported function. A function has the
//! same table index in every instance of this program, so its index is enough to identify it. The
//! parent passes two indices to the export, because an index alone does not reveal a function's
//! type: one for a starter, which knows the type of the function to run, and one for the function
//! itself.

use crate::envelope::{self, Delivery};
use crate::mailbox::Mailbox;
use crate::module::param::Param;
use crate::tag::CONTEXT;
use lunatic_abi::parameter;
use serde::de::DeserializeOwned;
use std::hint::black_box;
use std::io::Write;
use std::mem::{transmute, transmute_copy};

/// The name of the export. It contains the version because two versions of this library may be
/// linked into one program. It also differs from the names that published versions of the crate
/// use.
macro_rules! export {
    () => {
        concat!("_lunatic_spawn_entry_", env!("CARGO_PKG_VERSION"))
    };
}

pub(crate) const EXPORT: &str = export!();

/// Starts a spawned process. Doesn't call any host functions before the given function runs, so
/// that even a process with almost no rights can be spawned.
#[unsafe(export_name = export!())]
extern "C" fn spawn_entry(starter: *const (), function: *const ()) {
    // SAFETY: the parent passes the two fields of an `EntryPoint`, the first of which is the index
    // of a starter. In wasm, an indirect call to a function of a different type traps.
    let starter: fn(*const ()) = unsafe { transmute(starter) };
    starter(function);
    flush_output();
}

/// Writes out any unfinished line that the function printed, as returning from `main` or calling
/// `std::process::exit` does.
///
/// If nothing was printed, this doesn't call the machine, but `stdout` still allocates its buffer.
/// A process whose memory is full skips this step and still exits normally.
pub(crate) fn flush_output() {
    /// Larger than the `stdout` buffer.
    const ROOM: usize = 2_048;
    if black_box(&mut Vec::<u8>::new()).try_reserve(ROOM).is_ok() {
        // A process does not fail just because its output cannot be written.
        let _ = std::io::stdout().flush();
    }
}

/// A function pointer that a process can start at.
pub(crate) trait FirstFunction: Copy {
    /// Calls the function in the new process.
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

/// Where a process starts: a function, and a starter that knows the function's type.
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

    /// Returns the parameters of [`EXPORT`], encoded for the machine.
    pub(crate) fn parameters(&self) -> [u8; 2 * parameter::SIZE] {
        // An index is 32 bits wide, and so is a pointer on targets that have function tables.
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
    // The value was delivered by the spawn, so the process does not have to wait.
    let context = envelope::receive(&[CONTEXT], 0, |delivery| match delivery {
        Delivery::Arrived(arrival) => arrival.open(),
        Delivery::TimedOut | Delivery::NobodyLeft => {
            panic!("this process was spawned without a context")
        }
    });
    context.unwrap_or_else(|error| {
        panic!("cannot read the context that this process was spawned with: {error}")
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
    fn an_entry_consists_of_two_32_bit_indices() {
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
