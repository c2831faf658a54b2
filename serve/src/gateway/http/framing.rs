//! Finds where HTTP/1 requests begin and end in a connection's bytes, under the strictest reading
//! of the standard.
//!
//! hyper parses the requests, and is lenient where the standard permits it. A proxy between the
//! gateway and a client may be lenient in other ways, so that one side sees two requests where the
//! other sees one. Anything ambiguous is therefore refused before hyper sees it: lines that end
//! without CR, folded fields, a length combined with chunks, several lengths, and codings other
//! than `chunked`. This module only computes: it does not read from sockets or change any bytes.

use crate::fields::parse_length;
use http::StatusCode;

/// The maximum length of a line that states a chunk's size and extensions.
const MAX_CHUNK_LINE: usize = 256;

/// Tracks a connection's bytes as they arrive.
#[derive(Debug)]
pub(crate) struct Framing {
    head_size: usize,
    fields: usize,
    state: State,
    /// The beginning of an incomplete line.
    line: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Head(Head),
    /// The remaining bytes of a body with a stated length.
    Sized(u64),
    ChunkLine,
    /// The remaining bytes of a chunk.
    Chunk(u64),
    ChunkEnd,
    Trailer(Head),
}

/// How much of a head, or of the trailers, has been read so far.
#[derive(Debug, Default)]
struct Head {
    size: usize,
    /// The number of non-empty lines.
    lines: usize,
    is_one_zero: bool,
    length: Option<u64>,
    is_chunked: bool,
}

/// Why bytes cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramingError {
    pub(crate) status: StatusCode,
    pub(crate) why: &'static str,
    /// Whether the bytes belong to a body, in which case the request has already been passed on.
    pub(crate) is_in_body: bool,
}

/// The result of a check. A failure consists of a response's status and text.
type Checked<T> = Result<T, (StatusCode, &'static str)>;

fn bad<T>(why: &'static str) -> Checked<T> {
    Err((StatusCode::BAD_REQUEST, why))
}

impl Framing {
    /// Creates a tracker that expects a head first. Each head may have at most `head_size` bytes
    /// and `fields` fields.
    pub(crate) fn new(head_size: usize, fields: usize) -> Framing {
        Framing {
            head_size,
            fields,
            state: State::Head(Head::default()),
            line: Vec::new(),
        }
    }

    /// Returns whether a head has begun but is not complete.
    pub(crate) fn is_in_head(&self) -> bool {
        matches!(&self.state, State::Head(head) if head.lines > 0 || !self.line.is_empty())
    }

    /// Returns whether everything read so far is complete, that is, no head or body has begun.
    pub(super) fn is_between_requests(&self) -> bool {
        self.line.is_empty() && matches!(&self.state, State::Head(head) if head.size == 0)
    }

    /// Checks more bytes.
    ///
    /// # Errors
    ///
    /// Returns why the bytes cannot be passed on, and how many of them can be: those before a bad
    /// head, but none of a bad body. Nothing may be read after an error.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), (usize, FramingError)> {
        let mut at = 0;
        let mut passable = 0;
        while at < bytes.len() {
            if let State::Sized(left) | State::Chunk(left) = &mut self.state {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                *left -= taken as u64;
                at += taken;
                if *left > 0 {
                    break;
                }
                self.state = match self.state {
                    State::Chunk(_) => State::ChunkEnd,
                    _ => State::Head(Head::default()),
                };
                passable = at;
                continue;
            }
            let is_in_body = !matches!(self.state, State::Head(_));
            let error = |(status, why)| {
                (
                    passable,
                    FramingError {
                        status,
                        why,
                        is_in_body,
                    },
                )
            };
            let rest = &bytes[at..];
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
                self.check_size(self.line.len() + rest.len())
                    .map_err(error)?;
                self.line.extend_from_slice(rest);
                break;
            };
            at += length + 1;
            self.check_size(self.line.len() + length + 1)
                .map_err(error)?;
            if self.line.is_empty() {
                self.end_line(&rest[..=length]).map_err(error)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..=length]);
                self.end_line(&line).map_err(error)?;
            }
            if !matches!(&self.state, State::Head(head) if head.size > 0) {
                passable = at;
            }
        }
        Ok(())
    }

    fn check_size(&self, line: usize) -> Checked<()> {
        let too_large = match &self.state {
            State::Head(head) | State::Trailer(head) => head.size + line > self.head_size,
            _ => line > MAX_CHUNK_LINE,
        };
        match (too_large, &self.state) {
            (false, _) => Ok(()),
            (true, State::Head(_)) => Err((
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request's head is too large",
            )),
            (true, _) => bad("a line between the body's chunks is too long"),
        }
    }

    fn end_line(&mut self, line: &[u8]) -> Checked<()> {
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return bad("a line ends without CR");
        };
        if text.iter().any(|byte| [b'\r', b'\0'].contains(byte)) {
            return bad("a line contains CR or NUL");
        }
        let next = match &mut self.state {
            State::Head(head) => {
                head.size += line.len();
                head.line(text, self.fields)?
            }
            State::Trailer(head) => {
                head.size += line.len();
                head.lines += 1;
                if head.lines > self.fields {
                    return bad("the body has too many trailers");
                }
                text.is_empty().then(|| State::Head(Head::default()))
            }
            State::ChunkLine => Some(match chunk_size(text)? {
                0 => State::Trailer(Head::default()),
                size => State::Chunk(size),
            }),
            State::ChunkEnd if text.is_empty() => Some(State::ChunkLine),
            State::ChunkEnd => return bad("a chunk is longer than its stated size"),
            State::Sized(_) | State::Chunk(_) => unreachable!("these consist of bytes, not lines"),
        };
        if let Some(next) = next {
            self.state = next;
        }
        Ok(())
    }
}

impl Head {
    /// Reads a line. If it was the last one, returns the next state.
    fn line(&mut self, text: &[u8], fields: usize) -> Checked<Option<State>> {
        if text.is_empty() {
            // Empty lines may precede the first non-empty line.
            return if self.lines == 0 {
                Ok(None)
            } else {
                self.end().map(Some)
            };
        }
        self.lines += 1;
        if self.lines == 1 {
            self.is_one_zero = text.ends_with(b"HTTP/1.0");
            return Ok(None);
        }
        if self.lines - 1 > fields {
            return Err((
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request has too many fields",
            ));
        }
        let Some(colon) = text.iter().position(|&byte| byte == b':') else {
            return bad("a field has no colon");
        };
        let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
        // Reject a space before the colon, and also a leading space, which would continue the
        // previous line.
        if name.is_empty() || name.iter().any(|byte| byte.is_ascii_whitespace()) {
            return bad("a field has an invalid name");
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return bad("the request has several lengths");
            }
            self.length = parse_length(value);
            if self.length.is_none() {
                return bad("the request's length is not a number");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || self.is_one_zero || !value.eq_ignore_ascii_case(b"chunked") {
                return bad("the body has a transfer coding other than `chunked`");
            }
            self.is_chunked = true;
        }
        Ok(None)
    }

    fn end(&self) -> Checked<State> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => bad("the request has both a length and chunks"),
            (_, true) => Ok(State::ChunkLine),
            (None | Some(0), false) => Ok(State::Head(Head::default())),
            (Some(length), false) => Ok(State::Sized(length)),
        }
    }
}

fn chunk_size(text: &[u8]) -> Checked<u64> {
    let end = text
        .iter()
        .position(|&byte| byte == b';')
        .unwrap_or(text.len());
    let digits = std::str::from_utf8(&text[..end])
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        Some(size) => Ok(size),
        None => bad("a chunk size is not a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\n\r\nab\ncd",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:  Chunked \r\n\r\n3;a=b\r\na\nb\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ];

    const BAD: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\nhost: a\n\n", "without CR"),
        (b"GET / HTTP/1.1\r\nhost: a\n\r\n", "without CR"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n", "no colon"),
        (
            b"GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
            "invalid name",
        ),
        (
            b"GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
            "invalid name",
        ),
        (b"GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n", "CR or NUL"),
        (b"GET / HTTP/1.1\r\nhost: a\0\r\n\r\n", "CR or NUL"),
        (b"GET / HTTP/1.1\r\nhost\r\n\r\n", "no colon"),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "length and chunks",
        ),
        (
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
            "length and chunks",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n",
            "several lengths",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 3, 3\r\n\r\n",
            "not a number",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
            "not a number",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
            "not a number",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length:\r\n\r\n",
            "not a number",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n",
            "not a number",
        ),
        (
            b"POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n",
            "other than `chunked`",
        ),
        (
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n",
            "other than `chunked`",
        ),
        (
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "other than `chunked`",
        ),
        (
            b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            "other than `chunked`",
        ),
    ];

    const BAD_CHUNKS: &[(&[u8], &str)] = &[
        (b"3\nabc\r\n", "without CR"),
        (b"\r\n", "not a number"),
        (b"+3\r\nabc\r\n", "not a number"),
        (b"0x3\r\nabc\r\n", "not a number"),
        (b"3 \r\nabc\r\n", "not a number"),
        (b"10000000000000000\r\n", "not a number"),
        (b"3\r\nabcd\r\n", "longer than its stated size"),
        (b"3;x\ny\r\n", "without CR"),
    ];

    fn framing() -> Framing {
        Framing::new(1024, 10)
    }

    #[test]
    fn one_request_after_another_is_passed_on() {
        let mut framing = framing();
        for request in GOOD.iter().chain(GOOD) {
            assert_eq!(
                framing.read(request),
                Ok(()),
                "{:?}",
                String::from_utf8_lossy(request)
            );
            assert!(!framing.is_in_head() && matches!(framing.state, State::Head(_)));
        }
    }

    #[test]
    fn t132_ambiguous_requests_are_refused() {
        for (request, wanted) in BAD {
            let (passable, error) = framing().read(request).expect_err(wanted);
            assert!(error.why.contains(wanted), "{}", error.why);
            assert_eq!(
                (passable, error.status, error.is_in_body),
                (0, StatusCode::BAD_REQUEST, false)
            );
        }
    }

    #[test]
    fn t132_bad_chunks_are_refused_after_their_request_was_passed_on() {
        let head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let long = format!("3;{}", "x".repeat(MAX_CHUNK_LINE));
        for (chunks, wanted) in BAD_CHUNKS
            .iter()
            .copied()
            .chain([(long.as_bytes(), "too long")])
        {
            let (passable, error) = framing().read(&[head, chunks].concat()).expect_err(wanted);
            assert!(error.why.contains(wanted), "{}", error.why);
            assert!(passable >= head.len() && error.is_in_body);
        }
    }

    #[test]
    fn t131_the_bytes_and_fields_of_a_head_are_limited() {
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(framing().read(fields(10).as_bytes()), Ok(()));
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(1024));
        let unending = "\r\n".repeat(1024);
        for request in [fields(11), long, unending, "x".repeat(1025)] {
            let (_, error) = framing()
                .read(request.as_bytes())
                .expect_err("the head has too many bytes or fields");
            assert_eq!(error.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
    }

    #[test]
    fn the_bytes_before_a_bad_head_are_passed_on() {
        let good = GOOD[2];
        let (passable, error) = framing()
            .read(&[good, BAD[0].0].concat())
            .expect_err("the second head is bad");
        assert_eq!((passable, error.is_in_body), (good.len(), false));
    }

    proptest! {
        #[test]
        fn pieces_are_read_in_the_same_way_as_the_whole(
            requests in prop::collection::vec(prop::sample::select(
                GOOD.iter().copied().chain(BAD.iter().map(|bad| bad.0)).collect::<Vec<_>>()), 1..6),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let whole = requests.concat();
            let at_once = framing().read(&whole).map_err(|(_, error)| error);
            let mut framing = framing();
            let mut rest = &whole[..];
            let mut in_pieces = Ok(());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || in_pieces.is_err() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                in_pieces = framing.read(piece).map_err(|(_, error)| error);
                rest = after;
            }
            prop_assert_eq!(at_once, in_pieces);
        }
    }
}
