//! Addresses that guests cannot use, because this program is administered through them.
//!
//! A guest with network access can also reach this computer, whose services often trust local
//! connections. Listeners that a program is administered through are therefore reserved: sockets in
//! this crate never connect to a reserved address or listen on it, however the address is written.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The reserved addresses. An address that is reserved twice appears twice.
static RESERVED: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());

/// Keeps an address reserved for this program until dropped.
#[derive(Debug)]
pub struct Reserved(SocketAddr);

impl Reserved {
    /// Reserves the address of a listener, with the port that the system chose.
    ///
    /// ```
    /// use lunatic_net::reserved::{self, Reserved};
    ///
    /// let reserved = Reserved::new(([127, 0, 0, 1], 8002).into());
    /// assert!(reserved::includes("[::ffff:127.0.0.1]:8002".parse()?));
    /// drop(reserved);
    /// assert!(!reserved::includes(([127, 0, 0, 1], 8002).into()));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn new(address: SocketAddr) -> Reserved {
        list().push(address);
        Reserved(address)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut reserved = list();
        if let Some(index) = reserved.iter().position(|address| *address == self.0) {
            reserved.swap_remove(index);
        }
    }
}

/// Returns whether an address may lead to a reserved listener. If the port is that of a reserved
/// listener, all of this computer's addresses count, because a firewall or a proxy may forward one
/// to another.
pub fn includes(address: SocketAddr) -> bool {
    let same_port: Vec<IpAddr> = list()
        .iter()
        .filter(|reserved| reserved.port() == address.port())
        .map(SocketAddr::ip)
        .collect();
    let (ip, scope) = match address {
        SocketAddr::V4(address) => (plain((*address.ip()).into()), 0),
        SocketAddr::V6(address) => (plain((*address.ip()).into()), address.scope_id()),
    };
    !same_port.is_empty() && (same_port.contains(&ip) || is_local(ip, scope))
}

/// Returns an error if an address is reserved.
pub(crate) fn check(address: SocketAddr) -> io::Result<()> {
    if includes(address) {
        let taken = "guests cannot use an address through which this program is administered";
        return Err(io::Error::new(ErrorKind::PermissionDenied, taken));
    }
    Ok(())
}

/// Returns the IPv4 address embedded in an IPv6 address that is mapped, compatible, or from a
/// translator (NAT64) or a tunnel (6to4). Returns any other address unchanged.
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if v6 == Ipv6Addr::UNSPECIFIED || v6 == Ipv6Addr::LOCALHOST {
        return ip;
    }
    let embedded =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        _ => ip,
    }
}

/// Returns whether packets to an address are delivered to this computer.
fn is_local(ip: IpAddr, scope: u32) -> bool {
    // A socket can be bound only to one of this computer's addresses. No packets are sent.
    let with_scope = |v6| std::net::SocketAddrV6::new(v6, 0, 0, scope).into();
    let local: SocketAddr = match ip {
        IpAddr::V4(v4) => (v4, 0).into(),
        IpAddr::V6(v6) => with_scope(v6),
    };
    ip.is_unspecified() || ip.is_loopback() || UdpSocket::bind(local).is_ok()
}

fn list() -> MutexGuard<'static, Vec<SocketAddr>> {
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::{TcpListener, TcpStream};
    use futures_lite::future::block_on;

    fn spellings(port: u16) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:0.0.0.0]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
        ]
        .iter()
        .map(|ip| {
            format!("{ip}:{port}")
                .parse()
                .expect("the text is a socket address")
        })
        .collect();
        // Add the address of a network interface, if there is a route.
        let probe = UdpSocket::bind("0.0.0.0:0").expect("a port is free");
        if probe.connect("192.0.2.1:9").is_ok() {
            let own = probe.local_addr().expect("the probe is bound").ip();
            all.push((own, port).into());
        }
        all
    }

    #[test]
    fn no_spelling_of_its_address_reaches_a_reserved_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let own = listener.local_addr().expect("the listener is bound");
        let reserved = Reserved::new(own);
        for address in spellings(own.port()) {
            let connect = block_on(TcpStream::connect(address, None));
            let error = connect.expect_err("the address is reserved");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{address}");
            let error = TcpListener::bind(address).expect_err("the address is reserved");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{address}");
        }
        drop(reserved);
        block_on(TcpStream::connect(own, None)).expect("the address is no longer reserved");
    }

    #[test]
    fn other_ports_and_other_computers_are_not_reserved() {
        let _reserved = Reserved::new(([127, 0, 0, 1], 1).into());
        for free in ["127.0.0.1:2", "192.0.2.1:1", "[2001:db8::1]:1"] {
            assert!(
                !includes(free.parse().expect("the text is a socket address")),
                "{free}"
            );
        }
    }

    #[test]
    fn an_address_reserved_twice_is_free_only_after_both_reservations_are_dropped() {
        let address = SocketAddr::from(([127, 0, 0, 1], 3));
        let (one, other) = (Reserved::new(address), Reserved::new(address));
        drop(one);
        assert!(includes(address));
        drop(other);
        assert!(!includes(address));
    }
}
