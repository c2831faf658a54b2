//! `lunatic::networking`: TCP.

use crate::guest::kinds::{Buffer, ListenerId, Millis, OutU64, SocketAddr, StreamId};
use crate::guest::socket::{SocketId, done, failure, permit, permit_in_time, receive, socket_addr};
pub(super) use crate::guest::socket::{
    clone_socket as clone_tcp_stream, drop_socket as drop_tcp_listener,
    drop_socket as drop_tcp_stream, flush as tcp_flush, get_peek_timeout, get_read_timeout,
    get_write_timeout, local_addr as tcp_local_addr, local_addr as tcp_stream_local_addr,
    peer_addr as tcp_peer_addr, read as tcp_read, set_peek_timeout, set_read_timeout,
    set_write_timeout, write_vectored as tcp_write_vectored,
};
use crate::guest::{Call, CountedSocket, Failure, HostError};
use lunatic_net::tcp::{Operation, TcpListener, TcpStream};
use std::net::{self, Shutdown};

pub(super) fn tcp_bind(
    call: &mut Call<'_>,
    address: SocketAddr,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = socket_addr(call, address)?;
    ListenerId::open(call, out, || TcpListener::bind(address))
}

pub(super) async fn tcp_accept(
    call: &mut Call<'_>,
    id: ListenerId,
    stream: OutU64,
    peer: OutU64,
) -> Result<i32, Failure> {
    let (out, peer_out) = (call.out(stream)?, call.out(peer)?);
    let listener = id.socket(call)?;
    // A connection is not taken off the kernel's queue until it can be counted.
    let quota = call.guest().domain().quota().clone();
    let pressure = call.guest().machine().engines.pressure().clone();
    let permit = permit_in_time(&quota, &pressure).await;
    let accepted = listener
        .accept()
        .await
        .map(|(socket, peer)| (CountedSocket { socket, permit }, peer));
    StreamId::answer_accepted(call, out, peer_out, accepted)
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

/// Connects and stores the stream.
pub(super) async fn connect(
    call: &mut Call<'_>,
    address: net::SocketAddr,
    timeout: Millis,
) -> Result<u64, HostError> {
    let permit = permit(call)?;
    let socket = TcpStream::connect(address, timeout.duration())
        .await
        .map_err(|error| failure(&error))?;
    Ok(StreamId::keep(call, CountedSocket { socket, permit }))
}

pub(super) async fn tcp_peek(
    call: &mut Call<'_>,
    id: StreamId,
    buffer: Buffer,
    read: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(read)?;
    let range = call.range(buffer)?;
    let stream = id.socket(call)?;
    let wait = stream.wait(Operation::Peek);
    let count = receive(call, range, wait, |bytes| stream.try_peek(bytes)).await;
    call.timed_answer(out, count)
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
                "{other} is not a direction: 0 is reading, 1 is writing, 2 is both"
            )));
        }
    };
    let result = id.socket(call)?.shutdown(how);
    done(call, out, result)
}

pub(super) fn tcp_set_nodelay(
    call: &mut Call<'_>,
    id: StreamId,
    on: i32,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let result = id.socket(call)?.set_nodelay(on != 0);
    done(call, out, result)
}
