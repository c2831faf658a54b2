//! The library for programs that run on the Lunatic machine, a WebAssembly runtime for lightweight
//! processes. Processes share nothing, exchange messages, and fail individually.
//!
//! Compile a program for `wasm32-wasip1` and run it with `lunatic program.wasm`. Each of its
//! processes is an instance of the program with its own memory and stack. The machine schedules
//! processes preemptively on all cores: code that has to wait simply blocks, and a process that
//! never waits does not hold up the others.
//!
//! ```no_run
//! use lunatic::{process, Mailbox};
//!
//! #[lunatic::main]
//! fn main(mailbox: Mailbox<String>) {
//!     let this = process::this(&mailbox);
//!     process::spawn_with(this, |parent, _: Mailbox<()>| {
//!         parent.send("Hello from a process!".to_string());
//!     })
//!     .unwrap();
//!     println!("{}", mailbox.receive().unwrap());
//! }
//! ```
//!
//! * [`process`] spawns, links, monitors and kills processes, and sends them messages.
//! * [`Mailbox`] and [`LinkMailbox`] receive messages, and signals that report other processes'
//!   exits.
//! * [`Request`] is a message that gets a reply.
//! * [`Task`] is a function that runs in its own process and returns a result.
//! * [`server`](mod@server) turns a type into a process that serves calls from clients.
//! * [`supervisor`] restarts processes when they fail.
//! * [`process_local!`] declares statics with a separate value in each process.
//! * [`Config`] and [`Environment`] limit what processes may do and use.
//! * [`net`] provides TCP, TLS, UDP and name lookups.
//! * [`sqlite`] provides SQLite databases.
//! * [`Comm`] and [`Spark`] are for functions behind gateways, which read and write bytes and can
//!   run each other.
//!
//! Any value that [serde](https://serde.rs) can serialize can be sent as a message. The sender
//! serializes the value as MessagePack into a buffer, and passes the buffer to the machine in one
//! call.
//!
//! The library also compiles for other targets, so editors, lints and tests of pure code work. On
//! those targets, any call to the machine panics with a message that says why.

// The attribute macros refer to this crate by its public name, even in the crate's own examples.
extern crate self as lunatic;

mod config;
mod entry;
mod envelope;
mod environment;
mod error;
pub mod export;
mod host;
mod mailbox;
mod message;
pub mod metrics;
mod module;
pub mod net;
pub mod process;
mod registry;
mod reply;
mod request;
pub mod server;
mod spark;
pub mod sqlite;
mod start;
pub mod supervisor;
mod tag;
mod task;
mod test;
mod timer;
mod trap;

pub use config::Config;
pub use environment::Environment;
pub use error::LunaticError;
pub use lunatic_abi::{Errno, Limit};
pub use mailbox::{LinkMailbox, Mailbox, TransformMailbox};
pub use message::{ExitReason, Message, ReceiveError, Signal, SignalKind};
pub use module::param::Param;
pub use module::{Module, ThisModule};
pub use process::{Process, SendError, SendFailure, SpawnError};
pub use registry::{RegistryError, lookup};
pub use reply::RequestError;
pub use request::Request;
pub use server::Server;
#[doc(hidden)]
pub use spark::__spark;
pub use spark::{Comm, Outcome, Spark};
pub use start::StartError;
pub use supervisor::Supervisor;
pub use tag::Tag;
pub use task::{Task, TaskError};
#[doc(hidden)]
pub use test::{__test, __test_with_mailbox};
pub use timer::Timer;
pub use trap::{Trapped, catch_trap};

/// Private items that expanded attributes use.
#[doc(hidden)]
pub mod __private {
    pub use serde;
}

/// Makes `main` the program's first process, with its mailbox.
///
/// The function takes either the mailbox or no arguments, and may return anything `main` may. If it
/// returns an `Err`, the error is printed and the program exits with status 1.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, LunaticError, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<u8>) -> Result<(), LunaticError> {
///     let this = process::this(&mailbox);
///     process::spawn_with(this, |parent, _: Mailbox<()>| parent.send(1))?;
///     assert_eq!(mailbox.receive().unwrap(), 1);
///     Ok(())
/// }
/// ```
pub use lunatic_macros::main;

/// Turns an `impl` block into a server. See the [`server`](mod@server) module for an example.
///
/// Mark functions in the block with these attributes. Unmarked functions are left unchanged.
///
/// | mark | function | purpose |
/// |---|---|---|
/// | `#[init]` | `fn(…) -> Self` or `-> Result<Self, impl Display>` | creates the state |
/// | `#[call]` | `fn(&mut self, …) -> R` | called by clients, which wait for the result |
/// | `#[call]` | `fn(&mut self, …, reply: Reply<R>)` | like the above, but may be answered later |
/// | `#[cast]` | `fn(&mut self, …)` | called by clients, which do not wait |
/// | `#[signal]` | `fn(&mut self, signal: Signal)` | called when another process exits |
/// | `#[terminate]` | `fn(self)` | called before the server exits normally |
///
/// [`Server::start`] takes the parameter of `#[init]`, or a tuple if `#[init]` has several. A call
/// with a [`Reply`](server::Reply) can be answered at any later time. `#[signal]` is called for
/// linked processes that fail and monitored processes that exit.
///
/// The function that clients call has the same visibility as the one in the block. Its parameters
/// and result must own their data, and serde must be able to serialize and deserialize them. The
/// names `clone`, `process`, `register`, `stop` and `within` are reserved for
/// [`Handle`](server::Handle).
pub use lunatic_macros::server;

/// Declares statics with a separate value in each process, initialized on first use.
///
/// This is `std::thread_local!` under a name that fits processes. A new process starts with fresh
/// values, regardless of its parent's.
///
/// # Example
///
/// ```
/// use lunatic::process_local;
/// use std::cell::{Cell, RefCell};
///
/// process_local! {
///     static COUNT: Cell<u32> = const { Cell::new(0) };
///     static NAMES: RefCell<Vec<String>> = RefCell::new(vec!["first".to_string()]);
/// }
///
/// COUNT.set(COUNT.get() + 1);
/// NAMES.with_borrow_mut(|names| names.push("second".to_string()));
/// assert_eq!((COUNT.get(), NAMES.with_borrow(Vec::len)), (1, 2));
/// ```
#[macro_export]
macro_rules! process_local {
    ($($declarations:tt)*) => {
        ::std::thread_local! { $($declarations)* }
    };
}

/// Turns a function into a test that `cargo test` runs on the machine as a separate program.
///
/// Each test has its own environment, with its own names, processes, limits and output. Any
/// processes still running when a test finishes are killed, and a panic does not affect other
/// tests. All tests run concurrently in one operating system process.
///
/// The function takes either its process's mailbox or no arguments, and may return anything `main`
/// may. `#[ignore]` and `#[should_panic]` work as they do with `#[test]`. The attribute takes two
/// optional arguments:
///
/// * `timeout = "500ms"` fails the test if it takes longer. The value is a whole number of `ms`,
///   `s`, `m` or `h`;
/// * `memory = "16MiB"` limits the memory of each process in the test. The value is a whole number
///   of `B`, `KiB`, `MiB` or `GiB`.
///
/// # Example
///
/// ```
/// # // A doc test is compiled without `cfg(test)`, so this shows only that the attribute is accepted.
/// use lunatic::{Mailbox, process};
///
/// #[lunatic::test]
/// fn a_process_answers(mailbox: Mailbox<u8>) {
///     let this = process::this(&mailbox);
///     process::spawn_with(this, |parent, _: Mailbox<()>| parent.send(42)).unwrap();
///     assert_eq!(mailbox.receive().unwrap(), 42);
/// }
///
/// #[lunatic::test(timeout = "10s", memory = "4MiB")]
/// #[should_panic(expected = "not today")]
/// fn it_gives_up() {
///     panic!("perhaps tomorrow, but not today");
/// }
/// ```
///
/// When `cargo test` builds for another target, the function is an ordinary `#[test]`.
pub use lunatic_macros::test;

/// Runs the first process with its mailbox. `#[lunatic::main]` expands to a call to this function.
#[doc(hidden)]
pub fn __main<T, R>(main: fn(Mailbox<T>) -> R) -> R {
    // SAFETY: the process begins in this function, so it has no mailbox yet.
    main(unsafe { Mailbox::new() })
}

/// Exports a function for host programs to call through the machine's bridge: from Rust, from
/// Elixir, from the shell (`lunatic call`), or over a pipe.
///
/// Parameters and results can be any type that serde supports, and are passed as JSON. If there is
/// one parameter, it receives the whole argument; if there are several, each is looked up in the
/// argument by name. If the function returns an `Err`, the host gets the error message. With
/// `#[lunatic::export(image)]`, the function takes an [`Image`](export::Image); with
/// `#[lunatic::export(bytes)]`, a `Vec<u8>`. To return raw bytes, return [`Bytes`](export::Bytes).
/// A panic terminates the instance, and the host gets an error.
///
/// Build the module as a library (`crate-type = ["cdylib"]`) for `wasm32-unknown-unknown` or
/// `wasm32-wasip1`.
///
/// # Example
///
/// ```
/// use lunatic::export::{Bytes, Image};
///
/// #[lunatic::export]
/// fn hello(name: String) -> String {
///     format!("Hello, {name}!")
/// }
///
/// #[lunatic::export]
/// fn divide(dividend: f64, divisor: f64) -> Result<f64, String> {
///     if divisor == 0.0 { Err("division by zero".into()) } else { Ok(dividend / divisor) }
/// }
///
/// #[lunatic::export(image)]
/// fn invert(image: Image) -> Bytes {
///     Bytes(image.bytes.iter().map(|byte| !byte).collect())
/// }
/// ```
pub use lunatic_macros::export;

/// Turns a function into a spark, which gateways and other functions can run, and which reads and
/// writes bytes through its [`Comm`].
///
/// The function takes the comm to its caller and returns either nothing or a `Result`. Returning an
/// `Err` means that it failed; the error message goes to its caller and to the function's log.
///
/// # Example
///
/// A function behind an HTTP gateway reads a request and writes a response:
///
/// ```no_run
/// use lunatic::Comm;
/// use std::io;
///
/// #[lunatic::spark]
/// fn entrypoint(comm: Comm) -> io::Result<()> {
///     let mut request = Vec::new();
///     comm.read_to_end(&mut request)?;
///     comm.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nHello!\n")
/// }
/// ```
pub use lunatic_macros::spark;
