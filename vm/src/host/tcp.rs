//! `lunatic::networking`: TCP.

use super::call::kinds::{Buffer, Family, IpBytes, Length, ListenerId, Millis, OutU64, StreamId, Vectors};
use super::call::{Place, Range};
use super::dns::{failure, keep};
use super::{Call, Failure};
use crate::environment::Permit;
use crate::resources::{Held, HostError};
use lunatic_abi::{Errno, FOREVER, Limit};
use lunatic_net::tcp::{Operation, TcpListener, TcpStream, Wait};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6};
use std::sync::Arc;

/// A write that names more pieces is a mistake or an attack; the operating system takes no more at once either.
const MAX_VECTORS: u32 = 1024;

/// Counts one more socket of the environment.
pub(super) fn permit(call: &mut Call<'_>) -> Result<Arc<Permit>, HostError> {
    let counted = call.guest().environment().quota().permit(Limit::Sockets, 1);
    counted.map(Arc::new).map_err(|reached| HostError::new(Errno::LimitReached, reached))
}

pub(super) fn unknown_stream(id: StreamId) -> Failure {
    Failure::trap(format!("there is no stream {}", id.0))
}

fn unknown_listener(id: ListenerId) -> Failure {
    Failure::trap(format!("there is no listener {}", id.0))
}

fn listener(call: &mut Call<'_>, id: ListenerId) -> Result<TcpListener, Failure> {
    let held = call.guest().handles().listeners.get(id.0).ok_or_else(|| unknown_listener(id))?;
    Ok(held.socket.clone())
}

pub(super) fn stream(call: &mut Call<'_>, id: StreamId) -> Result<TcpStream, Failure> {
    let held = call.guest().handles().streams.get(id.0).ok_or_else(|| unknown_stream(id))?;
    Ok(held.socket.clone())
}

/// Reads an address of the guest's.
pub(super) fn address(
    call: &mut Call<'_>,
    family: Family,
    ip: IpBytes,
    port: u32,
    flow: u32,
    scope: u32,
) -> Result<SocketAddr, Failure> {
    let port = u16::try_from(port).map_err(|_| Failure::trap(format!("{port} is no port")))?;
    match family.0 {
        4 => {
            let range = call.range(ip.0, 4)?;
            let octets: [u8; 4] = call.bytes(range).try_into().expect("the range has 4 bytes");
            Ok(SocketAddr::from((Ipv4Addr::from(octets), port)))
        }
        6 => {
            let range = call.range(ip.0, 16)?;
            let octets: [u8; 16] = call.bytes(range).try_into().expect("the range has 16 bytes");
            Ok(SocketAddrV6::new(Ipv6Addr::from(octets), port, flow, scope).into())
        }
        other => Err(Failure::trap(format!("an address is of family 4 or 6, not {other}"))),
    }
}

pub(super) fn tcp_bind(
    call: &mut Call<'_>,
    family: Family,
    ip: IpBytes,
    port: u32,
    flow: u32,
    scope: u32,
    out: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(out.0)?;
    let address = address(call, family, ip, port, flow, scope)?;
    let result = match permit(call) {
        Ok(permit) => match TcpListener::bind(address) {
            Ok(socket) => Ok(call.guest().handles().listeners.insert(Held { socket, permit })),
            Err(error) => Err(failure(&error)),
        },
        Err(error) => Err(error),
    };
    call.answer(place, result)
}

pub(super) fn drop_tcp_listener(call: &mut Call<'_>, id: ListenerId) -> Result<(), Failure> {
    call.guest().handles().listeners.remove(id.0).map(drop).ok_or_else(|| unknown_listener(id))
}

pub(super) fn tcp_local_addr(call: &mut Call<'_>, id: ListenerId, out: OutU64) -> Result<i32, Failure> {
    let place = call.place::<8>(out.0)?;
    let address = listener(call, id)?.local_addr();
    answer_address(call, place, address)
}

/// Writes the id of a result that holds one address.
fn answer_address(call: &mut Call<'_>, place: Place<8>, address: io::Result<SocketAddr>) -> Result<i32, Failure> {
    let result = match address {
        Ok(address) => Ok(keep(call, vec![address])?),
        Err(error) => Err(failure(&error)),
    };
    call.answer(place, result)
}

pub(super) async fn tcp_accept(
    call: &mut Call<'_>,
    id: ListenerId,
    stream: OutU64,
    peer: OutU64,
) -> Result<i32, Failure> {
    let (place, peer_place) = (call.place::<8>(stream.0)?, call.place::<8>(peer.0)?);
    let listener = listener(call, id)?;
    // The connection is taken off the queue only when there is room for it.
    let accepted = match permit(call) {
        Ok(permit) => listener
            .accept()
            .await
            .map(|(socket, peer)| (Held { socket, permit }, peer))
            .map_err(|error| failure(&error)),
        Err(error) => Err(error),
    };
    match accepted {
        Ok((held, peer)) => {
            let peer = keep(call, vec![peer])?;
            let id = call.guest().handles().streams.insert(held);
            call.put(peer_place, peer.to_le_bytes());
            call.answer(place, Ok(id))
        }
        Err(error) => {
            call.put(peer_place, [0; 8]);
            call.answer(place, Err(error))
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the published interface has them")]
pub(super) async fn tcp_connect(
    call: &mut Call<'_>,
    family: Family,
    ip: IpBytes,
    port: u32,
    flow: u32,
    scope: u32,
    timeout: Millis,
    out: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(out.0)?;
    let address = address(call, family, ip, port, flow, scope)?;
    let result = connect(call, address, timeout).await;
    call.timed_answer(place, result)
}

/// Connects, and keeps the stream.
pub(super) async fn connect(call: &mut Call<'_>, address: SocketAddr, timeout: Millis) -> Result<u64, HostError> {
    let permit = permit(call)?;
    let socket = TcpStream::connect(address, timeout.duration()).await.map_err(|error| failure(&error))?;
    Ok(call.guest().handles().streams.insert(Held { socket, permit }))
}

pub(super) fn drop_tcp_stream(call: &mut Call<'_>, id: StreamId) -> Result<(), Failure> {
    call.guest().handles().streams.remove(id.0).map(drop).ok_or_else(|| unknown_stream(id))
}

pub(super) fn clone_tcp_stream(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    let guest = call.guest();
    let streams = guest.handles().streams.len();
    guest.room_for(streams, "streams")?;
    let held = guest.handles().streams.get(id.0).cloned().ok_or_else(|| unknown_stream(id))?;
    Ok(guest.handles().streams.insert(held))
}

pub(super) fn tcp_peer_addr(call: &mut Call<'_>, id: StreamId, out: OutU64) -> Result<i32, Failure> {
    let place = call.place::<8>(out.0)?;
    let address = stream(call, id)?.peer_addr();
    answer_address(call, place, address)
}

pub(super) fn tcp_stream_local_addr(call: &mut Call<'_>, id: StreamId, out: OutU64) -> Result<i32, Failure> {
    let place = call.place::<8>(out.0)?;
    let address = stream(call, id)?.local_addr();
    answer_address(call, place, address)
}

pub(super) async fn tcp_write_vectored(
    call: &mut Call<'_>,
    id: StreamId,
    vectors: Vectors,
    count: Length,
    written: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(written.0)?;
    let pieces = pieces(call, vectors, count)?;
    let stream = stream(call, id)?;
    let result = write(call, &stream, stream.wait(Operation::Write), &pieces).await;
    call.timed_answer(place, result)
}

/// Writes what the stream takes of the pieces, once it takes anything.
pub(super) async fn write(
    call: &mut Call<'_>,
    stream: &TcpStream,
    mut wait: Wait<'_>,
    pieces: &[Range],
) -> Result<u64, HostError> {
    loop {
        match stream.try_write_vectored(&call.slices(pieces)) {
            Ok(count) => return Ok(count as u64),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(failure(&error)),
        }
        wait.ready().await.map_err(|error| failure(&error))?;
    }
}

/// Reads and checks the pieces of a vectored write.
pub(super) fn pieces(call: &mut Call<'_>, vectors: Vectors, count: Length) -> Result<Vec<Range>, Failure> {
    if count.0 > MAX_VECTORS {
        return Err(Failure::trap(format!("{} pieces; at most {MAX_VECTORS} are taken", count.0)));
    }
    let range = call.range(vectors.0, count.0 * 8)?;
    let (records, _) = call.bytes(range).as_chunks::<8>();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("a record is two numbers of 4 bytes"));
    let records: Vec<(u32, u32)> = records.iter().map(|record| (number(&record[..4]), number(&record[4..]))).collect();
    records.into_iter().map(|(address, length)| call.range(address, length)).collect()
}

pub(super) async fn tcp_read(
    call: &mut Call<'_>,
    id: StreamId,
    buffer: Buffer,
    length: Length,
    read: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(read.0)?;
    let range = call.range(buffer.0, length.0)?;
    let stream = stream(call, id)?;
    let result = receive(call, range, &stream, stream.wait(Operation::Read), TcpStream::try_read).await;
    call.timed_answer(place, result)
}

pub(super) async fn tcp_peek(
    call: &mut Call<'_>,
    id: StreamId,
    buffer: Buffer,
    length: Length,
    read: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(read.0)?;
    let range = call.range(buffer.0, length.0)?;
    let stream = stream(call, id)?;
    let result = receive(call, range, &stream, stream.wait(Operation::Peek), TcpStream::try_peek).await;
    call.timed_answer(place, result)
}

/// Receives into the guest's memory, once there is anything.
pub(super) async fn receive(
    call: &mut Call<'_>,
    range: Range,
    stream: &TcpStream,
    mut wait: Wait<'_>,
    try_receive: fn(&TcpStream, &mut [u8]) -> io::Result<usize>,
) -> Result<u64, HostError> {
    loop {
        match try_receive(stream, call.bytes_mut(range)) {
            Ok(count) => return Ok(count as u64),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(failure(&error)),
        }
        wait.ready().await.map_err(|error| failure(&error))?;
    }
}

pub(super) async fn tcp_flush(call: &mut Call<'_>, id: StreamId, error: OutU64) -> Result<i32, Failure> {
    let place = call.place::<8>(error.0)?;
    let result = stream(call, id)?.flush();
    done(call, place, result)
}

pub(super) fn tcp_shutdown(call: &mut Call<'_>, id: StreamId, how: u32, error: OutU64) -> Result<i32, Failure> {
    let place = call.place::<8>(error.0)?;
    let how = match how {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        2 => Shutdown::Both,
        other => return Err(Failure::trap(format!("{other} is no direction: 0 is reading, 1 writing, 2 both"))),
    };
    let result = stream(call, id)?.shutdown(how);
    done(call, place, result)
}

pub(super) fn tcp_set_nodelay(call: &mut Call<'_>, id: StreamId, on: i32, error: OutU64) -> Result<i32, Failure> {
    let place = call.place::<8>(error.0)?;
    let result = stream(call, id)?.set_nodelay(on != 0);
    done(call, place, result)
}

/// Answers a call whose out pointer is for an error only.
fn done(call: &mut Call<'_>, place: Place<8>, result: io::Result<()>) -> Result<i32, Failure> {
    match result {
        Ok(()) => Ok(0),
        Err(error) => call.answer(place, Err(failure(&error))),
    }
}

pub(super) fn set_read_timeout(call: &mut Call<'_>, id: StreamId, timeout: Millis) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Read, timeout)
}

pub(super) fn get_read_timeout(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Read)
}

pub(super) fn set_write_timeout(call: &mut Call<'_>, id: StreamId, timeout: Millis) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Write, timeout)
}

pub(super) fn get_write_timeout(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Write)
}

pub(super) fn set_peek_timeout(call: &mut Call<'_>, id: StreamId, timeout: Millis) -> Result<(), Failure> {
    set_timeout(call, id, Operation::Peek, timeout)
}

pub(super) fn get_peek_timeout(call: &mut Call<'_>, id: StreamId) -> Result<u64, Failure> {
    timeout(call, id, Operation::Peek)
}

fn set_timeout(call: &mut Call<'_>, id: StreamId, operation: Operation, timeout: Millis) -> Result<(), Failure> {
    stream(call, id)?.set_timeout(operation, timeout.duration());
    Ok(())
}

fn timeout(call: &mut Call<'_>, id: StreamId, operation: Operation) -> Result<u64, Failure> {
    let timeout = stream(call, id)?.timeout(operation);
    Ok(timeout.map_or(FOREVER, |time| u64::try_from(time.as_millis()).unwrap_or(FOREVER)))
}
