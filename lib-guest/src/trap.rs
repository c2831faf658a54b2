//! Traps that end a function instead of the process.
//!
//! The machine calls back into the program, on a stack of its own, and comes back where that
//! trapped. Nothing is unwound: what the function had in its hands is gone with its frames, and no
//! destructor has run.

use crate::host;
use std::mem::{ManuallyDrop, MaybeUninit, transmute};
use std::ptr::with_exposed_provenance_mut;

/// A function trapped: it panicked, overflowed its stack, did what the machine does not let it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function trapped")]
#[non_exhaustive]
pub struct Trapped;

/// What the machine returns where the function did.
const RETURNED: i32 = 1;

/// A function to call, and then what it returned.
struct Work<F, R> {
    function: ManuallyDrop<F>,
    result: MaybeUninit<R>,
}

/// Calls a function, and says so where it traps: it panics, divides by zero, recurses too deep,
/// calls the machine wrongly.
///
/// For what must not fail with its process, and can be given up whole: a plugin, a parser of what
/// strangers send. A process of its own does better for everything else, as it can also be limited
/// and killed.
///
/// What a trap interrupts is not cleaned up. What the function owned is lost, with its memory; a
/// `RefCell` that it had borrowed stays so, a lock stays locked. This is why the function owns all
/// that it works on (`'static`): nothing that others hold by reference is left half changed. Where
/// it panicked, that was printed as always.
///
/// A kill, an exit and a limit are not caught: they end the process. Calls of this function lie at
/// most 16 deep in each other; one that lies deeper is itself a trap.
///
/// # Errors
///
/// [`Trapped`]; the machine does not say why.
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
// With a frame of its own: at its end the frames of what trapped are given back.
#[inline(never)]
pub fn catch_trap<F, R>(function: F) -> Result<R, Trapped>
where
    F: FnOnce() -> R + 'static,
    R: 'static,
{
    let mut work = Work {
        function: ManuallyDrop::new(function),
        result: MaybeUninit::<R>::uninit(),
    };
    let address = (&raw mut work).expose_provenance();
    let run: fn(*mut ()) = run::<F, R>;
    // SAFETY: the machine hands both numbers to `catch_entry`, and there they are what they are
    // here. In wasm both are 32 bits wide.
    let returned = unsafe { host::trap::catch(run as usize as i32, address as i32) };
    if returned != RETURNED {
        return Err(Trapped);
    }
    // SAFETY: `run` returned, so it has written a result.
    Ok(unsafe { work.result.assume_init() })
}

/// Calls the function of a [`Work`] and leaves there what it returns.
fn run<F: FnOnce() -> R, R>(work: *mut ()) {
    let work = work.cast::<Work<F, R>>();
    // SAFETY: `catch_trap` passes the address of its work, which stays until the machine has come
    // back. The function is taken once, also where it traps: nobody looks at it afterwards.
    unsafe {
        let function = ManuallyDrop::take(&mut (*work).function);
        (*work).result.write(function());
    }
}

/// What the machine calls with the arguments of `trap::catch`.
#[unsafe(export_name = "_lunatic_catch_trap")]
extern "C" fn catch_entry(run: *const (), work: i32) -> i32 {
    // SAFETY: `catch_trap` passes a function of this type. In wasm, a place that holds anything of
    // another type is a trap.
    let run: fn(*mut ()) = unsafe { transmute(run) };
    run(with_exposed_provenance_mut(work as usize));
    RETURNED
}
