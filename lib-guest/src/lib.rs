//! Programs for the Lunatic machine: processes that share nothing, talk by messages and die alone.
//!
//! A program is compiled for `wasm32-wasip1` and run by `lunatic program.wasm`. Each of its
//! processes is an instance of the program with its own memory and stack. The machine runs them on
//! all cores and takes turns for them: code simply waits where it has to, and a process that never
//! waits holds up nobody.
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
//! * [`process`] has what one does with others: spawn, send, link, monitor, kill.
//! * [`Mailbox`] and [`LinkMailbox`] receive messages, and signals of other processes' ends.
//! * [`Request`] is a message that is answered.
//! * [`Task`] is a function in a process of its own, whose result is waited for.
//! * [`server`](mod@server) makes a process of a type, whose functions clients call.
//! * [`supervisor`] starts processes anew when they fail.
//! * [`process_local!`] declares what each process has for itself.
//! * [`Config`] and [`Environment`] say what processes may do and use.
//! * [`net`] is TCP, TLS and UDP.
//! * [`sqlite`] is databases.
//! * [`Comm`] and [`Spark`] are what functions behind gateways read and write, and run each other
//!   with.
//!
//! Whatever [serde](https://serde.rs) can write is a message. It is written as MessagePack into a
//! buffer of the sender, and crosses to the machine in one call.
//!
//! The library also compiles outside the machine, so that editors, lints and tests of pure code
//! work. There every call to the machine panics and says so.

// The attribute names this crate as its users do, also in its own examples.
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

/// What attributes expand to, beside what is public.
#[doc(hidden)]
pub mod __private {
    pub use serde;
}

/// Makes `main` the program's first process, with its mailbox.
///
/// The function takes the mailbox or nothing, and returns what any `main` may: an `Err` is printed
/// and the program exits with status 1.
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

/// Makes a server of an `impl` block: see [`server`](mod@server), whose example begins with one.
///
/// Functions of the block are marked; those without a mark stay what they are.
///
/// | mark | function | what it is |
/// |---|---|---|
/// | `#[init]` | `fn(…) -> Self` or `-> Result<Self, impl Display>` | makes the state; [`Server::start`] takes what it takes, a tuple where that is more than one |
/// | `#[call]` | `fn(&mut self, …) -> R` | is called by clients, who wait for what it returns |
/// | `#[call]` | `fn(&mut self, …, reply: Reply<R>)` | the same, answered by the [`Reply`](server::Reply) whenever that may be |
/// | `#[cast]` | `fn(&mut self, …)` | is called by clients who do not wait |
/// | `#[signal]` | `fn(&mut self, signal: Signal)` | is told of the ends of processes that the server monitors, or is linked with |
/// | `#[terminate]` | `fn(self)` | is called before the server ends well |
///
/// What clients call has the visibility of the function. Parameters and results own what they
/// carry, and serde can write and read them. The names `clone`, `process`, `register`, `stop` and
/// `within` are those of every [`Handle`](server::Handle).
pub use lunatic_macros::server;

/// Declares statics of which each process has its own, made when the process first looks:
/// `std::thread_local!`, by the name of what it means here.
///
/// A process is spawned with fresh ones, whatever the values of its parent.
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

/// Makes a function a test, which `cargo test` runs in the machine as a program of its own.
///
/// Each test has an environment of its own: its names, processes, limits and output are nobody
/// else's, what it leaves behind is ended with it, and a test that panics harms no other. All run
/// in one process of the operating system, at the same time.
///
/// The function takes the mailbox of its process or nothing, and returns what any `main` may.
/// `#[ignore]` and `#[should_panic]` mean what they do beside `#[test]`. Of the attribute's own
/// arguments, which both are optional,
///
/// * `timeout = "500ms"` fails the test where it takes longer: a whole number of `ms`, `s`, `m` or
///   `h`;
/// * `memory = "16MiB"` is how much memory each of its processes may have: of `B`, `KiB`, `MiB` or
///   `GiB`.
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
/// Outside the machine, where `cargo test` is asked for another target, such a function is an
/// ordinary `#[test]`.
pub use lunatic_macros::test;

/// What `#[lunatic::main]` calls: hands the first process its mailbox.
#[doc(hidden)]
pub fn __main<T, R>(main: fn(Mailbox<T>) -> R) -> R {
    // SAFETY: this is where the process begins, so it has no mailbox yet.
    main(unsafe { Mailbox::new() })
}

/// Makes a function one that host programs can call, through the bridge of the machine: from Rust,
/// from Elixir, from the shell (`lunatic call`), or over a pipe.
///
/// What the function takes and returns is any value that serde knows; it crosses as JSON. One
/// parameter is the whole argument, several are found in it by their names. An error that a
/// `Result` carries is told to the host by its text. With `#[lunatic::export(image)]` the function
/// takes an [`Image`](export::Image), with `#[lunatic::export(bytes)]` a `Vec<u8>`; to return
/// bytes, it returns [`Bytes`](export::Bytes). A panic ends the instance, and the host is told.
///
/// The module is a library (`crate-type = ["cdylib"]`), compiled for `wasm32-unknown-unknown`, or
/// for `wasm32-wasip1`.
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

/// Makes a function one that gateways and other functions run: a spark, which reads and writes
/// bytes through its [`Comm`].
///
/// The function takes the comm to whoever runs it and returns nothing or a `Result`. An `Err` is
/// the function's failure, whose text whoever runs it is told; it is in the function's log, too.
///
/// # Example
///
/// A function behind an HTTP gateway reads a request and writes an answer:
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
