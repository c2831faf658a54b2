//! An envelope is a message on its way: the bytes of a value, and the resources that the value names.
//!
//! A value is written into a buffer of this program and crosses to the machine in one call; the same on the way back. A
//! resource (a [`TcpStream`](crate::net::TcpStream)) is no bytes: in the value it is an index, and the thing itself is
//! handed over by the machine. This file knows which message is being written or read, so that writing a resource
//! anywhere else is an error and not a number that means nothing.

mod nesting;

use crate::host;
use crate::tag::Tag;
use lunatic_abi::{Errno, MessageHeader};
use rmp_serde::{decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};

/// How large the buffer for messages is before the first one, in bytes.
const FIRST_BUFFER: usize = 512;

/// A buffer that a large message made larger than this is not kept.
const KEPT_BUFFER: usize = 16 * 1024;

thread_local! {
    static OUTGOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The streams of the message being written; `None` while none is.
    static ENCLOSED: RefCell<Option<Vec<u64>>> = const { RefCell::new(None) };
    /// What lies in the message being read; `None` while none is.
    static CONTENTS: RefCell<Option<Contents>> = const { RefCell::new(None) };
}

struct Contents {
    resources: u32,
    /// For each resource, whether it was taken out. Empty until the first one is.
    taken: Vec<bool>,
}

/// Writes a message and hands it to `deliver`: its bytes, and the ids of the streams in it.
pub(crate) fn seal<T: Serialize, R>(message: &T, deliver: impl FnOnce(&[u8], &[u64]) -> R) -> Result<R, encode::Error> {
    let mut bytes = OUTGOING.take();
    bytes.clear();
    // A `Serialize` that sends something itself is in the middle of another message.
    let outer = ENCLOSED.replace(Some(Vec::new()));
    let written = message.serialize(&mut rmp_serde::Serializer::new(&mut bytes));
    let streams = ENCLOSED.replace(outer).unwrap_or_default();
    let delivered = written.map(|()| deliver(&bytes, &streams));
    if bytes.capacity() <= KEPT_BUFFER {
        OUTGOING.set(bytes);
    }
    delivered
}

/// Puts a stream into the message being written and returns its index there; `None` where no message is being written.
pub(crate) fn enclose_stream(stream: u64) -> Option<u32> {
    ENCLOSED.with_borrow_mut(|enclosed| {
        let streams = enclosed.as_mut()?;
        let index = u32::try_from(streams.len()).ok()?;
        streams.push(stream);
        Some(index)
    })
}

/// Sends what [`seal`] wrote.
pub(crate) fn post(process: u64, tag: Tag, bytes: &[u8], streams: &[u64]) -> Result<(), Errno> {
    // SAFETY: each address comes with the length of the slice that it is of.
    let result = unsafe {
        host::message::send_bytes(process, tag.id(), bytes.as_ptr(), bytes.len(), streams.as_ptr(), streams.len())
    };
    match Errno::from_number(result.cast_unsigned()) {
        Some(Errno::Success) => Ok(()),
        other => Err(other.unwrap_or(Errno::Other)),
    }
}

/// What a receive brought.
pub(crate) enum Delivery<'a> {
    /// A message or a death: what the machine says about it, and its data.
    Arrived(MessageHeader, &'a [u8]),
    /// A message whose data does not fit the memory of this process.
    DoesNotFit(MessageHeader),
    TimedOut,
    NobodyLeft,
}

/// Waits for a message that has one of the tags, or for any where there are none, and shows it to `open`.
///
/// `timeout` is in milliseconds. The resources of a message can be taken until the next receive.
pub(crate) fn receive<R>(tags: &[Tag], timeout: u64, open: impl FnOnce(Delivery<'_>) -> R) -> R {
    let mut bytes = INCOMING.take();
    if bytes.is_empty() {
        bytes.resize(FIRST_BUFFER, 0);
    }
    let mut header = MessageHeader::default();
    // SAFETY: each address comes with the length of what it points to, and the header is one. A `Tag` is a transparent
    // 64-bit integer.
    let result = unsafe {
        host::message::receive_bytes(
            tags.as_ptr().cast(),
            tags.len(),
            timeout,
            bytes.as_mut_ptr(),
            bytes.len(),
            &mut header,
        )
    };
    let delivery = match result {
        lunatic_abi::TIMED_OUT => Delivery::TimedOut,
        lunatic_abi::NOBODY_LEFT => Delivery::NobodyLeft,
        _ if !read_rest(&mut bytes, header.length as usize) => Delivery::DoesNotFit(header),
        _ => Delivery::Arrived(header, &bytes[..header.length as usize]),
    };
    let opened = open(delivery);
    if bytes.len() <= KEPT_BUFFER {
        INCOMING.set(bytes);
    }
    opened
}

/// Reads what of a message of `length` bytes did not fit the buffer, which grows. False where there is no memory for it.
fn read_rest(bytes: &mut Vec<u8>, length: usize) -> bool {
    let mut filled = bytes.len();
    if length <= filled {
        return true;
    }
    if bytes.try_reserve_exact(length - filled).is_err() {
        return false;
    }
    bytes.resize(length, 0);
    while filled < length {
        let rest = &mut bytes[filled..];
        // SAFETY: the address and the length are those of `rest`.
        let read = unsafe { host::message::read_data(rest.as_mut_ptr(), rest.len()) };
        if read == 0 {
            return false;
        }
        filled += read as usize;
    }
    true
}

/// Reads the value of a message that arrived with so many resources.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8], resources: u32) -> Result<T, decode::Error> {
    if nesting::is_too_deep(bytes) {
        return Err(decode::Error::DepthLimitExceeded);
    }
    let contents = Contents { resources, taken: Vec::new() };
    CONTENTS.set(Some(contents));
    let value = rmp_serde::from_slice(bytes);
    // Where a `Deserialize` received something itself, this ends the outer message too: its resources are gone.
    CONTENTS.set(None);
    value
}

/// Takes a stream out of the message being read.
///
/// The index was chosen by the sender, so whatever it is must not end this process: the machine is asked only for what
/// is there.
pub(crate) fn take_stream(index: u32) -> Result<u64, &'static str> {
    CONTENTS.with_borrow_mut(|contents| {
        let Some(contents) = contents else {
            return Err("a stream can only be read out of a message that is being received");
        };
        if index >= contents.resources {
            return Err("the message names a stream that does not travel in it");
        }
        contents.taken.resize(contents.resources as usize, false);
        if std::mem::replace(&mut contents.taken[index as usize], true) {
            return Err("the message names one stream twice");
        }
        Ok(())
    })?;
    // SAFETY: the call takes a number; the message is still in the slot, since no receive came between.
    Ok(unsafe { host::message::take_tcp_stream(u64::from(index)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> T {
        let read = seal(value, |bytes, streams| {
            assert!(streams.is_empty());
            open(bytes, 0)
        });
        read.expect("it can be written").expect("it can be read")
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Empty,
        Round(f64),
        Named { text: String, bytes: Vec<u8> },
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        assert_eq!(round_trip(&()), ());
        assert_eq!(round_trip(&u128::MAX), u128::MAX);
        assert_eq!(round_trip(&(i64::MIN, 'ß', None::<u8>, Some(1.5f32))), (i64::MIN, 'ß', None, Some(1.5)));
        let shapes = vec![Shape::Empty, Shape::Round(0.1), Shape::Named { text: "a".into(), bytes: vec![0; 100_000] }];
        assert_eq!(round_trip(&shapes), shapes);
        let map: BTreeMap<String, Option<i8>> = [("x".into(), Some(-1)), ("y".into(), None)].into();
        assert_eq!(round_trip(&map), map);
    }

    /// A value that sends another one while it is written.
    struct Nested;

    impl Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = seal(&7u8, |bytes, _| bytes.to_vec()).map_err(serde::ser::Error::custom)?;
            assert_eq!(enclose_stream(9), Some(0), "the outer message is being written again");
            serializer.serialize_u8(inner[0])
        }
    }

    #[test]
    fn a_message_written_within_another_leaves_it_alone() {
        let streams = seal(&Nested, |bytes, streams| {
            assert_eq!(bytes, [7]);
            streams.to_vec()
        });
        assert_eq!(streams.expect("it can be written"), [9]);
        assert_eq!(enclose_stream(9), None, "no message is being written any more");
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Tower {
        Top,
        On(Box<Tower>),
    }

    #[test]
    fn a_message_that_nests_too_deep_is_an_error_and_no_overflow() {
        let mut deep = [0x81, 0xa2, b'O', b'n'].repeat(1_000_000);
        deep.extend([0xa3, b'T', b'o', b'p']);
        assert!(matches!(open::<Tower>(&deep, 0), Err(decode::Error::DepthLimitExceeded)));

        let mut tower = Tower::Top;
        for _ in 0..nesting::DEPTH {
            tower = Tower::On(Box::new(tower));
        }
        let read = seal(&tower, |bytes, _| open::<Tower>(bytes, 0));
        assert!(read.expect("it can be written").is_ok());
    }

    /// Reads a stream's index the way a stream does.
    #[derive(Debug)]
    struct Stream;

    impl<'de> Deserialize<'de> for Stream {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let index = u32::deserialize(deserializer)?;
            take_stream(index).map_err(serde::de::Error::custom)?;
            Ok(Self)
        }
    }

    #[test]
    fn a_stream_that_is_not_there_is_an_error() {
        let error = open::<Stream>(&[3], 3).expect_err("there are 3, from 0");
        assert_eq!(error.to_string(), "the message names a stream that does not travel in it");
        let error = take_stream(0).expect_err("nothing is being received");
        assert_eq!(error, "a stream can only be read out of a message that is being received");
    }

    #[test]
    fn a_stream_is_taken_once() {
        CONTENTS.set(Some(Contents { resources: 2, taken: vec![false, true] }));
        assert_eq!(take_stream(1), Err("the message names one stream twice"));
        CONTENTS.set(None);
    }
}
