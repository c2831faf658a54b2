//! A rule that says which hosts may be called, and its text format.

use http::uri::Scheme;
#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The maximum length of a host name, in bytes.
const MAX_HOST: usize = 253;

/// The maximum length, in bytes, of each part of a host name.
const MAX_LABEL: usize = 63;

/// Hosts that may be called over HTTP: `example.com`, `*.example.com` for every host below that
/// name, an IP address, or `*` for every host. `:port` limits a rule to one port, and `http://` or
/// `https://` limits it to one scheme.
///
/// ```
/// use lunatic_serve::OutboundRule;
///
/// let rule: OutboundRule = "https://*.example.com:8443".parse()?;
/// assert_eq!(rule.to_string(), "https://*.example.com:8443");
/// let error = "https://example.com/api".parse::<OutboundRule>().expect_err("a rule has no path");
/// assert!(error.to_string().contains("remove the path"));
/// # Ok::<(), lunatic_serve::OutboundRuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutboundRule {
    is_secure: Option<bool>,
    host: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// In lower case, like all names here.
    Named(String),
    /// Every host below this name, but not the name itself.
    Below(String),
    Address(IpAddr),
}

/// The error for a string that is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an outbound rule: {flaw}", lunatic_vm::printable(.text))]
pub struct OutboundRuleError {
    text: String,
    flaw: Cow<'static, str>,
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) is_secure: bool,
    pub(super) host: Host,
    pub(super) port: u16,
}

/// The host that a call goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Named(String),
    Address(IpAddr),
}

impl OutboundRule {
    /// Returns whether the rule allows a call.
    pub(super) fn allows(&self, destination: &Destination) -> bool {
        let host = match (&self.host, &destination.host) {
            (Hosts::All, _) => true,
            (Hosts::Named(allowed), Host::Named(name)) => allowed == name,
            (Hosts::Below(parent), Host::Named(name)) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Hosts::Address(allowed), Host::Address(address)) => allowed == address,
            (Hosts::Named(_) | Hosts::Below(_), Host::Address(_))
            | (Hosts::Address(_), Host::Named(_)) => false,
        };
        host && self
            .is_secure
            .is_none_or(|is_secure| is_secure == destination.is_secure)
            && self.port.is_none_or(|port| port == destination.port)
    }
}

impl Destination {
    /// Returns where a request goes, or the reason why that cannot be determined.
    pub(super) fn of(uri: &http::Uri) -> Result<Destination, String> {
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) => {
                return Err(format!(
                    "`{scheme}` is not supported; only `http` and `https` are"
                ));
            }
            None => {
                return Err("it has no scheme, such as `https://`".to_string());
            }
        };
        let Some(authority) = uri.authority() else {
            return Err("it has no host".to_string());
        };
        if authority.as_str().contains('@') {
            return Err(
                "it has a user name or password before the host: use the `authorization` header"
                    .to_string(),
            );
        }
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            // `Uri` accepts a port that is not a number but does not return it.
            None if authority.as_str() != authority.host() => {
                return Err("its port is not a number".to_string());
            }
            None if is_secure => 443,
            None => 80,
        };
        let host = Host::parse(authority.host())?;
        Ok(Destination {
            is_secure,
            host,
            port,
        })
    }

    /// Returns the scheme.
    pub(super) fn scheme(&self) -> Scheme {
        if self.is_secure {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    /// Returns the host, followed by the port unless it is the scheme's default.
    pub(super) fn authority(&self) -> String {
        let default = if self.is_secure { 443 } else { 80 };
        if self.port == default {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Host, String> {
        if let Some(address) = text.strip_prefix('[') {
            let address = address
                .strip_suffix(']')
                .and_then(|address| address.parse::<Ipv6Addr>().ok());
            return address
                .map(|address| Host::Address(address.into()))
                .ok_or("its IPv6 address is invalid".to_string());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Host::Address(address));
        }
        checked_name(text).map(Host::Named)
    }
}

/// Returns a host name in the form used for comparison: in lower case and without a final dot.
fn checked_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_HOST {
        return Err(format!("a host must have 1 to {MAX_HOST} characters"));
    }
    if !name.is_ascii() {
        return Err("a host must be ASCII: write it as punycode (`xn--…`)".to_string());
    }
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= MAX_LABEL && label.bytes().all(allowed)
    };
    if !name.split('.').all(is_label) {
        return Err(format!(
            "a host must consist of parts of 1 to {MAX_LABEL} letters, digits, `-` or `_`, separated by `.`"
        ));
    }
    Ok(name)
}

impl FromStr for OutboundRule {
    type Err = OutboundRuleError;

    fn from_str(text: &str) -> Result<OutboundRule, OutboundRuleError> {
        let error = |flaw: Cow<'static, str>| {
            // A string that is not a rule may be as long as a file.
            let text = text.chars().take(MAX_HOST).collect();
            OutboundRuleError { text, flaw }
        };
        let (is_secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(true), rest),
            Some(("http", rest)) => (Some(false), rest),
            Some(_) => return Err(error("the scheme must be `http` or `https`".into())),
            None => (None, text),
        };
        if rest.contains(['/', '?', '#', '@']) {
            return Err(error(
                "a rule allows entire hosts: remove the path and the user".into(),
            ));
        }
        // The colons of an IPv6 address are inside brackets.
        let after_address = rest.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match rest[after_address..].split_once(':') {
            Some((_, digits)) => {
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
                let port = digits
                    .parse()
                    .ok()
                    .filter(|&port: &u16| is_number && port > 0);
                let port = port.ok_or_else(|| {
                    error(
                        "a port must be from 1 to 65535; an IPv6 address must be in brackets"
                            .into(),
                    )
                })?;
                (&rest[..rest.len() - digits.len() - 1], Some(port))
            }
            None => (rest, None),
        };
        let host = if host == "*" {
            Hosts::All
        } else if let Some(parent) = host.strip_prefix("*.") {
            Hosts::Below(checked_name(parent).map_err(|flaw| error(flaw.into()))?)
        } else if host.contains('*') {
            return Err(error(
                "a `*` can replace only the entire host, or the part before the first dot".into(),
            ));
        } else {
            match Host::parse(host).map_err(|flaw| error(flaw.into()))? {
                Host::Named(name) => Hosts::Named(name),
                Host::Address(address) => Hosts::Address(address),
            }
        };
        Ok(OutboundRule {
            is_secure,
            host,
            port,
        })
    }
}

impl TryFrom<String> for OutboundRule {
    type Error = OutboundRuleError;

    fn try_from(text: String) -> Result<OutboundRule, OutboundRuleError> {
        text.parse()
    }
}

impl From<OutboundRule> for String {
    fn from(rule: OutboundRule) -> String {
        rule.to_string()
    }
}

impl fmt::Display for OutboundRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_secure {
            Some(true) => f.write_str("https://")?,
            Some(false) => f.write_str("http://")?,
            None => {}
        }
        match &self.host {
            Hosts::All => f.write_str("*")?,
            Hosts::Named(name) => f.write_str(name)?,
            Hosts::Below(name) => write!(f, "*.{name}")?,
            Hosts::Address(address) => Host::Address(*address).fmt(f)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Named(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

#[cfg(test)]
impl JsonSchema for OutboundRule {
    fn schema_name() -> Cow<'static, str> {
        "OutboundRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Hosts that may be called over HTTP: `example.com`, `*.example.com`, an IP address or `*`, \
                            with `:port` for one port and `http://` or `https://` for one scheme.",
            "pattern": "^(https?://)?[^/?#@]+$",
            "examples": ["example.com", "https://*.example.com", "10.0.0.7:8080"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, uri: &str) -> bool {
        let rule: OutboundRule = rule.parse().unwrap_or_else(|error| panic!("{error}"));
        let destination = Destination::of(&uri.parse().expect("the text is a URI"))
            .unwrap_or_else(|flaw| panic!("{uri}: {flaw}"));
        rule.allows(&destination)
    }

    #[test]
    fn a_rule_allows_its_hosts_and_no_others() {
        for (rule, uri) in [
            ("example.com", "http://example.com"),
            ("example.com", "https://EXAMPLE.com.:8443/path?query"),
            ("Example.Com", "https://example.com"),
            ("*.example.com", "https://a.b.example.com"),
            ("https://example.com", "https://example.com:444"),
            ("example.com:8080", "http://example.com:8080"),
            ("*", "https://127.0.0.1"),
            ("https://*:443", "https://example.com"),
            ("10.0.0.7", "http://10.0.0.7:81"),
            ("[2001:db8::1]:80", "http://[2001:0db8:0::1]"),
        ] {
            assert!(allows(rule, uri), "{rule} {uri}");
        }
        for (rule, uri) in [
            ("example.com", "http://www.example.com"),
            ("example.com", "http://example.com.evil.org"),
            ("*.example.com", "https://example.com"),
            ("*.example.com", "https://badexample.com"),
            ("https://example.com", "http://example.com:443"),
            ("example.com:8080", "http://example.com"),
            ("https://*:443", "https://example.com:444"),
            ("10.0.0.7", "http://10.0.0.70"),
            ("10.0.0.7", "http://[::ffff:10.0.0.7]"),
        ] {
            assert!(!allows(rule, uri), "{rule} {uri}");
        }
    }

    #[test]
    fn an_invalid_rule_is_rejected_with_a_reason() {
        let long = "a".repeat(64);
        for (text, flaw) in [
            ("", "1 to 253 characters"),
            ("ftp://example.com", "`http` or `https`"),
            ("https://example.com/api", "remove the path"),
            ("me@example.com", "remove the path and the user"),
            ("example.com:", "a port must be"),
            ("example.com:+80", "a port must be"),
            ("example.com:65536", "a port must be"),
            ("2001:db8::1", "in brackets"),
            ("[2001:db8::1", "in brackets"),
            ("[10.0.0.7]", "IPv6 address"),
            ("a.*.example.com", "can replace only"),
            ("*example.com", "can replace only"),
            ("exämple.com", "punycode"),
            ("a..b", "parts of"),
            ("a b", "parts of"),
            (&long, "parts of"),
        ] {
            let error = text
                .parse::<OutboundRule>()
                .expect_err("the text is not a rule")
                .to_string();
            assert!(error.contains(flaw), "{text}: {error}");
        }
    }

    #[test]
    fn a_rule_is_displayed_as_it_was_written() {
        for text in [
            "*",
            "example.com",
            "https://*.example.com:8443",
            "http://10.0.0.7:80",
            "[2001:db8::1]:80",
        ] {
            let rule: OutboundRule = text.parse().expect("the text is a rule");
            assert_eq!(rule.to_string(), text);
            let json = serde_json::to_string(&rule).expect("a rule is a JSON string");
            assert_eq!(
                serde_json::from_str::<OutboundRule>(&json).expect("the text is a rule"),
                rule
            );
        }
    }

    #[test]
    fn a_request_without_a_destination_is_rejected_with_a_reason() {
        for (uri, flaw) in [
            ("/path", "no scheme"),
            ("ws://example.com", "`ws` is not supported"),
            ("http://user:secret@example.com", "before the host"),
            ("http://example.com:", "its port"),
        ] {
            let told = Destination::of(&uri.parse().expect("the text is a URI"))
                .expect_err("the URI has no destination");
            assert!(told.contains(flaw), "{uri}: {told}");
        }
    }
}
