//! Processes, as others hold them.
//!
//! A [`Process`] is what a sender, a link or the host has of a process: its pid, the state that signals act on, and the
//! means to wake it. What runs (instance, stack, memory) is in [`run`] and belongs to nobody else.

mod endpoint;
mod exit;
mod links;
mod live;
mod live_component;
mod mailbox;
mod pid;
pub(crate) mod run;
mod shell;
mod signal;
mod state;
mod table;

pub use endpoint::{Endpoint, Letter};
pub use exit::{Exit, Frame, LimitReached, Trap};
pub use live::{CallError, Live, OutOfBounds};
pub use live_component::LiveComponent;
pub(crate) use mailbox::{Mail, MailboxBounds, Message, Wanted};
pub use pid::Pid;
pub(crate) use pid::PidSource;
pub(crate) use shell::{MAX_WAITING, Shells};
pub(crate) use signal::Signal;
pub(crate) use state::Received;
pub(crate) use table::Table;

use crate::environment::Environment;
use crate::registry::Registration;
use crate::resources::{Attachment, Resource};
use async_channel::Receiver;
use lunatic_abi::{Errno, Limit};
use lunatic_net::tcp::TcpStream;
use state::{Outcome, Refusal, State};
use std::convert::Infallible;
use std::fmt;
use std::net;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};

/// A process, alive or dead. Cheap to clone; holding one does not keep the process alive.
///
/// ```
/// use lunatic_vm::{Exit, Vm};
///
/// let vm = Vm::builder().build()?;
/// let module = vm.module("spin", b"(module (func (export \"spin\") (loop br 0)))")?;
/// let environment = vm.environment(vm.config());
/// let process = environment.spawn(&module, "spin", &[])?;
/// process.kill();
/// assert!(matches!(vm.block_on(process.exited()), Exit::Killed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    pid: Pid,
    /// What it runs, for people: the entry function, or what the host calls it.
    name: Box<str>,
    environment: Environment,
    shared: Mutex<Shared>,
    /// Set, under the lock, when the process is to end; read without it before every turn.
    is_ending: AtomicBool,
    /// How often the process has been on turn.
    turns: AtomicU64,
    /// Closed when what the process left to other threads is released; there only where it can have left something.
    released: OnceLock<Receiver<Infallible>>,
}

struct Shared {
    state: State,
    /// Wakes the process. Set on its first turn.
    waker: Option<Waker>,
    /// How the process ended. Set when all that it had is released and everybody was told, which is later than its death.
    ended: Option<Exit>,
    /// Who waits for that.
    waiting: Vec<Waker>,
}

/// So many ends a process can be told of, however few messages its mailbox may hold: who keeps senders short is not meant
/// to lose sight of its children.
const MIN_ENDS: u64 = 1_000;

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The mailbox has no room.
    #[error("the mailbox of process {0} is full: {1}")]
    MailboxFull(Pid, LimitReached),
    /// The message is larger than the receiver's environment accepts.
    #[error("the message is too large: {0}")]
    TooLarge(LimitReached),
    /// The receiver's environment does not grant the kind of a resource in the message.
    #[error(
        "the environment of process {0} grants nothing that begins with `{1}`, so it cannot be sent such a resource"
    )]
    NotGranted(Pid, String),
    /// The receiver's environment has no room for the resources in the message.
    #[error("the receiver has no room for a resource in the message: {0}")]
    Limit(LimitReached),
    /// A connection that the host was to send cannot be handed over.
    #[error("the connection cannot be handed over: {0}")]
    Stream(String),
}

impl SendError {
    /// Returns the number that guests are told.
    pub fn errno(&self) -> Errno {
        match self {
            SendError::MailboxFull(..) => Errno::MailboxFull,
            SendError::TooLarge(_) => Errno::MessageTooLarge,
            SendError::NotGranted(..) => Errno::NotGranted,
            SendError::Limit(_) => Errno::LimitReached,
            SendError::Stream(_) => Errno::Other,
        }
    }
}

impl Process {
    pub(crate) fn new(pid: Pid, name: &str, environment: Environment) -> Process {
        Process(Arc::new(Inner {
            pid,
            name: name.into(),
            environment,
            shared: Mutex::new(Shared {
                state: State::new(),
                waker: None,
                ended: None,
                waiting: Vec::new(),
            }),
            is_ending: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            released: OnceLock::new(),
        }))
    }

    /// Returns its pid.
    pub fn pid(&self) -> Pid {
        self.0.pid
    }

    /// Returns what it runs: its entry function.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the environment that it lives in.
    pub fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// Lets its end wait, for a while, until something is released that other threads work with.
    pub(crate) fn ends_after(&self, released: Receiver<Infallible>) {
        // It is given once: a guest has one account.
        let _ = self.0.released.set(released);
    }

    /// Returns what its end waits for.
    pub(crate) fn released(&self) -> Option<&Receiver<Infallible>> {
        self.0.released.get()
    }

    /// Whether it is alive.
    pub fn is_alive(&self) -> bool {
        !self.lock().state.is_dead()
    }

    /// Kills it. It ends within two ticks, wherever it is; its links and monitors are told.
    pub fn kill(&self) {
        self.signal(Signal::Kill);
    }

    /// Puts a message into its mailbox. A message to the dead is dropped.
    ///
    /// # Errors
    ///
    /// [`SendError`] where there is no room: the host does not wait.
    pub fn send(&self, tag: i64, data: &[u8]) -> Result<(), SendError> {
        self.deliver(Message {
            tag,
            data: data.to_vec(),
            attachments: Vec::new(),
        })
        .map_err(|(_, error)| error)
    }

    /// Puts a message into its mailbox that carries a TCP connection, as its first resource: what `lunatic::net::TcpStream`
    /// is in a message of the guest library's. [`Process::STREAM`] are the bytes of a message that is a stream and nothing
    /// else. The connection counts for the receiver's environment from now on. Sent to the dead, it is closed.
    ///
    /// `kept` is dropped when the connection is closed, whoever has it then.
    ///
    /// # Errors
    ///
    /// [`SendError`] where there is no room for the message or the connection, or where the receiver may not use one; then
    /// it is closed.
    ///
    /// ```no_run
    /// use lunatic_vm::Process;
    /// use std::net::TcpListener;
    ///
    /// /// Hands connections to a process that is a `Mailbox<TcpStream>`.
    /// fn serve(process: &Process, listener: &TcpListener) -> Result<(), Box<dyn std::error::Error>> {
    ///     while process.is_alive() {
    ///         let (stream, _) = listener.accept()?;
    ///         process.send_stream(0, Process::STREAM, stream, ())?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn send_stream(
        &self,
        tag: i64,
        data: &[u8],
        stream: net::TcpStream,
        kept: impl Send + Sync + 'static,
    ) -> Result<(), SendError> {
        let stream =
            TcpStream::adopt(stream, kept).map_err(|error| SendError::Stream(error.to_string()))?;
        let attachment = Attachment {
            resource: Resource::TcpStream(stream),
            permit: None,
        };
        let message = Message {
            tag,
            data: data.to_vec(),
            attachments: vec![Some(attachment)],
        };
        self.deliver(message).map_err(|(_, error)| error)
    }

    /// The bytes of a message to a `Mailbox<TcpStream>`: the number of its first resource, 0, as all serializers of the
    /// guest libraries read it that write numbers in binary. Those of ours and of the published crate do.
    pub const STREAM: &[u8] = &[0; 8];

    /// Returns how many pieces of mail wait in its mailbox, and how many bytes they are.
    pub fn mailbox_size(&self) -> (usize, u64) {
        self.lock().state.mailbox_size()
    }

    /// Returns how many pieces of mail were put into its mailbox since it began.
    pub(crate) fn mail_received(&self) -> u64 {
        self.next_sequence()
    }

    /// Returns the names that it is registered under, without their versions.
    pub fn names(&self) -> Vec<String> {
        self.lock().state.names().map(str::to_string).collect()
    }

    /// Waits until it has ended, and says how. By then its names, sockets and memory are gone.
    pub async fn exited(&self) -> Exit {
        std::future::poll_fn(|context| {
            let mut shared = self.lock();
            if let Some(exit) = &shared.ended {
                return Poll::Ready(exit.clone());
            }
            if !shared
                .waiting
                .iter()
                .any(|waker| waker.will_wake(context.waker()))
            {
                shared.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Says how it has ended, if it has and its names, sockets and memory are gone.
    pub fn exit(&self) -> Option<Exit> {
        self.lock().ended.clone()
    }

    /// Applies a signal; says whether the process was alive to take it.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let mut shared = self.lock();
        let outcome = shared.state.signal(signal);
        if shared.state.ending().is_some() {
            // Release pairs with the Acquire in `ending`; the lock orders it for everybody else.
            self.0.is_ending.store(true, Ordering::Release);
        }
        self.wake(shared, outcome);
        outcome != Outcome::Dead
    }

    /// Puts a message into the mailbox, or gives it back and says why not.
    pub(crate) fn deliver(&self, mut message: Message) -> Result<(), (Message, SendError)> {
        let limits = self.0.environment.limits();
        let allowed = limits.get(Limit::MessageBytes);
        if message.size() as u64 > allowed {
            let reached = LimitReached {
                limit: Limit::MessageBytes,
                allowed,
                wanted: Some(message.size() as u64),
            };
            return Err((message, SendError::TooLarge(reached)));
        }
        if let Err(error) = self.admit(&mut message) {
            return Err((message, error));
        }
        let bounds = MailboxBounds {
            messages: limits.get(Limit::MailboxMessages),
            bytes: limits.get(Limit::MailboxBytes),
        };
        let mut shared = self.lock();
        match shared.state.message(message, bounds) {
            Ok(outcome) => {
                self.wake(shared, outcome);
                Ok(())
            }
            // The message is dropped after the lock: resources in it may take time to close.
            Err(Refusal::Dead(message)) => {
                drop(shared);
                drop(message);
                Ok(())
            }
            Err(Refusal::Full(message, reached)) => {
                Err((message, SendError::MailboxFull(self.0.pid, reached)))
            }
        }
    }

    /// Sending a resource is the grant of it: checks that this process may have it, and counts it here.
    fn admit(&self, message: &mut Message) -> Result<(), SendError> {
        let environment = &self.0.environment;
        for attachment in message.attachments.iter_mut().flatten() {
            if let Some(namespace) = attachment.resource.namespace()
                && !environment.grants().allows_any(namespace)
            {
                return Err(SendError::NotGranted(self.0.pid, namespace.to_string()));
            }
            let is_counted = attachment
                .permit
                .as_ref()
                .is_some_and(|permit| permit.is_of(environment.quota()));
            if attachment.resource.is_socket() && !is_counted {
                let permit = environment
                    .quota()
                    .permit(Limit::Sockets, 1)
                    .map_err(SendError::Limit)?;
                attachment.permit = Some(Arc::new(permit));
            }
        }
        Ok(())
    }

    /// Remembers what the process waits for from now on.
    pub(crate) fn expect(&self, wanted: &Wanted, since: u64, forever: bool) {
        self.lock().state.expect(wanted, since, forever);
    }

    /// Takes what a receive asks for, or remembers that the process waits for it.
    pub(crate) fn receive(&self, wanted: &Wanted, since: u64, forever: bool) -> Received {
        self.lock().state.receive(wanted, since, forever)
    }

    /// Takes what the process waits for, if it has come.
    pub(crate) fn receive_awaited(&self) -> Received {
        self.lock().state.receive_awaited()
    }

    pub(crate) fn stop_waiting(&self) {
        self.lock().state.stop_waiting();
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.lock().state.next_sequence()
    }

    /// Takes the news that no other process of the program is left, which may be old by now.
    pub(crate) fn be_alone(&self) {
        let shared = self.lock();
        let outcome = shared.state.be_alone();
        self.wake(shared, outcome);
    }

    /// Decides whether failures of links are told to the process or kill it.
    pub(crate) fn set_told(&self, told: bool) {
        self.lock().state.links().set_told(told);
    }

    /// Links this process, which is on turn, with another. One that does not exist is a death at once.
    pub(crate) fn link(&self, pid: Pid, tag: i64) {
        if self.is_linked_with_nobody(pid, tag) {
            self.signal(Signal::LinkDied {
                pid,
                exit: Exit::NoProcess,
            });
        }
    }

    /// Links this process, which is on turn, with another if that is alive.
    pub(crate) fn link_with_living(&self, pid: Pid, tag: i64) {
        if self.is_linked_with_nobody(pid, tag) {
            self.lock().state.links().unlink(pid);
        }
    }

    /// Links this process with another; says whether nobody was there to be linked with, and this side of the link is left.
    ///
    /// The own side first: were the other to die in between, its failure would find this process not linked yet.
    fn is_linked_with_nobody(&self, pid: Pid, tag: i64) -> bool {
        if pid == self.0.pid {
            return false;
        }
        let is_new = self.lock().state.links().link(pid, tag);
        let other = self.0.environment.machine().process(pid);
        let is_there = other.is_some_and(|other| {
            other.signal(Signal::Link {
                pid: self.0.pid,
                tag,
            })
        });
        // Where the dead one was linked before, its own word is on its way and knows why it died.
        !is_there && is_new
    }

    /// Ends the link of this process with another.
    pub(crate) fn unlink(&self, pid: Pid) {
        self.lock().state.links().unlink(pid);
        if let Some(other) = self.0.environment.machine().process(pid) {
            other.signal(Signal::Unlink { pid: self.0.pid });
        }
    }

    /// Has this process told of another's end, with a tag or without (0).
    pub(crate) fn monitor(&self, pid: Pid, tag: i64) {
        if !self.lock().state.links().watch(pid, tag) {
            return;
        }
        let other = self.0.environment.machine().process(pid);
        if !other.is_some_and(|other| other.signal(Signal::Monitor { pid: self.0.pid })) {
            self.lock().state.nobody_there(pid, tag);
        }
    }

    /// Checks that this process, which is on turn, may be told of one more end.
    pub(crate) fn room_for_end(&self) -> Result<(), LimitReached> {
        let allowed = self
            .0
            .environment
            .limits()
            .get(Limit::MailboxMessages)
            .max(MIN_ENDS);
        self.lock().state.room_for_end(allowed)
    }

    /// Takes that back; says whether the end was not told yet, so that it will not be.
    pub(crate) fn stop_monitoring(&self, pid: Pid, tag: i64) -> bool {
        let (was_there, is_watching) = {
            let mut shared = self.lock();
            let links = shared.state.links();
            (links.unwatch(pid, tag), links.watches(pid))
        };
        if was_there
            && !is_watching
            && let Some(other) = self.0.environment.machine().process(pid)
        {
            other.signal(Signal::StopMonitoring { pid: self.0.pid });
        }
        was_there
    }

    /// Runs `register` and, where that says that the name is new, remembers it: `None` where the process is dead.
    ///
    /// The process's lock is held, so that it cannot die between the two and leave its name behind. Nothing that holds the
    /// registry's lock takes a process's.
    pub(crate) fn with_name<E>(
        &self,
        registration: Registration,
        register: impl FnOnce() -> Result<bool, E>,
    ) -> Option<Result<(), E>> {
        let mut shared = self.lock();
        if shared.state.is_dead() {
            return None;
        }
        let registered = register();
        if let Ok(true) = registered {
            shared.state.add_name(registration);
        }
        Some(registered.map(drop))
    }

    /// Takes a name from the process, here and in its environment; says whether the process had it. The lock is held for the
    /// same reason.
    pub(crate) fn without_name(&self, registration: &Registration) -> bool {
        let mut shared = self.lock();
        let Some(held) = shared.state.remove_name(registration) else {
            return false;
        };
        held.environment.remove_name(&held.name, self.0.pid);
        // The environment may end with this, which need not happen locked.
        drop(shared);
        drop(held);
        true
    }

    /// Returns what the process is to end with, if it is.
    pub(crate) fn ending(&self) -> Option<Exit> {
        // Acquire pairs with the Release in `signal`.
        if !self.0.is_ending.load(Ordering::Acquire) {
            return None;
        }
        self.lock().state.ending().cloned()
    }

    /// Whether the process is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.0.is_ending.load(Ordering::Acquire)
    }

    /// Begins a turn: remembers how to wake the process.
    pub(crate) fn begin_turn(&self, context: &Context<'_>) {
        // Relaxed, and in two steps: only the process itself changes it, and only the process itself relies on it.
        let turns = self.0.turns.load(Ordering::Relaxed);
        self.0.turns.store(turns + 1, Ordering::Relaxed);
        if turns == 0 {
            self.lock().waker = Some(context.waker().clone());
        }
    }

    /// Remembers how to wake the process, where that may be another waker each time.
    fn set_waker(&self, context: &Context<'_>) {
        self.lock().waker = Some(context.waker().clone());
    }

    /// Returns how often the process has been on turn.
    pub fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0
            .shared
            .lock()
            .expect("nothing panics while it holds a process's lock")
    }

    /// Wakes the process if need be, without its lock: a waker may run anything, even this process's end.
    fn wake(&self, shared: MutexGuard<'_, Shared>, outcome: Outcome) {
        if outcome != Outcome::Wake {
            return;
        }
        let waker = shared.waker.clone();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the process: releases what it had, and only then tells who wanted to know.
    fn finish(&self, exit: Exit, release: impl FnOnce()) {
        let machine = self.0.environment.machine();
        let ended = {
            let mut shared = self.lock();
            shared.waker = None;
            shared.state.die(&exit)
        };
        for registration in &ended.names {
            registration
                .environment
                .remove_name(&registration.name, self.0.pid);
        }
        let mail = ended.mailbox.next_sequence();
        drop(ended.mailbox);
        machine.processes.remove(self.0.pid);
        release();
        crate::observe::exited(self, &exit, mail);

        let tell = |pids: Vec<Pid>, signal: Signal| {
            for pid in pids {
                if let Some(process) = machine.process(pid) {
                    process.signal(signal.clone());
                }
            }
        };
        let pid = self.0.pid;
        tell(
            ended.farewell.links,
            Signal::LinkDied {
                pid,
                exit: exit.clone(),
            },
        );
        tell(
            ended.farewell.watchers,
            Signal::ProcessDied {
                pid,
                exit: exit.clone(),
            },
        );
        tell(ended.farewell.unlinked, Signal::Unlink { pid });
        tell(ended.farewell.watched, Signal::StopMonitoring { pid });
        let waiting = {
            let mut shared = self.lock();
            shared.ended = Some(exit);
            std::mem::take(&mut shared.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
        self.0.environment.program().left(machine, pid);
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({} {})", self.0.pid, self.0.name)
    }
}
