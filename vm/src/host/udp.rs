//! `lunatic::networking`: UDP.

use crate::guest::call::{Out, Range};
use crate::guest::kinds::{Buffer, Bytes, Millis, OutU64, SocketAddr, UdpSocketId};
use crate::guest::socket::{
    Ready, SocketId, answer_address, done, failure, milliseconds, persist, receive, socket_addr,
};
pub(super) use crate::guest::socket::{
    clone_socket as clone_udp_socket, drop_socket as drop_udp_socket, local_addr as udp_local_addr,
};
use crate::guest::{Call, Failure};
use lunatic_net::udp::UdpSocket;
use std::io::{self, ErrorKind};
use std::net;

/// The result of `udp_peer_addr` if it fails for any reason other than a missing peer.
const FAILED_OTHERWISE: i32 = 2;

pub(super) fn udp_bind(
    call: &mut Call<'_>,
    address: SocketAddr,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = socket_addr(call, address)?;
    UdpSocketId::open(call, out, || UdpSocket::bind(address))
}

pub(super) fn udp_peer_addr(
    call: &mut Call<'_>,
    id: UdpSocketId,
    out: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(out)?;
    let address = id.socket(call)?.peer_addr();
    let has_other_failure = address
        .as_ref()
        .is_err_and(|error| error.kind() != ErrorKind::NotConnected);
    let code = answer_address(call, out, address)?;
    Ok(if has_other_failure {
        FAILED_OTHERWISE
    } else {
        code
    })
}

pub(super) fn udp_connect(
    call: &mut Call<'_>,
    id: UdpSocketId,
    address: SocketAddr,
    _timeout: Millis,
    error: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(error)?;
    let address = socket_addr(call, address)?;
    let result = id.socket(call)?.connect(address);
    done(call, out, result)
}

pub(super) async fn udp_send(
    call: &mut Call<'_>,
    id: UdpSocketId,
    data: Bytes,
    sent: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(sent)?;
    let range = call.range(data)?;
    send(call, id, out, range, None).await
}

pub(super) async fn udp_send_to(
    call: &mut Call<'_>,
    id: UdpSocketId,
    data: Bytes,
    address: SocketAddr,
    sent: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(sent)?;
    let range = call.range(data)?;
    let to = socket_addr(call, address)?;
    send(call, id, out, range, Some(to)).await
}

/// A wait, without a timeout, until a datagram can be sent.
struct Room<'a>(&'a UdpSocket);

impl Ready for Room<'_> {
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        self.0.writable()
    }
}

/// Sends a datagram to an address, or to the peer if no address is given.
async fn send(
    call: &mut Call<'_>,
    id: UdpSocketId,
    out: Out<8>,
    range: Range,
    to: Option<net::SocketAddr>,
) -> Result<i32, Failure> {
    let socket = id.socket(call)?;
    let attempt = |call: &mut Call<'_>| match to {
        Some(to) => socket.try_send_to(call.bytes(range), to),
        None => socket.try_send(call.bytes(range)),
    };
    let sent = persist(call, Room(&socket), attempt).await;
    call.answer(
        out,
        sent.map(|count| count as u64)
            .map_err(|error| failure(&error)),
    )
}

pub(super) async fn udp_receive(
    call: &mut Call<'_>,
    id: UdpSocketId,
    buffer: Buffer,
    received: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(received)?;
    let range = call.range(buffer)?;
    let socket = id.socket(call)?;
    let count = receive(call, range, socket.wait(), |bytes| {
        socket.try_receive(bytes)
    })
    .await;
    call.timed_answer(out, count)
}

pub(super) async fn udp_receive_from(
    call: &mut Call<'_>,
    id: UdpSocketId,
    buffer: Buffer,
    received: OutU64,
    sender: OutU64,
) -> Result<i32, Failure> {
    let (out, sender_out) = (call.out(received)?, call.out(sender)?);
    let range = call.range(buffer)?;
    let socket = id.socket(call)?;
    let attempt = |call: &mut Call<'_>| socket.try_receive_from(call.bytes_mut(range));
    match persist(call, socket.wait(), attempt).await {
        Ok((count, sender)) => {
            let sender = call.keep_addresses(vec![sender])?;
            call.put(sender_out, sender.to_le_bytes());
            call.answer(out, Ok(count as u64))
        }
        Err(error) => call.timed_answer(out, Err(failure(&error))),
    }
}

pub(super) fn set_udp_receive_timeout(
    call: &mut Call<'_>,
    id: UdpSocketId,
    timeout: Millis,
) -> Result<(), Failure> {
    id.socket(call)?.set_timeout(timeout.duration());
    Ok(())
}

pub(super) fn get_udp_receive_timeout(
    call: &mut Call<'_>,
    id: UdpSocketId,
) -> Result<u64, Failure> {
    Ok(milliseconds(id.socket(call)?.timeout()))
}

pub(super) fn set_udp_socket_broadcast(
    call: &mut Call<'_>,
    id: UdpSocketId,
    on: i32,
) -> Result<(), Failure> {
    id.socket(call)?
        .set_broadcast(on != 0)
        .map_err(Failure::trap)
}

pub(super) fn get_udp_socket_broadcast(
    call: &mut Call<'_>,
    id: UdpSocketId,
) -> Result<i32, Failure> {
    id.socket(call)?
        .broadcast()
        .map(i32::from)
        .map_err(Failure::trap)
}

pub(super) fn set_udp_socket_ttl(
    call: &mut Call<'_>,
    id: UdpSocketId,
    ttl: u32,
) -> Result<(), Failure> {
    let refused = |error| {
        Failure::trap(format!(
            "the TTL of the socket cannot be set to {ttl}: {error}"
        ))
    };
    id.socket(call)?.set_ttl(ttl).map_err(refused)
}

pub(super) fn get_udp_socket_ttl(call: &mut Call<'_>, id: UdpSocketId) -> Result<u32, Failure> {
    id.socket(call)?.ttl().map_err(Failure::trap)
}
