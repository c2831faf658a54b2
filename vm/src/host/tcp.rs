//! `lunatic::networking`: TCP.

use super::socket::{
    STREAMS, SocketTable, answer_accepted, answer_address, done, failure, milliseconds, permit,
    permit_in_time, persist, pieces, socket_addr,
};
use crate::guest::call::Range;
use crate::guest::kinds::{Buffer, ListenerId, Millis, OutU64, SocketAddr, StreamId, Vectors};
use crate::guest::{Call, Failure};
use crate::guest::{CountedSocket, HostError};
use lunatic_net::tcp::{Operation, TcpListener, TcpStream, Wait};
use std::io;
use std::net::{self, Shutdown};

const LISTENERS: SocketTable<TcpListener> = SocketTable {
    table: |handles| &mut handles.listeners,
    name: "listener",
};

pub(super) fn tcp_bind(
    call: &mut Call<'_>,
    address: SocketAddr,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = socket_addr(call, address)?;
    LISTENERS.open(call, out, || TcpListener::bind(address))
}

pub(super) fn drop_tcp_listener(call: &mut Call<'_>, id: ListenerId) -> Result<(), Failure> {
    LISTENERS.remove(call, id.0).map(drop)
}

pub(super) fn tcp_local_addr(
    call: &mut Call<'_>,
    id: ListenerId,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = LISTENERS.get(call, id.0)?.local_addr();
    answer_address(call, out, address)
}

pub(super) async fn tcp_accept(
    call: &mut Call<'_>,
    id: ListenerId,
    stream: OutU64,
    peer: OutU64,
) -> Result<i32, Failure> {
    let (out, peer_out) = (call.out(stream)?, call.out(peer)?);
    let listener = LISTENERS.get(call, id.0)?;
    // The connection is taken off the queue only once it can be counted.
    let quota = call.guest().domain().quota().clone();
    let permit = permit_in_time(&quota).await;
    let accepted = listener
        .accept()
        .await
        .map(|(socket, peer)| (CountedSocket { socket, permit }, peer));
    answer_accepted(call, &STREAMS, out, peer_out, accepted)
}

pub(super) async fn tcp_connect(
    call: &mut Call<'_>,
    address: SocketAddr,
    timeout: Millis,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = socket_addr(call, address)?;
    let connected = connect(call, address, timeout).await;
    call.timed_answer(out, connected)
}

/// Connects and keeps the stream.
pub(super) async fn connect(
    call: &mut Call<'_>,
    address: net::SocketAddr,
    timeout: Millis,
) -> Result<u64, HostError> {
    let permit = permit(call)?;
    let socket = TcpStream::connect(address, timeout.duration())
        .await
        .map_err(|error| failure(&error))?;
    Ok(STREAMS.insert(call, CountedSocket { socket, permit }))
}

pub(super) fn drop_tcp_stream(call: &mut Call<'_>, id: StreamId) -> Result<(), Failure> {
    STREAMS.remove(call, id.0).map(drop)
}

pub(super) fn clone_tcp_stream(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    STREAMS.duplicate(call, id.0)
}

pub(super) fn tcp_peer_addr(
    call: &mut Call<'_>,
    id: StreamId,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = STREAMS.get(call, id.0)?.peer_addr();
    answer_address(call, out, address)
}

pub(super) fn tcp_stream_local_addr(
    call: &mut Call<'_>,
    id: StreamId,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = STREAMS.get(call, id.0)?.local_addr();
    answer_address(call, out, address)
}

pub(super) async fn tcp_write_vectored(
    call: &mut Call<'_>,
    id: StreamId,
    vectors: Vectors,
    written: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(written)?;
    let pieces = pieces(call, vectors)?;
    let stream = STREAMS.get(call, id.0)?;
    let result = write(call, &stream, stream.wait(Operation::Write), &pieces).await;
    call.timed_answer(out, result)
}

/// Waits until the stream accepts anything, then writes as much of the pieces as it takes.
pub(super) async fn write(
    call: &mut Call<'_>,
    stream: &TcpStream,
    wait: Wait<'_>,
    pieces: &[Range],
) -> Result<u64, HostError> {
    let attempt = |call: &mut Call<'_>| stream.try_write_vectored(&call.slices(pieces));
    let written = persist(call, wait, attempt).await;
    written
        .map(|count| count as u64)
        .map_err(|error| failure(&error))
}

pub(super) async fn tcp_read(
    call: &mut Call<'_>,
    id: StreamId,
    buffer: Buffer,
    read: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(read)?;
    let range = call.range(buffer)?;
    let stream = STREAMS.get(call, id.0)?;
    let result = receive(
        call,
        range,
        &stream,
        stream.wait(Operation::Read),
        TcpStream::try_read,
    )
    .await;
    call.timed_answer(out, result)
}

pub(super) async fn tcp_peek(
    call: &mut Call<'_>,
    id: StreamId,
    buffer: Buffer,
    read: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(read)?;
    let range = call.range(buffer)?;
    let stream = STREAMS.get(call, id.0)?;
    let result = receive(
        call,
        range,
        &stream,
        stream.wait(Operation::Peek),
        TcpStream::try_peek,
    )
    .await;
    call.timed_answer(out, result)
}

/// Receives into the guest's memory once data is available.
pub(super) async fn receive(
    call: &mut Call<'_>,
    range: Range,
    stream: &TcpStream,
    wait: Wait<'_>,
    try_receive: fn(&TcpStream, &mut [u8]) -> io::Result<usize>,
) -> Result<u64, HostError> {
    let attempt = |call: &mut Call<'_>| try_receive(stream, call.bytes_mut(range));
    let received = persist(call, wait, attempt).await;
    received
        .map(|count| count as u64)
        .map_err(|error| failure(&error))
}

pub(super) async fn tcp_flush(
    call: &mut Call<'_>,
    id: StreamId,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let result = STREAMS.get(call, id.0)?.flush();
    done(call, out, result)
}

pub(super) fn tcp_shutdown(
    call: &mut Call<'_>,
    id: StreamId,
    how: u32,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let how = match how {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        2 => Shutdown::Both,
        other => {
            return Err(Failure::trap(format!(
                "{other} is no direction: 0 is reading, 1 writing, 2 both"
            )));
        }
    };
    let result = STREAMS.get(call, id.0)?.shutdown(how);
    done(call, out, result)
}

pub(super) fn tcp_set_nodelay(
    call: &mut Call<'_>,
    id: StreamId,
    on: i32,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let result = STREAMS.get(call, id.0)?.set_nodelay(on != 0);
    done(call, out, result)
}

pub(super) fn set_read_timeout(
    call: &mut Call<'_>,
    id: StreamId,
    timeout: Millis,
) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Read, timeout)
}

pub(super) fn get_read_timeout(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Read)
}

pub(super) fn set_write_timeout(
    call: &mut Call<'_>,
    id: StreamId,
    timeout: Millis,
) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Write, timeout)
}

pub(super) fn get_write_timeout(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Write)
}

pub(super) fn set_peek_timeout(
    call: &mut Call<'_>,
    id: StreamId,
    timeout: Millis,
) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Peek, timeout)
}

pub(super) fn get_peek_timeout(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Peek)
}

fn set_timeout(
    call: &mut Call<'_>,
    id: StreamId,
    operation: Operation,
    timeout: Millis,
) -> Result<(), Failure> {
    STREAMS
        .get(call, id.0)?
        .set_timeout(operation, timeout.duration());
    Ok(())
}

fn timeout(call: &mut Call<'_>, id: StreamId, operation: Operation) -> Result<u64, Failure> {
    Ok(milliseconds(STREAMS.get(call, id.0)?.timeout(operation)))
}
