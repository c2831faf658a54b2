//! Sends bytes to another process, which sends them back. Reports the number of round trips per
//! second.
//!
//! The arguments are the number of bytes and the number of round trips.

use lunatic::{Mailbox, Process, process};
use lunatic_benches::report;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Instant;

/// Bytes that are serialized as a single block. Serde serializes the bytes of a vector one at a
/// time.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Whole;

        impl<'de> Visitor<'de> for Whole {
            type Value = Bytes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Whole)
    }
}

#[lunatic::main]
fn main(mailbox: Mailbox<Bytes>) {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|word| word.parse::<usize>().expect("the arguments are numbers"));
    let (Some(size), Some(times)) = (arguments.next(), arguments.next()) else {
        panic!("expected two arguments")
    };
    let this = process::this(&mailbox);
    let partner = process::spawn_with(this, throw_back).expect("no limit is set");
    let mut ball = Bytes(vec![1; size]);
    let start = Instant::now();
    for _ in 0..times {
        partner.send(ball);
        ball = mailbox.receive().expect("the partner returns the bytes");
        assert_eq!(ball.0.len(), size);
    }
    report(times as f64 / start.elapsed().as_secs_f64());
}

fn throw_back(parent: Process<Bytes>, mailbox: Mailbox<Bytes>) {
    while let Ok(ball) = mailbox.receive() {
        parent.send(ball);
    }
}
