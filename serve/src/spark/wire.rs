//! HTTP/1.1 as bytes: writes and parses heads, and decodes bodies.
//!
//! This module only computes and never waits. Output from sparks is parsed as strictly as input
//! from untrusted clients.

use crate::fields;
use crate::request_id::REQUEST_ID;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, request, response};
use lunatic_vm::printable;

/// The maximum size of a head, in bytes, and the maximum number of fields in it.
pub(super) const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 100;

/// The maximum length of a line between the chunks of a body, and of everything after the last
/// chunk.
const MAX_LINE: usize = 256;
const MAX_TRAILERS: usize = 8 << 10;

/// What every response's head begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// How the length of a body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// The body has this many bytes.
    Length(u64),
    /// The body comes in chunks, each preceded by its length.
    Chunked,
    /// The body is everything that follows.
    UntilEnd,
}

/// A response's head.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) framing: Framing,
}

/// Returns where a head ends, or `None` if it is not complete yet. The bytes before `from` have
/// already been searched.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(3);
    let ends = bytes[from..]
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(index, _)| from + index);
    ends.map(|end| end + 1)
        .find(|end| bytes[..*end].ends_with(b"\n\n") || bytes[..*end].ends_with(b"\n\r\n"))
}

/// Returns whether a response can begin with the given bytes.
pub(super) fn begins_response(bytes: &[u8]) -> bool {
    let count = bytes.len().min(VERSION.len());
    bytes[..count] == VERSION[..count]
}

/// Parses a response's head, which takes up all of `bytes`. A response that has no body, because of
/// `has_body` or its status, gets a body of length zero. A `content-length` that says how long the
/// body would have been is kept.
pub(super) fn read_response(bytes: &[u8], has_body: bool) -> Result<ResponseHead, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(end)) if end == bytes.len() => (),
        Ok(_) => return Err("its head is cut off".into()),
        Err(error) => return Err(format!("its head is invalid: {error}")),
    }
    let code = response.code.expect("the head is complete");
    let status = match StatusCode::from_u16(code) {
        Ok(status) if (100..600).contains(&code) => status,
        _ => {
            return Err(format!(
                "it has the status {code}, but a status must be from 100 to 599"
            ));
        }
    };
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it has the status 101, but the protocol cannot be switched here".into());
    }
    let (mut fields, framing) = read_fields(response.headers)?;
    let framing = framing.unwrap_or(Framing::UntilEnd);
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        fields.remove(header::CONTENT_LENGTH);
        return Ok(ResponseHead {
            status,
            fields,
            framing: Framing::Length(0),
        });
    }
    let has_body = has_body && status != StatusCode::NOT_MODIFIED;
    let framing = if has_body {
        framing
    } else {
        Framing::Length(0)
    };
    Ok(ResponseHead {
        status,
        fields,
        framing,
    })
}

/// Parses a request's head, which takes up all of `bytes`. Also returns the body's framing, if the
/// head states it.
pub(super) fn read_request(bytes: &[u8]) -> Result<(request::Parts, Option<Framing>), String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) if end == bytes.len() => (),
        Ok(_) => return Err("the request's head is cut off".into()),
        Err(error) => return Err(format!("the request's head is invalid: {error}")),
    }
    let method = request.method.expect("the head is complete");
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| "the request's method is invalid".to_string())?;
    let path = request.path.expect("the head is complete");
    let not_a_uri = |_| format!("`{}` is not a valid URL", printable(path));
    let uri = Uri::try_from(path).map_err(not_a_uri)?;
    let (fields, framing) = read_fields(request.headers)?;
    let uri = match (uri.authority(), fields.get(header::HOST)) {
        (Some(_), _) => uri,
        (None, Some(host)) => {
            let host = host
                .to_str()
                .map_err(|_| "the field `host` is not text".to_string())?;
            Uri::try_from(format!("http://{host}{path}")).map_err(not_a_uri)?
        }
        (None, None) => {
            return Err("the request has neither an absolute URL nor a `host` field".into());
        }
    };
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.headers) = (method, uri, fields);
    Ok((parts, framing))
}

/// Parses a head's fields, leaving out hop-by-hop fields. Also returns the body's framing, if the
/// fields state it.
fn read_fields(fields: &[httparse::Header<'_>]) -> Result<(HeaderMap, Option<Framing>), String> {
    let mut read = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| {
            format!(
                "it has a field named `{}`, which is not a valid name",
                printable(field.name)
            )
        })?;
        let value = HeaderValue::from_bytes(field.value)
            .map_err(|_| format!("its field `{name}` has a value with control characters"))?;
        read.append(name, value);
    }
    let framing = framing(&read)?;
    remove_hop_by_hop(&mut read);
    Ok((read, framing))
}

/// Returns the body's framing, if the fields state it. Rejects anything ambiguous.
fn framing(fields: &HeaderMap) -> Result<Option<Framing>, String> {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err("its transfer-encoding is not `chunked`".into()),
    };
    let lengths = fields.get_all(header::CONTENT_LENGTH).iter().count();
    match (fields::length(fields), lengths) {
        (_, 0) => Ok(is_chunked.then_some(Framing::Chunked)),
        (_, _) if is_chunked => Err("it has both a content-length and a transfer-encoding".into()),
        (_, 2..) => Err("it has more than one content-length".into()),
        (Ok(length), _) => Ok(length.map(Framing::Length)),
        (Err(_), _) => Err("its content-length is not a number".into()),
    }
}

/// Removes hop-by-hop fields and `trailer`, because trailers are dropped.
fn remove_hop_by_hop(fields: &mut HeaderMap) {
    fields::remove_hop_by_hop(fields);
    fields.remove(header::TRAILER);
}

/// Writes a request's head the way a spark receives it: with a single `host`, with the body's
/// length or `transfer-encoding: chunked`, and with `connection: close`. `length` is the body's
/// length, if known.
pub(super) fn write_request(parts: &request::Parts, id: &str, length: Option<u64>) -> Vec<u8> {
    let mut fields = parts.headers.clone();
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes().to_vec(),
        None => fields
            .get(header::HOST)
            .map(|host| host.as_bytes().to_vec())
            .unwrap_or_default(),
    };
    remove_hop_by_hop(&mut fields);
    for name in [
        header::HOST,
        header::CONTENT_LENGTH,
        header::EXPECT,
        REQUEST_ID,
    ] {
        fields.remove(name);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = format!("{} {path} HTTP/1.1\r\nhost: ", parts.method).into_bytes();
    head.extend(host);
    head.extend(format!("\r\n{REQUEST_ID}: {id}\r\n").into_bytes());
    write_fields(&mut head, &fields);
    match length {
        // Methods that usually have no body do not get a `content-length: 0`.
        Some(0) if !parts.headers.contains_key(header::CONTENT_LENGTH) => (),
        Some(length) => head.extend(format!("content-length: {length}\r\n").into_bytes()),
        None => head.extend(b"transfer-encoding: chunked\r\n"),
    }
    head.extend(b"connection: close\r\n\r\n");
    head
}

/// Writes a response's head. The body either has the length stated in the fields or is everything
/// that follows.
pub(super) fn write_response(parts: &response::Parts) -> Vec<u8> {
    let mut fields = parts.headers.clone();
    remove_hop_by_hop(&mut fields);
    let reason = parts.status.canonical_reason().unwrap_or("");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).into_bytes();
    write_fields(&mut head, &fields);
    head.extend(b"connection: close\r\n\r\n");
    head
}

fn write_fields(head: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        head.extend(name.as_str().as_bytes());
        head.extend(b": ");
        head.extend(value.as_bytes());
        head.extend(b"\r\n");
    }
}

/// Decodes a body.
#[derive(Debug)]
pub(super) struct Decoder(State);

#[derive(Debug)]
enum State {
    Length(u64),
    UntilEnd,
    /// The line before a chunk is next.
    Size,
    /// The remaining bytes of a chunk.
    Chunk(u64),
    /// The end of the line after a chunk is next.
    AfterChunk,
    /// The bytes after the last chunk are being skipped. Contains how many have been skipped so
    /// far.
    Trailers(usize),
    Done,
}

/// The result of decoding the bytes that are available.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Some of the body's bytes, at least one.
    Piece(Bytes),
    /// More bytes are needed.
    More,
    /// The body has ended. The remaining bytes are not part of it.
    Done,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Decoder {
        Decoder(match framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilEnd => State::UntilEnd,
        })
    }

    /// Returns whether the body has ended.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.0, State::Length(0) | State::Done)
    }

    /// Extracts the next piece from the bytes.
    pub(super) fn step(&mut self, bytes: &mut BytesMut) -> Result<Step, String> {
        loop {
            match &mut self.0 {
                State::Length(0) | State::Done => return Ok(Step::Done),
                _ if bytes.is_empty() => return Ok(Step::More),
                State::UntilEnd => return Ok(Step::Piece(bytes.split().freeze())),
                State::Length(left) => return Ok(Step::Piece(take(bytes, left))),
                State::Chunk(left) => {
                    let piece = take(bytes, left);
                    if *left == 0 {
                        self.0 = State::AfterChunk;
                    }
                    return Ok(Step::Piece(piece));
                }
                State::Size => match httparse::parse_chunk_size(bytes) {
                    Ok(httparse::Status::Complete((end, _))) if end > MAX_LINE => {
                        return Err(long_line());
                    }
                    Ok(httparse::Status::Complete((end, size))) => {
                        let _ = bytes.split_to(end);
                        self.0 = if size == 0 {
                            State::Trailers(0)
                        } else {
                            State::Chunk(size)
                        };
                    }
                    Ok(httparse::Status::Partial) if bytes.len() > MAX_LINE => {
                        return Err(long_line());
                    }
                    Ok(httparse::Status::Partial) => return Ok(Step::More),
                    Err(_) => {
                        return Err("a chunk of its body does not begin with its length".into());
                    }
                },
                State::AfterChunk => match bytes[..] {
                    [b'\r', b'\n', ..] => {
                        let _ = bytes.split_to(2);
                        self.0 = State::Size;
                    }
                    [b'\r'] => return Ok(Step::More),
                    _ => return Err("a chunk of its body is longer than its stated size".into()),
                },
                State::Trailers(passed) => {
                    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                        if *passed + bytes.len() > MAX_TRAILERS {
                            return Err(long_trailers());
                        }
                        return Ok(Step::More);
                    };
                    let line = bytes.split_to(end + 1);
                    *passed += line.len();
                    if *passed > MAX_TRAILERS {
                        return Err(long_trailers());
                    }
                    if matches!(&line[..], b"\r\n" | b"\n") {
                        self.0 = State::Done;
                    }
                }
            }
        }
    }

    /// Checks whether the body may end if no more bytes arrive.
    pub(super) fn end(&self) -> Result<(), String> {
        match &self.0 {
            State::Length(0) | State::Done | State::UntilEnd => Ok(()),
            State::Length(left) => Err(format!(
                "its body ended {left} bytes short of its content-length"
            )),
            _ => Err("its body ended before its last chunk".into()),
        }
    }
}

fn take(bytes: &mut BytesMut, left: &mut u64) -> Bytes {
    let count = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *left -= count as u64;
    bytes.split_to(count).freeze()
}

fn long_line() -> String {
    format!("a chunk-size line in its body is more than {MAX_LINE} bytes long")
}

fn long_trailers() -> String {
    format!("more than {MAX_TRAILERS} bytes follow its body")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes a body that arrives in pieces of the given size. Also returns the bytes after it.
    fn decode(framing: Framing, bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (mut decoder, mut buffer, mut body) =
            (Decoder::new(framing), BytesMut::new(), Vec::new());
        let mut pieces = bytes.chunks(step);
        loop {
            match decoder.step(&mut buffer)? {
                Step::Piece(piece) => body.extend(piece),
                Step::Done => break,
                Step::More => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => {
                        decoder.end()?;
                        break;
                    }
                },
            }
        }
        let rest = buffer
            .iter()
            .copied()
            .chain(pieces.flatten().copied())
            .collect();
        Ok((body, rest))
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        let check = |framing, bytes: &str, body: &str, rest: &str| {
            for step in 1..bytes.len() + 1 {
                let decoded = decode(framing, bytes.as_bytes(), step).expect(bytes);
                assert_eq!(
                    decoded,
                    (body.into(), rest.into()),
                    "{bytes:?} in pieces of {step}"
                );
            }
        };
        check(Framing::Length(3), "abcd", "abc", "d");
        check(Framing::UntilEnd, "abcd", "abcd", "");
        check(Framing::Chunked, "3\r\nabc\r\n0\r\n\r\nx", "abc", "x");
        check(
            Framing::Chunked,
            "3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
            "abc0123456789",
            "",
        );
    }

    #[test]
    fn t132_a_body_that_contradicts_its_framing_is_refused() {
        let check = |framing, bytes: &str, why: &str| {
            let error = decode(framing, bytes.as_bytes(), 3).expect_err(bytes);
            assert!(error.contains(why), "`{error}` does not contain `{why}`");
        };
        check(Framing::Length(5), "abc", "2 bytes short");
        check(
            Framing::Chunked,
            "3\r\nabcd\r\n0\r\n\r\n",
            "longer than its stated size",
        );
        check(Framing::Chunked, "3\r\nab", "before its last chunk");
        check(Framing::Chunked, "-3\r\nabc", "does not begin");
        check(Framing::Chunked, "+3\r\nabc", "does not begin");
        check(Framing::Chunked, "0x3\r\nabc", "does not begin");
        check(Framing::Chunked, "FFFFFFFFFFFFFFFFF\r\n", "does not begin");
        check(
            Framing::Chunked,
            &format!("1;{}", "x".repeat(1_000)),
            "256 bytes long",
        );
        check(
            Framing::Chunked,
            &format!("0\r\n{}", "a: b\r\n".repeat(10_000)),
            "follow its body",
        );
    }

    fn response(text: &str) -> Result<ResponseHead, String> {
        read_response(text.as_bytes(), true)
    }

    #[test]
    fn t138_a_response_keeps_only_fields_that_do_not_concern_the_connection() {
        let head = response(
            "HTTP/1.1 201 Yes\r\nA: b\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nContent-Length: 3\r\n\r\n",
        )
        .expect("the head is valid");
        let fields: Vec<_> = head
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(fields, [("a", &b"b"[..]), ("content-length", b"3")]);
        assert_eq!(
            (head.status.as_u16(), head.framing),
            (201, Framing::Length(3))
        );
    }

    #[test]
    fn t138_an_invalid_response_is_rejected_with_a_reason() {
        let check = |text: &str, why: &str| {
            let error = response(text).expect_err(text);
            assert!(error.contains(why), "`{error}` does not contain `{why}`");
        };
        check("HTTP/1.1 999 No\r\n\r\n", "the status 999");
        check("HTTP/1.1 099 No\r\n\r\n", "the status 99");
        check("HTTP/1.1 101 Switch\r\n\r\n", "cannot be switched");
        check("HTTP/1.1 2x0 No\r\n\r\n", "head is invalid");
        check("HTTP/2.0 200 OK\r\n\r\n", "head is invalid");
        check("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "head is invalid");
        check("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", "head is invalid");
        check("HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n", "head is invalid");
        check("HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n", "head is invalid");
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "not a number",
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "not a number",
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "more than one",
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "both",
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "not `chunked`",
        );
        check(
            &format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101)),
            "head is invalid",
        );
    }

    #[test]
    fn some_responses_have_no_body_whatever_their_fields_say() {
        for (status, has_body, length) in [
            ("204", true, false),
            ("304", true, true),
            ("200", false, true),
            ("103", true, false),
        ] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            let head = read_response(text.as_bytes(), has_body).expect("the head is valid");
            assert_eq!(head.framing, Framing::Length(0));
            assert_eq!(
                head.fields.contains_key("content-length"),
                length,
                "{status}"
            );
        }
    }

    #[test]
    fn a_request_has_one_host_and_one_length() {
        let request = http::Request::post("http://real.example/a?b=c")
            .header("Host", "other.example")
            .header("Content-Length", "77")
            .header("Transfer-Encoding", "chunked")
            .header("Connection", "x-mine")
            .header("X-Mine", "1")
            .header("X-Request-Id", "forged")
            .header("Expect", "100-continue")
            .header("Accept", "*/*");
        let (parts, ()) = request.body(()).expect("the head is valid").into_parts();
        let head = |length| {
            String::from_utf8(write_request(&parts, "7", length)).expect("the head is text")
        };
        assert_eq!(
            head(Some(3)),
            "POST /a?b=c HTTP/1.1\r\nhost: real.example\r\nx-request-id: 7\r\naccept: */*\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"
        );
        assert!(
            head(None).contains("transfer-encoding: chunked\r\n"),
            "{}",
            head(None)
        );
        let (parts, ()) = http::Request::get("/")
            .header("host", "a")
            .body(())
            .expect("the head is valid")
            .into_parts();
        let head = write_request(&parts, "7", Some(0));
        assert_eq!(
            head,
            b"GET / HTTP/1.1\r\nhost: a\r\nx-request-id: 7\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_request_to_be_sent_names_its_destination() {
        let check = |text: &str, uri: &str| {
            let (parts, _) = read_request(text.as_bytes()).expect(text);
            assert_eq!(parts.uri.to_string(), uri);
        };
        check(
            "GET https://a.example/b HTTP/1.1\r\n\r\n",
            "https://a.example/b",
        );
        check(
            "GET /b?c HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
            "http://a.example:81/b?c",
        );
        for (text, why) in [
            ("GET / HTTP/1.1\r\n\r\n", "neither"),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "not a valid URL"),
            ("GET / HTTP/1.1\r\nHost: a/x?\r\n\r\n", "not a valid URL"),
            ("G<T / HTTP/1.1\r\n\r\n", "the request's head is invalid"),
        ] {
            match read_request(text.as_bytes()) {
                Err(error) => assert!(error.contains(why), "`{error}` does not contain `{why}`"),
                Ok((parts, _)) => assert!(parts.uri.host() == Some("a"), "{parts:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), step in 1..40usize) {
            let _ = read_response(&bytes, true);
            let _ = read_request(&bytes);
            if let Some(end) = end_of_head(&bytes, 0) {
                prop_assert!(bytes[..end].ends_with(b"\n\n") || bytes[..end].ends_with(b"\n\r\n"));
            }
            for framing in [Framing::Chunked, Framing::UntilEnd, Framing::Length(50)] {
                if let Ok((body, rest)) = decode(framing, &bytes, step) {
                    prop_assert!(body.len() + rest.len() <= bytes.len());
                }
            }
        }

        #[test]
        fn fields_are_read_back_as_written(
            fields in prop::collection::vec(("x-[a-z]{1,8}", "[!-~]{0,20}"), 0..20),
            body in prop::collection::vec(any::<u8>(), 0..100),
            step in 1..50usize,
        ) {
            let mut text = "HTTP/1.1 200 OK\r\n".to_string();
            for (name, value) in &fields {
                text += &format!("{name}: {value}\r\n");
            }
            text += "transfer-encoding: chunked\r\n\r\n";
            prop_assert_eq!(end_of_head(text.as_bytes(), 0), Some(text.len()));
            let head = response(&text).expect("the head is valid");
            prop_assert_eq!(head.fields.len(), fields.len());
            let mut chunked = Vec::new();
            for piece in body.chunks(7) {
                chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                chunked.extend(piece);
                chunked.extend(b"\r\n");
            }
            chunked.extend(b"0\r\n\r\n");
            prop_assert_eq!(decode(head.framing, &chunked, step), Ok((body, Vec::new())));
        }
    }
}
