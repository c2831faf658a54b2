//! Functions that use Wasmtube's calling convention. The arguments are JSON, stored in memory at
//! `index`. A function overwrites them with its result and returns the result's length.
//!
//! New code uses `#[lunatic::export]` instead; see `examples/functions.rs`.

use serde::{Deserialize, Serialize};
use std::{slice, str};

/// The arguments can be any value, because they are only passed back.
type Args = serde_json::Value;

#[derive(Deserialize)]
struct Greeting {
    arg: String,
}

#[derive(Serialize)]
struct ImageInfo {
    width: u32,
    height: u32,
}

#[no_mangle]
pub unsafe extern "C" fn echo(index: *const u8, length: usize) -> i32 {
    let slice = unsafe { slice::from_raw_parts(index, length) };
    let args: Args = serde_json::from_str::<Args>(str::from_utf8(slice).unwrap()).unwrap();

    store_into_memory(index, args)
}

#[no_mangle]
pub unsafe extern "C" fn hello(index: *const u8, length: usize) -> i32 {
    let slice = unsafe { slice::from_raw_parts(index, length) };
    let greeting: Greeting = serde_json::from_str(str::from_utf8(slice).unwrap()).unwrap();

    store_into_memory(index, format!("Hello, {}!", greeting.arg))
}

#[no_mangle]
pub unsafe extern "C" fn image_size(
    index: *const u8,
    _length: usize,
    width: u32,
    height: u32,
) -> i32 {
    let slice = unsafe { slice::from_raw_parts(index, (width * height * 3) as usize) };
    let img = image::RgbImage::from_raw(width, height, slice.to_vec()).unwrap();

    let image_info = ImageInfo {
        width: img.width(),
        height: img.height(),
    };

    store_into_memory(index, image_info)
}

/// Overwrites the arguments with a result and returns the result's length.
fn store_into_memory<T: Serialize>(index: *const u8, result: T) -> i32 {
    let json = serde_json::to_vec(&result).unwrap();
    // SAFETY: the caller made room for the result, and nothing refers to the arguments any more.
    unsafe { slice::from_raw_parts_mut(index.cast_mut(), json.len()) }.copy_from_slice(&json);
    json.len() as i32
}
