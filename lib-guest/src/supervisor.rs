//! A supervisor starts processes, its children, and starts them anew when they fail.
//!
//! A fault that is handled nowhere ends the process in which it is, and takes along what that process knew. A fresh one in
//! its place is right again: this is how a program of processes handles what nobody thought of. The supervisor is the
//! part that decides, so it does nothing else.
//!
//! ```no_run
//! use lunatic::supervisor::{Child, Strategy, Supervisor};
//! use lunatic::{Mailbox, process};
//! use std::time::Duration;
//!
//! # struct Counter;
//! # #[lunatic::server]
//! # impl Counter {
//! #     #[init]
//! #     fn init(_count: u32) -> Self { Counter }
//! # }
//! #[lunatic::main]
//! fn main(mailbox: Mailbox<()>) {
//!     Supervisor::start_link(|plan| {
//!         plan.strategy(Strategy::OneForAll)
//!             .intensity(3, Duration::from_secs(5))
//!             .child(Child::server::<Counter>("counter", 0).register("visits", "1.0.0"))
//!             .child(Child::process("clock", |_: Mailbox<()>| loop {
//!                 process::sleep(1_000);
//!                 println!("tick");
//!             }));
//!     })
//!     .unwrap();
//!     let _ = mailbox.receive();
//! }
//! ```
//!
//! # Its rules
//!
//! They are those of Erlang's [supervisor](https://www.erlang.org/doc/apps/stdlib/supervisor.html), whose words are used
//! here.
//!
//! * Children are started in the order of the plan, each once the one before has started (a server when its `#[init]` has
//!   returned, a supervisor when all its children have started), and ended in reverse order. Where one does not start, those
//!   before it are ended, and the supervisor does not start.
//! * When a child ends, its [`Restart`] decides whether it is restarted, and the [`Strategy`] what else is.
//! * More restarts than the [intensity](Plan::intensity) allows are given up: the supervisor ends all children, says why
//!   in a line on standard error, and exits with status 1, so that its own supervisor decides. A restart that fails counts
//!   as one.
//! * Children are linked with their supervisor from their first instruction on: none outlives it, also not one that is
//!   just being started.
//!
//! Beyond Erlang's, restarts can be [put off](Plan::back_off) for longer and longer. What is not there is
//! `auto_shutdown`, and the restart of a child by hand.
//!
//! A supervisor needs the clock, `wasi_snapshot_preview1::clock_time_get`, and is told of ends: at most
//! [`max_mailbox_messages`](crate::Config::max_mailbox_messages) can wait for it, of which each child takes two.

mod rules;

use crate::entry::Entry;
use crate::envelope::{self, Arrival, Delivery};
use crate::host;
use crate::mailbox::Mailbox;
use crate::message::{ExitReason, SignalKind};
use crate::process::{self, Place, Process};
use crate::request::{Request, RequestError};
use crate::server::{self, Handle, Server};
use crate::start::{self, Birth, StartError, Started};
use crate::tag::{SHUTDOWN, Tag};
use rmp_serde::decode;
use rules::{End, Key, Policy, Rules, Verdict};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// What is restarted when a child ends that is to be restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// That child. This is the default.
    #[default]
    OneForOne,
    /// All children: the others are ended first.
    OneForAll,
    /// That child and those that were started after it, which are ended first.
    RestForOne,
}

/// Which ends of a child make its supervisor restart it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Every end. This is the default.
    #[default]
    Permanent,
    /// Failures: every end but [`ExitReason::Normal`].
    Transient,
    /// None. It is also not started again where the failure of another child ends it.
    Temporary,
}

/// How a supervisor ends a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It is killed.
    Kill,
    /// It is asked to end, as [`Process::shutdown`] does, and killed where it takes longer.
    Within(Duration),
    /// It is asked to end, and waited for without end.
    Unlimited,
}

/// Starts a process, or stops waiting for it when a message comes that has one of the tags.
type Start = Box<dyn Fn(&[Tag]) -> Result<Started, StartError>>;

/// A child of a supervisor: how it is started, restarted and ended. `H` is what holds it, such as a [`Process`].
pub struct Child<H = ()> {
    id: String,
    start: Start,
    restart: Restart,
    shutdown: Shutdown,
    registration: Option<(String, String)>,
    handle: PhantomData<fn() -> H>,
}

impl Child {
    /// A process that begins with a function, as [`process::spawn`] starts it. It is [killed](Shutdown::Kill) when it is to
    /// end.
    ///
    /// `id` is its name in what the supervisor says of it. It has started when it is spawned.
    pub fn process<T: 'static>(
        id: impl Into<String>,
        function: fn(Mailbox<T>),
    ) -> Child<Process<T>> {
        let start = move |_: &[Tag]| {
            let process = Place::Here.spawn(Tag::new(), function)?;
            Ok(Started::Running(process.id()))
        };
        Child::new(id.into(), Box::new(start), Shutdown::Kill)
    }

    /// A process that is handed a value each time it is started, as [`process::spawn_with`] does.
    pub fn process_with<C, T>(
        id: impl Into<String>,
        context: C,
        function: fn(C, Mailbox<T>),
    ) -> Child<Process<T>>
    where
        C: Serialize + DeserializeOwned + 'static,
        T: 'static,
    {
        let start = move |_: &[Tag]| {
            let process = Place::Here.spawn_with(Tag::new(), &context, function)?;
            Ok(Started::Running(process.id()))
        };
        Child::new(id.into(), Box::new(start), Shutdown::Kill)
    }

    /// A server, which is handed the same argument each time it is started. It has 5 seconds to end.
    pub fn server<S: Server>(id: impl Into<String>, argument: S::Argument) -> Child<Handle<S>>
    where
        S::Argument: 'static,
    {
        let start = move |interrupts: &[Tag]| {
            start::start_or(&argument, &server::entry::<S>(), true, interrupts)
        };
        Child::new(
            id.into(),
            Box::new(start),
            Shutdown::Within(Duration::from_secs(5)),
        )
    }

    /// Another supervisor. It has [unlimited](Shutdown::Unlimited) time to end, which is that of its children.
    pub fn supervisor(id: impl Into<String>, tree: fn(&mut Plan)) -> Child<Supervisor> {
        let start = move |interrupts: &[Tag]| {
            start::start_or((), &Entry::supervisor(tree), true, interrupts)
        };
        Child::new(id.into(), Box::new(start), Shutdown::Unlimited)
    }
}

impl<H> Child<H> {
    fn new(id: String, start: Start, shutdown: Shutdown) -> Self {
        Self {
            id,
            start,
            restart: Restart::Permanent,
            shutdown,
            registration: None,
            handle: PhantomData,
        }
    }

    /// Sets which ends make it be restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how it is ended.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Registers it under a name and a semantic version each time it has started. Clients hold the name: a restarted
    /// process is another one. A name that is taken is a start that failed.
    #[must_use]
    pub fn register(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.registration = Some((name.into(), version.into()));
        self
    }

    fn erase(self) -> Child {
        let Self {
            id,
            start,
            restart,
            shutdown,
            registration,
            handle: _,
        } = self;
        Child {
            id,
            start,
            restart,
            shutdown,
            registration,
            handle: PhantomData,
        }
    }

    /// Starts it, and gives it its name.
    fn begin(&self, interrupts: &[Tag]) -> Result<u64, NotStarted> {
        let process = match (self.start)(interrupts)? {
            Started::Running(process) => process,
            Started::Interrupted(process) => {
                self.end(process);
                return Err(NotStarted::Interrupted);
            }
        };
        let Some((name, version)) = &self.registration else {
            return Ok(process);
        };
        match process::this_env().register(name, version, Process::<()>::from_id(process)) {
            Ok(()) => Ok(process),
            Err(error) => {
                self.end(process);
                Err(NotStarted::Failed(StartError::NotRegistered(error)))
            }
        }
    }

    /// Ends its process, and waits for that.
    fn end(&self, process: u64) {
        let process = Process::<()>::from_id(process);
        match self.shutdown {
            Shutdown::Kill => {
                process.kill();
                process.shutdown(None);
            }
            Shutdown::Within(time) => {
                process.shutdown(Some(time));
            }
            Shutdown::Unlimited => {
                process.shutdown(None);
            }
        }
    }
}

impl<H> fmt::Debug for Child<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("registration", &self.registration)
            .finish_non_exhaustive()
    }
}

/// Makes children while a supervisor runs: the argument that [`Supervisor::start_child`] is given says the rest.
///
/// It is a constant of the program, which the plan and those who start children name.
///
/// # Example
///
/// ```no_run
/// use lunatic::net::{TcpListener, TcpStream};
/// use lunatic::supervisor::{Child, Restart, Supervisor, Template};
/// use lunatic::{Mailbox, Process};
///
/// const CONNECTION: Template<TcpStream, Process<()>> = Template::new("connection", |stream| {
///     Child::process_with("connection", stream, serve).restart(Restart::Temporary)
/// });
///
/// fn serve(stream: TcpStream, _: Mailbox<()>) {
///     println!("{:?} is here", stream.peer_addr());
/// }
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let connections = Supervisor::start_link(|plan| {
///         plan.template(CONNECTION);
///     })
///     .unwrap();
///     let listener = TcpListener::bind("127.0.0.1:3000").unwrap();
///     while let Ok((stream, _)) = listener.accept() {
///         connections.start_child(CONNECTION, stream).unwrap();
///     }
/// }
/// ```
pub struct Template<A, H> {
    name: &'static str,
    child: fn(A) -> Child<H>,
}

impl<A, H> Template<A, H> {
    /// Names a function that makes a child of an argument. The name is the template's own within a supervisor.
    pub const fn new(name: &'static str, child: fn(A) -> Child<H>) -> Self {
        Self { name, child }
    }
}

impl<A, H> Clone for Template<A, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, H> Copy for Template<A, H> {}

impl<A, H> fmt::Debug for Template<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.name).finish()
    }
}

/// Reads the argument of a template out of a message, and makes the child.
type Make = Box<dyn Fn(&Arrival<'_>) -> Result<Child, decode::Error>>;

/// What a supervisor is to do: its children, and what becomes of them. It is filled in by the function that the supervisor
/// begins with, in its own process.
#[derive(Default)]
pub struct Plan {
    policy: Policy,
    children: Vec<Child>,
    templates: HashMap<&'static str, Make>,
}

impl Plan {
    /// Sets what is restarted with a child.
    pub fn strategy(&mut self, strategy: Strategy) -> &mut Self {
        self.policy.strategy = strategy;
        self
    }

    /// Sets how many restarts there may be within a period, of all children together; with one more the supervisor gives
    /// up. Without it, 3 in 5 seconds.
    ///
    /// The restart of a group counts as one.
    pub fn intensity(&mut self, restarts: u32, period: Duration) -> &mut Self {
        self.policy.restarts = restarts as usize;
        self.policy.period = period;
        self
    }

    /// Puts restarts off: the first of a child by `first`, each further one by twice as long, and none by more than
    /// `most`. A child that has lived for a [period](Self::intensity) begins anew. Without it nothing is put off.
    ///
    /// Where the delays leave no room in a period for as many restarts as are allowed, the supervisor never gives up.
    pub fn back_off(&mut self, first: Duration, most: Duration) -> &mut Self {
        self.policy.back_off = Some((first, most));
        self
    }

    /// Adds a child behind the others.
    pub fn child<H>(&mut self, child: Child<H>) -> &mut Self {
        self.children.push(child.erase());
        self
    }

    /// Adds a template, of which [`Supervisor::start_child`] makes children.
    pub fn template<A, H>(&mut self, template: Template<A, H>) -> &mut Self
    where
        A: DeserializeOwned + 'static,
        H: 'static,
    {
        let make = move |arrival: &Arrival<'_>| {
            let request: Request<(IgnoredAny, A), ()> = arrival.open()?;
            let ((_, argument), _, _) = request.into_parts();
            Ok((template.child)(argument).erase())
        };
        self.templates.insert(template.name, Box::new(make));
        self
    }

    /// Refuses two children with one id.
    fn check(&self) -> Result<(), String> {
        let mut ids = HashSet::new();
        match self.children.iter().find(|child| !ids.insert(&child.id)) {
            Some(child) => Err(format!("two children have the id `{}`", child.id)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("policy", &self.policy)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

/// Names a running supervisor. It is a number, and can be copied, compared and sent to other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Supervisor {
    process: Process<()>,
}

/// A child, as [`Supervisor::children`] tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its id in the plan.
    pub id: String,
    /// Its process; `None` while there is none.
    pub process: Option<Process<()>>,
    /// Which of its ends make it be restarted.
    pub restart: Restart,
}

/// How many children there are, as [`Supervisor::count`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Count {
    /// Those that the supervisor knows.
    pub children: usize,
    /// Those of them that run.
    pub active: usize,
}

/// What a supervisor is asked.
#[derive(Serialize, Deserialize)]
enum Command {
    Start { template: String },
    Terminate { process: u64 },
    Children,
    Count,
}

impl Supervisor {
    /// Starts a supervisor in a process of its own and waits until all children have started.
    ///
    /// `tree` says what it supervises; it runs in the supervisor's process. It is a function of the program, or a closure
    /// that captures nothing.
    ///
    /// # Errors
    ///
    /// [`StartError::Refused`], which names the child that did not start and says why.
    pub fn start(tree: fn(&mut Plan)) -> Result<Self, StartError> {
        start::start((), &Entry::supervisor(tree), false).map(Self::from_id)
    }

    /// Starts a supervisor as [`start`](Self::start) does, linked with this process: when it gives up this process fails
    /// too, or is told, and when this process ends it ends its children and itself.
    pub fn start_link(tree: fn(&mut Plan)) -> Result<Self, StartError> {
        start::start((), &Entry::supervisor(tree), true).map(Self::from_id)
    }

    fn from_id(id: u64) -> Self {
        Self {
            process: Process::from_id(id),
        }
    }

    /// Returns the supervisor's process, to be linked with, monitored or killed.
    pub fn process(&self) -> Process<()> {
        self.process
    }

    /// Asks the supervisor to end its children, the last one first, and then itself; waits until it did, and returns why it
    /// ended.
    pub fn stop(&self) -> ExitReason {
        self.process.shutdown(None)
    }

    /// Starts a child that a [`Template`] of the plan makes of an argument, behind the others, and returns what holds it.
    ///
    /// A child that ends and is not restarted is forgotten. The supervisor keeps the argument for restarts; with a stream in
    /// it, the connection is open as long as the supervisor knows the child.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); [`StartError::Refused`] also where the plan has no such template, and where the
    /// supervisor cannot be asked.
    pub fn start_child<A, H>(&self, template: Template<A, H>, argument: A) -> Result<H, StartError>
    where
        A: Serialize,
        H: DeserializeOwned,
    {
        let command = Command::Start {
            template: template.name.to_owned(),
        };
        match self.ask::<A, Result<H, String>>(command, argument) {
            Ok(Ok(handle)) => Ok(handle),
            Ok(Err(why)) => Err(StartError::Refused(why)),
            Err(error) => Err(StartError::Refused(format!(
                "the supervisor did not start it: {error}"
            ))),
        }
    }

    /// Ends a child as its [`Shutdown`] says; it is not restarted, except with a group that it is a part of. False where no
    /// child is this process.
    ///
    /// # Errors
    ///
    /// That the supervisor cannot be asked.
    pub fn terminate_child<T>(&self, child: Process<T>) -> Result<bool, RequestError> {
        self.ask(
            Command::Terminate {
                process: child.id(),
            },
            (),
        )
    }

    /// Returns the children, in the order of their start: Erlang's `which_children`.
    ///
    /// # Errors
    ///
    /// That the supervisor cannot be asked, also where there are so many that the answer is too large a message.
    pub fn children(&self) -> Result<Vec<ChildInfo>, RequestError> {
        self.ask(Command::Children, ())
    }

    /// Counts the children.
    ///
    /// # Errors
    ///
    /// That the supervisor cannot be asked.
    pub fn count(&self) -> Result<Count, RequestError> {
        self.ask(Command::Count, ())
    }

    fn ask<A: Serialize, R: DeserializeOwned>(
        &self,
        command: Command,
        argument: A,
    ) -> Result<R, RequestError> {
        let process = Process::<Request<(Command, A), R>>::from_id(self.process.id());
        process.request((command, argument))
    }
}

/// Why a supervisor ends.
#[derive(Debug)]
enum Cause {
    /// It was asked to, or its parent ended well.
    Asked,
    /// Its parent failed.
    ParentFailed(u64),
    /// There were too many restarts; this says of what.
    GaveUp(String),
}

/// Why a child was not started.
enum NotStarted {
    Failed(StartError),
    /// The supervisor is to end.
    Interrupted,
}

impl From<StartError> for NotStarted {
    fn from(error: StartError) -> Self {
        Self::Failed(error)
    }
}

/// A child and its process, while it has one.
struct Kept {
    child: Child,
    process: Option<u64>,
}

/// A supervisor at work.
struct Running {
    rules: Rules,
    policy: Policy,
    children: BTreeMap<Key, Kept>,
    keys: HashMap<u64, Key>,
    templates: HashMap<&'static str, Make>,
    /// What ends the wait for a child's start.
    interrupts: Vec<Tag>,
    begin: Instant,
}

/// What a supervisor found in its mailbox.
enum Event {
    Ended {
        process: u64,
        kind: SignalKind,
        reason: ExitReason,
    },
    Start {
        child: Result<Child, String>,
        caller: Process<Result<u64, String>>,
        tag: Tag,
    },
    Terminate {
        process: u64,
        caller: Process<bool>,
        tag: Tag,
    },
    Children {
        caller: Process<Vec<ChildInfo>>,
        tag: Tag,
    },
    Count {
        caller: Process<Count>,
        tag: Tag,
    },
    Shutdown,
    /// Nothing that is for a supervisor; or that it is time to look what is due.
    Nothing,
}

/// What a supervisor's process does.
pub(crate) fn run(birth: Birth, tree: fn(&mut Plan)) {
    if !birth.begin() {
        return;
    }
    let mut plan = Plan::default();
    tree(&mut plan);
    if let Err(why) = plan.check() {
        return birth.refused(why);
    }
    // From here on the failures of children are told, and so is that of the parent.
    // SAFETY: the call takes a number.
    unsafe { host::process::die_when_link_dies(0) };
    let mut interrupts = vec![SHUTDOWN];
    if let Some(parent) = start::parent() {
        let tag = Tag::new_reply();
        // SAFETY: the call takes numbers.
        unsafe { host::process::monitor_tagged(tag.id(), parent) };
        interrupts.push(tag);
    }
    let mut running = Running {
        rules: Rules::new(plan.policy.clone()),
        policy: plan.policy,
        children: BTreeMap::new(),
        keys: HashMap::new(),
        templates: plan.templates,
        interrupts,
        begin: Instant::now(),
    };
    for child in plan.children {
        let id = child.id.clone();
        let Err(error) = running.add(child, false) else {
            continue;
        };
        running.end_all();
        return match error {
            NotStarted::Failed(error) => {
                birth.refused(format!("child `{id}` did not start: {error}"))
            }
            NotStarted::Interrupted => running.interrupted().act(),
        };
    }
    birth.started();
    let cause = loop {
        if let Err(cause) = running.turn() {
            break cause;
        }
    };
    running.end_all();
    cause.act();
}

impl Cause {
    /// Ends this process. Returning is a normal end.
    fn act(self) {
        match self {
            Self::Asked => {}
            Self::ParentFailed(parent) => start::die_with(parent),
            Self::GaveUp(why) => {
                eprintln!(
                    "supervisor <{:x}> gives up: {why}",
                    Process::<()>::this().id()
                );
                std::process::exit(1);
            }
        }
    }
}

impl Running {
    /// Returns the time since the supervisor's begin.
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Starts what is due, waits for what comes, and does it.
    fn turn(&mut self) -> Result<(), Cause> {
        while let Some(key) = self.rules.due(self.now()) {
            match self.start(key) {
                Ok(_) => {}
                Err(NotStarted::Failed(error)) => {
                    self.decide(key, End::Failed, &format!("did not start: {error}"))?;
                }
                Err(NotStarted::Interrupted) => return Err(self.interrupted()),
            }
        }
        let wait = self
            .rules
            .next_due()
            .map(|at| at.saturating_sub(self.now()));
        match self.receive(host::milliseconds_or_forever(wait)) {
            Event::Ended {
                process,
                kind,
                reason,
            } => self.ended(process, kind, reason)?,
            Event::Start { child, caller, tag } => {
                let started = match child.map(|child| self.add(child, true)) {
                    Ok(Ok(process)) => Ok(process),
                    Ok(Err(NotStarted::Failed(error))) => Err(error.to_string()),
                    Ok(Err(NotStarted::Interrupted)) => return Err(self.interrupted()),
                    Err(why) => Err(why),
                };
                // An answer that the caller cannot take is the caller's loss.
                let _ = caller.try_tag_send(tag, started);
            }
            Event::Terminate {
                process,
                caller,
                tag,
            } => {
                let key = self.keys.get(&process).copied();
                if let Some(key) = key {
                    self.end(key);
                    self.rules.terminated(key);
                    self.forget(key);
                }
                let _ = caller.try_tag_send(tag, key.is_some());
            }
            Event::Children { caller, tag } => {
                let children = self.children.values().map(|kept| ChildInfo {
                    id: kept.child.id.clone(),
                    process: kept.process.map(Process::from_id),
                    restart: kept.child.restart,
                });
                let _ = caller.try_tag_send(tag, children.collect());
            }
            Event::Count { caller, tag } => {
                let count = Count {
                    children: self.children.len(),
                    active: self.keys.len(),
                };
                let _ = caller.try_tag_send(tag, count);
            }
            Event::Shutdown => return Err(Cause::Asked),
            Event::Nothing => {}
        }
        Ok(())
    }

    /// Waits for what comes next, so many milliseconds.
    fn receive(&self, timeout: u64) -> Event {
        envelope::receive(&[], timeout, |delivery| {
            let arrival = match delivery {
                Delivery::Arrived(arrival) => arrival,
                // Nobody is left who could ask for anything, and no child that could end.
                Delivery::NobodyLeft => return Event::Shutdown,
                Delivery::TimedOut => return Event::Nothing,
            };
            if arrival.tag() == SHUTDOWN {
                return Event::Shutdown;
            }
            if let Some(signal) = arrival.signal() {
                return Event::Ended {
                    process: signal.pid,
                    kind: signal.kind,
                    reason: signal.reason,
                };
            }
            // Anybody can send anything to a process. What is no command harms nobody.
            let Ok(request) = arrival.open::<Request<(Command, IgnoredAny), ()>>() else {
                return Event::Nothing;
            };
            let ((command, _), caller, tag) = request.into_parts();
            match command {
                Command::Start { template } => {
                    let child = match self.templates.get(template.as_str()) {
                        Some(make) => make(&arrival)
                            .map_err(|error| format!("the argument cannot be read: {error}")),
                        None => Err(format!("the plan has no template `{template}`")),
                    };
                    Event::Start {
                        child,
                        caller: Process::from_id(caller.id()),
                        tag,
                    }
                }
                Command::Terminate { process } => Event::Terminate {
                    process,
                    caller: Process::from_id(caller.id()),
                    tag,
                },
                Command::Children => Event::Children {
                    caller: Process::from_id(caller.id()),
                    tag,
                },
                Command::Count => Event::Count {
                    caller: Process::from_id(caller.id()),
                    tag,
                },
            }
        })
    }

    /// Adds a child and starts it; where it does not start it is not added.
    fn add(&mut self, child: Child, is_dynamic: bool) -> Result<u64, NotStarted> {
        let key = self.rules.add(child.restart, is_dynamic);
        self.children.insert(
            key,
            Kept {
                child,
                process: None,
            },
        );
        let started = self.start(key);
        if started.is_err() {
            self.rules.remove(key);
            self.forget(key);
        }
        started
    }

    fn start(&mut self, key: Key) -> Result<u64, NotStarted> {
        let kept = self
            .children
            .get_mut(&key)
            .expect("a child is kept as long as it is a member");
        let process = kept.child.begin(&self.interrupts)?;
        Process::<()>::from_id(process).monitor();
        kept.process = Some(process);
        self.keys.insert(process, key);
        self.rules.started(key, self.begin.elapsed());
        Ok(process)
    }

    /// Takes the end of a process.
    fn ended(&mut self, process: u64, kind: SignalKind, reason: ExitReason) -> Result<(), Cause> {
        if start::parent() == Some(process) {
            let is_failure = kind == SignalKind::LinkDied || reason != ExitReason::Normal;
            return Err(if is_failure {
                Cause::ParentFailed(process)
            } else {
                Cause::Asked
            });
        }
        // A child's failure is told twice, by its link and its monitor, and others may be linked with this process.
        let Some(key) = self.keys.remove(&process) else {
            return Ok(());
        };
        if let Some(kept) = self.children.get_mut(&key) {
            kept.process = None;
        }
        // A failure before it was monitored was told by its link first.
        let end = match reason {
            ExitReason::Normal | ExitReason::NoProcess => End::Normal,
            _ => End::Failed,
        };
        self.decide(key, end, &reason.to_string())
    }

    /// Does what the rules say about the end of a child. `why` is what it did.
    fn decide(&mut self, key: Key, end: End, why: &str) -> Result<(), Cause> {
        match self.rules.ended(key, end, self.now()) {
            Verdict::Leave => self.forget(key),
            Verdict::Restart { end } => {
                for key in end {
                    self.end(key);
                    self.forget(key);
                }
            }
            Verdict::GiveUp => {
                let Policy {
                    restarts, period, ..
                } = self.policy;
                let id = &self.children[&key].child.id;
                return Err(Cause::GaveUp(format!(
                    "child `{id}` {why}, and {restarts} restarts in {period:?} are spent"
                )));
            }
        }
        Ok(())
    }

    /// Ends the process of a child, if it has one.
    fn end(&mut self, key: Key) {
        let Some(kept) = self.children.get_mut(&key) else {
            return;
        };
        let Some(process) = kept.process.take() else {
            return;
        };
        self.keys.remove(&process);
        kept.child.end(process);
    }

    /// Lets go of a child that is no member any more.
    fn forget(&mut self, key: Key) {
        if !self.rules.is_member(key) {
            self.children.remove(&key);
        }
    }

    /// Ends all children, the last one first.
    fn end_all(&mut self) {
        for key in self.rules.in_order_of_end() {
            self.end(key);
        }
    }

    /// Returns why the start of a child was interrupted.
    fn interrupted(&self) -> Cause {
        match start::parent() {
            Some(parent) if !Process::<()>::from_id(parent).is_alive() => {
                Cause::ParentFailed(parent)
            }
            _ => Cause::Asked,
        }
    }
}
