//! Lets host programs call functions in wasm modules.
//!
//! A [`Bridge`] is a module that is ready to be called, with any value that serde can serialize,
//! with an image or with bytes. Functions run as processes in a VM. They cannot bring down the
//! host, occupy a core permanently, or access memory or host functions that they were not given. A
//! call that traps or takes too long returns an error, and a fresh instance serves the next call. A
//! [`Worker`] is a bridge that watches its file. A new version of the file takes over once it is
//! known to start successfully.
//!
//! ```
//! use lunatic_bridge::Bridge;
//!
//! // Returns its argument.
//! let echo = br#"(module
//!     (memory (export "memory") 1)
//!     (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length)))"#;
//! let bridge = Bridge::from_bytes(echo)?;
//! let answer: String = bridge.call("echo", "hello")?;
//! assert_eq!(answer, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Function types
//!
//! A function's type determines how arguments and results are passed:
//!
//! * `(index, length) -> length`: the argument is JSON and consists of `length` bytes at `index`.
//!   The function overwrites it with its result, which is also JSON, and returns the result's
//!   length.
//! * `(index, length, width, height) -> length`: the same for an image whose bytes are at `index`.
//! * The same parameters with a 64-bit result: the upper half is the result's address, and the
//!   lower half is its length. The result's first byte says what follows: JSON (0), bytes (1) or an
//!   error message (2). The guest library's `#[lunatic::export]` attribute exports ordinary
//!   functions in this form.
//!
//! A module may export `lunatic_panic() -> i32`, which must return the address of two 32-bit
//! numbers. After a trap, these are the address and the length of a message that says what
//! happened. The call's error then includes this message. `#[lunatic::export]` exports this
//! function too.
//!
//! A module may export `lunatic_alloc` (and `lunatic_free`), which then allocates the memory that
//! arguments are written to. Otherwise, the memory is grown to make room for the arguments, and
//! existing pages are never overwritten.

#![forbid(unsafe_code)]

mod argument;
mod bridge;
mod error;
mod file;
mod instance;
mod pool;
mod queue;
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
