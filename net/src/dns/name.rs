//! Parses and validates names of the form `host:port`. This module does not do any lookups.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// The maximum length of a host name, including a final dot.
const MAX_HOST_LENGTH: usize = 254;

/// The maximum length of one label of a host name.
const MAX_LABEL_LENGTH: usize = 63;

/// A well-formed name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// An address and a port, which do not need a lookup.
    Address(SocketAddr),
    /// A host name and a port.
    Host(&'a str, u16),
}

impl Name<'_> {
    /// Parses `text`, or returns an error that says what is wrong with it.
    pub(super) fn parse(text: &str) -> io::Result<Name<'_>> {
        if let Ok(address) = text.parse() {
            return Ok(Name::Address(address));
        }
        // The length is checked first, so that error messages never quote a very long string.
        if text.len() > MAX_HOST_LENGTH + ":65535".len() {
            return Err(invalid(format!(
                "the host name has {} bytes; at most {MAX_HOST_LENGTH} are allowed",
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
                "{text:?} is not an IPv6 address with a port, as in \"[::1]:80\""
            )));
        }
        if let Some(wrong) = host_error(host) {
            return Err(invalid(format!("{text:?} does not name a host: {wrong}")));
        }
        // `parse` alone would accept a sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits => Ok(Name::Host(host, port)),
            _ => Err(invalid(format!(
                "{text:?} has no port: {port:?} is not a number from 0 to 65535"
            ))),
        }
    }
}

/// Returns what is wrong with a host name, or `None` if it is valid.
fn host_error(host: &str) -> Option<String> {
    if host.len() > MAX_HOST_LENGTH {
        return Some(format!(
            "it has {} bytes; at most {MAX_HOST_LENGTH} are allowed",
            host.len()
        ));
    }
    if let Some(wrong) = host.chars().find(|&c| !may_be_in_host(c)) {
        return Some(match wrong.is_ascii() {
            true => format!("{wrong:?} is not allowed in a host name"),
            false => format!("{wrong:?} is not ASCII; write it as punycode (xn--…)"),
        });
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    for label in labels {
        if label.is_empty() {
            return Some("one of its labels is empty".to_owned());
        }
        if label.len() > MAX_LABEL_LENGTH {
            return Some(format!(
                "one of its labels is longer than {MAX_LABEL_LENGTH} bytes"
            ));
        }
    }
    None
}

/// The standard for host names does not allow underscores, but many names in use contain them.
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
        assert_eq!(
            Name::parse(text).expect("the name is well-formed"),
            expected
        );
    }

    #[test]
    fn an_address_resolves_to_itself() {
        for text in [
            "127.0.0.1:80",
            "0.0.0.0:0",
            "[::1]:65535",
            "[::ffff:10.0.0.1]:1",
            "[fe80::1%3]:7",
        ] {
            check(
                text,
                Name::Address(text.parse().expect("the text is an address")),
            );
        }
    }

    #[test]
    fn a_host_is_separated_from_its_port() {
        check("localhost:80", Name::Host("localhost", 80));
        check("a.b-c.example.:0", Name::Host("a.b-c.example.", 0));
        check(
            "_sip._tcp.example:65535",
            Name::Host("_sip._tcp.example", 65535),
        );
        check("127.1:8", Name::Host("127.1", 8));
    }

    #[test]
    fn an_error_says_what_is_wrong_with_a_name() {
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
            (":80", "one of its labels is empty"),
            (".:80", "one of its labels is empty"),
            ("a..b:80", "one of its labels is empty"),
            ("a b:80", "' ' is not allowed in a host name"),
            ("a\0b:80", "'\\0' is not allowed in a host name"),
            ("http://a:80", "':' is not allowed in a host name"),
            ("user@a:80", "'@' is not allowed in a host name"),
            ("müller.example:80", "punycode"),
            ("::1:80", "not an IPv6 address"),
            ("[::1]", "not an IPv6 address"),
            ("[::g]:80", "not an IPv6 address"),
            (&long_label, "longer than 63 bytes"),
            (&long_host, "it has 257 bytes"),
            (&endless, "the host name has 1048576 bytes"),
        ];
        for (text, expected) in rows {
            let error = Name::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            let message = error.to_string();
            assert!(
                message.contains(expected),
                "{message:?} does not say {expected:?}"
            );
            assert!(message.len() < 1000, "the message is as long as its input");
        }
    }
}
