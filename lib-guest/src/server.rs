//! A server is a process that keeps a state and answers calls: Erlang's `gen_server`, with typed functions for its
//! clients.
//!
//! [`#[lunatic::server]`](macro@crate::server) on an `impl` block makes one of a type. What is written there is what the
//! server does; what clients call has the same names on a [`Handle`].
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
//! # Its life
//!
//! [`Server::start`] waits until `#[init]` has returned. From then on the server takes calls, casts and signals one after
//! another, in the order in which they came. A handler that panics ends it, and callers who wait are told so at once. It
//! ends well when it is asked to, by [`Handle::stop`] or its supervisor, and when a handler calls [`stop`]: after the
//! handler that runs, `#[terminate]` is called, which a failure leaves out.
//!
//! Who starts a server with [`Server::start_link`] is its parent. When the parent fails, the server ends too: at once, or,
//! where it has a `#[signal]` or a `#[terminate]`, after the handler that runs and `#[terminate]`. Until `#[init]` has
//! returned it is always at once.
//!
//! A server with a `#[signal]` is told of the failures of all others that it is linked with, and of the ends of those that
//! it monitors. Without one it dies with those that it is linked with, and hears of no end.

use crate::entry::Entry;
use crate::host;
use crate::mailbox::{Mailbox, ReceiveError, TransformMailbox};
use crate::message::{ExitReason, Message, Signal, SignalKind};
use crate::process::{self, Process, SendFailure};
use crate::registry::{self, RegistryError};
use crate::request::{Request, RequestError};
use crate::start::{self, Birth, StartError};
use crate::tag::Tag;
use crate::{LunaticError, Timer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

/// The state of a server, and what it does. [`#[lunatic::server]`](macro@crate::server) implements this; programs call
/// [`start`](Self::start) and [`start_link`](Self::start_link).
pub trait Server: Sized + 'static {
    /// What `#[init]` is called with: its parameter, a tuple where there are more, `()` where there is none.
    type Argument: Serialize + DeserializeOwned;

    /// What clients send: one variant for each call and each cast.
    #[doc(hidden)]
    type Message: Serialize + DeserializeOwned;

    /// The functions that a [`Handle`] has.
    #[doc(hidden)]
    type Calls: Copy + From<Client<Self>> + AsRef<Client<Self>>;

    /// Whether there is a `#[signal]`.
    #[doc(hidden)]
    const TAKES_SIGNALS: bool;

    /// Whether there is a `#[terminate]`.
    #[doc(hidden)]
    const TERMINATES: bool;

    #[doc(hidden)]
    fn __init(argument: Self::Argument) -> Result<Self, String>;

    #[doc(hidden)]
    fn __handle(&mut self, message: Self::Message, reply: UntypedReply);

    #[doc(hidden)]
    fn __signal(&mut self, signal: Signal);

    #[doc(hidden)]
    fn __terminate(self);

    /// Starts a server in a process of its own, which has this process's rights, and waits until its `#[init]` has
    /// returned.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`] with the error of `#[init]`, [`StartError::Died`] where it panicked, and
    /// [`StartError::NotSpawned`].
    fn start(argument: Self::Argument) -> Result<Handle<Self>, StartError> {
        start::start(argument, &entry::<Self>(), false).map(Handle::from_id)
    }

    /// Starts a server as [`start`](Self::start) does, linked with this process from its first instruction on. The
    /// [module](self#its-life) says what that means.
    ///
    /// Where `#[init]` panics, this process fails too, or is told by a signal, as of any process that it is linked with.
    fn start_link(argument: Self::Argument) -> Result<Handle<Self>, StartError> {
        start::start(argument, &entry::<Self>(), true).map(Handle::from_id)
    }
}

/// Returns what a server's process begins with, after its argument.
pub(crate) fn entry<S: Server>() -> Entry {
    Entry::with_context(serve::<S>)
}

/// Names a running server. It has the functions that are marked `#[call]` and `#[cast]` in the server's `impl` block.
///
/// It is a number and a time limit; it can be copied, compared and sent to other processes, without the time limit.
///
/// # Calls and casts
///
/// A call waits for what the server returns: `fn increment(&mut self, by: u32) -> u32` becomes
/// `fn increment(&self, by: u32) -> Result<u32, RequestError>`. A call to a server that is dead, or dies before it
/// answers, fails at once. Without [`within`](Self::within) it waits for as long as the server lives. An answer that comes
/// too late is dropped. A server that calls itself panics.
///
/// A cast does not wait: `fn reset(&mut self)` becomes `fn reset(&self) -> Result<(), SendFailure>`, and beside it there is
/// `fn reset_after(&self, delay: Duration) -> Result<Timer, LunaticError>`, with which a server also wakes itself. A cast
/// to a dead server is dropped.
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

    /// Returns the running process as the server that it is, for its handlers: to be sent to others, or to cast to itself
    /// later.
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

    /// Returns the server's process, to be linked with, monitored or killed.
    pub fn process(&self) -> Process<()> {
        Process::from_id(self.client().process.id())
    }

    /// Returns a handle whose calls wait for so long: then they fail with [`RequestError::Timeout`]. Time counts in
    /// milliseconds, rounded up.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self {
            calls: S::Calls::from(Client {
                timeout: Some(timeout),
                ..*self.client()
            }),
        }
    }

    /// Asks the server to end, waits until it did, and returns why it ended. Calls that came before are answered.
    ///
    /// With [`within`](Self::within) a server that takes longer is killed.
    pub fn stop(&self) -> ExitReason {
        self.client().process.shutdown(self.client().timeout)
    }

    /// Registers the server under a name and a semantic version, in the environment of the running process.
    ///
    /// # Errors
    ///
    /// As [`Environment::register`](crate::Environment::register).
    pub fn register(&self, name: &str, version: &str) -> Result<(), RegistryError> {
        process::this_env().register(name, version, self.process())
    }

    /// Finds a server by its name and a version requirement, as [`lookup`](crate::lookup) does.
    ///
    /// # Errors
    ///
    /// As [`lookup`](crate::lookup).
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

/// Whether they name the same process, whatever their time limits.
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

/// What the functions of a handle send with.
#[doc(hidden)]
pub struct Client<S: Server> {
    process: Process<Request<S::Message, ()>>,
    timeout: Option<Duration>,
}

impl<S: Server> Client<S> {
    #[doc(hidden)]
    pub fn call<R: DeserializeOwned>(&self, message: S::Message) -> Result<R, RequestError> {
        // What a server replies depends on the message.
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

/// Answers a call later than at the end of its handler: the last parameter of a `#[call]` that returns nothing.
///
/// It can be kept in the server's state, and sent to another process that answers. A caller whose `Reply` is dropped waits
/// until its time runs out or the server ends.
///
/// # Example
///
/// ```no_run
/// use lunatic::{Mailbox, Server};
/// use lunatic::server::Reply;
///
/// /// Lets callers wait until a door is open.
/// struct Door {
///     waiting: Vec<Reply<()>>,
/// }
///
/// #[lunatic::server]
/// impl Door {
///     #[init]
///     fn init() -> Self {
///         Door { waiting: Vec::new() }
///     }
///
///     #[call]
///     fn wait(&mut self, reply: Reply<()>) {
///         self.waiting.push(reply);
///     }
///
///     #[cast]
///     fn open(&mut self) {
///         for reply in self.waiting.drain(..) {
///             reply.send(());
///         }
///     }
/// }
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let door = Door::start(()).unwrap();
///     door.open_after(std::time::Duration::from_secs(1)).unwrap();
///     door.wait().unwrap();
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
#[must_use = "the caller waits for it"]
pub struct Reply<R> {
    caller: Process<()>,
    tag: Tag,
    answer: PhantomData<fn(R)>,
}

impl<R: Serialize> Reply<R> {
    /// Answers. A caller that gave up or died does not notice.
    ///
    /// # Panics
    ///
    /// Where the caller's mailbox cannot take the answer, as [`Process::send`].
    pub fn send(self, answer: R) {
        if let Err(failure) = self.caller.post(self.tag, &answer) {
            panic!(
                "an answer to process <{:x}> was not sent: {failure}",
                self.caller.id()
            );
        }
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply to <{:x}>", self.caller.id())
    }
}

/// A reply whose type the message knows.
#[doc(hidden)]
pub struct UntypedReply {
    caller: Process<()>,
    tag: Tag,
}

impl UntypedReply {
    #[doc(hidden)]
    pub fn typed<R>(self) -> Reply<R> {
        Reply {
            caller: self.caller,
            tag: self.tag,
            answer: PhantomData,
        }
    }
}

thread_local! {
    /// The status that the server is to end with, once a handler has asked for it.
    static STOP: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Ends the server that this process is, after the handler that runs: its answer is still sent, and `#[terminate]` called.
///
/// Status 0 is a normal end. Any other is a failure, which the server's links and supervisor are told of as
/// [`ExitReason::Status`].
///
/// # Example
///
/// ```no_run
/// use lunatic::server;
///
/// struct Countdown(u32);
///
/// #[lunatic::server]
/// impl Countdown {
///     #[init]
///     fn init(from: u32) -> Self {
///         Countdown(from)
///     }
///
///     #[call]
///     fn next(&mut self) -> u32 {
///         self.0 = self.0.saturating_sub(1);
///         if self.0 == 0 {
///             server::stop(0);
///         }
///         self.0
///     }
/// }
/// ```
pub fn stop(status: i32) {
    STOP.set(Some(status));
}

/// Why a server's loop ended.
enum End {
    /// It was asked to, or nobody is left who could ask for anything.
    Asked,
    /// A handler called [`stop`].
    Stopped(i32),
    /// A process failed that it is linked with, and it is not told of that one.
    LinkDied(u64),
}

/// What a server's process does.
fn serve<S: Server>(
    (birth, argument): (Birth, S::Argument),
    mailbox: Mailbox<Request<S::Message, ()>>,
) {
    if !birth.begin() {
        return;
    }
    let mut state = match S::__init(argument) {
        Ok(state) => state,
        Err(why) => return birth.refused(why),
    };
    // Not before: a parent that fails while `#[init]` waits for something must not be left waiting in the mailbox.
    let end = if S::TAKES_SIGNALS || S::TERMINATES {
        let mailbox = mailbox.catch_link_panic();
        birth.started();
        answer(&mut state, || mailbox.receive())
    } else {
        birth.started();
        answer(&mut state, || plain(&mailbox))
    };
    state.__terminate();
    match end {
        End::Asked | End::Stopped(0) => {}
        End::Stopped(status) => std::process::exit(status),
        End::LinkDied(process) => start::die_with(process),
    }
}

/// Receives from a mailbox whose links are deadly.
fn plain<T: DeserializeOwned>(mailbox: &Mailbox<T>) -> Message<T> {
    match mailbox.receive() {
        Err(ReceiveError::Signal(signal)) => Message::Signal(signal),
        message => Message::Normal(message),
    }
}

/// Handles what comes until the server is to end.
fn answer<S: Server>(state: &mut S, receive: impl Fn() -> Message<Request<S::Message, ()>>) -> End {
    loop {
        // `#[init]` may have asked for the end.
        if let Some(status) = STOP.take() {
            return End::Stopped(status);
        }
        match receive() {
            Message::Normal(Ok(request)) => {
                let (message, caller, tag) = request.into_parts();
                state.__handle(message, UntypedReply { caller, tag });
            }
            Message::Normal(Err(ReceiveError::Shutdown | ReceiveError::NobodyLeft)) => {
                return End::Asked;
            }
            // Anybody can send anything to a process. What is no message for this server harms nobody.
            Message::Normal(Err(_)) => {}
            Message::Signal(signal) => {
                let is_parent = start::parent() == Some(signal.pid);
                match signal.kind {
                    SignalKind::LinkDied if is_parent || !S::TAKES_SIGNALS => {
                        return End::LinkDied(signal.pid);
                    }
                    _ => state.__signal(signal),
                }
            }
        }
    }
}
