//! A mailbox is where a process receives. It holds nothing: the machine keeps the messages, and the type says what may
//! come.

use crate::envelope::{self, Delivery};
use crate::host;
use crate::message::{Message, Signal};
use crate::request;
use crate::tag::{SHUTDOWN, Tag};
use rmp_serde::decode;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Receives messages of type `T`, in a process that dies when a process it is linked with fails.
///
/// A process gets its mailbox as an argument. Every receive waits, and takes messages in the order in which they came;
/// those with tags take the first that has one of the tags and leave the others where they are.
///
/// A process that monitors others ([`Process::monitor`](crate::Process::monitor)) is told of their ends in its mailbox.
/// Such a signal is no `T`, so here it comes as [`ReceiveError::Signal`]: nothing is lost, and who monitors nobody never
/// meets one. Who expects signals turns the mailbox into a [`LinkMailbox`].
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
    // A mailbox takes `T` out of nowhere and owns none.
    messages: PhantomData<fn() -> T>,
}

/// Receives messages of type `T` and signals, in a process that is told when a process it is linked with fails.
///
/// It comes from [`TransformMailbox::catch_link_panic`], and from what spawns with a link.
pub struct LinkMailbox<T> {
    messages: PhantomData<fn() -> T>,
}

/// Why a receive brought no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A message came that is not of the mailbox's type. It is gone.
    #[error("the message is not of the expected type: {0}")]
    DeserializationFailed(decode::Error),
    /// The time ran out. No message is lost: what comes later is there for the next receive.
    #[error("no message came in time")]
    Timeout,
    /// The receive would wait for ever: no other process of the program is alive, and no timer is set.
    #[error("nobody is left who could send a message")]
    NobodyLeft,
    /// A monitored process ended, and this is a [`Mailbox`], whose messages are no signals.
    #[error("a signal came in place of a message: {0}")]
    Signal(Signal),
    /// This process is to end: [`Process::shutdown`](crate::Process::shutdown) waits for it, as a
    /// [`Supervisor`](crate::Supervisor) does that ends a child. It is killed where it takes too long.
    ///
    /// Only a receive without tags brings it.
    #[error("this process is asked to end")]
    Shutdown,
}

impl<T> Mailbox<T> {
    /// Makes the mailbox of the running process.
    ///
    /// # Safety
    ///
    /// A process has one mailbox. With two, each takes messages that were meant for the other.
    #[doc(hidden)]
    pub unsafe fn new() -> Self {
        Self {
            messages: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Mailbox<T> {
    /// Receives the next message.
    ///
    /// Values may be nested 128 deep; a message that goes deeper is [`ReceiveError::DeserializationFailed`].
    ///
    /// # Errors
    ///
    /// Each variant of [`ReceiveError`] but the timeout.
    pub fn receive(&self) -> Result<T, ReceiveError> {
        plain(take(&[], lunatic_abi::FOREVER))
    }

    /// Receives as [`receive`](Self::receive) does, for so long. Time counts in milliseconds, rounded up; zero takes what
    /// is there already.
    pub fn receive_timeout(&self, timeout: Duration) -> Result<T, ReceiveError> {
        plain(take(&[], host::milliseconds(timeout)))
    }

    /// Receives the next message and its tag, which is [`Tag::NONE`] where it has none.
    pub fn receive_with_tag(&self) -> Result<(T, Tag), ReceiveError> {
        let (message, tag) = take(&[], lunatic_abi::FOREVER);
        plain((message, tag)).map(|message| (message, tag))
    }

    /// Receives the first message that has one of the tags; any message where there are none.
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

    /// Receives as [`tag_receive`](Self::tag_receive) does, for so long.
    pub fn tag_receive_timeout(&self, tags: &[Tag], timeout: Duration) -> Result<T, ReceiveError> {
        plain(take(tags, host::milliseconds(timeout)))
    }
}

impl<T: DeserializeOwned> LinkMailbox<T> {
    /// Receives the next message or signal.
    pub fn receive(&self) -> Message<T> {
        take(&[], lunatic_abi::FOREVER).0
    }

    /// Receives as [`receive`](Self::receive) does, for so long. Time counts in milliseconds, rounded up; zero takes what
    /// is there already.
    pub fn receive_timeout(&self, timeout: Duration) -> Message<T> {
        take(&[], host::milliseconds(timeout)).0
    }

    /// Receives the first message, or failure of a link, that has one of the tags; anything where there are none.
    ///
    /// The end of a monitored process has no tag, so only a receive without tags brings it.
    pub fn tag_receive(&self, tags: &[Tag]) -> Message<T> {
        take(tags, lunatic_abi::FOREVER).0
    }

    /// Receives as [`tag_receive`](Self::tag_receive) does, for so long.
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
                // It is that of a task, whose owner asks for it later.
                if request::keeps(tag, signal.reason) {
                    return None;
                }
                return Some((Message::Signal(signal), tag));
            }
            if tag == SHUTDOWN {
                return nothing(ReceiveError::Shutdown);
            }
            // Nobody waits for this reply any more, and the mailbox's type is another. The wait begins anew; it does so
            // at most once for each request that was given up, and for each task.
            if request::discards(tag) {
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

/// Turns one kind of mailbox into the other, and with it decides what the failure of a linked process does.
pub trait TransformMailbox<T> {
    /// From now on, failures of linked processes come as signals.
    fn catch_link_panic(self) -> LinkMailbox<T>;

    /// From now on, this process dies when a linked process fails. A failure that waits in the mailbox already does not
    /// kill it; it comes as [`ReceiveError::Signal`].
    fn panic_if_link_panics(self) -> Mailbox<T>;
}

impl<T> TransformMailbox<T> for Mailbox<T> {
    fn catch_link_panic(self) -> LinkMailbox<T> {
        // SAFETY: the call takes a number.
        unsafe { host::process::die_when_link_dies(0) };
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
        // SAFETY: the call takes a number.
        unsafe { host::process::die_when_link_dies(1) };
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
