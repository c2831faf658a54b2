//! Catching traps, so that they end a function instead of the process.
//!
//! The machine calls back into the program, on a separate stack, and returns if the call traps.
//! Nothing is unwound: whatever the function was working on is lost with its frames, and no
//! destructors run.

use crate::host;
use std::mem::{ManuallyDrop, MaybeUninit, transmute};
use std::ptr::with_exposed_provenance_mut;

/// A function trapped: it panicked, overflowed its stack, or did something that the machine does
/// not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function trapped")]
#[non_exhaustive]
pub struct Trapped;

/// What the machine returns if the function returned.
const RETURNED: i32 = 1;

/// A function to call, and later its result.
struct Call<F, R> {
    function: ManuallyDrop<F>,
    result: MaybeUninit<R>,
}

/// Calls a function and catches its traps: a panic, a division by zero, infinite recursion, or a
/// wrong call to the machine.
///
/// Use it for work that may fail without affecting its process and can be abandoned altogether,
/// such as a plugin or a parser for untrusted input. For anything else, a separate process is
/// better, since it can also be limited and killed.
///
/// Nothing is cleaned up after a trap. Whatever the function owned is lost, along with its memory;
/// a `RefCell` that it had borrowed stays borrowed, and a lock stays locked. Therefore the function
/// owns everything that it works on (`'static`), and nothing that others refer to is left half
/// changed. If the function panicked, the message has been printed as usual.
///
/// Kills, exits and limits are not caught: they end the process. Calls to this function can be
/// nested 16 levels deep; deeper ones trap.
///
/// # Errors
///
/// Returns [`Trapped`]. The machine does not say why.
///
/// # Example
///
/// ```no_run
/// use lunatic::catch_trap;
///
/// let numbers = vec![1, 2, 3];
/// let index = std::env::args().count() + 2;
/// match catch_trap(move || numbers[index]) {
///     Ok(number) => println!("{number}"),
///     Err(trapped) => println!("no number: {trapped}"),
/// }
/// ```
// Not inlined: the frames of what trapped are released at the end of its own frame.
#[inline(never)]
pub fn catch_trap<F, R>(function: F) -> Result<R, Trapped>
where
    F: FnOnce() -> R + 'static,
    R: 'static,
{
    let mut call = Call {
        function: ManuallyDrop::new(function),
        result: MaybeUninit::<R>::uninit(),
    };
    let address = (&raw mut call).expose_provenance();
    let run: fn(*mut ()) = run::<F, R>;
    // The machine passes both numbers to `catch_entry`, where they have the same meaning as here.
    // In wasm, both are 32 bits wide.
    let returned = host::trap::catch(run as usize as i32, address as i32);
    if returned != RETURNED {
        return Err(Trapped);
    }
    // SAFETY: `run` returned, so it has written a result.
    Ok(unsafe { call.result.assume_init() })
}

/// Calls the function of a [`Call`] and stores its result there.
fn run<F: FnOnce() -> R, R>(call: *mut ()) {
    let call = call.cast::<Call<F, R>>();
    // SAFETY: `catch_trap` passes the address of its call, which is valid until the machine
    // returns. The function is taken once, even if it traps: nothing uses it afterwards.
    unsafe {
        let function = ManuallyDrop::take(&mut (*call).function);
        (*call).result.write(function());
    }
}

/// What the machine calls with the arguments of `trap::catch`.
#[unsafe(export_name = "_lunatic_catch_trap")]
extern "C" fn catch_entry(run: *const (), call: i32) -> i32 {
    // SAFETY: `catch_trap` passes a function of this type. In wasm, calling an index that holds
    // anything of another type traps.
    let run: fn(*mut ()) = unsafe { transmute(run) };
    run(with_exposed_provenance_mut(call as usize));
    RETURNED
}
