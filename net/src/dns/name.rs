//! What a caller asks for: `host:port`, taken apart and checked. It looks nothing up.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// The longest host name there is, with a final dot.
const LONGEST_HOST: usize = 254;

/// The longest part of a host name between two dots.
const LONGEST_LABEL: usize = 63;

/// A well-formed name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// An address and a port: nothing is left to look up.
    Address(SocketAddr),
    /// A host and a port.
    Host(&'a str, u16),
}

impl Name<'_> {
    /// Takes `text` apart, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> io::Result<Name<'_>> {
        if let Ok(address) = text.parse() {
            return Ok(Name::Address(address));
        }
        // Before any message repeats it.
        if text.len() > LONGEST_HOST + ":65535".len() {
            return Err(invalid(format!(
                "a host name of {} bytes: the longest have {LONGEST_HOST}",
                text.len()
            )));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(invalid(format!(
                "{text:?} has no port: write {:?}, for example",
                format!("{text}:80")
            )));
        };
        if host.contains(['[', ']']) || host.matches(':').count() > 1 {
            return Err(invalid(format!(
                "{text:?} is no IPv6 address with a port, as in \"[::1]:80\""
            )));
        }
        if let Some(wrong) = flaw_of_host(host) {
            return Err(invalid(format!("{text:?} names no host: {wrong}")));
        }
        // `parse` alone would take a sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits => Ok(Name::Host(host, port)),
            _ => Err(invalid(format!(
                "{text:?} has no port: {port:?} is not a number from 0 to 65535"
            ))),
        }
    }
}

/// What keeps `host` from being a host name, if anything does.
fn flaw_of_host(host: &str) -> Option<String> {
    if host.len() > LONGEST_HOST {
        return Some(format!(
            "it has {} bytes, the longest have {LONGEST_HOST}",
            host.len()
        ));
    }
    if let Some(wrong) = host.chars().find(|&c| !may_be_in_host(c)) {
        return Some(match wrong.is_ascii() {
            true => format!("{wrong:?} cannot be part of it"),
            false => format!("{wrong:?} is not ASCII; write it as punycode (xn--…)"),
        });
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    for label in labels {
        if label.is_empty() {
            return Some("a part of it is empty".to_owned());
        }
        if label.len() > LONGEST_LABEL {
            return Some(format!("a part of it is longer than {LONGEST_LABEL} bytes"));
        }
    }
    None
}

/// The underscore is in no host name by the standard, and in many in use.
fn may_be_in_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Name<'_>) {
        assert_eq!(Name::parse(text).expect("a well-formed name"), expected);
    }

    #[test]
    fn an_address_is_taken_as_it_stands() {
        for text in [
            "127.0.0.1:80",
            "0.0.0.0:0",
            "[::1]:65535",
            "[::ffff:10.0.0.1]:1",
            "[fe80::1%3]:7",
        ] {
            check(text, Name::Address(text.parse().expect("an address")));
        }
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        check("localhost:80", Name::Host("localhost", 80));
        check("a.b-c.example.:0", Name::Host("a.b-c.example.", 0));
        check(
            "_sip._tcp.example:65535",
            Name::Host("_sip._tcp.example", 65535),
        );
        check("127.1:8", Name::Host("127.1", 8));
    }

    #[test]
    fn a_malformed_name_is_told_what_is_wrong() {
        let long_label = format!("{}.example:80", "a".repeat(64));
        let long_host = format!("{}a:80", "abcdefg.".repeat(32));
        let endless = "a".repeat(1 << 20);
        let rows = [
            ("", "has no port"),
            ("localhost", "write \"localhost:80\""),
            ("localhost:", "\"\" is not a number"),
            ("localhost:65536", "\"65536\" is not a number"),
            ("localhost:+80", "\"+80\" is not a number"),
            ("localhost:http", "\"http\" is not a number"),
            (":80", "a part of it is empty"),
            (".:80", "a part of it is empty"),
            ("a..b:80", "a part of it is empty"),
            ("a b:80", "' ' cannot be part of it"),
            ("a\0b:80", "'\\0' cannot be part of it"),
            ("http://a:80", "':' cannot be part of it"),
            ("user@a:80", "'@' cannot be part of it"),
            ("müller.example:80", "punycode"),
            ("::1:80", "no IPv6 address"),
            ("[::1]", "no IPv6 address"),
            ("[::g]:80", "no IPv6 address"),
            (&long_label, "longer than 63 bytes"),
            (&long_host, "it has 257 bytes"),
            (&endless, "a host name of 1048576 bytes"),
        ];
        for (text, expected) in rows {
            let error = Name::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            let message = error.to_string();
            assert!(
                message.contains(expected),
                "{message:?} does not say {expected:?}"
            );
            assert!(message.len() < 1000, "a message as long as its input");
        }
    }
}
