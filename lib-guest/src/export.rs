//! Functions for a host program to call, as [`export`](macro@crate::export) makes them.
//!
//! Arguments and results cross as JSON, or as bytes. The host asks for room by `lunatic_alloc`,
//! writes the argument there and calls; the function owns that room from then on. Its result is
//! found by an address and a length, begins with a byte that says what it is, and is given back by
//! `lunatic_free`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::alloc::{Layout, alloc, dealloc};
use std::fmt::Display;

/// What the first byte of a result says.
mod kind {
    pub(super) const JSON: u8 = 0;
    pub(super) const BYTES: u8 = 1;
    pub(super) const ERROR: u8 = 2;
}

/// An image that the host passes: its bytes and its size. What the bytes are, pixels or a file, is
/// between the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The bytes, as the host has them.
    pub bytes: Vec<u8>,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A result that crosses as it is, such as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// What a called function can answer with: any value that serde knows, or [`Bytes`]. A `Result` of
/// either is an answer too, whose error the host is told by its text.
pub trait Answer {
    /// Appends the answer to the byte that says what it is.
    #[doc(hidden)]
    fn write(&self) -> Vec<u8>;
}

impl<T: Serialize> Answer for T {
    fn write(&self) -> Vec<u8> {
        let mut bytes = vec![kind::JSON];
        match serde_json::to_writer(&mut bytes, self) {
            Ok(()) => bytes,
            Err(error) => failure(&format_args!("the result cannot be JSON: {error}")),
        }
    }
}

impl Answer for Bytes {
    fn write(&self) -> Vec<u8> {
        [&[kind::BYTES], self.0.as_slice()].concat()
    }
}

fn failure(error: &dyn Display) -> Vec<u8> {
    let mut bytes = vec![kind::ERROR];
    bytes.extend(error.to_string().into_bytes());
    bytes
}

/// Around what a function returned, to tell a `Result` from anything else: the macro calls `write`
/// on it, and the compiler takes the first that fits.
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

/// Serves a call whose argument is JSON.
///
/// # Safety
///
/// The room was given by `lunatic_alloc` for so many bytes, and belongs to nobody else.
#[doc(hidden)]
pub unsafe fn with_value<T: DeserializeOwned>(
    address: *mut u8,
    length: usize,
    function: impl FnOnce(T) -> Vec<u8>,
) -> u64 {
    // SAFETY: it is the caller's promise.
    let bytes = unsafe { own(address, length) };
    let argument = serde_json::from_slice(&bytes);
    drop(bytes);
    hand_over(match argument {
        Ok(argument) => function(argument),
        Err(error) => failure(&format_args!("the argument is wrong: {error}")),
    })
}

/// Serves a call whose argument is bytes.
///
/// # Safety
///
/// As [`with_value`].
#[doc(hidden)]
pub unsafe fn with_bytes(
    address: *mut u8,
    length: usize,
    function: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> u64 {
    // SAFETY: it is the caller's promise.
    hand_over(function(unsafe { own(address, length) }))
}

/// Takes over the room of an argument.
///
/// # Safety
///
/// As [`with_value`].
unsafe fn own(address: *mut u8, length: usize) -> Vec<u8> {
    if length == 0 {
        return Vec::new();
    }
    // SAFETY: `lunatic_alloc` gave room for so many bytes, as a vector has it.
    unsafe { Vec::from_raw_parts(address, length, length) }
}

/// Leaves a result to the host, and returns where it is.
fn hand_over(result: Vec<u8>) -> u64 {
    let result = Box::leak(result.into_boxed_slice());
    (result.as_ptr() as u64) << 32 | result.len() as u64
}

/// Gives the host room for so many bytes; null where there is none. No bytes have a place too,
/// which nothing is written to.
#[unsafe(no_mangle)]
extern "C" fn lunatic_alloc(length: usize) -> *mut u8 {
    match Layout::array::<u8>(length) {
        Ok(layout) if length > 0 => {
            // SAFETY: the layout has a size.
            unsafe { alloc(layout) }
        }
        Ok(layout) => layout.dangling_ptr().as_ptr(),
        Err(_) => std::ptr::null_mut(),
    }
}

/// Takes back from the host what `lunatic_alloc` gave, or a result.
///
/// # Safety
///
/// There are so many bytes at the address, and nobody has them any more.
#[unsafe(no_mangle)]
unsafe extern "C" fn lunatic_free(address: *mut u8, length: usize) {
    if let Ok(layout) = Layout::array::<u8>(length)
        && length > 0
    {
        // SAFETY: it is the caller's promise, and both are allocated with this layout.
        unsafe { dealloc(address, layout) }
    }
}
