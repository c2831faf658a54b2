//! Calls sparks the way gateways do.

use super::answer;
use super::connection::connect;
use crate::body::Body;
use crate::request_info::RequestInfo;
use crate::{Code, CodeError, Failure, Functions, Name, Settings, Version};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use lunatic_abi::ValueType;
use lunatic_abi::spark::SPARK_FUNCTIONS;
use lunatic_vm::{Exit, Host, Process, Vm};
use std::sync::Arc;
use std::time::Duration;

/// A timeout longer than any test should ever need to wait.
const NEVER: Duration = Duration::from_secs(60);

/// A test's functions.
struct TestFunctions {
    functions: Functions,
}

/// What the test guests import and have in common. `$say` writes the bytes at an address, and
/// `$hear` reads the next bytes into the page at 4096.
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

impl TestFunctions {
    fn new() -> TestFunctions {
        let mut host = Host::default();
        crate::add_to_host(&mut host);
        let vm = Vm::builder()
            .host(host)
            .slots(200)
            .build()
            .expect("the machine can be created");
        TestFunctions {
            functions: Functions::new(&vm),
        }
    }

    /// Adds a function whose module consists of [`COMMS`] and the given text.
    fn spark(&self, name: &str, text: &str) -> Arc<Version> {
        self.put(
            name,
            &format!("(module {COMMS} {text})"),
            Settings::default(),
        )
    }

    /// Adds a function that always gives the same response.
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
        let code = Code::new(self.functions.vm(), name, text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let name = match name.split_once('/') {
            Some((owner, name)) => Name::owned(owner, name),
            None => Name::new(name),
        };
        let name = name.expect("the text is a valid name");
        self.functions
            .put(&name, 1, blake3::hash(text.as_bytes()), code, settings)
            .expect("the settings grant no files or namespaces")
    }

    async fn ask(
        &self,
        version: &Arc<Version>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let Code::Spark(spark) = version.code() else {
            panic!("{:?} is not a spark", version.code())
        };
        let info = Arc::new(RequestInfo::new(None, false));
        info.set_log(version.log(), version.number());
        let answer = answer::answer(&self.functions, version, spark, &info, request);
        tokio::time::timeout(NEVER, answer)
            .await
            .expect("the request is answered in time")
    }

    /// Sends a request and reads the entire response.
    async fn get(&self, version: &Arc<Version>) -> Result<(Response<()>, String), Failure> {
        read(self.ask(version, request("GET", "")).await?).await
    }

    async fn all_gone(&self) {
        let gone = async {
            while !self.functions.vm().processes().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(NEVER, gone)
            .await
            .expect("the processes end");
    }
}

fn request(method: &str, body: &str) -> Request<Body> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()))
        .map_err(|error| match error {})
        .boxed_unsync();
    Request::builder()
        .method(method)
        .uri("/a?b")
        .header("host", "h")
        .body(body)
        .expect("the request is valid")
}

/// A request whose body has an unknown length.
fn stream(pieces: &'static [&'static str]) -> Request<Body> {
    let frames = pieces
        .iter()
        .map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes()))));
    request("POST", "").map(|_| StreamBody::new(futures_lite::stream::iter(frames)).boxed_unsync())
}

async fn read(response: Response<Body>) -> Result<(Response<()>, String), Failure> {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(NEVER, body.collect())
        .await
        .expect("the body ends in time");
    let body = body
        .map_err(|error| {
            *error
                .downcast::<Failure>()
                .expect("a body is cut off only by a failure")
        })?
        .to_bytes();
    Ok((
        Response::from_parts(parts, ()),
        String::from_utf8(body.to_vec()).expect("the body is text"),
    ))
}

/// A spark that answers with all bytes it reads.
const ECHO: &str = r#"
    (data (i32.const 8192) "HTTP/1.1 200 OK\0d\0a\0d\0a")
    (func (export "_start") (call $say (i32.const 8192) (i32.const 19)) (call $echo (i64.const 0)))"#;

#[tokio::test]
async fn a_spark_reads_the_request_as_it_was_sent() {
    let lab = TestFunctions::new();
    let echo = lab.spark("echo", ECHO);
    let (head, body) = lab.get(&echo).await.expect("the function answers");
    assert_eq!(head.status(), StatusCode::OK);
    let (first, rest) = body.split_once("\r\n").expect("the body has lines");
    assert_eq!(first, "GET /a?b HTTP/1.1");
    assert!(
        rest.starts_with("host: h\r\nx-request-id: ")
            && rest.ends_with("\r\nconnection: close\r\n\r\n"),
        "{rest}"
    );

    let answer = lab
        .ask(&echo, request("POST", "hello"))
        .await
        .expect("the function answers");
    let (_, body) = read(answer).await.expect("the body is complete");
    assert!(
        body.ends_with("content-length: 5\r\nconnection: close\r\n\r\nhello"),
        "{body}"
    );

    let answer = lab
        .ask(&echo, stream(&["hello", "", "!"]))
        .await
        .expect("the function answers");
    let (_, body) = read(answer).await.expect("the body is complete");
    assert!(
        body.ends_with("transfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"),
        "{body}"
    );
    lab.all_gone().await;
}

#[tokio::test]
async fn the_output_of_a_spark_is_the_answer() {
    let lab = TestFunctions::new();
    let rows = [
        (
            "HTTP/1.1 201 Made\r\nX-A: b\r\nConnection: x\r\n\r\nbody",
            201,
            "body",
        ),
        ("HTTP/1.0 200 OK\nContent-Length: 4\n\nbody", 200, "body"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            200,
            "body",
        ),
        (
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody",
            200,
            "body",
        ),
        ("HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody and more",
            200,
            "body",
        ),
    ];
    for (index, (text, status, body)) in rows.into_iter().enumerate() {
        let version = lab.answering(&format!("f{index}"), text);
        let (head, read) = lab
            .get(&version)
            .await
            .unwrap_or_else(|failure| panic!("{failure}: {text}"));
        assert_eq!((head.status().as_u16(), &*read), (status, body), "{text}");
        assert!(
            !head.headers().contains_key("connection")
                && !head.headers().contains_key("transfer-encoding"),
            "{text}"
        );
    }
    lab.all_gone().await;
}

#[tokio::test]
async fn t138_an_invalid_answer_is_rejected_with_a_reason() {
    let lab = TestFunctions::new();
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
        ("HTTP/1.1 200 OK\r\nX", "partway through its head"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbody",
            "6 bytes short",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody",
            "before its last chunk",
        ),
    ] {
        let outcome = failure(text).await;
        assert!(
            matches!(&outcome, Failure::NotHttp(what) if what.contains(why)),
            "{outcome} of {text}"
        );
    }
    lab.all_gone().await;
}

/// The head of a response, at 8192. The body follows it.
const HEAD: &str = r#"(data (i32.const 8192) "HTTP/1.1 200 OK\0d\0a\0d\0a") (func $head (call $say (i32.const 8192) (i32.const 19)))"#;

#[tokio::test]
async fn t135_the_failure_of_a_spark_is_reported_before_and_during_its_answer() {
    let lab = TestFunctions::new();
    let trap = lab.spark("trap", r#"(func (export "_start") unreachable)"#);
    let failure = lab.get(&trap).await.expect_err("the spark traps");
    assert!(
        matches!(&failure, Failure::Ended(exit) if exit.trap().is_some()),
        "{failure}"
    );

    let late = lab.spark(
        "late",
        &format!(r#"{HEAD} (func (export "_start") (call $head) unreachable)"#),
    );
    let failure = lab.get(&late).await.expect_err("the spark traps");
    assert!(
        matches!(&failure, Failure::Ended(exit) if exit.trap().is_some()),
        "{failure}"
    );

    let status = lab.spark(
        "status",
        r#"(func (export "main") (param i32 i32) (result i32) (i32.const 3))"#,
    );
    let failure = lab
        .get(&status)
        .await
        .expect_err("the spark exits with a status");
    assert_eq!(failure.to_string(), "the function exited with status 3");

    let says = r#"(data (i32.const 0) "for a\07 reason") (func (export "_start") (call $fail (i32.const 0) (i32.const 13)))"#;
    let failure = lab
        .get(&lab.spark("says", says))
        .await
        .expect_err("the spark reports a failure");
    assert_eq!(
        failure.to_string(),
        "the function failed: for a\\u{7} reason"
    );

    let settings = Settings {
        memory: 65_536,
        ..Settings::default()
    };
    let text = r#"(module (memory (export "memory") 1) (func (export "_start")
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"#;
    let failure = lab
        .get(&lab.put("limit", text, settings))
        .await
        .expect_err("the process exceeds its limit");
    assert!(matches!(failure, Failure::Limit(_)), "{failure}");

    let settings = Settings {
        memory: 65_536,
        ..Settings::default()
    };
    let text = r#"(module (memory (export "memory") 2) (func (export "_start")))"#;
    let failure = lab
        .get(&lab.put("large", text, settings))
        .await
        .expect_err("the process exceeds its limit");
    assert!(matches!(failure, Failure::Overload(_)), "{failure}");
    lab.all_gone().await;
}

#[tokio::test]
async fn t137_abandoning_an_answer_kills_the_spark_and_the_functions_that_it_runs() {
    let lab = TestFunctions::new();
    let waits = r#"(func (export "_start") (drop (call $hear (i64.const 0))) (drop (call $hear (i64.const 0))) (loop br 0))"#;
    lab.spark("child", waits);
    let both = format!(
        r#"{HEAD} (data (i32.const 0) "child") (func (export "_start")
            (drop (call $run (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 5)))
            (call $head) (loop br 0))"#
    );
    let parent = lab.spark("parent", &both);
    let answer = lab
        .ask(&parent, request("GET", ""))
        .await
        .expect("the head has arrived");
    assert_eq!(lab.functions.vm().processes().len(), 2);
    drop(answer);
    lab.all_gone().await;

    let silent = lab.spark("silent", r#"(func (export "_start") (loop br 0))"#);
    let Code::Spark(spark) = silent.code() else {
        panic!("the code is a spark")
    };
    let info = Arc::new(RequestInfo::new(None, false));
    let answer = answer::answer(&lab.functions, &silent, spark, &info, request("GET", ""));
    let mut waiting = Box::pin(answer);
    assert!(
        futures_lite::future::poll_once(&mut waiting)
            .await
            .is_none()
    );
    assert!(info.process().is_some_and(Process::is_alive));
    drop(waiting);
    lab.all_gone().await;
}

#[tokio::test]
async fn output_after_an_answer_does_not_delay_it_and_is_logged() {
    let lab = TestFunctions::new();
    let text = r#"(data (i32.const 0) "HTTP/1.1 200 OK\0d\0aContent-Length: 2\0d\0a\0d\0aokmore")
        (func (export "_start") (call $say (i32.const 0) (i32.const 40)) (call $say (i32.const 40) (i32.const 6)))"#;
    let longer = lab.spark("longer", text);
    let (_, body) = lab.get(&longer).await.expect("the function answers");
    assert_eq!(body, "ok");
    let told = async {
        while !longer
            .log()
            .lines()
            .iter()
            .any(|line| line.text.contains("discarded"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(NEVER, told)
        .await
        .expect("the message arrives");
    lab.all_gone().await;
}

#[tokio::test]
async fn a_large_body_passes_through_a_spark_at_the_speed_of_its_reader() {
    const SIZE: usize = 20 << 20;
    let lab = TestFunctions::new();
    let echo = lab.spark("echo", ECHO);
    let frames = std::iter::repeat_n(Bytes::from(vec![b'x'; 100_000]), SIZE / 100_000);
    let frames = frames.map(|piece| Ok(http_body::Frame::data(piece)));
    let large = request("POST", "")
        .map(|_| StreamBody::new(futures_lite::stream::iter(frames)).boxed_unsync());
    let answer = lab.ask(&echo, large).await.expect("the function answers");
    let mut body = answer.into_body();
    let (mut size, mut largest) = (0, 0);
    while let Some(frame) = body.frame().await {
        let piece = frame
            .expect("the body is complete")
            .into_data()
            .expect("there are no trailers");
        size += piece.len();
        largest = largest.max(piece.len());
    }
    assert!(size > SIZE / 100_000 * 100_000, "{size}");
    assert!(largest <= 16 << 10, "{largest}");
    lab.all_gone().await;
}

#[tokio::test]
async fn a_response_to_head_has_no_body_and_endless_heads_are_refused() {
    let lab = TestFunctions::new();
    let version = lab.answering("f", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
    let answer = lab
        .ask(&version, request("HEAD", ""))
        .await
        .expect("the function answers");
    assert_eq!(answer.headers()["content-length"], "4");
    assert_eq!(read(answer).await.expect("the body is complete").1, "");

    let text = r#"(data (i32.const 0) "HTTP/1.1 100 C\0d\0a\0d\0a")
        (func (export "_start") (loop (call $say (i32.const 0) (i32.const 18)) (br 0)))"#;
    let failure = lab
        .get(&lab.spark("endless", text))
        .await
        .expect_err("the spark never answers");
    assert!(
        matches!(&failure, Failure::NotHttp(why) if why.contains("larger than 65536")),
        "{failure}"
    );

    let text = r#"(data (i32.const 0) "HTTP/1.1 200 OK\0d\0aA: ") (data (i32.const 20) "aaaaaaaaaa")
        (func (export "_start") (call $say (i32.const 0) (i32.const 20)) (loop (call $say (i32.const 20) (i32.const 10)) (br 0)))"#;
    let failure = lab
        .get(&lab.spark("long", text))
        .await
        .expect_err("the spark never answers");
    assert!(
        matches!(&failure, Failure::NotHttp(why) if why.contains("larger than 65536")),
        "{failure}"
    );
    lab.all_gone().await;
}

/// A spark that runs a function by name with a message. It answers with the function's output and,
/// if the function fails, the reason.
fn runner(name: &str, message: &str) -> String {
    format!(
        r#"{HEAD} (data (i32.const 0) "{name}") (data (i32.const 64) "{message}")
        (func $why_not (local $length i32)
            (local.set $length (call $why (i32.const 4096) (i32.const 4096)))
            (call $say (i32.const 4096) (local.get $length)))
        (func (export "_start") (local $comm i64) (local $count i64)
            (call $head)
            (local.set $comm (call $run (i32.const 0) (i32.const {}) (i32.const 64) (i32.const {})))
            (if (i64.lt_s (local.get $comm) (i64.const 0)) (then (call $why_not) (return)))
            (block $done (loop $more
                (local.set $count (call $hear (local.get $comm)))
                (br_if $done (i64.lt_s (local.get $count) (i64.const 0)))
                (call $say (i32.const 4096) (i32.wrap_i64 (local.get $count)))
                (if (i64.eqz (local.get $count)) (then (call $finish (local.get $comm))))
                (br $more)))
            (if (i64.ne (local.get $count) (i64.const -21)) (then (call $why_not))))"#,
        name.len(),
        message.len()
    )
}

/// A spark that sends back each message.
const PARROT: &str = r#"(func (export "_start") (local $count i64)
    (loop $more
        (local.set $count (call $hear (i64.const 0)))
        (if (i64.eqz (local.get $count)) (then (drop (call $end (i64.const 0)))))
        (if (i64.gt_s (local.get $count) (i64.const 0)) (then (call $say (i32.const 4096) (i32.wrap_i64 (local.get $count)))))
        (br_if $more (i64.ge_s (local.get $count) (i64.const 0)))))"#;

#[tokio::test]
async fn a_spark_runs_functions_by_name_and_learns_how_they_fail() {
    let lab = TestFunctions::new();
    lab.spark("parrot", PARROT);
    lab.spark("trap", r#"(func (export "_start") unreachable)"#);
    lab.spark(
        "says",
        r#"(data (i32.const 0) "why") (func (export "_start") (call $fail (i32.const 0) (i32.const 3)))"#,
    );
    lab.put(
        "program",
        r#"(module (import "lunatic::process" "process_id" (func (result i64))) (func (export "_start")))"#,
        Settings::default(),
    );
    let no_room = Settings {
        memory: 1,
        ..Settings::default()
    };
    lab.put(
        "large",
        r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
        no_room,
    );
    let check = |name: &'static str, expected: &'static str| {
        let lab = &lab;
        async move {
            let version = lab.spark("runner", &runner(name, "hello"));
            let (_, body) = lab
                .get(&version)
                .await
                .unwrap_or_else(|failure| panic!("{failure} of {name}"));
            assert!(
                body.contains(expected),
                "{name}: `{body}` does not contain `{expected}`"
            );
        }
    };
    check("parrot", "hello").await;
    check("trap", "the function `trap` trapped: ").await;
    check("says", "the function `says` failed: why").await;
    check("program", "`program` is a program").await;
    check("large", "the function `large` cannot be run: the memory of a process is limited to 1 byte, but 65536 are needed")
        .await;
    check(
        "nobody",
        "the project has no function named `nobody`: add it",
    )
    .await;
    check("http", "ends partway through the request's head").await;
    lab.all_gone().await;
}

#[tokio::test]
async fn a_function_of_another_project_runs_that_project_s_functions_first() {
    let lab = TestFunctions::new();
    let says = |what: &str| {
        format!(
            r#"(data (i32.const 0) "{what}") (func (export "_start") (call $say (i32.const 0) (i32.const {})))"#,
            what.len()
        )
    };
    lab.spark("bar", &says("ours"));
    lab.spark("maxmcd/bar", &says("theirs"));
    lab.spark("only", &says("only ours"));
    let foo = runner("bar", "").replace("(call $head)", "");
    lab.spark("maxmcd/foo", &foo);
    lab.spark(
        "maxmcd/fallback",
        &runner("only", "").replace("(call $head)", ""),
    );
    for (name, expected) in [
        ("maxmcd/foo", "theirs"),
        ("bar", "ours"),
        ("maxmcd/fallback", "only ours"),
    ] {
        let (_, body) = lab
            .get(&lab.spark("runner", &runner(name, "")))
            .await
            .expect("the function answers");
        assert_eq!(body, expected, "{name}");
    }
}

#[tokio::test]
async fn the_depth_and_the_number_of_functions_that_run_each_other_are_limited() {
    let lab = TestFunctions::new();
    let deep = lab.spark("deep", &runner("deep", "").replace("(call $head)", ""));
    let outer = lab.spark("outer", &runner("deep", ""));
    let (_, body) = lab.get(&outer).await.expect("the function answers");
    assert_eq!(
        body,
        "functions can run each other at most 16 levels deep, and this one is already at that depth"
    );
    drop(deep);

    lab.spark("parrot", PARROT);
    let many = format!(
        r#"{HEAD} (data (i32.const 0) "parrot") (func (export "_start") (local $count i32) (local $comm i64)
            (call $head)
            (loop $more
                (local.set $comm (call $run (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0)))
                (if (i64.gt_s (local.get $comm) (i64.const 0)) (then
                    (local.set $count (i32.add (local.get $count) (i32.const 1)))
                    (br $more))))
            ;; The error is `LimitReached`. Closing a comm makes room for another function.
            (if (i64.ne (local.get $comm) (i64.const -5)) (then unreachable))
            (call $close (i64.const 7))
            (if (i64.ne (call $run (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0)) (i64.const 65)) (then unreachable))
            (i32.store8 (i32.const 0) (local.get $count))
            (call $say (i32.const 0) (i32.const 1)))"#
    );
    let (_, body) = lab
        .get(&lab.spark("many", &many))
        .await
        .expect("the function answers");
    assert_eq!(body, "@", "64 functions ran, and `@` is character 64");
    lab.all_gone().await;
}

#[tokio::test]
async fn a_wait_for_several_comms_returns_a_readable_comm_and_each_gets_its_turn() {
    let lab = TestFunctions::new();
    lab.spark("parrot", PARROT);
    let text = format!(
        r#"{HEAD} (data (i32.const 0) "parrot") (data (i32.const 16) "\01\00\00\00\00\00\00\00\02\00\00\00\00\00\00\00")
        (func (export "_start") (local $first i64)
            (call $head)
            (drop (call $run (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0)))
            (drop (call $run (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0)))
            ;; No comm can be read from, so the wait times out.
            (if (i64.ne (call $wait (i32.const 16) (i32.const 2) (i64.const 0)) (i64.const -14)) (then unreachable))
            (drop (call $write (i64.const 2) (i32.const 0) (i32.const 6)))
            (if (i64.ne (call $wait (i32.const 16) (i32.const 2) (i64.const -1)) (i64.const 1)) (then unreachable))
            (drop (call $write (i64.const 1) (i32.const 0) (i32.const 6)))
            (if (i64.ne (call $wait (i32.const 16) (i32.const 1) (i64.const -1)) (i64.const 0)) (then unreachable))
            (local.set $first (call $wait (i32.const 16) (i32.const 2) (i64.const -1)))
            (if (i64.eq (call $wait (i32.const 16) (i32.const 2) (i64.const -1)) (local.get $first)) (then unreachable)))"#
    );
    lab.get(&lab.spark("waits", &text))
        .await
        .expect("the spark gets its turn");
    lab.all_gone().await;
}

#[tokio::test]
async fn a_bad_pointer_or_number_ends_the_spark_and_nothing_else() {
    let lab = TestFunctions::new();
    for (call, why) in [
        (
            "(drop (call $read (i64.const 0) (i32.const 131072) (i32.const 1)))",
            "bad pointer",
        ),
        (
            "(drop (call $read (i64.const 0) (i32.const -1) (i32.const -1)))",
            "bad pointer",
        ),
        (
            "(drop (call $read (i64.const 0) (i32.const 0) (i32.const 0)))",
            "empty buffer",
        ),
        (
            "(drop (call $read (i64.const 9) (i32.const 0) (i32.const 1)))",
            "no comm with the number 9",
        ),
        (
            "(drop (call $write (i64.const 0) (i32.const 131071) (i32.const 2)))",
            "bad pointer",
        ),
        ("(drop (call $end (i64.const -1)))", "no comm"),
        ("(call $finish (i64.const 1))", "no comm"),
        ("(call $close (i64.const 1))", "no comm"),
        (
            "(call $close (i64.const 0)) (drop (call $end (i64.const 0)))",
            "no comm",
        ),
        (
            "(drop (call $run (i32.const 131070) (i32.const 5) (i32.const 0) (i32.const 0)))",
            "bad pointer",
        ),
        (
            "(drop (call $run (i32.const 0) (i32.const 5) (i32.const 131070) (i32.const 5)))",
            "bad pointer",
        ),
        (
            "(drop (call $wait (i32.const 0) (i32.const -1) (i64.const 0)))",
            "at most 1024",
        ),
        (
            "(drop (call $wait (i32.const 131071) (i32.const 1) (i64.const 0)))",
            "bad pointer",
        ),
        ("(call $fail (i32.const -1) (i32.const 2))", "bad pointer"),
        (
            "(drop (call $why (i32.const 131071) (i32.const 2)))",
            "bad pointer",
        ),
    ] {
        let version = lab.spark("bad", &format!(r#"(func (export "_start") {call})"#));
        let failure = lab.get(&version).await.expect_err(call).to_string();
        assert!(failure.contains(why), "`{failure}` of {call}");
    }
}

#[tokio::test]
async fn a_program_with_standard_streams_is_a_spark_too() {
    let lab = TestFunctions::new();
    // The program copies its input to its output.
    let cat = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\00\10\00\00\00\10\00\00")
        (data (i32.const 64) "\50\00\00\00\13\00\00\00") (data (i32.const 80) "HTTP/1.1 200 OK\0d\0a\0d\0a")
        (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 48)))
            (block $done (loop $more
                (i32.store (i32.const 4) (i32.const 4096))
                (br_if $done (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
                (br_if $done (i32.eqz (i32.load (i32.const 32))))
                (i32.store (i32.const 4) (i32.load (i32.const 32)))
                (loop $rest
                    (br_if $done (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 48)))
                    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 48))))
                    (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 48))))
                    (br_if $rest (i32.load (i32.const 4))))
                (i32.store (i32.const 0) (i32.const 4096))
                (br $more)))))"#;
    let version = lab.put("cat", cat, Settings::default());
    let text = "0123456789".repeat(20_000);
    for _ in 0..8 {
        let (_, body) = read(
            lab.ask(&version, request("POST", &text))
                .await
                .expect("the function answers"),
        )
        .await
        .expect("the body is complete");
        let (head, rest) = body
            .split_once("\r\n\r\n")
            .expect("the function echoes the head");
        assert!(head.starts_with("POST /a?b HTTP/1.1\r\n"), "{head}");
        assert_eq!(rest.len(), text.len());
        assert!(rest == text, "the body is different");
    }
    assert!(
        version.log().lines().is_empty(),
        "a response must not be logged"
    );
    lab.all_gone().await;
}

/// A guest built for Embly. Its `$answer` writes a response's head.
fn embly(module: &str, text: &str) -> String {
    let more = if module == "embly" {
        r#"(import "embly" "_spawn" (func $spawn (param i32 i32 i32) (result i32)))
           (import "embly" "_events" (func $events (param i32 i64 i32 i32 i32 i32) (result i32)))"#
    } else {
        r#"(import "env" "_spawn" (func $spawn (param i32 i32 i32 i32 i32) (result i32)))"#
    };
    format!(
        r#"(module
        (import "{module}" "_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "{module}" "_write" (func $write (param i32 i32 i32 i32) (result i32)))
        {more}
        (memory (export "memory") 2)
        (data (i32.const 8192) "HTTP/1.1 200 OK\0d\0a\0d\0a")
        (func $head (drop (call $write (i32.const 1) (i32.const 8192) (i32.const 19) (i32.const 0))))
        (func $is (param $is i32) (param $expected i32)
            (if (i32.ne (local.get $is) (local.get $expected)) (then unreachable)))
        {text})"#
    )
}

#[tokio::test]
async fn modules_built_for_embly_run_with_its_oddities() {
    let lab = TestFunctions::new();
    lab.spark("parrot", PARROT);
    let text = r#"
        (data (i32.const 16) "parrot") (data (i32.const 32) "nobody") (data (i32.const 48) "xy")
        (func (export "main") (param i32 i32) (result i32)
            ;; The complete request is available. Nothing follows it, not even an end.
            (call $is (call $events (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 128) (i32.const 10) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 10))
            (call $is (i32.load (i32.const 128)) (i32.const 1))
            (call $is (i32.load (i32.const 132)) (i32.const 0))
            (call $is (call $read (i32.const 1) (i32.const 4096) (i32.const 4096) (i32.const 0)) (i32.const 0))
            (if (i32.eqz (i32.load (i32.const 0))) (then unreachable))
            ;; Writing to an unknown comm succeeds, and reading from an unknown comm returns no bytes.
            (call $is (call $write (i32.const 77) (i32.const 48) (i32.const 2) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 2))
            (call $is (call $read (i32.const -1) (i32.const 4096) (i32.const 9) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 0))
            ;; Functions are run. If the name is unknown, every read from the comm fails.
            (call $is (call $spawn (i32.const 16) (i32.const 6) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 2))
            (call $is (call $spawn (i32.const 32) (i32.const 6) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 3))
            (call $is (call $read (i32.const 3) (i32.const 4096) (i32.const 9) (i32.const 0)) (i32.const 4))
            (call $is (call $read (i32.const 3) (i32.const 4096) (i32.const 9) (i32.const 0)) (i32.const 4))
            ;; Each read returns at most one message, and nothing separates the messages.
            (call $is (call $write (i32.const 2) (i32.const 48) (i32.const 1) (i32.const 0)) (i32.const 0))
            (call $is (call $write (i32.const 2) (i32.const 49) (i32.const 1) (i32.const 0)) (i32.const 0))
            (call $wait) (call $one (i32.const 120))
            (call $wait) (call $one (i32.const 121))
            (call $is (call $read (i32.const 2) (i32.const 4096) (i32.const 9) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 0))
            ;; If nothing arrives in time, the list consists of zeros.
            (call $is (call $events (i32.const 0) (i64.const 0) (i32.const 1000) (i32.const 128) (i32.const 2) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 2))
            (call $is (i32.load (i32.const 128)) (i32.const 0))
            (call $head)
            (i32.const 0))
        ;; Waits for an event from the parrot.
        (func $wait (loop $again
            (call $is (call $events (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 128) (i32.const 10) (i32.const 0)) (i32.const 0))
            (br_if $again (i32.ne (i32.load (i32.const 128)) (i32.const 2)))))
        ;; Reads one character from the parrot.
        (func $one (param $is i32)
            (call $is (call $read (i32.const 2) (i32.const 4096) (i32.const 9) (i32.const 0)) (i32.const 0))
            (call $is (i32.load (i32.const 0)) (i32.const 1))
            (call $is (i32.load8_u (i32.const 4096)) (local.get $is)))"#;
    let version = lab.put("e1", &embly("embly", text), Settings::default());
    let (head, body) = lab
        .get(&version)
        .await
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((head.status().as_u16(), &*body), (200, ""));

    // In Embly's first version, the first message is passed along with the name, and waiting means
    // polling.
    let text = r#"
        (data (i32.const 16) "parrot") (data (i32.const 48) "hello")
        (func (export "main") (param i32 i32) (result i32)
            (call $is (call $spawn (i32.const 16) (i32.const 6) (i32.const 48) (i32.const 5) (i32.const 0)) (i32.const 0))
            (loop $again
                (call $is (call $read (i32.load (i32.const 0)) (i32.const 4096) (i32.const 9) (i32.const 4)) (i32.const 0))
                (br_if $again (i32.eqz (i32.load (i32.const 4)))))
            (call $head)
            (drop (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 4)) (i32.const 4)))
            (i32.const 0))"#;
    let version = lab.put("e0", &embly("env", text), Settings::default());
    let (_, body) = lab
        .get(&version)
        .await
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(body, "hello");
    lab.all_gone().await;
}

#[tokio::test]
async fn a_spark_serves_a_connection_and_each_side_can_end_first() {
    let lab = TestFunctions::new();
    let connect = |name: &str, text: &str| {
        let version = lab.spark(name, text);
        let Code::Spark(spark) = version.code() else {
            panic!("the code is a spark")
        };
        connect(
            &lab.functions,
            &version,
            spark,
            &RequestInfo::new(None, false),
        )
        .expect("a process can be spawned")
    };
    let mut buffer = [0; 64];
    let parrot = connect("parrot", PARROT);
    parrot.write_all(b"hello").await.expect("the spark reads");
    assert_eq!(
        parrot
            .read(&mut buffer)
            .await
            .expect("the bytes have arrived"),
        5
    );
    parrot.finish();
    assert_eq!(
        parrot
            .read(&mut buffer)
            .await
            .expect("the spark exits normally"),
        0
    );

    // The spark has finished writing but is still reading.
    let text = r#"(func (export "_start") (call $finish (i64.const 0)) (drop (call $hear (i64.const 0))) unreachable)"#;
    let finished = connect("finished", text);
    assert_eq!(
        finished
            .read(&mut buffer)
            .await
            .expect("the spark has finished"),
        0
    );
    assert!(finished.process().is_alive());
    finished.write_all(b"x").await.expect("the spark reads");
    assert!(finished.process().exited().await.trap().is_some());

    let traps = connect(
        "traps",
        r#"(func (export "_start") (call $say (i32.const 0) (i32.const 1)) unreachable)"#,
    );
    assert_eq!(
        traps
            .read(&mut buffer)
            .await
            .expect("the bytes have arrived"),
        1
    );
    assert!(matches!(
        traps.read(&mut buffer).await,
        Err(Failure::Ended(_))
    ));
    assert!(traps.write_all(b"x").await.is_err());

    let waits = connect(
        "waits",
        r#"(func (export "_start") (drop (call $hear (i64.const 0))))"#,
    );
    let process = waits.process().clone();
    // A kill that arrives while the spark runs takes effect at its next turn. If the spark had not
    // begun to wait, it could find the end of the comm and exit before that.
    while !lab.functions.vm().is_idle() {
        tokio::task::yield_now().await;
    }
    drop(waits);
    assert!(matches!(process.exited().await, Exit::Killed));
    lab.all_gone().await;
}

#[test]
fn the_imports_and_exports_of_a_module_determine_its_kind() {
    let vm = TestFunctions::new().functions.vm().clone();
    let check = |imports: &str, exports: &str, expected: &str| {
        let text = format!("(module {imports} {exports})");
        let is = match Code::new(&vm, "m", text.as_bytes()) {
            Ok(Code::Spark(spark)) if spark.is_command() => "command",
            Ok(Code::Spark(_)) => "spark",
            Ok(Code::Program(_)) => "program",
            Err(CodeError::NoEntry) => "nothing",
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(is, expected, "{imports} {exports}");
    };
    let start = r#"(func (export "_start"))"#;
    let message = r#"(import "lunatic::message" "send" (func (param i64) (result i32)))"#;
    let spark = r#"(import "lunatic::spark" "end" (func (param i64) (result i64)))"#;
    check("", start, "command");
    check(spark, start, "spark");
    check(message, start, "program");
    check(&format!("{message} {spark}"), start, "spark");
    check(
        r#"(import "embly" "_spawn" (func (param i32 i32 i32) (result i32)))"#,
        start,
        "spark",
    );
    check(
        r#"(import "env" "_read" (func (param i32 i32 i32 i32) (result i32)))"#,
        r#"(func (export "main") (param i32 i32) (result i32) i32.const 0)"#,
        "spark",
    );
    check("", r#"(func (export "main"))"#, "command");
    check("", r#"(func (export "main") (param i64))"#, "nothing");
    check("", r#"(func (export "other"))"#, "nothing");
}

#[test]
fn the_functions_of_sparks_match_the_table() {
    let wasm = |ty| match ty {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F64 => "f64",
    };
    let vm = TestFunctions::new().functions.vm().clone();
    for row in SPARK_FUNCTIONS {
        assert_eq!(row.namespace, super::calls::NAMESPACE);
        let parameters: Vec<_> = row.parameter_types().map(wasm).collect();
        let result = row.result_type().map(|ty| format!("(result {})", wasm(ty)));
        let import = format!(
            r#"(module (import "{}" "{}" (func (param {}) {})))"#,
            row.namespace,
            row.name,
            parameters.join(" "),
            result.unwrap_or_default()
        );
        vm.module("row", import.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {import}"));
    }
    let count = vm
        .config()
        .functions()
        .filter(|name| name.starts_with("lunatic::spark::"))
        .count();
    assert_eq!(count, SPARK_FUNCTIONS.len());
}
