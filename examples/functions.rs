//! Functions for host programs to call: from the shell with
//! `lunatic call functions.wasm hello '{"arg": "World"}'`, or through the bridge from Rust, Elixir
//! or Python. Compile them with
//! `cargo build -p lunatic-examples --lib --target wasm32-unknown-unknown`.

use lunatic::export::{Bytes, Image};
use serde::{Deserialize, Serialize};
use std::cell::Cell;

#[derive(Serialize, Deserialize)]
struct Args {
    arg: String,
}

#[derive(Serialize)]
struct ImageInfo {
    width: u32,
    height: u32,
}

/// A single parameter receives the whole argument.
#[lunatic::export]
fn echo(args: Args) -> Args {
    args
}

#[lunatic::export]
fn hello(args: Args) -> String {
    format!("Hello, {}!", args.arg)
}

/// Several parameters are looked up in the argument by name.
#[lunatic::export]
fn divide(dividend: i64, divisor: i64) -> Result<i64, String> {
    dividend
        .checked_div(divisor)
        .ok_or_else(|| format!("{dividend} cannot be divided by {divisor}"))
}

#[lunatic::export(image)]
fn image_size(image: Image) -> ImageInfo {
    ImageInfo {
        width: image.width,
        height: image.height,
    }
}

/// Halves an image of RGB pixels.
#[lunatic::export(image)]
fn shrink(image: Image) -> Result<Bytes, String> {
    let (width, height) = (image.width as usize, image.height as usize);
    if image.bytes.len() != width * height * 3 {
        return Err(format!(
            "{} bytes are not {width} × {height} pixels of three bytes each",
            image.bytes.len()
        ));
    }
    let pixel = |x: usize, y: usize| &image.bytes[(y * width + x) * 3..][..3];
    let rows = (0..height / 2).flat_map(|y| (0..width / 2).flat_map(move |x| pixel(x * 2, y * 2)));
    Ok(Bytes(rows.copied().collect()))
}

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// An instance keeps its state between calls.
#[lunatic::export]
fn count() -> u32 {
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}
