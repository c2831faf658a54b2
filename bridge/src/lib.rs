//! Lets host programs call functions in wasm modules.
//!
//! A [`Bridge`] is a module, ready to be called: with any value that serde knows, with an image,
//! with bytes. The functions run as processes of the machine, so none can take the host down, hold
//! a core, or reach memory or host functions that it was not given; a call that traps or takes too
//! long is an error, and a fresh instance serves the next one. A [`Worker`] is a bridge that
//! watches its file: a new version takes over once it has been shown to start.
//!
//! ```
//! use lunatic_bridge::Bridge;
//!
//! // Answers with its argument.
//! let echo = br#"(module
//!     (memory (export "memory") 1)
//!     (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length)))"#;
//! let bridge = Bridge::from_bytes(echo)?;
//! let answer: String = bridge.call("echo", "hello")?;
//! assert_eq!(answer, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a function looks like
//!
//! The function's type decides how arguments and results are passed:
//!
//! * `(index, length) -> length`: the argument is JSON, `length` bytes at `index`. The function
//!   overwrites it with its result, also JSON, and returns the result's length.
//! * `(index, length, width, height) -> length`: the same for an image, whose bytes are at `index`.
//! * The same with a 64-bit result: the upper half is the address of the result, the lower its
//!   length. The result's first byte says what follows: 0 JSON, 1 bytes, 2 the text of an error.
//!   The guest library's attribute `#[lunatic::export]` turns ordinary functions into this kind.
//!
//! If a module exports `lunatic_alloc` (and `lunatic_free`), arguments go where it allocates room.
//! Otherwise the memory is grown by new pages for them, and the contents of the old ones are never
//! overwritten.

#![forbid(unsafe_code)]

mod argument;
mod bridge;
mod error;
mod file;
mod instance;
mod pool;
mod worker;

pub use argument::{Answer, Argument};
pub use bridge::{Bridge, Builder};
pub use error::{CallError, InstanceError, LoadError};
pub use lunatic_vm::restart::{Backoff, Intensity};
pub use worker::{Event, Worker, WorkerBuilder, WorkerError};

/// Compiles the README's snippets.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
