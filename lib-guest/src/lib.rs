//! Programs for the Lunatic machine: processes that share nothing, talk by messages and die alone.
//!
//! A program is compiled for `wasm32-wasip1` and run by `lunatic program.wasm`. Each of its processes is an instance of
//! the program with its own memory and stack. The machine runs them on all cores and takes turns for them: code simply
//! waits where it has to, and a process that never waits holds up nobody.
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
//! * [`Config`] and [`Environment`] say what processes may do and use.
//! * [`net`] is TCP.
//!
//! Whatever [serde](https://serde.rs) can write is a message. It is written as MessagePack into a buffer of the sender,
//! and crosses to the machine in one call.
//!
//! The library also compiles outside the machine, so that editors, lints and tests of pure code work. There every call to
//! the machine panics and says so.

// The attribute names this crate as its users do, also in its own examples.
extern crate self as lunatic;

mod config;
mod entry;
mod envelope;
mod environment;
mod error;
mod host;
mod mailbox;
mod message;
mod module;
pub mod net;
pub mod process;
mod registry;
mod request;
mod start;
mod tag;
mod task;
mod timer;

pub use config::Config;
pub use environment::Environment;
pub use error::LunaticError;
pub use lunatic_abi::{Errno, Limit};
pub use mailbox::{LinkMailbox, Mailbox, ReceiveError, TransformMailbox};
pub use message::{ExitReason, Message, Signal, SignalKind};
pub use module::{Module, Param, ThisModule};
pub use process::{Process, SendError, SendFailure};
pub use registry::{RegistryError, lookup};
pub use request::{Request, RequestError};
pub use tag::Tag;
pub use task::{Task, TaskError};
pub use timer::Timer;

/// Makes `main` the program's first process, with its mailbox.
///
/// The function takes the mailbox or nothing, and returns what any `main` may: an `Err` is printed and the program exits
/// with status 1.
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

/// Declares statics of which each process has its own, made when the process first looks: `std::thread_local!`, by the
/// name of what it means here.
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

/// What `#[lunatic::main]` calls: hands the first process its mailbox.
#[doc(hidden)]
pub fn __main<T, R>(main: fn(Mailbox<T>) -> R) -> R {
    // SAFETY: this is where the process begins, so it has no mailbox yet.
    main(unsafe { Mailbox::new() })
}
