//! Which addresses functions may connect to.
//!
//! A name's owner controls which address it resolves to, so all that matters is the address it
//! resolves to right now. An IPv6 address with an IPv4 address embedded in it is treated as that
//! IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of destination at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The internet.
    Public,
    /// A private network or this computer.
    Private,
    /// A destination that functions may never connect to: multicast, reserved and documentation
    /// addresses, and cloud services that hand out credentials.
    Nowhere,
}

/// Cloud metadata services at otherwise ordinary addresses.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

impl Reach {
    pub(super) fn of(address: IpAddr) -> Reach {
        if METADATA.contains(&address) {
            return Reach::Nowhere;
        }
        match address {
            IpAddr::V4(address) => Reach::of_v4(address),
            IpAddr::V6(address) => Reach::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Reach {
        match address.octets() {
            [127, ..] | [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private,
            // Addresses shared among a provider's customers (carrier-grade NAT).
            [100, 64..=127, ..] => Reach::Private,
            // "This network"; link-local addresses, which include cloud metadata services;
            // multicast and reserved addresses.
            [0, ..] | [169, 254, ..] | [224..=255, ..] => Reach::Nowhere,
            // Addresses for protocol assignments, relays, benchmarks and documentation.
            [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _] => Reach::Nowhere,
            _ => Reach::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Reach {
        if let Some(inside) = address.to_ipv4_mapped() {
            return Reach::of(inside.into());
        }
        let [a, b, c, d, e, f, g, h] = address.segments();
        let inside = |high: u16, low: u16| {
            Reach::of(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into())
        };
        match [a, b, c, d, e, f, g] {
            // NAT64 and 6to4 addresses.
            [0x64, 0xff9b, 0, 0, 0, 0, high] => inside(high, h),
            [0x2002, high, low, ..] => inside(high, low),
            [0, 0, 0, 0, 0, 0, 0] if h == 1 => Reach::Private,
            [0xfc00..=0xfdff, ..] => Reach::Private,
            // Addresses for protocol assignments, including Teredo, and for documentation.
            [0x2001, ..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..=0xfff, ..] => Reach::Nowhere,
            [0x2000..=0x3fff, ..] => Reach::Public,
            _ => Reach::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reach: Reach, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(
                Reach::of(address.parse().expect("the text is an address")),
                reach,
                "{address}"
            );
        }
    }

    #[test]
    fn t116_addresses_that_are_not_on_the_internet_are_recognized() {
        check(
            Reach::Public,
            &[
                "1.1.1.1",
                "93.184.216.34",
                "172.15.0.1",
                "172.32.0.1",
                "100.63.0.1",
                "192.1.0.1",
            ],
        );
        check(
            Reach::Public,
            &["2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1"],
        );
        check(
            Reach::Private,
            &[
                "127.0.0.1",
                "127.255.0.1",
                "10.1.2.3",
                "172.16.0.1",
                "172.31.9.9",
                "192.168.0.1",
            ],
        );
        check(Reach::Private, &["100.64.0.1", "::1", "fc00::1", "fd12::1"]);
        check(
            Reach::Nowhere,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "169.254.169.254",
                "224.0.0.1",
                "240.0.0.1",
                "255.255.255.255",
            ],
        );
        check(
            Reach::Nowhere,
            &[
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "198.19.0.1",
                "192.0.0.192",
            ],
        );
        check(
            Reach::Nowhere,
            &["100.100.100.200", "168.63.129.16", "fd00:ec2::254"],
        );
        check(
            Reach::Nowhere,
            &[
                "::",
                "fe80::1",
                "ff02::1",
                "2001:db8::1",
                "3fff::1",
                "2001::1",
                "64:ff9b:1::1",
            ],
        );
    }

    #[test]
    fn t116_an_ipv6_address_is_treated_as_the_ipv4_address_embedded_in_it() {
        check(
            Reach::Public,
            &["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"],
        );
        check(
            Reach::Private,
            &[
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "64:ff9b::10.0.0.1",
                "2002:7f00:1::1",
            ],
        );
        check(
            Reach::Nowhere,
            &[
                "::ffff:169.254.169.254",
                "64:ff9b::169.254.169.254",
                "::127.0.0.1",
            ],
        );
    }
}
