//! Sockets and host name resolution, with a timeout for each call.

use crate::guest::HostError;
use crate::guest::call::Out;
use crate::guest::kinds::{Buffer, OutU64, ShortMillis, SocketAddr, StreamId, Text, Vectors};
pub(super) use crate::guest::socket::local_addr;
use crate::guest::socket::{SocketId, pieces, receive, socket_addr, write};
use crate::guest::{Call, Failure};
use crate::host::dns;
use crate::host::tcp::connect;
use lunatic_abi::{Errno, TIMED_OUT};
use lunatic_net::tcp::Operation;

/// Returns the result of a call that can time out. Guests treat any result other than 0 as an
/// error, and read and release the error's id.
fn timed_answer(
    call: &mut Call<'_>,
    out: Out<8>,
    result: Result<u64, HostError>,
) -> Result<i32, Failure> {
    let is_late = matches!(
        result,
        Err(HostError {
            errno: Errno::TimedOut,
            ..
        })
    );
    let code = call.answer(out, result)?;
    Ok(if is_late { TIMED_OUT } else { code })
}

pub(super) async fn resolve(
    call: &mut Call<'_>,
    name: Text,
    timeout: ShortMillis,
    addresses: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(addresses)?;
    let result = dns::look_up(call, name, timeout.millis()).await?;
    timed_answer(call, out, result)
}

pub(super) async fn tcp_connect(
    call: &mut Call<'_>,
    address: SocketAddr,
    timeout: ShortMillis,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = socket_addr(call, address)?;
    let result = connect(call, address, timeout.millis()).await;
    timed_answer(call, out, result)
}

pub(super) async fn tcp_write_vectored(
    call: &mut Call<'_>,
    id: StreamId,
    vectors: Vectors,
    timeout: ShortMillis,
    written: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(written)?;
    let pieces = pieces(call, vectors)?;
    let stream = id.socket(call)?;
    let wait = stream.wait_within(Operation::Write, timeout.millis().duration());
    let result = write(call, &stream, wait, &pieces).await;
    timed_answer(call, out, result)
}

pub(super) async fn tcp_read(
    call: &mut Call<'_>,
    id: StreamId,
    buffer: Buffer,
    timeout: ShortMillis,
    read: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(read)?;
    let range = call.range(buffer)?;
    let stream = id.socket(call)?;
    let wait = stream.wait_within(Operation::Read, timeout.millis().duration());
    let result = receive(call, range, wait, |bytes| stream.try_read(bytes)).await;
    timed_answer(call, out, result)
}
