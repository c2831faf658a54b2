//! Functions that host programs can call, defined with [`export`](macro@crate::export).
//!
//! Arguments and results are passed as JSON or as raw bytes. The host allocates memory with
//! `lunatic_alloc`, writes the argument there, and calls the function, which takes ownership of
//! that memory. The function returns the address and length of its result, whose first byte
//! identifies the kind of result. The host frees the result with `lunatic_free`.

mod finite;

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::alloc::{Layout, alloc, dealloc};
use std::fmt::Display;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The first byte of a result.
mod kind {
    pub(super) const JSON: u8 = 0;
    pub(super) const BYTES: u8 = 1;
    pub(super) const ERROR: u8 = 2;
}

/// An image passed by the host: its bytes and its dimensions. The host and the function decide
/// whether the bytes are pixel data or an image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The bytes, as passed by the host.
    pub bytes: Vec<u8>,
    /// The number of pixels in a row.
    pub width: u32,
    /// The number of rows.
    pub height: u32,
}

/// A result that is passed as raw bytes, such as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// A type that an exported function can return: any value that serde can serialize, [`Bytes`], or a
/// `Result` of either. If the function returns an `Err`, the host gets the error message. Returning
/// a value that contains NaN or an infinity is also an error, because JSON cannot represent it.
pub trait Answer {
    /// Returns the byte that identifies the kind of answer, followed by the answer.
    #[doc(hidden)]
    fn write(&self) -> Vec<u8>;
}

impl<T: Serialize> Answer for T {
    fn write(&self) -> Vec<u8> {
        let mut bytes = vec![kind::JSON];
        match serde_json::to_writer(&mut bytes, self) {
            Ok(()) => match not_finite(self, &bytes) {
                None => bytes,
                Some(number) => failure(&format_args!(
                    "the result contains {number}, which JSON cannot represent"
                )),
            },
            Err(error) => failure(&format_args!(
                "the result cannot be converted to JSON: {error}"
            )),
        }
    }
}

impl Answer for Bytes {
    fn write(&self) -> Vec<u8> {
        [&[kind::BYTES], self.0.as_slice()].concat()
    }
}

/// Returns the first of the value's numbers that became `null` in the JSON, if any.
fn not_finite<T: Serialize>(value: &T, json: &[u8]) -> Option<f64> {
    let has_null = json.windows(4).any(|window| window == b"null");
    has_null.then(|| finite::first_not_finite(value)).flatten()
}

fn failure(error: &dyn Display) -> Vec<u8> {
    let mut bytes = vec![kind::ERROR];
    bytes.extend(error.to_string().into_bytes());
    bytes
}

/// Wraps a function's return value to tell a `Result` from other types. The macro calls `write` on
/// the wrapper, and the compiler picks the first implementation that applies.
#[doc(hidden)]
pub struct Returned<T>(pub T);

#[doc(hidden)]
pub trait Fallible {
    fn write(self) -> Vec<u8>;
}

#[doc(hidden)]
pub trait Infallible {
    fn write(self) -> Vec<u8>;
}

impl<T: Answer, E: Display> Fallible for Returned<Result<T, E>> {
    fn write(self) -> Vec<u8> {
        match self.0 {
            Ok(answer) => answer.write(),
            Err(error) => failure(&error),
        }
    }
}

impl<T: Answer> Infallible for &Returned<T> {
    fn write(self) -> Vec<u8> {
        self.0.write()
    }
}

/// The address and length of the panic message, which the host reads after a call has panicked and
/// trapped.
static PANIC: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Returns the address of [`PANIC`] to the host.
#[unsafe(no_mangle)]
extern "C" fn lunatic_panic() -> *const AtomicUsize {
    PANIC.as_ptr()
}

/// Keeps panic messages for the host, since this program may not be allowed to print them.
fn keep_words_of_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let words = panic.to_string().replacen(":\n", ": ", 1).leak();
            PANIC[0].store(words.as_ptr() as usize, Ordering::SeqCst);
            PANIC[1].store(words.len(), Ordering::SeqCst);
        }));
    });
}

/// Handles a call whose argument is JSON.
///
/// # Safety
///
/// The memory must have been allocated by `lunatic_alloc` with this length and must not be owned by
/// anything else.
#[doc(hidden)]
pub unsafe fn with_value<T: DeserializeOwned>(
    address: *mut u8,
    length: usize,
    function: impl FnOnce(T) -> Vec<u8>,
) -> u64 {
    keep_words_of_panics();
    // SAFETY: the caller upholds the requirements of `own`.
    let bytes = unsafe { own(address, length) };
    let argument = serde_json::from_slice(&bytes);
    drop(bytes);
    hand_over(match argument {
        Ok(argument) => function(argument),
        Err(error) => failure(&format_args!("the argument is invalid: {error}")),
    })
}

/// Handles a call whose argument is raw bytes.
///
/// # Safety
///
/// The same as for [`with_value`].
#[doc(hidden)]
pub unsafe fn with_bytes(
    address: *mut u8,
    length: usize,
    function: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> u64 {
    keep_words_of_panics();
    // SAFETY: the caller upholds the requirements of `own`.
    hand_over(function(unsafe { own(address, length) }))
}

/// Takes ownership of an argument's memory.
///
/// # Safety
///
/// The same as for [`with_value`].
unsafe fn own(address: *mut u8, length: usize) -> Vec<u8> {
    if length == 0 {
        return Vec::new();
    }
    // SAFETY: `lunatic_alloc` allocated `length` bytes with the layout that `Vec` uses.
    unsafe { Vec::from_raw_parts(address, length, length) }
}

/// Gives up ownership of a result and returns its address and length, packed, for the host.
fn hand_over(result: Vec<u8>) -> u64 {
    let result = Box::leak(result.into_boxed_slice());
    (result.as_ptr() as u64) << 32 | result.len() as u64
}

/// Allocates memory for the host. Returns null if memory is exhausted. For a length of 0, the
/// returned address is non-null and must not be written to.
#[unsafe(no_mangle)]
extern "C" fn lunatic_alloc(length: usize) -> *mut u8 {
    match Layout::array::<u8>(length) {
        Ok(layout) if length > 0 => {
            // SAFETY: the size of the layout is not zero.
            unsafe { alloc(layout) }
        }
        Ok(layout) => layout.dangling_ptr().as_ptr(),
        Err(_) => std::ptr::null_mut(),
    }
}

/// Frees memory allocated by `lunatic_alloc`, or a result.
///
/// # Safety
///
/// The memory must have exactly this length and must no longer be in use.
#[unsafe(no_mangle)]
unsafe extern "C" fn lunatic_free(address: *mut u8, length: usize) {
    if let Ok(layout) = Layout::array::<u8>(length)
        && length > 0
    {
        // SAFETY: the caller guarantees the length and that the memory is no longer in use, and
        // both kinds of memory are allocated with this layout.
        unsafe { dealloc(address, layout) }
    }
}
