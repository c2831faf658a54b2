//! A preemptive green-process machine for WebAssembly.
//!
//! A program is a tree of processes, each a wasm instance with its own memory, stack and rights. They share nothing, talk by
//! messages, die alone and are watched. A [`Vm`] runs them on all cores; an [`Environment`] says what they may use and call.
//!
//! ```
//! use lunatic_vm::{Exit, Vm};
//!
//! let vm = Vm::builder().build()?;
//! let module = vm.module("answer", br#"
//!     (module
//!         (func (export "answer") (param i32)
//!             (if (i32.ne (local.get 0) (i32.const 42)) (then unreachable))))
//! "#)?;
//! let environment = vm.environment(vm.config());
//! let right = environment.spawn(&module, "answer", &[42.into()])?;
//! let wrong = environment.spawn(&module, "answer", &[41.into()])?;
//! assert!(matches!(vm.block_on(right.exited()), Exit::Normal));
//! assert!(matches!(vm.block_on(wrong.exited()), Exit::Trapped(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What others can add: host functions of their own ([`Host`]), values that travel with a process ([`Guest::extension`]),
//! resources of their own kinds ([`Foreign`]), and processes that a host closure drives ([`Environment::drive`]).

mod cache;
mod compile_limits;
mod compiler;
mod component;
mod console;
mod engine;
mod environment;
mod host;
mod journal;
mod metrics;
mod module;
mod observe;
mod pipe;
mod process;
mod registry;
mod resources;
pub mod scheduler;
mod sqlite;
mod timer;
mod vm;

pub use cache::Cache;
pub use compile_limits::CompileLimits;
pub use component::Component;
pub use engine::{Capacity, Ceiling, Profile};
pub use environment::{Access, Config, Environment, Limits, PreopenError, SpawnError, Stdio};
pub use host::{Call, Failure, Guest, Host};
pub use journal::{Entry, Event, Journal};
pub use lunatic_abi::{Errno, ExitKind, Limit, restart};
pub use module::{EntryError, Module, ModuleError, Place};
pub use observe::printable;
pub use pipe::{
    End, MessagePipe, MessageReader, MessageWriter, Part, Pipe, PipeClosed, PipeReader, PipeWriter,
};
pub use process::{
    CallError, Endpoint, Exit, Frame, Letter, LimitReached, Live, LiveComponent, OutOfBounds, Pid,
    Process, SendError, Trap,
};
pub use registry::RegistryError;
pub use resources::Foreign;
pub use scheduler::{Weight, WeightError};
pub use vm::{BuildError, Vm, VmBuilder, tokio_handle};
pub use wasmtime::{Caller, FuncType, Val, ValType};
