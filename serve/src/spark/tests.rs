//! Sparks, asked as gateways ask them.

use super::*;
use crate::gateway::http::Body;
use crate::{Code, Functions, Name, Settings};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use lunatic_vm::Vm;
use std::time::Duration;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Functions under test.
struct Lab {
    functions: Functions,
}

/// What a guest of the tests imports and has: `$say` writes the bytes at an address, `$hear` reads what comes next into the
/// page at 4096.
const COMMS: &str = r#"
    (import "lunatic::spark" "read" (func $read (param i64 i32 i32) (result i64)))
    (import "lunatic::spark" "write" (func $write (param i64 i32 i32) (result i64)))
    (import "lunatic::spark" "end" (func $end (param i64) (result i64)))
    (import "lunatic::spark" "finish" (func $finish (param i64)))
    (import "lunatic::spark" "run" (func $run (param i32 i32 i32 i32) (result i64)))
    (import "lunatic::spark" "wait" (func $wait (param i32 i32 i64) (result i64)))
    (import "lunatic::spark" "close" (func $close (param i64)))
    (import "lunatic::spark" "fail" (func $fail (param i32 i32)))
    (import "lunatic::spark" "why" (func $why (param i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func $say (param $address i32) (param $length i32)
        (drop (call $write (i64.const 0) (local.get $address) (local.get $length))))
    (func $hear (param $comm i64) (result i64)
        (call $read (local.get $comm) (i32.const 4096) (i32.const 4096)))
    (func $echo (param $comm i64) (local $count i64)
        (block $done (loop $more
            (local.set $count (call $hear (local.get $comm)))
            (br_if $done (i64.le_s (local.get $count) (i64.const 0)))
            (call $say (i32.const 4096) (i32.wrap_i64 (local.get $count)))
            (br $more))))
"#;

impl Lab {
    fn new() -> Lab {
        let mut host = Host::default();
        crate::add_to_host(&mut host);
        let vm = Vm::builder().host(host).slots(200).build().expect("the machine can be set up");
        Lab { functions: Functions::new(&vm) }
    }

    /// Adds a function, whose text is what its module has beside [`COMMS`].
    fn spark(&self, name: &str, text: &str) -> Arc<Version> {
        self.put(name, &format!("(module {COMMS} {text})"), Settings::default())
    }

    /// Adds a function that answers always the same.
    fn answering(&self, name: &str, answer: &str) -> Arc<Version> {
        let escaped: String = answer.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let length = answer.len();
        self.spark(
            name,
            &format!(
                r#"(data (i32.const 8192) "{escaped}") (func (export "_start") (call $say (i32.const 8192) (i32.const {length})))"#
            ),
        )
    }

    fn put(&self, name: &str, text: &str, settings: Settings) -> Arc<Version> {
        let code =
            Code::new(self.functions.vm(), name, text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let name = match name.split_once('/') {
            Some((owner, name)) => Name::owned(owner, name),
            None => Name::new(name),
        };
        let name = name.expect("it is a name");
        self.functions.put(&name, 1, blake3::hash(text.as_bytes()), code, settings).expect("nothing is asked for")
    }

    async fn ask(&self, version: &Arc<Version>, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let Code::Spark(spark) = version.code() else { panic!("{:?} is no spark", version.code()) };
        let ticket = Arc::new(Ticket::new(None, false));
        ticket.given_to(version);
        let answer = answer(version, spark, &ticket, request);
        tokio::time::timeout(PATIENCE, answer).await.expect("it is answered in time")
    }

    /// Asks and reads the whole answer.
    async fn get(&self, version: &Arc<Version>) -> Result<(Response<()>, String), Failure> {
        read(self.ask(version, request("GET", "")).await?).await
    }

    async fn all_gone(&self) {
        let gone = async {
            while !self.functions.vm().processes().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the processes end");
    }
}

fn request(method: &str, body: &str) -> Request<Body> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes())).map_err(|error| match error {}).boxed_unsync();
    Request::builder().method(method).uri("/a?b").header("host", "h").body(body).expect("it is one")
}

/// A request whose body's length nobody knows.
fn stream(pieces: &'static [&'static str]) -> Request<Body> {
    let frames = pieces.iter().map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes()))));
    request("POST", "").map(|_| StreamBody::new(futures_lite::stream::iter(frames)).boxed_unsync())
}

async fn read(response: Response<Body>) -> Result<(Response<()>, String), Failure> {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("it ends in time");
    let body = body.map_err(|error| *error.downcast::<Failure>().expect("what breaks off is told so"))?.to_bytes();
    Ok((Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).expect("it is text")))
}

/// Answers with what it reads, as long as its runner writes.
const ECHO: &str = r#"
    (data (i32.const 8192) "HTTP/1.1 200 OK\0d\0a\0d\0a")
    (func (export "_start") (call $say (i32.const 8192) (i32.const 19)) (call $echo (i64.const 0)))"#;

#[tokio::test]
async fn a_spark_reads_the_request_as_it_was_sent() {
    let lab = Lab::new();
    let echo = lab.spark("echo", ECHO);
    let (head, body) = lab.get(&echo).await.expect("it answers").into();
    assert_eq!(head.status(), StatusCode::OK);
    let (first, rest) = body.split_once("\r\n").expect("it has lines");
    assert_eq!(first, "GET /a?b HTTP/1.1");
    assert!(rest.starts_with("host: h\r\nx-request-id: ") && rest.ends_with("\r\nconnection: close\r\n\r\n"), "{rest}");

    let answer = lab.ask(&echo, request("POST", "hello")).await.expect("it answers");
    let (_, body) = read(answer).await.expect("it is whole");
    assert!(body.ends_with("content-length: 5\r\nconnection: close\r\n\r\nhello"), "{body}");

    let answer = lab.ask(&echo, stream(&["hello", "", "!"])).await.expect("it answers");
    let (_, body) = read(answer).await.expect("it is whole");
    assert!(
        body.ends_with("transfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"),
        "{body}"
    );
    lab.all_gone().await;
}

#[tokio::test]
async fn what_a_spark_writes_is_the_answer() {
    let lab = Lab::new();
    let rows = [
        ("HTTP/1.1 201 Made\r\nX-A: b\r\nConnection: x\r\n\r\nbody", 201, "body"),
        ("HTTP/1.0 200 OK\nContent-Length: 4\n\nbody", 200, "body"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 200, "body"),
        ("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody", 200, "body"),
        ("HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\n", 204, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody and more", 200, "body"),
    ];
    for (index, (text, status, body)) in rows.into_iter().enumerate() {
        let version = lab.answering(&format!("f{index}"), text);
        let (head, read) = lab.get(&version).await.unwrap_or_else(|failure| panic!("{failure}: {text}"));
        assert_eq!((head.status().as_u16(), &*read), (status, body), "{text}");
        assert!(
            !head.headers().contains_key("connection") && !head.headers().contains_key("transfer-encoding"),
            "{text}"
        );
    }
    lab.all_gone().await;
}

#[tokio::test]
async fn t138_what_is_no_answer_is_told_apart() {
    let lab = Lab::new();
    let failure = |text: &'static str| {
        let version = lab.answering("f", text);
        let lab = &lab;
        async move { lab.get(&version).await.expect_err(text) }
    };
    let outcome = failure("").await;
    assert!(matches!(outcome, Failure::NoAnswer), "{outcome}");
    for (text, why) in [
        ("hello", "does not begin with"),
        ("HTTP/1.1 999 X\r\n\r\n", "the status 999"),
        ("HTTP/1.1 200 OK\r\nX", "within its head"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbody", "6 bytes before"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody", "before its last piece"),
    ] {
        let outcome = failure(text).await;
        assert!(matches!(&outcome, Failure::NotHttp(what) if what.contains(why)), "{outcome} of {text}");
    }
    lab.all_gone().await;
}
