//! Processes: what one holds of another, and how one is spawned.

use crate::LunaticError;
use crate::entry::{EXPORT, Entry};
use crate::envelope;
use crate::environment::Environment;
use crate::host;
use crate::mailbox::{LinkMailbox, Mailbox, TransformMailbox};
use crate::message::ExitReason;
use crate::request::{Awaited, RequestError};
use crate::tag::{CONTEXT, SHUTDOWN, Tag};
use lunatic_abi::{Errno, OWN};
use rmp_serde::encode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::time::Duration;

/// Names a process that receives messages of type `T`. It goes on to do so when the process is dead.
///
/// It is a number and can be copied, compared and sent to other processes. Whoever has it may send to the process, watch
/// it and kill it.
pub struct Process<T> {
    id: u64,
    // A process takes `T`; what names it owns none.
    messages: PhantomData<fn(T)>,
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// The receiver's mailbox is full, and remained so for a slice of the sender's time.
    #[error("the receiver's mailbox is full")]
    MailboxFull,
    /// The message is larger than the receiver's environment accepts.
    #[error("the message is larger than the receiver's environment accepts")]
    MessageTooLarge,
    /// The receiver's environment does not grant it what travels in the message.
    #[error("the receiver's environment does not grant what travels in the message")]
    NotGranted,
    /// The value cannot be written as a message.
    #[error("the value cannot be written as a message: {0}")]
    SerializationFailed(encode::Error),
    /// The machine refused it for a reason that is younger than this library.
    #[error("the machine refused the message ({0:?})")]
    Refused(Errno),
}

impl SendFailure {
    fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::MailboxFull => Self::MailboxFull,
            Errno::MessageTooLarge => Self::MessageTooLarge,
            Errno::NotGranted => Self::NotGranted,
            other => Self::Refused(other),
        }
    }

    fn errno(&self) -> Errno {
        match self {
            Self::MailboxFull => Errno::MailboxFull,
            Self::MessageTooLarge => Errno::MessageTooLarge,
            Self::NotGranted => Errno::NotGranted,
            Self::SerializationFailed(_) => Errno::InvalidInput,
            Self::Refused(errno) => *errno,
        }
    }
}

impl From<SendFailure> for LunaticError {
    fn from(failure: SendFailure) -> Self {
        LunaticError::new(failure.errno(), failure.to_string())
    }
}

/// A message that was not sent, and why.
#[derive(thiserror::Error)]
#[error("{failure}")]
pub struct SendError<T> {
    /// The message, given back.
    pub message: T,
    /// Why it was not sent.
    #[source]
    pub failure: SendFailure,
}

// Written out so that `unwrap` works for messages that have no `Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// Why a process was not spawned with a link, and the mailbox of the one that was to spawn it, which is what it would have
/// been.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct SpawnError<M> {
    /// The mailbox, given back.
    pub mailbox: M,
    /// Why nothing was spawned.
    #[source]
    pub error: LunaticError,
}

// Written out so that `unwrap` works for mailboxes of all messages.
impl<M> fmt::Debug for SpawnError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Lets go of the mailbox, so that `?` works where the process ends with the error.
impl<M> From<SpawnError<M>> for LunaticError {
    fn from(error: SpawnError<M>) -> Self {
        error.error
    }
}

/// What spawning with a link brings: the process and the mailbox of the one that spawned it.
pub type Linked<T, M> = Result<(Process<T>, M), SpawnError<M>>;

impl<T> Process<T> {
    pub(crate) fn from_id(id: u64) -> Self {
        Self {
            id,
            messages: PhantomData,
        }
    }

    /// Returns the running process, as one that receives what the caller says.
    pub(crate) fn this() -> Self {
        // SAFETY: the call takes nothing and returns a number.
        Self::from_id(unsafe { host::process::process_id() })
    }

    /// Returns the number that the machine knows the process by. No two processes of a machine have the same, living or
    /// dead.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Links this process with the other: when one of them fails, the other dies too, or is told with the returned tag
    /// where it has a [`LinkMailbox`]. A process that is dead already fails the link at once.
    ///
    /// The normal end of a process is not told to those linked with it.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{process, Mailbox, TransformMailbox};
    ///
    /// #[lunatic::main]
    /// fn main(mailbox: Mailbox<()>) {
    ///     let mailbox = mailbox.catch_link_panic();
    ///     let worker = process::spawn(|mailbox: Mailbox<()>| mailbox.receive().unwrap()).unwrap();
    ///     let tag = worker.link();
    ///     worker.kill();
    ///     let message = mailbox.receive();
    ///     assert_eq!(message.signal().unwrap().tag, tag);
    /// }
    /// ```
    pub fn link(&self) -> Tag {
        let tag = Tag::new();
        // SAFETY: the call takes numbers.
        unsafe { host::process::link(tag.id(), self.id) };
        tag
    }

    /// Ends the link between this process and the other, if there is one. A failure that was told before stays in the
    /// mailbox.
    pub fn unlink(&self) {
        // SAFETY: the call takes a number.
        unsafe { host::process::unlink(self.id) };
    }

    /// Asks for a signal when the process ends, whatever its reason. Where it is dead already the signal comes at once,
    /// with [`ExitReason::NoProcess`].
    ///
    /// The signal comes in this process's mailbox: as [`Message::Signal`](crate::Message::Signal) of a [`LinkMailbox`], as
    /// [`ReceiveError::Signal`](crate::ReceiveError::Signal) of a [`Mailbox`]. It has no tag, so a receive with tags leaves
    /// it where it is. A process that is monitored twice is told of once.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{process, ExitReason, Mailbox, ReceiveError};
    ///
    /// #[lunatic::main]
    /// fn main(mailbox: Mailbox<()>) {
    ///     let worker = process::spawn(|_: Mailbox<()>| println!("done")).unwrap();
    ///     worker.monitor();
    ///     let Err(ReceiveError::Signal(signal)) = mailbox.receive() else { panic!("nobody sends") };
    ///     assert_eq!(signal.pid, worker.id());
    ///     assert!(matches!(signal.reason, ExitReason::Normal | ExitReason::NoProcess));
    /// }
    /// ```
    pub fn monitor(&self) {
        // SAFETY: the call takes a number.
        unsafe { host::process::monitor(self.id) };
    }

    /// Takes back [`monitor`](Self::monitor). A signal that came before stays in the mailbox.
    pub fn stop_monitoring(&self) {
        // SAFETY: the call takes a number.
        unsafe { host::process::stop_monitoring(self.id) };
    }

    /// Kills the process. Nothing happens where it is dead. Processes linked with it die too, or are told.
    pub fn kill(&self) {
        // SAFETY: the call takes a number.
        unsafe { host::process::kill(self.id) };
    }

    /// Asks the process to end, waits until it did, and returns why it ended. It is killed where that takes longer than
    /// `patience`; `None` is patience without end.
    ///
    /// What is asked is told to the process by [`ReceiveError::Shutdown`](crate::ReceiveError::Shutdown), so that a process
    /// that ends when a receive fails ends well. One that does not receive without tags is not told. Nothing is waited
    /// for where the process is dead, and the reason is [`ExitReason::NoProcess`] then.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{process, ExitReason, Mailbox};
    /// use std::time::Duration;
    ///
    /// #[lunatic::main]
    /// fn main(_: Mailbox<()>) {
    ///     let printer = process::spawn(|mailbox: Mailbox<String>| {
    ///         while let Ok(text) = mailbox.receive() {
    ///             println!("{text}");
    ///         }
    ///         println!("that was all");
    ///     })
    ///     .unwrap();
    ///     printer.send("one".into());
    ///     assert_eq!(printer.shutdown(Some(Duration::from_secs(5))), ExitReason::Normal);
    /// }
    /// ```
    pub fn shutdown(&self, patience: Option<Duration>) -> ExitReason {
        let end = Awaited::report(Tag::new_reply(), self.id);
        // A full mailbox is as little to be waited for as a process that does not listen.
        if self.post(SHUTDOWN, &()).is_err() {
            self.kill();
        }
        let mut ended = end.wait::<()>(host::milliseconds_or_forever(patience));
        if let Err(RequestError::Timeout) = ended {
            self.kill();
            ended = end.wait(lunatic_abi::FOREVER);
        }
        end.settle(&ended);
        match ended {
            Err(RequestError::Died(reason)) => reason,
            _ => ExitReason::Unknown,
        }
    }

    /// Whether the process is alive. It may die before the caller looks at the answer.
    pub fn is_alive(&self) -> bool {
        // SAFETY: the call takes a number and returns one.
        unsafe { host::process::exists(self.id) != 0 }
    }
}

impl<T: Serialize> Process<T> {
    /// Sends a message. Messages from one process to another arrive in the order in which they were sent; a message to a
    /// dead process is dropped.
    ///
    /// The sender waits for at most a slice of its time where the receiver's mailbox is full.
    ///
    /// # Panics
    ///
    /// Where the message cannot be delivered to a living process, for a [`SendFailure`]: a message that is lost would be
    /// found much later, somewhere else. [`try_send`](Self::try_send) returns it instead.
    pub fn send(&self, message: T) {
        self.tag_send(Tag::NONE, message);
    }

    /// Sends a message with a tag, as [`send`](Self::send) does.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub fn tag_send(&self, tag: Tag, message: T) {
        if let Err(failure) = self.post(tag, &message) {
            panic!(
                "a message to process <{:x}> was not sent: {failure}",
                self.id
            );
        }
    }

    /// Sends a message, or gives it back.
    ///
    /// # Errors
    ///
    /// A [`SendFailure`], with the message. A dead receiver is no failure.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{process, Process, SendFailure};
    ///
    /// fn offer(worker: Process<String>, job: String) -> Option<String> {
    ///     let Err(error) = worker.try_send(job) else { return None };
    ///     match error.failure {
    ///         SendFailure::MailboxFull => Some(error.message),
    ///         other => panic!("{other}"),
    ///     }
    /// }
    /// ```
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        self.try_tag_send(Tag::NONE, message)
    }

    /// Sends a message with a tag, or gives it back, as [`try_send`](Self::try_send) does.
    pub fn try_tag_send(&self, tag: Tag, message: T) -> Result<(), SendError<T>> {
        match self.post(tag, &message) {
            Ok(()) => Ok(()),
            Err(failure) => Err(SendError { message, failure }),
        }
    }
}

impl<T> Process<T> {
    pub(crate) fn post<M: Serialize>(&self, tag: Tag, message: &M) -> Result<(), SendFailure> {
        envelope::seal(message, |bytes, streams| {
            envelope::post(self.id, tag, bytes, streams)
        })
        .map_err(SendFailure::SerializationFailed)?
        .map_err(SendFailure::from_errno)
    }
}

// A process is a number whatever it receives, so none of these asks anything of `T`.

impl<T> Clone for Process<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Process<T> {}

impl<T> PartialEq for Process<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<T> Eq for Process<T> {}

impl<T> Hash for Process<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<T> fmt::Debug for Process<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process<{:x}>", self.id)
    }
}

impl<T> Serialize for Process<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.id.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Process<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::from_id)
    }
}

/// Returns the running process, as the one that owns this mailbox.
pub fn this<T, U: TransformMailbox<T>>(_mailbox: &U) -> Process<T> {
    Process::this()
}

/// Returns the environment of the running process.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<String>) {
///     let this = process::this(&mailbox);
///     process::this_env().register("log", "1.0.0", this).unwrap();
/// }
/// ```
pub fn this_env() -> Environment {
    Environment::own()
}

/// Suspends the running process. Others go on.
pub fn sleep(milliseconds: u64) {
    // SAFETY: the call takes a number.
    unsafe { host::process::sleep_ms(milliseconds) };
}

/// Spawns a process that begins with a function and has this process's rights.
///
/// The function is one of the program, or a closure that captures nothing: processes share no memory. What a process is
/// to know from the start goes along with [`spawn_with`].
///
/// Output is written a line at a time, and what is left of it when the function returns. What a process that traps or is
/// killed had not written goes with its memory.
///
/// # Errors
///
/// A limit of the environment, or that it does not let its processes spawn.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let greeter = process::spawn(|mailbox: Mailbox<String>| {
///         println!("Hello {}!", mailbox.receive().unwrap());
///     })
///     .unwrap();
///     greeter.monitor();
///     greeter.send("world".into());
/// }
/// ```
pub fn spawn<T>(function: fn(Mailbox<T>)) -> Result<Process<T>, LunaticError> {
    Place::Here.spawn(Tag::NONE, function)
}

/// Spawns a process as [`spawn`] does, and hands it a value.
///
/// The value is in the process's mailbox before the process runs; where it cannot be delivered, nothing is spawned. The
/// machine is asked for `lunatic::environment::spawn`, and for `lunatic::process::spawn` where there is no value.
///
/// # Errors
///
/// As [`spawn`], and where the value cannot be sent, as [`SendFailure`] says.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<u64>) {
///     let this = process::this(&mailbox);
///     for number in 0..10u64 {
///         process::spawn_with((this, number), |(parent, number), _: Mailbox<()>| {
///             parent.send(number * number);
///         })
///         .unwrap();
///     }
///     let sum: u64 = (0..10).map(|_| mailbox.receive().unwrap()).sum();
///     assert_eq!(sum, 285);
/// }
/// ```
pub fn spawn_with<C, T>(context: C, function: fn(C, Mailbox<T>)) -> Result<Process<T>, LunaticError>
where
    C: Serialize + DeserializeOwned,
{
    Place::Here.spawn_with(Tag::NONE, &context, function)
}

/// Spawns a process that is linked with this one, which is told of its failure.
///
/// The link is there before the process runs. Its normal end is not told: use [`Process::monitor`] for that.
///
/// # Errors
///
/// As [`spawn`], with the mailbox.
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<()>) {
///     let (child, mailbox) = process::spawn_link(mailbox, |_: Mailbox<()>| panic!("on purpose")).unwrap();
///     let message = mailbox.receive();
///     assert_eq!(message.signal().unwrap().pid, child.id());
/// }
/// ```
pub fn spawn_link<T, P, M>(mailbox: M, function: fn(Mailbox<T>)) -> Linked<T, LinkMailbox<P>>
where
    M: TransformMailbox<P>,
{
    linked(mailbox.catch_link_panic(), |tag| {
        Place::Here.spawn(tag, function)
    })
}

/// Spawns a process as [`spawn_link`] does, and hands it a value as [`spawn_with`] does.
pub fn spawn_link_with<C, T, P, M>(
    mailbox: M,
    context: C,
    function: fn(C, Mailbox<T>),
) -> Linked<T, LinkMailbox<P>>
where
    C: Serialize + DeserializeOwned,
    M: TransformMailbox<P>,
{
    linked(mailbox.catch_link_panic(), |tag| {
        Place::Here.spawn_with(tag, &context, function)
    })
}

/// Spawns a process that is linked with this one: when one of them fails, the other dies too.
pub fn spawn_link_unwrap<T, P, M>(mailbox: M, function: fn(Mailbox<T>)) -> Linked<T, Mailbox<P>>
where
    M: TransformMailbox<P>,
{
    linked(mailbox.panic_if_link_panics(), |tag| {
        Place::Here.spawn(tag, function)
    })
}

/// Spawns a process as [`spawn_link_unwrap`] does, and hands it a value as [`spawn_with`] does.
pub fn spawn_link_unwrap_with<C, T, P, M>(
    mailbox: M,
    context: C,
    function: fn(C, Mailbox<T>),
) -> Linked<T, Mailbox<P>>
where
    C: Serialize + DeserializeOwned,
    M: TransformMailbox<P>,
{
    linked(mailbox.panic_if_link_panics(), |tag| {
        Place::Here.spawn_with(tag, &context, function)
    })
}

/// Where a process is spawned: which environment grants it what it may do, and which module it runs.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// In this process's environment, from its module.
    Here,
    /// In an environment that this process made, from a module that it added there.
    Environment { environment: u64, module: u64 },
}

impl Place {
    /// Spawns an exported function.
    pub(crate) fn spawn_export<T>(
        self,
        link: Tag,
        function: &str,
        parameters: &[u8],
    ) -> Result<Process<T>, LunaticError> {
        // Who grants `lunatic::process::` and no more has granted this.
        let Self::Here = self else {
            return self.spawn_with_message(link, function, parameters, Tag::NONE, &[], &[]);
        };
        let mut process = 0;
        // SAFETY: each address comes with the length of the slice that it is of, and the last is that of a variable.
        let result = unsafe {
            host::process::spawn(
                link.id(),
                OWN,
                OWN,
                function.as_ptr(),
                function.len(),
                parameters.as_ptr(),
                parameters.len(),
                &mut process,
            )
        };
        LunaticError::check(result, process).map(Process::from_id)
    }

    /// Spawns an exported function, with a first message where its tag is not [`Tag::NONE`].
    fn spawn_with_message<T>(
        self,
        link: Tag,
        function: &str,
        parameters: &[u8],
        tag: Tag,
        bytes: &[u8],
        streams: &[u64],
    ) -> Result<Process<T>, LunaticError> {
        let (environment, module) = match self {
            Self::Here => (OWN, OWN),
            Self::Environment {
                environment,
                module,
            } => (environment, module),
        };
        let mut process = 0;
        // SAFETY: each address comes with the length of the slice that it is of, and the last is that of a variable.
        let result = unsafe {
            host::environment::spawn(
                environment,
                module,
                link.id(),
                function.as_ptr(),
                function.len(),
                parameters.as_ptr(),
                parameters.len(),
                tag.id(),
                bytes.as_ptr(),
                bytes.len(),
                streams.as_ptr(),
                streams.len(),
                &mut process,
            )
        };
        LunaticError::check(result, process).map(Process::from_id)
    }

    /// Spawns an entry that begins by receiving a context.
    pub(crate) fn spawn_entry<C: Serialize, T>(
        self,
        link: Tag,
        context: &C,
        entry: &Entry,
    ) -> Result<Process<T>, LunaticError> {
        envelope::seal(context, |bytes, streams| {
            self.spawn_with_message(link, EXPORT, &entry.parameters(), CONTEXT, bytes, streams)
        })
        .map_err(SendFailure::SerializationFailed)?
    }

    /// Spawns a function of this program, linked where there is a tag.
    pub(crate) fn spawn<T>(
        self,
        link: Tag,
        function: fn(Mailbox<T>),
    ) -> Result<Process<T>, LunaticError> {
        self.spawn_export(link, EXPORT, &Entry::new(function).parameters())
    }

    /// Spawns a function of this program as [`spawn`](Self::spawn) does, with a context.
    pub(crate) fn spawn_with<C, T>(
        self,
        link: Tag,
        context: &C,
        function: fn(C, Mailbox<T>),
    ) -> Result<Process<T>, LunaticError>
    where
        C: Serialize + DeserializeOwned,
    {
        self.spawn_entry(link, context, &Entry::with_context(function))
    }
}

/// Spawns a process with a link, once the mailbox is what it is to be: a failure may come at once.
pub(crate) fn linked<T, M>(
    mailbox: M,
    spawn: impl FnOnce(Tag) -> Result<Process<T>, LunaticError>,
) -> Linked<T, M> {
    match spawn(Tag::new()) {
        Ok(process) => Ok((process, mailbox)),
        Err(error) => Err(SpawnError { mailbox, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_process_is_a_number_in_a_message() {
        let process = Process::<String>::from_id(0x1234);
        let read: Process<String> = envelope::seal(&process, |bytes, _| envelope::open(bytes))
            .expect("a number can be written")
            .expect("a number can be read");
        assert_eq!(read, process);
        assert_eq!(HashSet::from([read, process]).len(), 1);
        assert_eq!(format!("{process:?}"), "Process<1234>");
    }

    #[test]
    fn what_the_machine_refuses_has_its_failure() {
        let full = SendFailure::from_errno(Errno::MailboxFull);
        assert!(matches!(full, SendFailure::MailboxFull));
        let error = LunaticError::from(full);
        assert_eq!(error.kind(), Errno::MailboxFull);
        assert_eq!(error.to_string(), "the receiver's mailbox is full");
        let other = SendFailure::from_errno(Errno::Exhausted);
        assert_eq!(LunaticError::from(other).kind(), Errno::Exhausted);
    }
}
