//! Servers: processes that hold state and answer calls, like Erlang's `gen_server`, but with typed
//! functions for clients.
//!
//! [`#[lunatic::server]`](macro@crate::server) on an `impl` block turns a type into a server. The
//! block's functions define what the server does; clients call functions with the same names on a
//! [`Handle`].
//!
//! ```no_run
//! use lunatic::{Mailbox, Server};
//!
//! struct Counter {
//!     count: u32,
//! }
//!
//! #[lunatic::server]
//! impl Counter {
//!     #[init]
//!     fn init(count: u32) -> Self {
//!         Counter { count }
//!     }
//!
//!     #[call]
//!     fn increment(&mut self, by: u32) -> u32 {
//!         self.count += by;
//!         self.count
//!     }
//!
//!     #[cast]
//!     fn reset(&mut self) {
//!         self.count = 0;
//!     }
//! }
//!
//! #[lunatic::main]
//! fn main(_: Mailbox<()>) {
//!     let counter = Counter::start(40).unwrap();
//!     assert_eq!(counter.increment(2).unwrap(), 42);
//!     counter.reset().unwrap();
//!     assert_eq!(counter.increment(1).unwrap(), 1);
//! }
//! ```
//!
//! # Lifecycle
//!
//! [`Server::start`] waits until `#[init]` has returned. The server then handles calls, casts and
//! signals one at a time, in the order in which they arrived. If a handler panics, the server dies,
//! and waiting callers get an error immediately. The server exits normally when [`Handle::stop`] or
//! its supervisor asks it to, or when a handler calls [`stop`]: the current handler finishes, and
//! then `#[terminate]` is called. If the server fails, `#[terminate]` is skipped.
//!
//! A process that starts a server with [`Server::start_link`] is the server's parent. When the
//! parent fails, the server dies too. A server with a `#[signal]` or `#[terminate]` finishes the
//! current handler and calls `#[terminate]` first; any other server dies immediately, as does a
//! server whose `#[init]` has not returned.
//!
//! A server with a `#[signal]` is notified when any other process linked to it fails, and when a
//! process it monitors exits. A server without a `#[signal]` dies when a linked process fails, and
//! ignores the exits of monitored processes.

pub(crate) mod reply;
pub(crate) mod run;

pub use reply::{Reply, UntypedReply};
pub use run::{Behaviour, stop};

use crate::environment::Environment;
use crate::error::LunaticError;
use crate::host;
use crate::message::ExitReason;
use crate::process::failure::SendFailure;
use crate::process::handle::Process;
use crate::registry::{self, RegistryError};
use crate::reply::RequestError;
use crate::request::Request;
use crate::start::{self, StartError};
use crate::tag::Tag;
use crate::timer::Timer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::time::Duration;

/// A type that holds a server's state. [`#[lunatic::server]`](macro@crate::server) implements this
/// trait; programs call [`start`](Self::start) and [`start_link`](Self::start_link).
pub trait Server: Behaviour {
    /// The functions that clients call on a [`Handle`].
    #[doc(hidden)]
    type Calls: Copy + From<Client<Self>> + AsRef<Client<Self>>;

    /// Starts a server in its own process, with this process's rights, and waits until `#[init]`
    /// has returned.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Refused`] with the error from `#[init]`, [`StartError::Died`] if
    /// `#[init]` panicked, or [`StartError::NotSpawned`].
    fn start(argument: Self::Argument) -> Result<Handle<Self>, StartError> {
        start::start(argument, &run::entry::<Self>(), false).map(Handle::from_id)
    }

    /// Like [`start`](Self::start), but links the server to this process before it runs. The
    /// [module documentation](self#lifecycle) explains what that means.
    ///
    /// If `#[init]` panics, this process fails too or receives a signal, like any other linked
    /// process.
    fn start_link(argument: Self::Argument) -> Result<Handle<Self>, StartError> {
        start::start(argument, &run::entry::<Self>(), true).map(Handle::from_id)
    }
}

/// A handle to a server, with the functions marked `#[call]` and `#[cast]` in the server's `impl`
/// block.
///
/// A handle consists of a process id and a timeout. It can be copied, compared, and sent to other
/// processes; the timeout is not sent along.
///
/// # Calls and casts
///
/// A call waits for the server's result: `fn increment(&mut self, by: u32) -> u32` becomes `fn
/// increment(&self, by: u32) -> Result<u32, RequestError>`. A call to a dead server fails
/// immediately, and a pending call fails as soon as the server dies. Without
/// [`within`](Self::within), a call waits as long as the server is alive. An answer that arrives
/// too late is dropped. A server that calls itself gets [`RequestError::Itself`].
///
/// A cast does not wait: `fn reset(&mut self)` becomes
/// `fn reset(&self) -> Result<(), SendFailure>`. There is also
/// `fn reset_after(&self, delay: Duration) -> Result<Timer, LunaticError>`, which a server can use
/// to wake itself up. A cast to a dead server is dropped.
pub struct Handle<S: Server> {
    calls: S::Calls,
}

impl<S: Server> Handle<S> {
    fn from_id(id: u64) -> Self {
        Self {
            calls: S::Calls::from(Client {
                process: Process::from_id(id),
                timeout: None,
            }),
        }
    }

    fn client(&self) -> &Client<S> {
        self.calls.as_ref()
    }

    /// Returns a handle to the current process, which must be a server of this type. A handler can
    /// send the handle to other processes, or use it to cast to its own server later.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::server::Handle;
    /// use std::time::Duration;
    ///
    /// struct Clock;
    ///
    /// #[lunatic::server]
    /// impl Clock {
    ///     #[init]
    ///     fn init() -> Self {
    ///         let clock = Handle::<Clock>::this();
    ///         clock.tick_after(Duration::from_secs(1)).unwrap();
    ///         Clock
    ///     }
    ///
    ///     #[cast]
    ///     fn tick(&mut self) {
    ///         println!("tick");
    ///         Handle::<Clock>::this().tick_after(Duration::from_secs(1)).unwrap();
    ///     }
    /// }
    /// ```
    pub fn this() -> Self {
        Self::from_id(Process::<()>::this().id())
    }

    /// Returns the server's process, for linking, monitoring or killing it.
    pub fn process(&self) -> Process<()> {
        Process::from_id(self.client().process.id())
    }

    /// Returns a handle whose calls fail with [`RequestError::Timeout`] after `timeout`, which is
    /// rounded up to whole milliseconds.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self {
            calls: S::Calls::from(Client {
                timeout: Some(timeout),
                ..*self.client()
            }),
        }
    }

    /// Asks the server to exit, waits for it to do so, and returns the exit reason. Earlier calls
    /// are answered first.
    ///
    /// With a handle from [`within`](Self::within), the server is killed if it has not exited when
    /// the timeout expires.
    pub fn stop(&self) -> ExitReason {
        self.client().process.shutdown(self.client().timeout)
    }

    /// Registers the server under a name and a semantic version in the current process's
    /// environment.
    ///
    /// # Errors
    ///
    /// Fails like [`Environment::register`].
    pub fn register(&self, name: &str, version: &str) -> Result<(), RegistryError> {
        Environment::own().register(name, version, self.process())
    }

    /// Finds a server by its name and a version requirement, like [`lookup`](crate::lookup).
    ///
    /// # Errors
    ///
    /// Fails like [`lookup`](crate::lookup).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use lunatic::Server;
    /// use lunatic::server::Handle;
    ///
    /// # struct Counter;
    /// # #[lunatic::server]
    /// # impl Counter {
    /// #     #[init]
    /// #     fn init(_count: u32) -> Self { Counter }
    /// #     #[call]
    /// #     fn increment(&mut self, by: u32) -> u32 { by }
    /// # }
    /// Counter::start(0).unwrap().register("visits", "1.0.0").unwrap();
    /// if let Some(visits) = Handle::<Counter>::lookup("visits", "^1").unwrap() {
    ///     println!("{}", visits.increment(1).unwrap());
    /// }
    /// ```
    pub fn lookup(name: &str, query: &str) -> Result<Option<Self>, RegistryError> {
        let process = registry::lookup::<()>(name, query)?;
        Ok(process.map(|process| Self::from_id(process.id())))
    }
}

impl<S: Server> Deref for Handle<S> {
    type Target = S::Calls;

    fn deref(&self) -> &S::Calls {
        &self.calls
    }
}

impl<S: Server> Clone for Handle<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Server> Copy for Handle<S> {}

/// Two handles are equal if they refer to the same process, regardless of their timeouts.
impl<S: Server> PartialEq for Handle<S> {
    fn eq(&self, other: &Self) -> bool {
        self.process() == other.process()
    }
}

impl<S: Server> Eq for Handle<S> {}

impl<S: Server> Hash for Handle<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.process().hash(state);
    }
}

impl<S: Server> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle<{:x}>", self.process().id())
    }
}

impl<S: Server> Serialize for Handle<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        self.process().serialize(serializer)
    }
}

impl<'de, S: Server> Deserialize<'de> for Handle<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::from_id)
    }
}

/// Sends a handle's calls and casts to the server.
#[doc(hidden)]
pub struct Client<S: Server> {
    process: Process<Request<S::Message, ()>>,
    timeout: Option<Duration>,
}

impl<S: Server> Client<S> {
    #[doc(hidden)]
    pub fn call<R: DeserializeOwned>(&self, message: S::Message) -> Result<R, RequestError> {
        // The type of the reply depends on the message.
        let process = Process::<Request<S::Message, R>>::from_id(self.process.id());
        process.ask(message, host::milliseconds_or_forever(self.timeout))
    }

    #[doc(hidden)]
    pub fn cast(&self, message: S::Message) -> Result<(), SendFailure> {
        self.process
            .post(Tag::NONE, &Request::<_, ()>::without_reply(message))
    }

    #[doc(hidden)]
    pub fn cast_after(&self, delay: Duration, message: S::Message) -> Result<Timer, LunaticError> {
        self.process
            .send_after(Request::without_reply(message), delay)
    }
}

impl<S: Server> Clone for Client<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Server> Copy for Client<S> {}
