//! Messages in transit: a value's bytes, and the resources it contains.
//!
//! A value is serialized into a buffer in this program and passed to the machine in one call.
//! Values are received the same way. A resource, such as a [`TcpStream`](crate::net::TcpStream), is
//! not serialized: the value contains an index, and the machine transfers the resource itself. This
//! file keeps track of whether a message is being written or read, because an index has no meaning
//! outside a message. Serializing or deserializing a resource at any other time is an error.

mod nesting;
mod room;

use crate::host;
use crate::message::Signal;
use crate::tag::Tag;
use lunatic_abi::{Errno, MessageHeader, ResourceKind};
use rmp_serde::{decode, encode};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use std::cell::{Cell, RefCell};

/// The initial size, in bytes, of the buffer for incoming messages.
const FIRST_BUFFER: usize = 512;

/// The maximum size, in bytes, of a buffer that is kept for reuse. Buffers that have grown larger
/// are freed.
const KEPT_BUFFER: usize = 16 * 1024;

thread_local! {
    static OUTGOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The sockets in the message being written, each as the word that identifies it to the
    /// machine. `None` while no message is being written.
    static ENCLOSED: RefCell<Option<Vec<u64>>> = const { RefCell::new(None) };
    /// True while a message is being read, when the machine's slot holds the message and its
    /// resources.
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Serializes a message, and passes its bytes and the words for its sockets to `deliver`.
pub(crate) fn seal<T: Serialize, R>(
    message: &T,
    deliver: impl FnOnce(&[u8], &[u64]) -> R,
) -> Result<R, encode::Error> {
    let mut bytes = OUTGOING.take();
    bytes.clear();
    // A `Serialize` implementation may itself send a message while the outer one is being written.
    let outer = ENCLOSED.replace(Some(Vec::new()));
    let written = message.serialize(&mut rmp_serde::Serializer::new(&mut bytes));
    let sockets = ENCLOSED.replace(outer).unwrap_or_default();
    let delivered = written.map(|()| deliver(&bytes, &sockets));
    if bytes.capacity() <= KEPT_BUFFER {
        OUTGOING.set(bytes);
    }
    delivered
}

/// Adds a socket to the message being written and returns the socket's index in the message, or
/// `None` if no message is being written.
fn enclose(kind: ResourceKind, id: u64) -> Option<u32> {
    ENCLOSED.with_borrow_mut(|enclosed| {
        let sockets = enclosed.as_mut()?;
        let index = u32::try_from(sockets.len()).ok()?;
        sockets.push(kind.word(id));
        Some(index)
    })
}

/// Serializes a socket as its index in the message being written.
pub(crate) fn write_socket<S: Serializer>(
    kind: ResourceKind,
    id: u64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(index) = enclose(kind, id) else {
        return Err(ser::Error::custom(
            "a socket can only be serialized as part of a message that is being sent",
        ));
    };
    index.serialize(serializer)
}

/// Deserializes a socket from the message being read and returns the socket's id.
pub(crate) fn read_socket<'de, D: Deserializer<'de>>(
    kind: ResourceKind,
    deserializer: D,
) -> Result<u64, D::Error> {
    let index = u32::deserialize(deserializer)?;
    take(kind, index).map_err(de::Error::custom)
}

/// Sends a message written by [`seal`].
pub(crate) fn post(process: u64, tag: Tag, bytes: &[u8], sockets: &[u64]) -> Result<(), Errno> {
    let offered = host::message::offer_bytes(process, tag.id(), bytes, sockets);
    if outcome_of(offered) != Err(Errno::MailboxFull) {
        return outcome_of(offered);
    }
    // A call that can wait is more expensive, so make it only if the mailbox is full.
    let sent = host::message::send_bytes(process, tag.id(), bytes, sockets);
    outcome_of(sent)
}

/// Interprets the result of a send.
fn outcome_of(result: i32) -> Result<(), Errno> {
    match Errno::from_number(result.cast_unsigned()) {
        Some(Errno::Success) => Ok(()),
        other => Err(other.unwrap_or(Errno::Other)),
    }
}

/// The outcome of a receive.
pub(crate) enum Delivery<'a> {
    Arrived(Arrival<'a>),
    TimedOut,
    NobodyLeft,
}

/// A message or a signal.
pub(crate) struct Arrival<'a> {
    /// The header that the machine provides.
    pub(crate) header: MessageHeader,
    /// `None` if the data does not fit into this process's memory.
    data: Option<&'a [u8]>,
}

impl Arrival<'_> {
    pub(crate) fn tag(&self) -> Tag {
        Tag::from_id(self.header.tag)
    }

    /// Deserializes the value of a message.
    pub(crate) fn open<T: DeserializeOwned>(&self) -> Result<T, decode::Error> {
        match self.data {
            Some(data) => open(data),
            None => {
                let what = format!(
                    "its {} bytes do not fit into this process's memory",
                    self.header.length
                );
                Err(decode::Error::Uncategorized(what))
            }
        }
    }

    /// Reads a signal, or returns `None` if this is a message.
    pub(crate) fn signal(&self) -> Option<Signal> {
        Signal::read(&self.header, self.data.unwrap_or_default())
    }
}

/// Waits for a message or signal with one of the tags, or for any message or signal if `tags` is
/// empty, and passes it to `open`.
///
/// `timeout` is in milliseconds.
pub(crate) fn receive<R>(tags: &[Tag], timeout: u64, open: impl FnOnce(Delivery<'_>) -> R) -> R {
    // If a `Deserialize` implementation itself receives a message, the message being read loses its
    // resources.
    READING.set(false);
    let mut bytes = INCOMING.take();
    if bytes.is_empty() {
        bytes.resize(FIRST_BUFFER, 0);
    }
    let mut header = MessageHeader::default();
    // SAFETY: a `Tag` is a transparent 64-bit integer.
    let words = unsafe { std::slice::from_raw_parts(tags.as_ptr().cast(), tags.len()) };
    let result = host::message::receive_bytes(words, timeout, &mut bytes, &mut header);
    let delivery = match result {
        lunatic_abi::TIMED_OUT => Delivery::TimedOut,
        lunatic_abi::NOBODY_LEFT => Delivery::NobodyLeft,
        _ => {
            let length = header.length as usize;
            let data = read_rest(&mut bytes, length).then(|| &bytes[..length]);
            Delivery::Arrived(Arrival { header, data })
        }
    };
    let opened = open(delivery);
    if bytes.len() <= KEPT_BUFFER {
        INCOMING.set(bytes);
    }
    opened
}

/// Grows the buffer to `length` bytes and reads the part of the message that did not fit. Returns
/// false if there is not enough memory.
fn read_rest(bytes: &mut Vec<u8>, length: usize) -> bool {
    let missing = length.saturating_sub(bytes.len());
    if bytes.try_reserve_exact(missing).is_err() {
        return false;
    }
    while bytes.len() < length {
        // The new space is not zeroed first: for a large message, zeroing would take as long as
        // copying.
        let missing = length - bytes.len();
        let rest = &mut bytes.spare_capacity_mut()[..missing];
        // SAFETY: the pointer and the length are those of `rest`.
        let read =
            unsafe { host::message::raw::read_data(rest.as_mut_ptr().cast(), rest.len()) } as usize;
        if read == 0 || read > missing {
            return false;
        }
        // SAFETY: the machine wrote `read` bytes after the existing ones, within the capacity.
        unsafe { bytes.set_len(bytes.len() + read) };
    }
    true
}

/// Deserializes the value of the most recently received message.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, decode::Error> {
    if nesting::is_too_deep(bytes) {
        return Err(decode::Error::DepthLimitExceeded);
    }
    READING.set(true);
    let mut inner = decode::Deserializer::from_read_ref(bytes);
    let value = T::deserialize(room::Counted {
        inner: &mut inner,
        size: &room::Size::new(),
    });
    READING.set(false);
    value
}

/// Takes a socket from the message being read.
///
/// The sender chose the index, so a wrong index must not make this process trap. The function
/// therefore first asks the machine what kind of resource has this index.
fn take(kind: ResourceKind, index: u32) -> Result<u64, &'static str> {
    if !READING.get() {
        return Err("a socket can only be deserialized from a message that is being received");
    }
    let index = u64::from(index);
    // The message is still in the machine's slot, since nothing has been received in the meantime.
    if host::message::resource_kind(index) != kind as u32 {
        return Err(
            "the message has no socket of this kind at this index, or the socket has already been read",
        );
    }
    match kind {
        ResourceKind::TcpStream => Ok(host::message::take_tcp_stream(index)),
        ResourceKind::TlsStream => Ok(host::message::take_tls_stream(index)),
        ResourceKind::UdpSocket => Ok(host::message::take_udp_socket(index)),
        _ => Err("only sockets can be attached to messages"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> T {
        let read = seal(value, |bytes, sockets| {
            assert!(sockets.is_empty());
            open(bytes)
        });
        read.expect("every value in this test can be serialized")
            .expect("a serialized value can be deserialized")
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Empty,
        Round(f64),
        Named { text: String, bytes: Vec<u8> },
    }

    #[test]
    fn values_survive_serialization_unchanged() {
        assert_eq!(round_trip(&()), ());
        assert_eq!(round_trip(&u128::MAX), u128::MAX);
        assert_eq!(
            round_trip(&(i64::MIN, 'ß', None::<u8>, Some(1.5f32))),
            (i64::MIN, 'ß', None, Some(1.5))
        );
        let shapes = vec![
            Shape::Empty,
            Shape::Round(0.1),
            Shape::Named {
                text: "a".into(),
                bytes: vec![0; 100_000],
            },
        ];
        assert_eq!(round_trip(&shapes), shapes);
        let map: BTreeMap<String, Option<i8>> = [("x".into(), Some(-1)), ("y".into(), None)].into();
        assert_eq!(round_trip(&map), map);
    }

    /// A value that sends another value while it is being serialized.
    struct Nested;

    impl Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = seal(&7u8, |bytes, _| bytes.to_vec()).map_err(serde::ser::Error::custom)?;
            assert_eq!(
                enclose(ResourceKind::UdpSocket, 9),
                Some(0),
                "writing of the outer message has resumed"
            );
            serializer.serialize_u8(inner[0])
        }
    }

    #[test]
    fn a_message_written_within_another_does_not_affect_the_outer_one() {
        let sockets = seal(&Nested, |bytes, sockets| {
            assert_eq!(bytes, [7]);
            sockets.to_vec()
        });
        assert_eq!(
            sockets.expect("a byte can be serialized"),
            [ResourceKind::UdpSocket.word(9)]
        );
        assert_eq!(
            enclose(ResourceKind::UdpSocket, 9),
            None,
            "no message is being written"
        );
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Tower {
        Top,
        On(Box<Tower>),
    }

    #[test]
    fn a_message_nested_too_deeply_is_an_error_rather_than_an_overflow() {
        let mut deep = [0x81, 0xa2, b'O', b'n'].repeat(1_000_000);
        deep.extend([0xa3, b'T', b'o', b'p']);
        assert!(matches!(
            open::<Tower>(&deep),
            Err(decode::Error::DepthLimitExceeded)
        ));

        let mut tower = Tower::Top;
        for _ in 0..nesting::DEPTH {
            tower = Tower::On(Box::new(tower));
        }
        let read = seal(&tower, |bytes, _| open::<Tower>(bytes));
        assert!(
            read.expect("a value nested to the maximum depth can be serialized")
                .is_ok()
        );
    }
}
