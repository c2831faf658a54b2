//! `lunatic::networking`: TLS.

use crate::guest::kinds::{
    Bytes, Millis, OutU64, Slice, SocketAddr, Text, TlsListenerId, TlsStreamId, Vectors,
};
use crate::guest::socket::{
    SocketId, done, failure, flush_stream, permit, permit_in_time, port, records, socket_addr,
};
pub(super) use crate::guest::socket::{
    clone_socket as clone_tls_stream, drop_socket as drop_tls_listener,
    drop_socket as drop_tls_stream, flush as tls_flush, get_read_timeout as get_tls_read_timeout,
    get_write_timeout as get_tls_write_timeout, local_addr as tls_local_addr,
    peer_addr as tls_peer_addr, read as tls_read, set_read_timeout as set_tls_read_timeout,
    set_write_timeout as set_tls_write_timeout, write_vectored as tls_write_vectored,
};
use crate::guest::{Call, CountedSocket, Failure, HostError};
use crate::unblock::unblock;
use lunatic_abi::Errno;
use lunatic_net::tls::{HandshakeLimits, Identity, MAX_PEM_SIZE, TlsListener, TlsStream, Trust};
use std::io::{self, ErrorKind};

/// The maximum length, in bytes, of a host name to read. Host names are at most 253 bytes long.
const LONGEST_NAME: usize = 300;

/// The maximum number of PEM strings with authority certificates that a guest can pass when it
/// connects. Each may contain many certificates.
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
            unblock(move || Identity::from_pem(&certificates, &key)).await
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    TlsListenerId::open(call, out, || {
        TlsListener::bind(address, identity?, HandshakeLimits::default())
    })
}

/// Copies a PEM string out of the guest's memory. If it is too long, returns an error rather than
/// trapping.
fn text(call: &mut Call<'_>, text: Bytes) -> Result<io::Result<Vec<u8>>, Failure> {
    let range = call.range(text)?;
    if range.len() > MAX_PEM_SIZE {
        let what = format!(
            "a PEM string of {} bytes is too long; the maximum is {MAX_PEM_SIZE}",
            range.len()
        );
        return Ok(Err(io::Error::new(ErrorKind::InvalidInput, what)));
    }
    Ok(Ok(call.bytes(range).to_vec()))
}

pub(super) async fn tls_accept(
    call: &mut Call<'_>,
    id: TlsListenerId,
    stream: OutU64,
    peer: OutU64,
) -> Result<i32, Failure> {
    let (out, peer_out) = (call.out(stream)?, call.out(peer)?);
    let listener = id.socket(call)?;
    // A connection counts toward the environment's sockets before it is taken off the kernel's
    // queue.
    let quota = call.guest().domain().quota().clone();
    let pressure = call.guest().machine().engines.pressure().clone();
    let accepted = listener.accept(|| permit_in_time(&quota, &pressure)).await;
    let accepted = accepted.map(|(socket, peer, permit)| (CountedSocket { socket, permit }, peer));
    TlsStreamId::answer_accepted(call, out, peer_out, accepted)
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
            "a host name of {} bytes is too long; the maximum is 253",
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
                    false => unblock(move || Trust::only(texts.iter().map(Vec::as_slice))).await?,
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
    TlsStreamId::answer(call, out, connected)
}

/// Copies the authority certificates, if any, out of the guest's memory.
///
/// The interface specifies pairs of an address and a length. The published guest crate writes the
/// length first; such a pair is recognized because its second number is too large to be a length.
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
            let what =
                format!("the authority certificates have more than {largest} bytes in total");
            return Ok(Err(io::Error::new(ErrorKind::InvalidInput, what)));
        };
        rest = left;
        texts.push(call.bytes(range).to_vec());
    }
    Ok(Ok(texts))
}

pub(super) async fn tls_shutdown(
    call: &mut Call<'_>,
    id: TlsStreamId,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let stream = id.socket(call)?;
    stream.shutdown();
    let result = flush_stream(call, &stream).await;
    done(call, out, result)
}
