//! Process handles.
//!
//! A [`Process`] is the handle that senders, links and the host use to refer to a process. It
//! contains the process's cell, name and domain. The running part (instance, stack and memory) is
//! in [`crate::run`] and is accessed only by the process itself.

use super::domain::Domain;
use crate::environment::{HostMemory, Name, Names, Registration, RegistrationId, RegistryError};
use crate::travel::{Attachment, Resource};
use async_channel::Receiver;
use lunatic_abi::{Errno, Limit};
use lunatic_net::tcp::TcpStream;
use lunatic_process::{
    Exit, LimitReached, MailboxLimits, Message, Pid, ProcessCell, Purse, Refusal, Signal,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// A process, alive or dead. Cheap to clone. Holding a handle does not keep the process alive.
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

/// The names that a process is registered under.
pub(crate) type Registrations = BTreeMap<RegistrationId, Registration>;

/// What the machine stores for each process.
pub(crate) struct Inner {
    cell: ProcessCell,
    role: Arc<Role>,
    /// The process that spawned this process.
    parent: Option<Pid>,
    /// The names that the process is registered under, or `None` once it has ended.
    names: Mutex<Option<Registrations>>,
    /// The account for memory that the host holds for the process. Most processes never need it.
    host_memory: OnceLock<HostMemory>,
    /// Closed once all resources that the process left to other threads have been released. Set
    /// only if there may be any.
    released: OnceLock<Receiver<Infallible>>,
}

/// What a process is called and where it lives. Processes that are spawned alike share one role.
pub(crate) struct Role {
    /// A human-readable name for what the process runs: the entry function, or the name that the
    /// host gave the process.
    pub(crate) name: Box<str>,
    pub(crate) domain: Arc<Domain>,
}

/// Mail counts toward its receiver's environment.
impl Purse for Role {
    fn pay(&self, bytes: u64) -> Result<(), LimitReached> {
        self.domain.quota().pay(bytes)
    }

    fn refund(&self, bytes: u64) {
        self.domain.quota().refund(bytes);
    }
}

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The mailbox is full.
    #[error("the mailbox of process {0} is full: {1}")]
    MailboxFull(Pid, LimitReached),
    /// The message exceeds the size limit of the receiver's environment.
    #[error("the message is too large: {0}")]
    TooLarge(LimitReached),
    /// The receiver's environment does not grant the kind of a resource in the message.
    #[error(
        "process {0} cannot receive such a resource, because its environment does not grant any function whose name begins with `{1}`"
    )]
    NotGranted(Pid, String),
    /// The resources in the message would exceed a limit of the receiver's environment.
    #[error("the receiver cannot hold a resource in the message: {0}")]
    Limit(LimitReached),
    /// The host's connection cannot be handed over.
    #[error("the connection cannot be handed over: {0}")]
    Stream(String),
}

impl SendError {
    /// Returns the error code that guests receive.
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

impl AsRef<ProcessCell> for Inner {
    fn as_ref(&self) -> &ProcessCell {
        &self.cell
    }
}

impl Process {
    pub(crate) fn new(pid: Pid, parent: Option<Pid>, role: Arc<Role>) -> Process {
        let limits = role.domain.limits();
        let limits = MailboxLimits {
            message_bytes: limits.get(Limit::MessageBytes),
            messages: limits.get(Limit::MailboxMessages),
            bytes: limits.get(Limit::MailboxBytes),
        };
        Process(Arc::new(Inner {
            cell: ProcessCell::new(pid, limits).paid_by(role.clone()),
            role,
            parent,
            names: Mutex::new(Some(BTreeMap::new())),
            host_memory: OnceLock::new(),
            released: OnceLock::new(),
        }))
    }

    /// Returns the process's pid.
    pub fn pid(&self) -> Pid {
        self.0.cell.pid()
    }

    /// Returns the name of what the process runs, usually its entry function.
    pub fn name(&self) -> &str {
        &self.0.role.name
    }

    /// Returns the process that spawned this process, or `None` if the host spawned it.
    pub fn parent(&self) -> Option<Pid> {
        self.0.parent
    }

    /// Returns whether the process is alive.
    pub fn is_alive(&self) -> bool {
        self.0.cell.is_alive()
    }

    /// Kills the process. It dies within two ticks, even if it is busy, and its linked and
    /// monitoring processes are notified.
    pub fn kill(&self) {
        self.0.cell.signal(Signal::Kill);
    }

    /// Puts a message into the process's mailbox. A message to a dead process is dropped.
    ///
    /// # Errors
    ///
    /// Returns a [`SendError`] if the mailbox is full. The host does not wait for space.
    pub fn send(&self, tag: i64, data: &[u8]) -> Result<(), SendError> {
        self.deliver(Message {
            tag,
            data: data.to_vec(),
            attachments: Vec::new(),
        })
        .map_err(|(_, error)| error)
    }

    /// Sends the process a message that carries a TCP connection as its first resource. The guest
    /// library represents a `lunatic::net::TcpStream` in a message in the same way.
    /// [`Process::STREAM`] contains the data of a message that consists only of a stream. Once
    /// sent, the connection counts toward the limits of the receiver's environment. If the receiver
    /// is dead, the connection is closed.
    ///
    /// `kept` is dropped when the connection is closed, no matter which process holds it by then.
    ///
    /// # Errors
    ///
    /// Returns a [`SendError`], and closes the connection, if the message or the connection would
    /// exceed one of the receiver's limits, or if the receiver may not use connections.
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
        let attachment = Attachment::uncounted(Resource::TcpStream(stream));
        let message = Message {
            tag,
            data: data.to_vec(),
            attachments: vec![Some(attachment.into())],
        };
        self.deliver(message).map_err(|(_, error)| error)
    }

    /// The data of a message to a `Mailbox<TcpStream>`. It encodes 0, the index of the message's
    /// first resource, in a form that all binary serializers in this project's guest library and in
    /// the published one can read.
    pub const STREAM: &[u8] = &[0; 8];

    /// Asks the process to shut down, like `Process::shutdown` in the guest library. A process that
    /// uses the library finds out the next time it receives a message.
    ///
    /// # Errors
    ///
    /// Fails under the same conditions as [`Process::send`].
    pub fn ask_to_end(&self) -> Result<(), SendError> {
        /// `nil`, in MessagePack.
        const NIL: &[u8] = &[0xc0];
        self.send(lunatic_abi::SHUTDOWN, NIL)
    }

    /// Returns the number of messages and death notices in the mailbox, and the total size of the
    /// messages in bytes.
    pub fn mailbox_size(&self) -> (usize, u64) {
        self.0.cell.mailbox_size()
    }

    /// Returns the names that the process is registered under, without their versions.
    pub fn names(&self) -> Vec<String> {
        let names = self.registrations();
        let names = names.iter().flat_map(BTreeMap::values);
        names
            .map(|registration| registration.name().text().to_string())
            .collect()
    }

    /// Waits until the process has ended and its names, sockets and memory have been released.
    /// Returns how it ended.
    pub async fn exited(&self) -> Exit {
        self.0.cell.exited().await
    }

    /// Returns how the process ended. Returns `None` until its names, sockets and memory have been
    /// released.
    pub fn exit(&self) -> Option<Exit> {
        self.0.cell.exit()
    }

    /// Returns the number of turns the process has had.
    pub fn turns(&self) -> u64 {
        self.0.cell.turns()
    }

    /// Puts a message into the mailbox, or returns the message and the reason it was refused.
    pub(crate) fn deliver(&self, message: Message) -> Result<(), (Message, SendError)> {
        self.deliver_with(message, ProcessCell::deliver)
    }

    /// Delivers a message for which room has been reserved.
    pub(crate) fn deliver_late(&self, message: Message) -> Result<(), (Message, SendError)> {
        self.deliver_with(message, ProcessCell::deliver_late)
    }

    fn deliver_with(
        &self,
        mut message: Message,
        deliver: impl FnOnce(&ProcessCell, Message) -> Result<(), (Message, Refusal)>,
    ) -> Result<(), (Message, SendError)> {
        if !message.attachments.is_empty() {
            let checked = self.0.cell.check_size(&message);
            let admitted = checked
                .map_err(|refusal| self.send_error(refusal))
                .and_then(|()| self.admit(&mut message));
            if let Err(error) = admitted {
                return Err((message, error));
            }
        }
        let delivered = deliver(&self.0.cell, message);
        delivered.map_err(|(message, refusal)| (message, self.send_error(refusal)))
    }

    fn send_error(&self, refusal: Refusal) -> SendError {
        match refusal {
            Refusal::TooLarge(reached) => SendError::TooLarge(reached),
            Refusal::Full(reached) => SendError::MailboxFull(self.pid(), reached),
        }
    }

    /// Checks that this process may have each resource in a message, and charges its environment
    /// for them. Sending a resource grants it to the receiver.
    fn admit(&self, message: &mut Message) -> Result<(), SendError> {
        let domain = self.domain();
        for attachment in message.attachments.iter_mut().flatten() {
            let attachment = Attachment::of_mut(attachment);
            if let Some(namespace) = attachment.resource.namespace()
                && !domain.grants().allows_any(namespace)
            {
                return Err(SendError::NotGranted(self.pid(), namespace.to_string()));
            }
            let is_counted = attachment
                .permit
                .as_ref()
                .is_some_and(|permit| permit.is_of(domain.quota()));
            if attachment.resource.is_socket() && !is_counted {
                let permit = domain
                    .quota()
                    .permit(Limit::Sockets, 1)
                    .map_err(SendError::Limit)?;
                attachment.permit = Some(Arc::new(permit));
            }
        }
        Ok(())
    }

    /// Runs `register` and records the name that it registers, if any.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::NoProcess`] if the process has ended, or the error from `register`.
    pub(crate) fn add_name(
        &self,
        register: impl FnOnce() -> Result<Option<Registration>, RegistryError>,
    ) -> Result<(), RegistryError> {
        // The lock is held until the name is recorded. If the process ends in the meantime, the
        // name is removed along with its other names.
        let mut names = self.registrations();
        let Some(names) = &mut *names else {
            return Err(RegistryError::NoProcess(self.pid()));
        };
        names.extend(register()?.map(|name| (name.id(), name)));
        Ok(())
    }

    /// Removes a name from the process. Returns whether the process had it.
    pub(crate) fn remove_name(&self, table: &Arc<Names>, name: &Name) -> bool {
        let mut names = self.registrations();
        let Some(names) = &mut *names else {
            return false;
        };
        let id = table.registration(name, self.pid());
        // The registration is dropped while the lock is held, so that names of processes that have
        // ended cannot be found.
        id.and_then(|id| names.remove(&id)).is_some()
    }

    /// Removes all of the process's names, and prevents it from getting new ones. A name is free
    /// once its registration is dropped.
    pub(crate) fn take_names(&self) -> Registrations {
        self.registrations().take().unwrap_or_default()
    }

    /// Returns how many pieces of mail, links, monitors and names have to be handled when the
    /// process ends.
    pub(crate) fn burden(&self) -> usize {
        let names = self.registrations().as_ref().map_or(0, BTreeMap::len);
        self.0.cell.burden() + names
    }

    fn registrations(&self) -> MutexGuard<'_, Option<Registrations>> {
        self.0
            .names
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Returns the account for memory that the host holds for the process.
    pub fn host_memory(&self) -> &HostMemory {
        let quota = self.domain().quota();
        self.0
            .host_memory
            .get_or_init(|| HostMemory::of_process(quota))
    }

    /// Delays the process's end until resources in use by other threads are released, or until a
    /// timeout expires.
    pub(crate) fn ends_after(&self, released: Receiver<Infallible>) {
        // This is set only once, because a guest has only one account.
        let _ = self.0.released.set(released);
    }

    /// Returns the channel that was passed to [`Process::ends_after`], if any.
    pub(crate) fn released(&self) -> Option<&Receiver<Infallible>> {
        self.0.released.get()
    }

    /// Returns the state that other processes act on.
    pub(crate) fn cell(&self) -> &ProcessCell {
        &self.0.cell
    }

    /// Returns the domain that the process lives in.
    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.0.role.domain
    }

    /// Returns the process in the form stored in the process table.
    pub(super) fn into_inner(self) -> Arc<Inner> {
        self.0
    }

    /// Returns a handle to a process from the process table.
    pub(super) fn from_inner(inner: Arc<Inner>) -> Process {
        Process(inner)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({} {})", self.pid(), self.name())
    }
}
