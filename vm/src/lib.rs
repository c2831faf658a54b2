//! A VM that runs WebAssembly programs as preemptive green processes.
//!
//! A program is a tree of processes, each a wasm instance with its own memory, stack and rights.
//! Processes share nothing, communicate by messages, fail independently and can be monitored. A
//! [`Vm`] runs them on all cores; an [`Environment`] determines what they may use and call.
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
//! An embedder can add host functions ([`Host`]), values that belong to a process
//! ([`Guest::extension`]), its own kinds of resource ([`Foreign`]), and processes driven by a host
//! closure ([`Environment::drive`]).

#![deny(unsafe_code)]

mod cache;
mod compile_limits;
mod compiler;
mod console;
mod engine;
mod environment;
mod guest;
mod host;
mod machine;
mod metrics;
mod module;
mod mounts;
mod observe;
mod pauses;
mod pipe;
mod run;
pub mod scheduler;
mod spawn;
mod sqlite;
mod tally;
mod timer;
mod travel;
mod unblock;
mod vm;

pub use cache::Cache;
pub use compile_limits::CompileLimits;
pub use compiler::compile_for_machine;
pub use engine::{Capacity, Ceiling, Profile, Shortage};
pub use environment::{
    Access, Charge, Config, Event, HostMemory, Journal, JournalEntry, Limits, PreopenError,
    RegistryError, ResourceSize, Stdio, raise_descriptor_limit,
};
pub use guest::{Call, Failure, Guest};
pub use host::Host;
pub use lunatic_abi::{ENTRY_PREFIX, Errno, ExitKind, Limit, restart};
pub use lunatic_net::reserved::{Reserved, includes as is_reserved};
pub use lunatic_process::{
    Exit, Frame, LimitReached, Pid, RawFrame, SourceLocation, Trap, printable, printable_lines,
};
pub use machine::{Environment, Process, SendError};
pub use module::{Component, EntryError, Module, ModuleError, source_locations};
pub use mounts::leads_to;
pub use pipe::{
    MessagePipe, MessageReader, MessageWriter, Part, Pipe, PipeClosed, PipeEnd, PipeReader,
    PipeWriter,
};
pub use run::{CallError, Crew, Endpoint, Idle, Letter, Live, LiveComponent, Member, OutOfBounds};
pub use scheduler::{Weight, WeightError};
pub use spawn::SpawnError;
pub use travel::Foreign;
pub use vm::{BuildError, Vm, VmBuilder, tokio_handle};
pub use wasmtime::{Caller, FuncType, Val, ValType};
