//! Catching traps, so that a trap stops a function instead of killing its process.
//!
//! The machine calls back into the program on a separate stack, and returns even if the call traps.
//! The stack is not unwound: whatever the function's frames held is lost, and no destructors run.

use crate::host;
use std::mem::{ManuallyDrop, MaybeUninit, transmute};
use std::ptr::with_exposed_provenance_mut;

/// The error returned for a function that trapped: it panicked, overflowed its stack, or did
/// something that the machine does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function trapped")]
#[non_exhaustive]
pub struct Trapped;

/// The machine's return value if the function returned.
const RETURNED: i32 = 1;

/// A function to call, and its result once it has returned.
struct Call<F, R> {
    function: ManuallyDrop<F>,
    result: MaybeUninit<R>,
}

/// Calls a function and catches any trap, such as a panic, a division by zero, infinite recursion,
/// or an invalid call to the machine.
///
/// Use this for work that can be abandoned altogether and whose failure must not affect the
/// process, such as a plugin or a parser for untrusted input. For anything else, use a separate
/// process, which can also be limited and killed.
///
/// Nothing is cleaned up after a trap. Whatever the function owned is leaked; a `RefCell` that it
/// had borrowed stays borrowed, and a lock stays locked. The function must therefore own everything
/// that it works on (`'static`), so that no other code is left with half-modified data. If the
/// function panicked, the panic message was printed as usual.
///
/// Kills, exits and limits are not caught, and terminate the process. Calls to this function can be
/// nested 16 levels deep; deeper calls trap.
///
/// # Errors
///
/// Returns [`Trapped`] if the function trapped. The machine does not report the reason.
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
// This function is not inlined, because the frames of the code that trapped are released when this
// function's frame is.
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
    // SAFETY: `run` returned, so it has written the result.
    Ok(unsafe { call.result.assume_init() })
}

/// Runs a [`Call`]'s function and stores the result in the [`Call`].
fn run<F: FnOnce() -> R, R>(call: *mut ()) {
    let call = call.cast::<Call<F, R>>();
    // SAFETY: `catch_trap` passes the address of its `call`, which is valid until the machine
    // returns. The function is taken only once, and is not used afterwards even if it traps.
    unsafe {
        let function = ManuallyDrop::take(&mut (*call).function);
        (*call).result.write(function());
    }
}

/// The export that the machine calls with the arguments of `trap::catch`.
#[unsafe(export_name = "_lunatic_catch_trap")]
extern "C" fn catch_entry(run: *const (), call: i32) -> i32 {
    // SAFETY: `catch_trap` passes a function of this type. In wasm, an indirect call to a function
    // of a different type traps.
    let run: fn(*mut ()) = unsafe { transmute(run) };
    run(with_exposed_provenance_mut(call as usize));
    RETURNED
}
