//! Mailboxes, through which processes receive messages. The machine holds the messages; a mailbox
//! only represents the right to take them out, and its type parameter is the type of the messages.

use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::{Message, ReceiveError};
use crate::process::monitors;
use crate::reply;
use crate::tag::{SHUTDOWN, Tag};
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Receives messages of type `T`, in a process that dies when a process linked to it fails.
///
/// A process gets its mailbox as an argument. Every receive waits, and takes messages in the order
/// in which they arrived. A receive with tags takes the first message that has one of the tags and
/// leaves all others in place.
///
/// A process that [monitors](crate::Process::monitor) other processes receives a signal in its
/// mailbox when one of them exits. A signal is not a `T`, so it is returned as
/// [`ReceiveError::Signal`]. A process that expects signals should turn its mailbox into a
/// [`LinkMailbox`].
///
/// # Example
///
/// ```no_run
/// use lunatic::{process, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<u64>) {
///     let this = process::this(&mailbox);
///     process::spawn_with(this, |parent, _: Mailbox<()>| parent.send(6 * 7)).unwrap();
///     assert_eq!(mailbox.receive().unwrap(), 42);
/// }
/// ```
pub struct Mailbox<T> {
    // A mailbox produces values of type `T` but doesn't own any.
    messages: PhantomData<fn() -> T>,
}

/// Receives messages of type `T` and signals, in a process that is notified when a process linked
/// to it fails.
///
/// Created by [`TransformMailbox::catch_link_panic`] and by functions that spawn linked processes.
pub struct LinkMailbox<T> {
    messages: PhantomData<fn() -> T>,
}

impl<T> Mailbox<T> {
    /// Creates the mailbox of the current process.
    ///
    /// # Safety
    ///
    /// A process must have only one mailbox. If it had two, each could take messages meant for the
    /// other.
    #[doc(hidden)]
    pub unsafe fn new() -> Self {
        Self {
            messages: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Mailbox<T> {
    /// Receives the next message, waiting indefinitely.
    ///
    /// # Errors
    ///
    /// Returns any [`ReceiveError`] except a timeout. If the value is nested more than 128 levels
    /// deep, the error is [`DeserializationFailed`](ReceiveError::DeserializationFailed).
    pub fn receive(&self) -> Result<T, ReceiveError> {
        plain(take(&[], lunatic_abi::FOREVER))
    }

    /// Receives the next message, waiting for at most `timeout`, which is rounded up to whole
    /// milliseconds. A timeout of zero does not wait.
    pub fn receive_timeout(&self, timeout: Duration) -> Result<T, ReceiveError> {
        plain(take(&[], host::milliseconds(timeout)))
    }

    /// Receives the next message and its tag, which is [`Tag::NONE`] if it was sent without one.
    pub fn receive_with_tag(&self) -> Result<(T, Tag), ReceiveError> {
        let (message, tag) = take(&[], lunatic_abi::FOREVER);
        plain((message, tag)).map(|message| (message, tag))
    }

    /// Receives the first message with one of the tags, or any message if `tags` is empty.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::{process, Mailbox, Process, Tag};
    ///
    /// #[lunatic::main]
    /// fn main(mailbox: Mailbox<String>) {
    ///     let this = process::this(&mailbox);
    ///     let urgent = Tag::new();
    ///     process::spawn_with((this, urgent), answer).unwrap();
    ///     assert_eq!(mailbox.tag_receive(&[urgent]).unwrap(), "first");
    ///     assert_eq!(mailbox.receive().unwrap(), "second");
    /// }
    ///
    /// fn answer((parent, urgent): (Process<String>, Tag), _: Mailbox<()>) {
    ///     parent.send("second".into());
    ///     parent.tag_send(urgent, "first".into());
    /// }
    /// ```
    pub fn tag_receive(&self, tags: &[Tag]) -> Result<T, ReceiveError> {
        plain(take(tags, lunatic_abi::FOREVER))
    }

    /// Receives like [`tag_receive`](Self::tag_receive), waiting for at most `timeout`, which is
    /// rounded up to whole milliseconds.
    pub fn tag_receive_timeout(&self, tags: &[Tag], timeout: Duration) -> Result<T, ReceiveError> {
        plain(take(tags, host::milliseconds(timeout)))
    }
}

impl<T: DeserializeOwned> LinkMailbox<T> {
    /// Receives the next message or signal, waiting indefinitely.
    pub fn receive(&self) -> Message<T> {
        take(&[], lunatic_abi::FOREVER).0
    }

    /// Receives the next message or signal, waiting for at most `timeout`, which is rounded up to
    /// whole milliseconds. A timeout of zero does not wait.
    pub fn receive_timeout(&self, timeout: Duration) -> Message<T> {
        take(&[], host::milliseconds(timeout)).0
    }

    /// Receives the first message or link failure with one of the tags, or any message or signal if
    /// `tags` is empty.
    ///
    /// A monitored process's exit signal has no tag, so only a receive without tags returns it.
    pub fn tag_receive(&self, tags: &[Tag]) -> Message<T> {
        take(tags, lunatic_abi::FOREVER).0
    }

    /// Receives like [`tag_receive`](Self::tag_receive), waiting for at most `timeout`, which is
    /// rounded up to whole milliseconds.
    pub fn tag_receive_timeout(&self, tags: &[Tag], timeout: Duration) -> Message<T> {
        take(tags, host::milliseconds(timeout)).0
    }
}

/// Receives the next message or signal, and its tag.
fn take<T: DeserializeOwned>(tags: &[Tag], timeout: u64) -> (Message<T>, Tag) {
    let nothing = |error| Some((Message::Normal(Err(error)), Tag::NONE));
    loop {
        let received = envelope::receive(tags, timeout, |delivery| {
            let arrival = match delivery {
                Delivery::Arrived(arrival) => arrival,
                Delivery::TimedOut => return nothing(ReceiveError::Timeout),
                Delivery::NobodyLeft => return nothing(ReceiveError::NobodyLeft),
            };
            let tag = arrival.tag();
            if let Some(signal) = arrival.signal() {
                // A task's exit reason is kept until the task's owner requests the result.
                if reply::keeps_end(tag, signal.reason) {
                    return None;
                }
                let signal = monitors::received(signal);
                let tag = signal.tag;
                return Some((Message::Signal(signal), tag));
            }
            if tag == SHUTDOWN {
                return nothing(ReceiveError::Shutdown);
            }
            // Nothing is waiting for this reply anymore, and it probably isn't of the mailbox's
            // type, so it is dropped. The wait starts over, at most once for each abandoned request
            // and each task.
            if reply::discards(tag) {
                return None;
            }
            let message = arrival.open().map_err(ReceiveError::DeserializationFailed);
            Some((Message::Normal(message), tag))
        });
        if let Some(received) = received {
            return received;
        }
    }
}

fn plain<T>((message, _): (Message<T>, Tag)) -> Result<T, ReceiveError> {
    match message {
        Message::Normal(message) => message,
        Message::Signal(signal) => Err(ReceiveError::Signal(signal)),
    }
}

/// Converts between the two kinds of mailbox. The kind determines how this process is affected when
/// a linked process fails.
pub trait TransformMailbox<T> {
    /// Makes failures of linked processes arrive as signals from now on.
    fn catch_link_panic(self) -> LinkMailbox<T>;

    /// Makes this process die if a linked process fails from now on. Failures that are already in
    /// the mailbox do not kill it; they are received as [`ReceiveError::Signal`].
    fn panic_if_link_panics(self) -> Mailbox<T>;
}

impl<T> TransformMailbox<T> for Mailbox<T> {
    fn catch_link_panic(self) -> LinkMailbox<T> {
        host::process::die_when_link_dies(0);
        LinkMailbox {
            messages: PhantomData,
        }
    }

    fn panic_if_link_panics(self) -> Mailbox<T> {
        self
    }
}

impl<T> TransformMailbox<T> for LinkMailbox<T> {
    fn catch_link_panic(self) -> LinkMailbox<T> {
        self
    }

    fn panic_if_link_panics(self) -> Mailbox<T> {
        host::process::die_when_link_dies(1);
        Mailbox {
            messages: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

impl<T> fmt::Debug for LinkMailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkMailbox")
    }
}
