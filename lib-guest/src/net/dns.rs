//! Name lookups, and types that can be converted to addresses.

use crate::error::LunaticError;
use crate::host::{self, RawAddress};
use lunatic_abi::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;
use std::{io, iter, option, slice, vec};

/// The addresses that [`resolve`] found for a name.
#[derive(Debug)]
pub struct SocketAddrIterator {
    id: u64,
}

impl SocketAddrIterator {
    pub(crate) fn from_id(id: u64) -> Self {
        Self { id }
    }
}

impl Iterator for SocketAddrIterator {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        let mut address = RawAddress::default();
        let result = host::dns::resolve_next(
            self.id,
            &mut address.family,
            &mut address.ip,
            &mut address.port,
            &mut address.flow,
            &mut address.scope,
        );
        (result == 0).then(|| address.into())
    }
}

impl Drop for SocketAddrIterator {
    fn drop(&mut self) {
        host::dns::drop_dns_iterator(self.id);
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => {
                let mut ip = [0; 16];
                ip[..4].copy_from_slice(&address.ip().octets());
                Self {
                    family: 4,
                    ip,
                    port: address.port(),
                    flow: 0,
                    scope: 0,
                }
            }
            SocketAddr::V6(address) => Self {
                family: 6,
                ip: address.ip().octets(),
                port: address.port(),
                flow: address.flowinfo(),
                scope: address.scope_id(),
            },
        }
    }
}

impl From<RawAddress> for SocketAddr {
    fn from(raw: RawAddress) -> Self {
        if raw.family == 4 {
            let [a, b, c, d, ..] = raw.ip;
            return SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), raw.port).into();
        }
        SocketAddrV6::new(Ipv6Addr::from(raw.ip), raw.port, raw.flow, raw.scope).into()
    }
}

/// Looks up a name, given as `host:port`, and returns its addresses.
///
/// # Errors
///
/// Fails if the name is unknown or malformed, or if no name server answers.
///
/// # Example
///
/// ```no_run
/// for address in lunatic::net::resolve("localhost:80").unwrap() {
///     println!("{address}");
/// }
/// ```
pub fn resolve(name: &str) -> Result<SocketAddrIterator, LunaticError> {
    look_up(name, lunatic_abi::FOREVER)
}

/// Like [`resolve`], but waits for at most `timeout`, which is rounded up to whole milliseconds.
pub fn resolve_timeout(name: &str, timeout: Duration) -> Result<SocketAddrIterator, LunaticError> {
    look_up(name, host::milliseconds(timeout))
}

fn look_up(name: &str, timeout: u64) -> Result<SocketAddrIterator, LunaticError> {
    LunaticError::or_value(|id| host::dns::resolve(name, timeout, id))
        .map(SocketAddrIterator::from_id)
}

/// A type that can be converted to addresses. This trait replaces [`std::net::ToSocketAddrs`],
/// which cannot look up names on the machine.
///
/// # Example
///
/// A literal address is not looked up:
///
/// ```
/// use lunatic::net::ToSocketAddrs;
///
/// let mut addresses = "127.0.0.1:1337".to_socket_addrs().unwrap();
/// assert_eq!(addresses.next().unwrap().port(), 1337);
/// let mut addresses = ("::1", 1337).to_socket_addrs().unwrap();
/// assert!(addresses.next().unwrap().is_ipv6());
/// ```
pub trait ToSocketAddrs {
    /// An iterator over the addresses.
    type Iter: Iterator<Item = SocketAddr>;

    /// Returns the addresses, looking up the host name if there is one.
    ///
    /// # Errors
    ///
    /// Fails if the name is unknown or malformed.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

macro_rules! already_addresses {
    ($($address:ty,)*) => {$(
        impl ToSocketAddrs for $address {
            type Iter = option::IntoIter<SocketAddr>;

            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                Ok(Some(SocketAddr::from(*self)).into_iter())
            }
        }
    )*};
}

already_addresses! {
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16),
}

impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return Ok(vec![address].into_iter());
        }
        Ok(resolve(self)?.collect::<Vec<_>>().into_iter())
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.as_str().to_socket_addrs()
    }
}

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let (host, port) = *self;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)].into_iter());
        }
        format!("{host}:{port}").to_socket_addrs()
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (self.0.as_str(), self.1).to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Copied<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().copied())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

/// Calls `act` with each address until one succeeds. Returns the first success or the last error.
pub(crate) fn first<T>(
    addresses: impl ToSocketAddrs,
    act: impl Fn(&RawAddress) -> Result<T, LunaticError>,
) -> io::Result<T> {
    let mut last = LunaticError::new(Errno::InvalidInput, "there are no addresses to try");
    for address in addresses.to_socket_addrs()? {
        match act(&address.into()) {
            Ok(made) => return Ok(made),
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// Returns the address in a lookup result that contains exactly one.
pub(crate) fn only_address(id: u64) -> io::Result<SocketAddr> {
    SocketAddrIterator::from_id(id)
        .next()
        .ok_or_else(|| LunaticError::new(Errno::NotConnected, "the socket has no address").into())
}

/// Makes a call that writes the id of a lookup result with exactly one address, and returns the
/// address.
pub(crate) fn address(call: impl FnOnce(&mut u64) -> i32) -> io::Result<SocketAddr> {
    only_address(LunaticError::or_value(call)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(from: impl ToSocketAddrs) -> Vec<String> {
        let addresses = from
            .to_socket_addrs()
            .expect("a literal address needs no lookup");
        addresses.map(|address| address.to_string()).collect()
    }

    #[test]
    fn a_literal_address_is_not_looked_up() {
        let check = |found: Vec<String>, expected: &str| assert_eq!(found, [expected]);
        check(addresses("127.0.0.1:80"), "127.0.0.1:80");
        check(addresses(String::from("[::1]:80")), "[::1]:80");
        check(addresses(("10.0.0.1", 1)), "10.0.0.1:1");
        check(addresses((String::from("::2"), 2)), "[::2]:2");
        check(addresses((Ipv4Addr::LOCALHOST, 3)), "127.0.0.1:3");
        check(addresses((IpAddr::from(Ipv6Addr::LOCALHOST), 4)), "[::1]:4");
        let some = [
            SocketAddr::from(([1, 2, 3, 4], 5)),
            SocketAddr::from(([6, 7, 8, 9], 10)),
        ];
        assert_eq!(addresses(&some[..]), ["1.2.3.4:5", "6.7.8.9:10"]);
        check(addresses(some[0]), "1.2.3.4:5");
    }

    #[test]
    fn an_address_survives_conversion_in_both_directions() {
        let addresses: [SocketAddr; 2] = [
            SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 65_535).into(),
            SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 2, 3).into(),
        ];
        for address in addresses {
            assert_eq!(SocketAddr::from(RawAddress::from(address)), address);
        }
    }

    #[test]
    fn no_address_is_invalid_input_and_the_last_error_is_returned() {
        let none: &[SocketAddr] = &[];
        let error = first(none, |_| Ok(())).expect_err("there are no addresses");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);

        let two = [
            SocketAddr::from(([127, 0, 0, 1], 1)),
            SocketAddr::from(([127, 0, 0, 1], 2)),
        ];
        let fail = |address: &RawAddress| {
            let kind = if address.port == 2 {
                Errno::ConnectionRefused
            } else {
                Errno::TimedOut
            };
            Err::<(), _>(LunaticError::new(kind, "no"))
        };
        let error = first(&two[..], fail).expect_err("both addresses fail");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            first(&two[..], |address| Ok(address.port)).expect("the first address succeeds"),
            1
        );
    }
}
