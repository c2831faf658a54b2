//! `lunatic::networking`: host name resolution.

use crate::guest::HostError;
use crate::guest::kinds::{DnsId, Millis, OutIpBytes, OutU16, OutU32, OutU64, Text};
use crate::guest::socket::failure;
use crate::guest::{Call, Failure};
use std::net::SocketAddr;

/// The maximum length, in bytes, of a `host:port` to look up. Host names are at most 253 bytes
/// long.
const MAX_NAME: usize = 300;

pub(super) async fn resolve(
    call: &mut Call<'_>,
    name: Text,
    timeout: Millis,
    addresses: OutU64,
) -> Result<i32, Failure> {
    let out = call.out(addresses)?;
    let result = look_up(call, name, timeout).await?;
    call.timed_answer(out, result)
}

/// Looks up a name and stores the addresses found.
pub(super) async fn look_up(
    call: &mut Call<'_>,
    name: Text,
    timeout: Millis,
) -> Result<Result<u64, HostError>, Failure> {
    let name = call.short_text(name, MAX_NAME)?;
    let machine = call.guest().machine().clone();
    let program = call.guest().domain().program().number();
    let resolver = &machine.resolver;
    let found = resolver.resolve_for(program, &name, timeout.duration());
    Ok(match found.await {
        Ok(addresses) => Ok(call.keep_addresses(addresses)?),
        Err(error) => Err(failure(&error)),
    })
}

pub(super) fn drop_dns_iterator(call: &mut Call<'_>, id: DnsId) -> Result<(), Failure> {
    call.guest().handles().addresses.remove(id.0).map(drop)
}

pub(super) fn resolve_next(
    call: &mut Call<'_>,
    id: DnsId,
    family: OutU32,
    ip: OutIpBytes,
    port: OutU16,
    flow: OutU32,
    scope: OutU32,
) -> Result<i32, Failure> {
    let (family, ip, port) = (call.out(family)?, call.out(ip)?, call.out(port)?);
    let (flow, scope) = (call.out(flow)?, call.out(scope)?);
    let addresses = call.guest().handles().addresses.get_mut(id.0)?;
    let Some(address) = addresses.next() else {
        return Ok(1);
    };
    call.put(port, address.port().to_le_bytes());
    match address {
        SocketAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.ip().octets());
            call.put(family, 4u32.to_le_bytes());
            call.put(ip, bytes);
        }
        SocketAddr::V6(address) => {
            call.put(family, 6u32.to_le_bytes());
            call.put(ip, address.ip().octets());
            call.put(flow, address.flowinfo().to_le_bytes());
            call.put(scope, address.scope_id().to_le_bytes());
        }
    }
    Ok(0)
}
