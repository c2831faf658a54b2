//! Handles to processes.

use super::failure::{SendError, SendFailure};
use super::monitors;
use crate::envelope;
use crate::host;
use crate::tag::Tag;
use rmp_serde::encode;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// A handle to a process that receives messages of type `T`. The handle remains valid after the
/// process has died.
///
/// A handle is a number that can be copied, compared, and sent to other processes. A process that
/// holds a handle to another may send messages to it, monitor it, and kill it.
pub struct Process<T> {
    id: u64,
    // The process receives values of type `T`, but a handle to it doesn't own any.
    messages: PhantomData<fn(T)>,
}

impl<T> Process<T> {
    pub(crate) fn from_id(id: u64) -> Self {
        Self {
            id,
            messages: PhantomData,
        }
    }

    /// Returns a handle to the current process. The caller chooses the message type.
    pub(crate) fn this() -> Self {
        Self::from_id(host::process::process_id())
    }

    /// Returns the process's id. Ids are never reused.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Links the current process to the process that this handle refers to, and returns the link's
    /// tag.
    ///
    /// If either process fails, the other dies too or, if it has a
    /// [`LinkMailbox`](crate::LinkMailbox), receives a signal with the tag. If the other process is
    /// already dead, the link fails immediately. A process that exits normally does not affect the
    /// processes linked to it.
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
        host::process::link(tag.id(), self.id);
        tag
    }

    /// Removes the link, if any, between the current process and the one that this handle refers
    /// to. A signal that has already arrived stays in the mailbox.
    pub fn unlink(&self) {
        host::process::unlink(self.id);
    }

    /// Requests a signal when the process exits for any reason. If the process is already dead, the
    /// signal arrives immediately, with the reason [`NoProcess`](crate::ExitReason::NoProcess).
    ///
    /// The signal is received as [`Message::Signal`](crate::Message::Signal) from a
    /// [`LinkMailbox`](crate::LinkMailbox), and as
    /// [`ReceiveError::Signal`](crate::ReceiveError::Signal) from a [`Mailbox`](crate::Mailbox). It
    /// has no tag, so a receive with tags leaves it in place. Each call adds a separate monitor, so
    /// monitoring a process twice yields two signals.
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
    ///     let Err(ReceiveError::Signal(signal)) = mailbox.receive() else { panic!("got a message") };
    ///     assert_eq!(signal.pid, worker.id());
    ///     assert!(matches!(signal.reason, ExitReason::Normal | ExitReason::NoProcess));
    /// }
    /// ```
    pub fn monitor(&self) {
        monitors::add(self.id);
    }

    /// Removes the monitor added by the last call to [`monitor`](Self::monitor). Earlier monitors
    /// are not affected. If the process has exited and the signal is still in the mailbox, the
    /// signal is removed.
    pub fn stop_monitoring(&self) {
        monitors::remove(self.id);
    }

    /// Kills the process, unless it is already dead. Processes linked to it die too or receive a
    /// signal.
    pub fn kill(&self) {
        host::process::kill(self.id);
    }

    /// Returns true if the process is alive. It may die before the caller acts on the result.
    pub fn is_alive(&self) -> bool {
        host::process::exists(self.id) != 0
    }
}

impl<T: Serialize> Process<T> {
    /// Sends a message. Messages from one process to another arrive in the order in which they were
    /// sent.
    ///
    /// A message that the receiver cannot take is dropped, so a receiver cannot make its senders
    /// fail. This happens if the receiver is dead, if its mailbox is still full after the sender
    /// has waited for one time slice, or if its environment does not accept the message. A sender
    /// that needs to know can use [`try_send`](Self::try_send), which returns the message.
    ///
    /// # Panics
    ///
    /// Panics if the value cannot be serialized, which is a bug in this program.
    pub fn send(&self, message: T) {
        self.tag_send(Tag::NONE, message);
    }

    /// Like [`send`](Self::send), but sends the message with a tag.
    ///
    /// # Panics
    ///
    /// Panics like [`send`](Self::send).
    pub fn tag_send(&self, tag: Tag, message: T) {
        if let Err(SendFailure::SerializationFailed(error)) = self.post(tag, &message)
            // The nesting depth of the value may be another process's doing, so it is not a bug in
            // this one.
            && !matches!(error, encode::Error::DepthLimitExceeded)
        {
            panic!("a message cannot be serialized: {error}");
        }
    }

    /// Like [`send`](Self::send), but returns the message if it cannot be sent.
    ///
    /// # Errors
    ///
    /// Returns the message and a [`SendFailure`]. A dead receiver is not a failure.
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

    /// Like [`try_send`](Self::try_send), but sends the message with a tag.
    pub fn try_tag_send(&self, tag: Tag, message: T) -> Result<(), SendError<T>> {
        match self.post(tag, &message) {
            Ok(()) => Ok(()),
            Err(failure) => Err(SendError { message, failure }),
        }
    }
}

impl<T> Process<T> {
    pub(crate) fn post<M: Serialize>(&self, tag: Tag, message: &M) -> Result<(), SendFailure> {
        envelope::seal(message, |bytes, sockets| {
            envelope::post(self.id, tag, bytes, sockets)
        })
        .map_err(SendFailure::SerializationFailed)?
        .map_err(SendFailure::from_errno)
    }
}

// These traits are implemented manually, without bounds on the message type, because a handle is
// just a number.

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_process_is_a_number_in_a_message() {
        let process = Process::<String>::from_id(0x1234);
        let read: Process<String> = envelope::seal(&process, |bytes, _| envelope::open(bytes))
            .expect("a number can be serialized")
            .expect("a serialized number can be deserialized");
        assert_eq!(read, process);
        assert_eq!(HashSet::from([read, process]).len(), 1);
        assert_eq!(format!("{process:?}"), "Process<1234>");
    }
}
