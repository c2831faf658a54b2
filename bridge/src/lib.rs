//! Host programs call functions of wasm modules.
//!
//! A [`Bridge`] is a module, ready to be called: with any value that serde knows, with an image, with bytes. The functions
//! run as processes of the machine, so that none can take the host down, hold a core, or reach more memory and functions of
//! the host than it was given; a call that traps or takes too long is an error, and the next one is served by a fresh
//! instance. A [`Worker`] is a bridge that watches its file: a new version takes over as soon as it has proven to work.
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
//! How arguments and results cross is decided by the function's type:
//!
//! * `(index, length) -> length`: the arguments are JSON, `length` bytes at `index`. The function writes its result, JSON
//!   too, over them, and returns how long it is.
//! * `(index, length, width, height) -> length`: the same for an image, whose bytes lie at `index`.
//! * The same with a result of 64 bits: the address of the result in the upper half, its length in the lower. Its first byte
//!   says what it is: 0 JSON, 1 bytes, 2 the text of an error. The attribute `#[lunatic::export]` of the guest library makes
//!   such functions out of ordinary ones.
//!
//! A module that exports `lunatic_alloc` (and `lunatic_free`) is asked for room. For any other the machine gives the memory
//! new pages, and what lies in the old ones is never overwritten.

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

/// The snippets of the README compile as they stand.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
