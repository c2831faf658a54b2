//! Sockets and names of hosts, with a time for each call.

use crate::guest::HostError;
use crate::guest::call::Place;
use crate::guest::call::kinds::{
    Buffer, Bytes, Family, IpBytes, Length, ListenerId, OutU64, ShortMillis, StreamId, Vectors,
};
use crate::guest::{Call, Failure};
use crate::host::dns;
use crate::host::socket::{address, pieces};
use crate::host::tcp::{self, STREAMS, connect, receive, write};
use lunatic_abi::{Errno, TIMED_OUT};
use lunatic_net::tcp::{Operation, TcpStream};

/// Answers a call that can time out. Guests take whatever is not 0 for an error, whose id they read and give back.
fn timed_answer(
    call: &mut Call<'_>,
    place: Place<8>,
    result: Result<u64, HostError>,
) -> Result<i32, Failure> {
    let is_late = matches!(
        result,
        Err(HostError {
            errno: Errno::TimedOut,
            ..
        })
    );
    let code = call.answer(place, result)?;
    Ok(if is_late { TIMED_OUT } else { code })
}

pub(super) async fn resolve(
    call: &mut Call<'_>,
    name: Bytes,
    length: Length,
    timeout: ShortMillis,
    addresses: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(addresses.0)?;
    let result = dns::look_up(call, name, length, timeout.millis()).await?;
    timed_answer(call, place, result)
}

pub(super) fn local_addr(call: &mut Call<'_>, id: ListenerId, out: OutU64) -> Result<i32, Failure> {
    tcp::tcp_local_addr(call, id, out)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the published interface has them"
)]
pub(super) async fn tcp_connect(
    call: &mut Call<'_>,
    family: Family,
    ip: IpBytes,
    port: u32,
    flow: u32,
    scope: u32,
    timeout: ShortMillis,
    out: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(out.0)?;
    let address = address(call, family, ip, port, flow, scope)?;
    let result = connect(call, address, timeout.millis()).await;
    timed_answer(call, place, result)
}

pub(super) async fn tcp_write_vectored(
    call: &mut Call<'_>,
    id: StreamId,
    vectors: Vectors,
    count: Length,
    timeout: ShortMillis,
    written: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(written.0)?;
    let pieces = pieces(call, vectors, count)?;
    let stream = STREAMS.get(call, id.0)?;
    let wait = stream.wait_within(Operation::Write, timeout.millis().duration());
    let result = write(call, &stream, wait, &pieces).await;
    timed_answer(call, place, result)
}

pub(super) async fn tcp_read(
    call: &mut Call<'_>,
    id: StreamId,
    buffer: Buffer,
    length: Length,
    timeout: ShortMillis,
    read: OutU64,
) -> Result<i32, Failure> {
    let place = call.place::<8>(read.0)?;
    let range = call.range(buffer.0, length.0)?;
    let stream = STREAMS.get(call, id.0)?;
    let wait = stream.wait_within(Operation::Read, timeout.millis().duration());
    let result = receive(call, range, &stream, wait, TcpStream::try_read).await;
    timed_answer(call, place, result)
}
