//! Fields that belong to a connection are not passed on: neither to functions nor to clients.

use super::Body;
use crate::Failure;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// The request's number: ours, whatever a client says.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request that is refused for its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no host, or there are several.
    Host,
    /// It asks for a protocol that is not spoken here.
    Upgrade,
}

/// Makes the fields of a request what a function gets: those of the connection are gone, and there is one host.
pub(super) fn of_request<B>(request: &mut Request<B>) -> Result<(), Unfit> {
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let host = match (authority, request.version()) {
        // What the request line says counts.
        (Some(authority), _) => Some(HeaderValue::from_str(authority).map_err(|_| Unfit::Host)?),
        _ => None,
    };
    let version = request.version();
    let fields = request.headers_mut();
    if fields.get_all(HOST).iter().nth(1).is_some() {
        return Err(Unfit::Host);
    }
    if let Some(host) = host {
        fields.insert(HOST, host);
    }
    if version >= Version::HTTP_11 && !fields.contains_key(HOST) {
        return Err(Unfit::Host);
    }
    if names(fields, &UPGRADE, "websocket") {
        return Err(Unfit::Upgrade);
    }
    strip(fields);
    Ok(())
}

/// Makes an answer what a client may get: one of HTTP's statuses, no fields of the connection, and a length that is true.
pub(super) fn of_answer(answer: &mut Response<Body>) -> Result<(), Failure> {
    let status = answer.status();
    // 1xx would be taken for something that comes before the answer.
    if !(200..600).contains(&status.as_u16()) {
        return Err(Failure::NotHttp(format!("its status is {status}")));
    }
    strip(answer.headers_mut());
    let mut lengths = answer.headers().get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(());
    };
    let is_one = lengths.all(|other| other == length);
    let digits = length
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(claimed) = digits
        .filter(|_| is_one)
        .and_then(|digits| digits.parse::<u64>().ok())
    else {
        return Err(Failure::NotHttp(
            "its length is no number, or it has several".into(),
        ));
    };
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = length.clone();
    match answer.body().size_hint().exact() {
        // To HEAD the length is answered without a body.
        Some(exact) if exact != claimed && exact != 0 && has_body => Err(Failure::NotHttp(
            format!("it says that its body has {claimed} bytes, and it has {exact}"),
        )),
        _ => {
            answer.headers_mut().insert(CONTENT_LENGTH, length);
            Ok(())
        }
    }
}

/// Returns how long a body is said to be.
pub(super) fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Takes the body off, as the answer to HEAD has none. Its length is still said.
pub(super) fn without_body(answer: &mut Response<Body>) {
    let exact = answer.body().size_hint().exact().filter(|exact| *exact > 0);
    if let Some(exact) = exact.filter(|_| !answer.headers().contains_key(CONTENT_LENGTH)) {
        answer.headers_mut().insert(CONTENT_LENGTH, exact.into());
    }
    *answer.body_mut() = super::body::empty();
}

/// Removes what belongs to the connection, and what is said to.
fn strip(fields: &mut HeaderMap) {
    if !fields.keys().any(is_of_connection) {
        return;
    }
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What says how long a body is, and for whom it is, is not the connection's, whoever says so.
        .filter(|name| ![CONTENT_LENGTH, HOST].contains(name))
        .collect();
    for name in named {
        fields.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        HTTP2_SETTINGS,
    ] {
        fields.remove(name);
    }
}

fn is_of_connection(name: &HeaderName) -> bool {
    [
        CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
    ]
    .contains(name)
}

/// Whether a list has a word.
fn names(fields: &HeaderMap, list: &HeaderName, word: &str) -> bool {
    let texts = fields
        .get_all(list)
        .iter()
        .filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .any(|each| each.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::super::body::{empty, full};
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("it is a request")
    }

    #[test]
    fn t138_fields_of_the_connection_and_what_it_names_are_gone() {
        let mut request = request(&[
            ("host", "a"),
            ("connection", "keep-alive, x-secret, content-length"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("accept", "*/*"),
        ]);
        of_request(&mut request).expect("it fits");
        let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "content-length", "accept"]);
    }

    #[test]
    fn t131_a_request_has_one_host() {
        assert_eq!(of_request(&mut request(&[])), Err(Unfit::Host));
        assert_eq!(
            of_request(&mut request(&[("host", "a"), ("host", "a")])),
            Err(Unfit::Host)
        );
        let mut whole = request(&[("host", "other")]);
        *whole.uri_mut() = "http://name/".parse().expect("it is one");
        of_request(&mut whole).expect("it fits");
        assert_eq!(whole.headers()[HOST], "name");
    }

    #[test]
    fn t140_a_websocket_is_refused_whatever_else_is_asked_for() {
        assert_eq!(
            of_request(&mut request(&[
                ("host", "a"),
                ("upgrade", "h2c, WebSocket")
            ])),
            Err(Unfit::Upgrade)
        );
    }

    #[test]
    fn t138_an_answer_has_a_status_of_http_and_a_true_length() {
        let answer = |status: u16, lengths: &[&str], body: Body| {
            let mut answer = Response::builder().status(status);
            for length in lengths {
                answer = answer.header(CONTENT_LENGTH, *length);
            }
            of_answer(&mut answer.body(body).expect("it is an answer")).is_ok()
        };
        for status in [100, 101, 199, 600, 999] {
            assert!(!answer(status, &[], empty()), "{status}");
        }
        assert!(
            answer(200, &["2"], full("ab"))
                && answer(200, &["2", "2"], full("ab"))
                && answer(200, &["9"], empty())
        );
        for lengths in [
            &["1"][..],
            &["3"],
            &["+2"],
            &["2", "3"],
            &["2, 2"],
            &[""],
            &["99999999999999999999"],
        ] {
            assert!(!answer(200, lengths, full("ab")), "{lengths:?}");
        }
    }
}
