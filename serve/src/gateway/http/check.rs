//! Checks and rewrites the heads of requests and responses.

use crate::Failure;
use crate::body::{Body, empty};
use crate::fields;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use std::net::Ipv6Addr;

/// The bytes that a host's name may contain besides letters and digits (RFC 3986, section 3.2.2).
const NAME_MARKS: &[u8] = b"-._~!$&'()*+,;=";

/// Why a request is rejected because of its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The request does not name exactly one host.
    Host,
    /// The request's host is neither a name nor an address.
    HostName,
    /// The request asks to switch to a protocol that the gateway does not speak.
    Upgrade,
}

/// Turns a request's fields into those that are passed to a function, with no hop-by-hop fields and
/// exactly one host.
pub(super) fn request<B>(request: &mut Request<B>) -> Result<(), Rejection> {
    // The host in the request line takes precedence over the field.
    let host = match request.uri().authority() {
        Some(authority) => {
            Some(HeaderValue::from_str(authority.as_str()).map_err(|_| Rejection::Host)?)
        }
        None => None,
    };
    let version = request.version();
    let fields = request.headers_mut();
    if fields.get_all(HOST).iter().nth(1).is_some() {
        return Err(Rejection::Host);
    }
    if [host.as_ref(), fields.get(HOST)]
        .into_iter()
        .flatten()
        .any(|host| !is_host(host.as_bytes()))
    {
        return Err(Rejection::HostName);
    }
    if let Some(host) = host {
        fields.insert(HOST, host);
    }
    if version >= Version::HTTP_11 && !fields.contains_key(HOST) {
        return Err(Rejection::Host);
    }
    if lists(fields, &UPGRADE, "websocket") {
        return Err(Rejection::Upgrade);
    }
    fields::remove_hop_by_hop(fields);
    Ok(())
}

/// Returns whether bytes are a host with an optional port, which a function may put into an address
/// without checking them. A request for something that has no host states an empty one. As in a
/// [`http::Uri`], a host must not be percent-encoded.
fn is_host(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let (is_valid, rest) = match text.strip_prefix('[') {
        Some(address) => match address.split_once(']') {
            Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
            None => return false,
        },
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_valid = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || NAME_MARKS.contains(&byte));
            (is_valid && (!name.is_empty() || rest.is_empty()), rest)
        }
    };
    let is_port = match rest.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()),
        None => rest.is_empty(),
    };
    is_valid && is_port
}

/// Turns a function's response into one that may be sent to a client, with a valid status, no
/// hop-by-hop fields and a correct length.
pub(super) fn response(response: &mut Response<Body>, is_head: bool) -> Result<(), Failure> {
    let status = response.status();
    // A 1xx status would be mistaken for an interim response.
    if !(200..600).contains(&status.as_u16()) {
        return Err(Failure::NotHttp(format!("its status is {status}")));
    }
    fields::remove_hop_by_hop(response.headers_mut());
    let Some(claimed) = fields::length(response.headers()).map_err(|_| {
        Failure::NotHttp("its length is not a number, or it states several lengths".into())
    })?
    else {
        return Ok(());
    };
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match response.body().size_hint().exact() {
        // The response to HEAD has a length but no body.
        Some(exact) if exact != claimed && has_body && !(is_head && exact == 0) => {
            Err(untrue_length(claimed, exact))
        }
        _ => {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, claimed.into());
            Ok(())
        }
    }
}

/// Returns the failure of a response whose body does not have the length stated in its head.
pub(super) fn untrue_length(claimed: u64, exact: u64) -> Failure {
    let what = format!("its head states a body of {claimed} bytes, but the body has {exact}");
    Failure::NotHttp(what)
}

/// Removes the body, because the response to HEAD has none. The head still states the body's
/// length.
pub(super) fn remove_body(response: &mut Response<Body>) {
    let exact = response
        .body()
        .size_hint()
        .exact()
        .filter(|exact| *exact > 0);
    if let Some(exact) = exact.filter(|_| !response.headers().contains_key(CONTENT_LENGTH)) {
        response.headers_mut().insert(CONTENT_LENGTH, exact.into());
    }
    *response.body_mut() = empty();
}

/// Returns whether a comma-separated field contains a word.
fn lists(fields: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    fields::words(fields, name).any(|each| each.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use crate::body::full;

    fn with_fields(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("the fields are valid")
    }

    #[test]
    fn t138_connection_fields_and_fields_that_they_name_are_removed() {
        let mut request = with_fields(&[
            ("host", "a"),
            ("connection", "keep-alive, x-secret, content-length"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("accept", "*/*"),
        ]);
        check::request(&mut request).expect("the request has one host");
        // Removing a field moves other fields, but their order does not matter.
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-length", "host"]);
    }

    #[test]
    fn t131_a_request_has_one_host() {
        assert_eq!(check::request(&mut with_fields(&[])), Err(Rejection::Host));
        assert_eq!(
            check::request(&mut with_fields(&[("host", "a"), ("host", "a")])),
            Err(Rejection::Host)
        );
        let mut whole = with_fields(&[("host", "other")]);
        *whole.uri_mut() = "http://name/".parse().expect("the text is a URI");
        check::request(&mut whole).expect("the URI names one host");
        assert_eq!(whole.headers()[HOST], "name");
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        let check = |host: &[u8]| {
            let mut request = with_fields(&[]);
            let host = HeaderValue::from_bytes(host).expect("the bytes can be a field's value");
            request.headers_mut().insert(HOST, host);
            check::request(&mut request)
        };
        for host in [
            "",
            "a",
            "a.example:80",
            "a:",
            "x_y~z.example.",
            "127.0.0.1:8080",
            "[::1]",
            "[2001:db8::1]:443",
            "a!$&'()*+,;=b",
        ] {
            assert_eq!(check(host.as_bytes()), Ok(()), "{host}");
        }
        for host in [
            &b"a b"[..],
            b"a\tb",
            b"a\"b",
            b"a/../b?c",
            b"a/b",
            b"a?b",
            b"a#b",
            b"a\\b",
            b"a,b c",
            b"<a>",
            b"a%20b",
            b"user@a",
            b"user:password@a",
            b"@",
            b"a:b",
            b"a:80:80",
            b"a:-1",
            b":80",
            b"::1",
            b"[::1",
            b"[::1]a",
            b"[::1]:b",
            b"[a]",
            b"[]",
            b"a[",
            b"a\xff",
            "\u{e4}".as_bytes(),
        ] {
            let text = String::from_utf8_lossy(host);
            assert_eq!(check(host), Err(Rejection::HostName), "{text}");
        }
        // A host in the request line takes precedence over the field, but both must be valid.
        for (uri, field, expected) in [
            ("http://name:80/", "a", Ok(())),
            ("http://user@name/", "a", Err(Rejection::HostName)),
            ("http://name/", "a b", Err(Rejection::HostName)),
        ] {
            let mut request = with_fields(&[("host", field)]);
            *request.uri_mut() = uri.parse().expect("the text is a URI");
            assert_eq!(check::request(&mut request), expected, "{uri} {field}");
        }
    }

    #[test]
    fn t140_a_websocket_is_refused_whatever_else_the_request_contains() {
        assert_eq!(
            check::request(&mut with_fields(&[
                ("host", "a"),
                ("upgrade", "h2c, WebSocket")
            ])),
            Err(Rejection::Upgrade)
        );
    }

    #[test]
    fn t138_a_response_has_a_valid_status_and_a_correct_length() {
        let check = |status: u16, lengths: &[&str], body: Body, is_head: bool| {
            let mut response = Response::builder().status(status);
            for length in lengths {
                response = response.header(CONTENT_LENGTH, *length);
            }
            let mut response = response.body(body).expect("the fields are valid");
            check::response(&mut response, is_head).is_ok()
        };
        let is_valid = |status, lengths: &[&str], body| check(status, lengths, body, false);
        for status in [100, 101, 199, 600, 999] {
            assert!(!is_valid(status, &[], empty()), "{status}");
        }
        assert!(
            is_valid(200, &["2"], full("ab"))
                && is_valid(200, &["2", "2"], full("ab"))
                && check(200, &["9"], empty(), true)
                && is_valid(204, &["9"], empty())
        );
        assert!(!is_valid(200, &["9"], empty()));
        for lengths in [
            &["1"][..],
            &["3"],
            &["+2"],
            &["2", "3"],
            &["2, 2"],
            &[""],
            &["99999999999999999999"],
        ] {
            assert!(!is_valid(200, lengths, full("ab")), "{lengths:?}");
        }
    }
}
