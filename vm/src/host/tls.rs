//! `lunatic::networking`: TLS.

use super::socket::{
    SocketTable, TLS_STREAMS, answer_accepted, answer_address, done, failure, milliseconds, permit,
    permit_in_time, persist, pieces, port, records, socket_addr,
};
use crate::environment::Permit;
use crate::guest::kinds::{
    Buffer, Bytes, Millis, OutU64, Slice, SocketAddr, Text, TlsListenerId, TlsStreamId, Vectors,
};
use crate::guest::{Call, Failure};
use crate::guest::{CountedSocket, HostError};
use lunatic_abi::Errno;
use lunatic_net::tcp::Operation;
use lunatic_net::tls::{HandshakeLimits, Identity, MAX_PEM_SIZE, TlsListener, TlsStream, Trust};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Each connection counts toward the environment's sockets before it is taken off the kernel's
/// queue.
const TLS_LISTENERS: SocketTable<TlsListener<Arc<Permit>>> = SocketTable {
    table: |handles| &mut handles.tls_listeners,
    name: "TLS listener",
};

/// The maximum length of a host name to read, in bytes: names have at most 253.
const LONGEST_NAME: usize = 300;

/// The maximum number of authority texts in a connect. Each text may hold many authorities.
const MAX_ROOTS: usize = 256;

pub(super) async fn tls_bind(
    call: &mut Call<'_>,
    address: SocketAddr,
    out: OutU64,
    certificates: Bytes,
    key: Bytes,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = socket_addr(call, address)?;
    let certificates = text(call, certificates)?;
    let key = text(call, key)?;
    let identity = match (certificates, key) {
        (Ok(certificates), Ok(key)) => {
            blocking::unblock(move || Identity::from_pem(&certificates, &key)).await
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    TLS_LISTENERS.open(call, out, || {
        TlsListener::bind(address, identity?, HandshakeLimits::default())
    })
}

/// Copies a PEM text out of the guest's memory. A text that is too large is not copied and causes
/// an error rather than a trap.
fn text(call: &mut Call<'_>, text: Bytes) -> Result<io::Result<Vec<u8>>, Failure> {
    let range = call.range(text)?;
    if range.len() > MAX_PEM_SIZE {
        let what = format!(
            "a PEM text of {} bytes; at most {MAX_PEM_SIZE} are read",
            range.len()
        );
        return Ok(Err(io::Error::new(ErrorKind::InvalidInput, what)));
    }
    Ok(Ok(call.bytes(range).to_vec()))
}

pub(super) fn drop_tls_listener(call: &mut Call<'_>, id: TlsListenerId) -> Result<(), Failure> {
    TLS_LISTENERS.remove(call, id.0).map(drop)
}

pub(super) fn tls_local_addr(
    call: &mut Call<'_>,
    id: TlsListenerId,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = TLS_LISTENERS.get(call, id.0)?.local_addr();
    answer_address(call, out, address)
}

pub(super) async fn tls_accept(
    call: &mut Call<'_>,
    id: TlsListenerId,
    stream: OutU64,
    peer: OutU64,
) -> Result<i32, Failure> {
    let (out, peer_out) = (call.out(stream)?, call.out(peer)?);
    let listener = TLS_LISTENERS.get(call, id.0)?;
    let quota = call.guest().domain().quota().clone();
    let accepted = listener.accept(|| permit_in_time(&quota)).await;
    let accepted = accepted.map(|(socket, peer, permit)| (CountedSocket { socket, permit }, peer));
    answer_accepted(call, &TLS_STREAMS, out, peer_out, accepted)
}

pub(super) async fn tls_connect(
    call: &mut Call<'_>,
    name: Text,
    port: u32,
    timeout: Millis,
    out: OutU64,
    roots: Vectors,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let port = self::port(port)?;
    let texts = roots_of(call, roots)?;
    let range = call.range(name)?;
    if range.len() > LONGEST_NAME {
        let what = format!(
            "a host name of {} bytes; names have at most 253",
            range.len()
        );
        return call.answer(out, Err(HostError::new(Errno::InvalidInput, what)));
    }
    let name = call.text_of(range)?;
    let connected = match (permit(call), texts) {
        (Ok(permit), Ok(texts)) => {
            let machine = call.guest().machine().clone();
            let connect = async {
                let trust = match texts.is_empty() {
                    true => Trust::web(),
                    false => {
                        blocking::unblock(move || Trust::only(texts.iter().map(Vec::as_slice)))
                            .await?
                    }
                };
                TlsStream::connect(&machine.resolver, &name, port, &trust, timeout.duration()).await
            };
            connect
                .await
                .map(|socket| CountedSocket { socket, permit })
                .map_err(|error| failure(&error))
        }
        (Err(error), _) => Err(error),
        (_, Err(error)) => Err(failure(&error)),
    };
    TLS_STREAMS.answer(call, out, connected)
}

/// Copies the certificates of authorities, if any, out of the guest's memory.
///
/// The interface specifies pairs of an address and a length. The published guest crate writes the
/// length first; such a pair is recognized by a length that no certificate has.
fn roots_of(call: &mut Call<'_>, roots: Vectors) -> Result<io::Result<Vec<Vec<u8>>>, Failure> {
    let largest = MAX_PEM_SIZE as u32;
    let mut texts = Vec::new();
    let mut rest = largest;
    for [first, second] in records(call, roots, MAX_ROOTS)? {
        let is_swapped = second > largest && first <= largest;
        let (address, length) = if is_swapped {
            (second, first)
        } else {
            (first, second)
        };
        let range = call.range(Slice::of_bytes(address, length))?;
        let Some(left) = rest.checked_sub(length) else {
            let what = format!("certificates of authorities of more than {largest} bytes");
            return Ok(Err(io::Error::new(ErrorKind::InvalidInput, what)));
        };
        rest = left;
        texts.push(call.bytes(range).to_vec());
    }
    Ok(Ok(texts))
}

pub(super) fn drop_tls_stream(call: &mut Call<'_>, id: TlsStreamId) -> Result<(), Failure> {
    TLS_STREAMS.remove(call, id.0).map(drop)
}

pub(super) fn clone_tls_stream(call: &mut Call<'_>, id: TlsStreamId) -> Result<u64, Failure> {
    TLS_STREAMS.duplicate(call, id.0)
}

pub(super) fn tls_peer_addr(
    call: &mut Call<'_>,
    id: TlsStreamId,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = TLS_STREAMS.get(call, id.0)?.peer_addr();
    answer_address(call, out, address)
}

pub(super) async fn tls_write_vectored(
    call: &mut Call<'_>,
    id: TlsStreamId,
    vectors: Vectors,
    written: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(written)?;
    let pieces = pieces(call, vectors)?;
    let stream = TLS_STREAMS.get(call, id.0)?;
    let attempt = |call: &mut Call<'_>| stream.try_write_vectored(&call.slices(&pieces));
    let accepted = persist(call, stream.wait(Operation::Write), attempt).await;
    // Accepted bytes are already encrypted and cannot be taken back. On a timeout they count as
    // written, and the next write has to wait for them.
    let written = match accepted {
        Ok(count) => match flush(call, &stream).await {
            Err(error) if error.kind() != ErrorKind::TimedOut => Err(error),
            _ => Ok(count as u64),
        },
        Err(error) => Err(error),
    };
    call.timed_answer(out, written.map_err(|error| failure(&error)))
}

/// Waits until the operating system has taken everything that a stream has accepted.
async fn flush(call: &mut Call<'_>, stream: &TlsStream) -> io::Result<()> {
    persist(call, stream.wait(Operation::Write), |_| stream.try_flush()).await
}

pub(super) async fn tls_read(
    call: &mut Call<'_>,
    id: TlsStreamId,
    buffer: Buffer,
    read: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(read)?;
    let range = call.range(buffer)?;
    let stream = TLS_STREAMS.get(call, id.0)?;
    let attempt = |call: &mut Call<'_>| stream.try_read(call.bytes_mut(range));
    let read = persist(call, stream.wait(Operation::Read), attempt).await;
    call.timed_answer(
        out,
        read.map(|count| count as u64)
            .map_err(|error| failure(&error)),
    )
}

pub(super) async fn tls_flush(
    call: &mut Call<'_>,
    id: TlsStreamId,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let stream = TLS_STREAMS.get(call, id.0)?;
    let result = flush(call, &stream).await;
    done(call, out, result)
}

pub(super) async fn tls_shutdown(
    call: &mut Call<'_>,
    id: TlsStreamId,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let stream = TLS_STREAMS.get(call, id.0)?;
    stream.shutdown();
    let result = flush(call, &stream).await;
    done(call, out, result)
}

pub(super) fn set_tls_read_timeout(
    call: &mut Call<'_>,
    id: TlsStreamId,
    timeout: Millis,
) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Read, timeout)
}

pub(super) fn get_tls_read_timeout(call: &mut Call<'_>, id: TlsStreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Read)
}

pub(super) fn set_tls_write_timeout(
    call: &mut Call<'_>,
    id: TlsStreamId,
    timeout: Millis,
) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Write, timeout)
}

pub(super) fn get_tls_write_timeout(call: &mut Call<'_>, id: TlsStreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Write)
}

fn set_timeout(
    call: &mut Call<'_>,
    id: TlsStreamId,
    operation: Operation,
    timeout: Millis,
) -> Result<(), Failure> {
    TLS_STREAMS
        .get(call, id.0)?
        .set_timeout(operation, timeout.duration());
    Ok(())
}

fn timeout(call: &mut Call<'_>, id: TlsStreamId, operation: Operation) -> Result<u64, Failure> {
    Ok(milliseconds(
        TLS_STREAMS.get(call, id.0)?.timeout(operation),
    ))
}
