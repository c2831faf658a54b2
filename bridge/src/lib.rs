//! Lets host programs call functions in wasm modules.
//!
//! A [`Bridge`] is a module that is ready to be called. Its functions can be called with any value
//! that serde can serialize, with an image or with bytes. The functions run as processes of the
//! machine. No function can bring down the host, occupy a core permanently, or access memory or
//! host functions that it was not given. A call that traps or takes too long returns an error, and
//! a fresh instance serves the next call. A [`Worker`] is a bridge that watches its file. A new
//! version of the file takes over once it has been shown to start.
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
//! # The type of a function
//!
//! The type of a function determines how arguments and results are passed:
//!
//! * `(index, length) -> length`: the argument is JSON and consists of `length` bytes at `index`.
//!   The function overwrites the argument with its result, which is also JSON, and returns the
//!   result's length.
//! * `(index, length, width, height) -> length`: the same for an image, whose bytes are at `index`.
//! * The same parameters with a 64-bit result: the upper half is the address of the result, and the
//!   lower half is its length. The result's first byte says what follows: JSON (0), bytes (1) or
//!   the text of an error (2). The guest library's attribute `#[lunatic::export]` exports ordinary
//!   functions in this form.
//!
//! If a module exports `lunatic_panic() -> i32`, this function returns the address of two 32-bit
//! numbers. After a trap, these are the address and the length of a message that says what
//! happened, and the error of the call contains the message. The guest library's attribute exports
//! this function.
//!
//! If a module exports `lunatic_alloc` (and `lunatic_free`), arguments are written to memory that
//! this function allocates. Otherwise the memory grows by new pages for the arguments, and the
//! contents of the old pages are never overwritten.

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
