//! Tests the HTTP gateway, over real sockets and with raw bytes.

use crate::guests;
use lunatic_serve::{
    Code, Functions, Gateway, HttpGateway, HttpLimits, Name, Protocol, Route, Server, Settings,
    Target, TlsFiles,
};
use lunatic_vm::{Cache, Host, Vm, VmBuilder};
use rustls::pki_types::CertificateDer;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A timeout longer than any test should ever need to wait.
const NEVER: Duration = Duration::from_secs(60);

/// Functions, and a server with a gateway to them.
struct House {
    functions: Functions,
    server: Server,
}

struct Plan {
    functions: Functions,
    routes: Vec<Route>,
    limits: HttpLimits,
    tls: Option<TlsFiles>,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("the name is valid")
}

impl Plan {
    fn new() -> Plan {
        let mut host = Host::default();
        lunatic_serve::add_to_host(&mut host);
        Plan::on(Vm::builder().host(host))
    }

    fn on(vm: VmBuilder) -> Plan {
        let vm = vm.build().expect("the VM can be built");
        Plan {
            functions: Functions::new(&vm),
            routes: Vec::new(),
            limits: HttpLimits::default(),
            tls: None,
        }
    }

    /// Adds a function, and a route named after it.
    fn function(mut self, text: &str, wat: &str, settings: Settings) -> Plan {
        put(&self.functions, text, 1, wat, settings);
        self.routes.push(Route {
            path: format!("/{text}"),
            target: Target::Function(name(text)),
        });
        self
    }

    fn files(mut self, path: &str, directory: &Path) -> Plan {
        self.routes.push(Route {
            path: path.into(),
            target: Target::Files(directory.into()),
        });
        self
    }

    fn named(mut self, path: &str) -> Plan {
        self.routes.push(Route {
            path: path.into(),
            target: Target::Named,
        });
        self
    }

    fn limits(mut self, limits: HttpLimits) -> Plan {
        self.limits = limits;
        self
    }

    fn gateway(&self) -> Gateway {
        let http = HttpGateway {
            routes: self.routes.clone(),
            tls: self.tls.clone(),
            limits: self.limits.clone(),
        };
        let address = "127.0.0.1:0".parse().expect("the address is valid");
        Gateway {
            name: "test".into(),
            address,
            protocol: Protocol::Http(http),
        }
    }

    fn start(self) -> House {
        let server = Server::builder(&self.functions)
            .gateway(self.gateway())
            .start()
            .expect("the server starts");
        House {
            functions: self.functions,
            server,
        }
    }
}

fn put(functions: &Functions, text: &str, number: u64, wat: &str, settings: Settings) {
    let code = Code::new(functions.vm(), text, wat.as_bytes()).expect("the module is a function");
    functions
        .put(
            &name(text),
            number,
            blake3::hash(wat.as_bytes()),
            code,
            settings,
        )
        .expect("the settings can be granted");
}

impl House {
    fn address(&self) -> SocketAddr {
        self.server.listening()[0].address
    }

    fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// Sends bytes, and returns everything that arrives until the connection is closed.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may close the connection before everything has been sent.
        let _ = stream.write_all(bytes);
        rest(&mut stream)
    }

    fn get(&self, path: &str) -> String {
        self.raw(
            format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes(),
        )
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server is listening");
    stream
        .set_read_timeout(Some(NEVER))
        .expect("the socket is open");
    stream
}

/// Returns everything that arrives until the connection is closed.
fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    let digits = answer
        .strip_prefix("HTTP/1.1 ")
        .or(answer.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3));
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no status: {answer:?}"))
}

/// What these tests' guests import and define. `$say` writes the bytes at an address, and `$hear`
/// reads the next bytes.
const COMMS: &str = r#"
    (import "lunatic::spark" "read" (func $read (param i64 i32 i32) (result i64)))
    (import "lunatic::spark" "write" (func $write (param i64 i32 i32) (result i64)))
    (memory (export "memory") 4)
    (func $say (param $address i32) (param $length i32)
        (drop (call $write (i64.const 0) (local.get $address) (local.get $length))))
    (func $hear (result i64) (call $read (i64.const 0) (i32.const 65536) (i32.const 65536)))"#;

/// Returns a spark that answers with the given bytes and then runs `then`.
fn says(answer: &str, then: &str) -> String {
    let escaped: String = answer.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let length = answer.len();
    format!(
        r#"(module {COMMS} (data (i32.const 8192) "{escaped}")
            (func (export "_start") (local $count i64) (call $say (i32.const 8192) (i32.const {length})) {then}))"#
    )
}

fn hello() -> String {
    says("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "")
}

/// Returns a spark that answers with everything it reads, both head and body.
fn echo() -> String {
    says(
        "HTTP/1.1 200 OK\r\n\r\n",
        "(block $done (loop $more
            (local.set $count (call $hear))
            (br_if $done (i64.le_s (local.get $count) (i64.const 0)))
            (call $say (i32.const 65536) (i32.wrap_i64 (local.get $count)))
            (br $more)))",
    )
}

/// Returns a spark that answers once it has read everything.
fn late() -> String {
    let answer = hello();
    let read =
        "(block $done (loop $more (br_if $done (i64.le_s (call $hear) (i64.const 0))) (br $more)))";
    answer.replace("(local $count i64)", &format!("(local $count i64) {read}"))
}

const SILENT: &str = r#"(module (func (export "_start")))"#;
const TRAP: &str = r#"(module (func (export "_start") unreachable))"#;
const SPIN: &str = r#"(module (func (export "_start") (loop $again (br $again))))"#;

fn within(deadline: Duration) -> Settings {
    Settings {
        deadline,
        ..Settings::default()
    }
}

/// Waits until no process is running in the VM.
fn all_gone(functions: &Functions) {
    let begun = Instant::now();
    while !functions.vm().processes().is_empty() {
        assert!(begun.elapsed() < NEVER, "the processes did not end");
        std::thread::yield_now();
    }
}

/// Reads one response, whose head states its length, and leaves the connection open.
fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    let length = |head: &str| {
        let field = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        field.map_or(0, |length| {
            length.parse::<usize>().expect("the text is a number")
        })
    };
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() == length(head)
        {
            return text.into_owned();
        }
        assert_eq!(
            stream.read(&mut byte).expect("a response arrives"),
            1,
            "the response ends after {text:?}"
        );
        answer.push(byte[0]);
    }
}

const GET: &[u8] = b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n";

#[test]
fn a_request_gets_an_error_if_its_function_ends_without_an_answer() {
    let house = Plan::new()
        .function("silent", SILENT, Settings::default())
        .start();
    let answer = house.get("/silent");
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(
        answer.contains("x-request-id: ")
            && answer.contains("the function did not answer (request "),
        "{answer}"
    );
    assert_eq!(status(&house.get("/other")), 404);
}

#[test]
fn a_connection_serves_one_request_after_another_and_each_has_its_own_id() {
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .start();
    let mut stream = house.connect();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..10 {
        stream.write_all(GET).expect("the connection is open");
        let answer = answer(&mut stream);
        assert!(
            status(&answer) == 200 && answer.ends_with("hello") && answer.contains("\r\ndate: "),
            "{answer}"
        );
        ids.insert(
            answer
                .lines()
                .find(|line| line.starts_with("x-request-id: "))
                .expect("every response has a request id")
                .to_string(),
        );
    }
    assert_eq!(ids.len(), 10);
    stream
        .write_all(&GET.repeat(3))
        .expect("the connection is open");
    assert!(
        (0..3).all(|_| answer(&mut stream).ends_with("hello")),
        "requests sent all at once are all answered"
    );
}

#[test]
fn a_client_cannot_choose_the_id_of_a_request_and_the_path_is_passed_on_unchanged() {
    let house = Plan::new()
        .function("echo", &echo(), Settings::default())
        .named("/")
        .start();
    let request = b"GET /echo/./%2e/x?y HTTP/1.0\r\nx-request-id: mine\r\nconnection: x-gone\r\nx-gone: 1\r\n\r\n";
    let answer = house.raw(request);
    assert!(
        answer.contains("GET /echo/./%2e/x?y HTTP/1.1\r\n"),
        "{answer}"
    );
    assert!(
        !answer.contains("mine") && !answer.contains("x-gone"),
        "{answer}"
    );
}

#[test]
fn functions_are_found_by_their_names_and_the_names_are_removed_from_the_path() {
    let house = Plan::new().named("/").start();
    put(&house.functions, "echo", 1, &echo(), Settings::default());
    for (asked, seen) in [
        ("/echo", "GET / "),
        ("/echo/", "GET / "),
        ("/echo/a%2Fb?c", "GET /a%2Fb?c "),
        ("/echo?c", "GET /?c "),
    ] {
        let answer = house.get(asked);
        assert!(answer.contains(seen), "{asked}: {answer}");
    }
    assert_eq!(status(&house.get("/other")), 404);
    assert_eq!(
        status(&house.get("/echo/../other")),
        400,
        "it is unclear which of the two functions is meant"
    );
    // Functions are deployed at a different address, which only a service's gateway mentions in its
    // response.
    assert_eq!(status(&house.get("/deploy/echo")), 404);
}

#[test]
fn t135_a_trap_before_the_head_is_500_and_a_later_trap_breaks_off_the_answer() {
    // The function traps at the end of the request. The test sends that end only after it has read
    // the response's head.
    let read = "(block $done (loop $more (br_if $done (i64.le_s (call $hear) (i64.const 0))) (br $more))) unreachable";
    let begun = says("HTTP/1.1 200 OK\r\n\r\nbegun", read);
    let house = Plan::new()
        .function("trap", TRAP, Settings::default())
        .function("begun", &begun, Settings::default())
        .function("hello", &hello(), Settings::default())
        .start();
    let answer = house.get("/trap");
    assert!(
        status(&answer) == 500 && answer.contains("the function failed (request "),
        "{answer}"
    );

    let mut stream = house.connect();
    stream
        .write_all(b"POST /begun HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("the connection is open");
    let mut seen = String::new();
    while !seen.ends_with("begun\r\n") {
        let mut byte = [0];
        assert_eq!(
            stream.read(&mut byte).expect("the server answers"),
            1,
            "{seen}"
        );
        seen.push(byte[0] as char);
    }
    stream
        .write_all(b"0\r\n\r\n")
        .expect("the connection is open");
    let after = rest(&mut stream);
    assert!(
        !after.contains("0\r\n\r\n"),
        "a response that was cut off must not look complete: {after:?}"
    );
    assert_eq!(status(&house.get("/hello")), 200);
    all_gone(&house.functions);
}

#[test]
fn t136_a_function_that_does_not_answer_in_time_is_killed_and_the_client_gets_an_error() {
    let house = Plan::new()
        .function("spin", SPIN, within(Duration::from_millis(50)))
        .function("hello", &hello(), Settings::default())
        .start();
    let answer = house.get("/spin");
    assert!(
        status(&answer) == 504 && answer.contains("did not answer in time"),
        "{answer}"
    );
    all_gone(&house.functions);
    assert_eq!(status(&house.get("/hello")), 200);
}

#[test]
fn an_answer_that_takes_too_long_to_be_sent_breaks_off() {
    let begun = says("HTTP/1.1 200 OK\r\n\r\nbegun", "(loop $again (br $again))");
    let house = Plan::new()
        .function("begun", &begun, within(Duration::from_millis(50)))
        .start();
    let answer = house.get("/begun");
    assert!(
        status(&answer) == 200 && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
    all_gone(&house.functions);
}

#[test]
fn t137_a_process_ends_when_its_client_disconnects() {
    let house = Plan::new()
        .function("spin", SPIN, Settings::default())
        .start();
    let mut stream = house.connect();
    stream
        .write_all(b"GET /spin HTTP/1.1\r\nhost: test\r\n\r\n")
        .expect("the connection is open");
    let begun = Instant::now();
    while house.functions.vm().processes().is_empty() {
        assert!(begun.elapsed() < NEVER, "the request was not served");
        std::thread::yield_now();
    }
    drop(stream);
    all_gone(&house.functions);
}

#[test]
fn t134_a_body_that_is_too_large_is_refused_as_soon_as_its_size_is_known() {
    let settings = Settings {
        body: 1000,
        ..Settings::default()
    };
    let house = Plan::new().function("late", &late(), settings).start();
    // The client does not send the body, and the server does not wait for it.
    let answer = house.raw(
        b"POST /late HTTP/1.1\r\nhost: t\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n",
    );
    assert!(
        status(&answer) == 413 && answer.contains("connection: close"),
        "{answer}"
    );
    let piece = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let head = "POST /late HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = house.raw(format!("{head}{piece}{piece}").as_bytes());
    assert_eq!(status(&answer), 413, "{answer}");
    let answer = house.raw(
        format!("{head}{piece}0\r\n\r\n")
            .replace("\r\nhost", "\r\nconnection: close\r\nhost")
            .as_bytes(),
    );
    assert_eq!(status(&answer), 200, "{answer}");
    all_gone(&house.functions);
}

#[test]
fn a_client_that_expects_100_continue_gets_it_when_the_function_reads_the_body() {
    let house = Plan::new()
        .function("late", &late(), Settings::default())
        .start();
    let mut stream = house.connect();
    let head =
        b"POST /late HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head).expect("the connection is open");
    assert_eq!(status(&answer(&mut stream)), 100);
    stream.write_all(b"abc").expect("the connection is open");
    assert_eq!(status(&answer(&mut stream)), 200);
}

fn hasty() -> HttpLimits {
    let soon = Duration::from_millis(50);
    HttpLimits {
        head_time: soon,
        idle: soon,
        ..HttpLimits::default()
    }
}

#[test]
fn t130_heads_and_bodies_that_take_too_long_get_408_and_idle_connections_are_closed() {
    let house = Plan::new()
        .function("late", &late(), Settings::default())
        .limits(hasty())
        .start();
    assert_eq!(
        rest(&mut house.connect()),
        "",
        "a client that sent nothing gets no response"
    );
    for begun in ["G", "GET /late HT", "GET /late HTTP/1.1\r\nhost: t\r\n"] {
        let answer = house.raw(begun.as_bytes());
        assert!(
            status(&answer) == 408 && answer.contains("head took too long"),
            "{begun}: {answer}"
        );
    }
    let answer = house.raw(b"POST /late HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nab");
    assert!(
        status(&answer) == 408 && answer.contains("the request took too long to arrive"),
        "{answer}"
    );
    let mut idle = house.connect();
    idle.write_all(b"GET /late HTTP/1.1\r\nhost: t\r\n\r\n")
        .expect("the connection is open");
    assert_eq!(status(&rest(&mut idle)), 200);
    all_gone(&house.functions);
}

#[test]
fn t131_heads_that_are_too_large_or_malformed_are_refused() {
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .start();
    let fields = format!(
        "GET /hello HTTP/1.1\r\nhost: t\r\n{}\r\n",
        "a: b\r\n".repeat(10_000)
    );
    let long = format!(
        "GET /hello HTTP/1.1\r\nhost: t\r\na: {}\r\n\r\n",
        "x".repeat(10 << 20)
    );
    let path = format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "x".repeat(10 << 20));
    for request in [fields, long, path] {
        assert_eq!(status(&house.raw(request.as_bytes())), 431);
    }
    let fields = [
        "host: t\r\nhost: t",
        "a: b",
        "host: t\r\na: b\0c",
        "host: t\r\na\r\n b",
        "host: t\r\na b: c",
        "host: t\r\na: b\rc",
        "host: a b",
        "host: a/../b?c",
        "host: user@t",
        "host: \u{e4}",
    ];
    for fields in fields {
        let answer = house.raw(
            format!("GET /hello HTTP/1.1\r\n{fields}\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        assert_eq!(status(&answer), 400, "{fields}: {answer}");
    }
    assert_eq!(status(&house.get("/hello")), 200);
}

#[test]
fn t132_a_request_that_could_hide_a_second_one_is_refused_and_ends_the_connection() {
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .start();
    let hidden = "GET /hello HTTP/1.1\r\nhost: hidden\r\n\r\n";
    let rows = [
        format!("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!(
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("content-length: +5\r\n\r\nabcde{hidden}"),
        format!("content-length: 0x5\r\n\r\nabcde{hidden}"),
        format!("content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef{hidden}"),
        format!("a: b\n\n{hidden}"),
        format!("a: b\r\n\n{hidden}"),
        format!(
            "transfer-encoding: chunked\r\n\r\n{:x}0\r\n\r\n{hidden}",
            u64::MAX
        ),
        format!(
            "transfer-encoding: chunked\r\n\r\n5;{}\r\nabcde\r\n0\r\n\r\n{hidden}",
            "x".repeat(64 << 10)
        ),
        format!("transfer-encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\n\r\n5\r\nabcdef\r\n0\r\n\r\n{hidden}"),
    ];
    for row in rows {
        let answers = house.raw(format!("POST /hello HTTP/1.1\r\nhost: t\r\n{row}").as_bytes());
        // A function that does not read the body may have answered before the body turned out to be
        // malformed.
        let is_body = row.starts_with("transfer-encoding: chunked\r\n\r\n");
        assert!(
            status(&answers) == 400 || is_body && status(&answers) == 200,
            "{row}: {answers}"
        );
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{row}: {answers}");
    }
}

#[test]
fn t138_an_invalid_answer_from_a_function_is_refused_and_its_connection_fields_are_removed() {
    let answers = [
        ("HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n", 502),
        ("HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n", 502),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            502,
        ),
        (
            "HTTP/1.1 200 OK\r\na: b\rc: d\r\ncontent-length: 0\r\n\r\n",
            502,
        ),
        ("nonsense", 502),
        (
            "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-a\r\nkeep-alive: 1\r\nx-a: b\r\nx-b: c\r\nx-request-id: mine\r\ncontent-length: 0\r\n\r\n",
            200,
        ),
    ];
    for (text, wanted) in answers {
        let house = Plan::new()
            .function("says", &says(text, ""), Settings::default())
            .start();
        let answer = house.get("/says");
        assert_eq!(status(&answer), wanted, "{text:?}: {answer}");
        assert!(
            !answer.contains("keep-alive") && !answer.contains("x-a") && !answer.contains("mine"),
            "{answer}"
        );
        assert_eq!(answer.contains("x-b: c"), wanted == 200);
    }
}

#[test]
fn t138_the_connection_field_cannot_remove_the_fields_that_frame_a_message() {
    const LISTED: &str = "connection: close, content-length, transfer-encoding, host\r\n";
    let response = format!("HTTP/1.1 200 OK\r\n{LISTED}content-length: 5\r\n\r\nhello");
    let house = Plan::new()
        .function("echo", &echo(), Settings::default())
        .function("says", &says(&response, ""), Settings::default())
        .start();
    let to_spark = house.raw(
        format!("POST /echo HTTP/1.1\r\nhost: test\r\n{LISTED}content-length: 2\r\n\r\nab")
            .as_bytes(),
    );
    assert!(
        to_spark.contains("\r\nhost: test\r\n")
            && to_spark.contains("\r\ncontent-length: 2\r\n")
            && to_spark.contains("\r\n\r\nab"),
        "{to_spark}"
    );
    let chunked = house.raw(
        format!(
            "POST /echo HTTP/1.1\r\nhost: test\r\n{LISTED}transfer-encoding: chunked\r\n\r\n\
             2\r\nab\r\n0\r\n\r\n"
        )
        .as_bytes(),
    );
    assert!(
        chunked.contains("\r\nhost: test\r\n")
            && chunked.contains("\r\ntransfer-encoding: chunked\r\n")
            && chunked.contains("2\r\nab\r\n"),
        "{chunked}"
    );
    let to_client = house.get("/says");
    assert!(
        to_client.contains("\r\ncontent-length: 5\r\n") && to_client.ends_with("\r\n\r\nhello"),
        "{to_client}"
    );
}

#[test]
fn t139_requests_beyond_the_limit_of_a_function_are_refused_and_others_are_served() {
    let settings = Settings {
        requests: NonZeroUsize::MIN,
        ..Settings::default()
    };
    let house = Plan::new()
        .function("late", &late(), settings)
        .function("hello", &hello(), Settings::default())
        .start();
    let post = b"POST /late HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\n\r\n";
    let mut first = house.connect();
    first.write_all(post).expect("the connection is open");
    while house.functions.vm().processes().is_empty() {
        std::thread::yield_now();
    }
    let mut others: Vec<_> = (0..20).map(|_| house.connect()).collect();
    for other in &mut others {
        other.write_all(post).expect("the connection is open");
        other.write_all(b"x").expect("the connection is open");
    }
    assert_eq!(
        status(&house.get("/hello")),
        200,
        "the other function is still served"
    );
    for other in &mut others {
        let answer = answer(other);
        assert!(
            status(&answer) == 503 && answer.contains("retry-after: 1"),
            "{answer}"
        );
    }
    first.write_all(b"x").expect("the connection is open");
    assert_eq!(status(&answer(&mut first)), 200);
    assert_eq!(
        status(&house.get("/late")),
        200,
        "the function accepts a request again"
    );
}

#[test]
fn connections_beyond_the_limit_are_refused_with_503() {
    let limits = HttpLimits {
        connections: 1,
        ..HttpLimits::default()
    };
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .limits(limits)
        .start();
    let mut first = house.connect();
    first.write_all(GET).expect("the connection is open");
    assert_eq!(status(&answer(&mut first)), 200);
    let answer = rest(&mut house.connect());
    assert!(
        status(&answer) == 503 && answer.contains("retry-after"),
        "{answer}"
    );
}

#[test]
fn t140_unsupported_protocols_are_refused() {
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .start();
    let upgrade = |to| {
        format!(
            "GET /hello HTTP/1.1\r\nhost: t\r\nconnection: upgrade, close\r\nupgrade: {to}\r\n\r\n"
        )
    };
    assert_eq!(status(&house.raw(upgrade("websocket").as_bytes())), 400);
    assert_eq!(
        status(&house.raw(upgrade("h2c").as_bytes())),
        200,
        "the upgrade is optional and can be ignored"
    );
    assert_eq!(
        status(
            &house.raw(b"CONNECT hello:80 HTTP/1.1\r\nhost: hello\r\nconnection: close\r\n\r\n")
        ),
        405
    );
}

#[test]
fn t142_a_stop_lets_requests_finish_and_closes_idle_connections() {
    let house = Plan::new()
        .function("late", &late(), Settings::default())
        .start();
    let address = house.address();
    let mut idle = house.connect();
    idle.write_all(b"GET /late HTTP/1.1\r\nhost: t\r\n\r\n")
        .expect("the connection is open");
    assert_eq!(status(&answer(&mut idle)), 200);
    let mut busy = house.connect();
    busy.write_all(b"POST /late HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\n\r\n")
        .expect("the connection is open");
    while house.functions.vm().processes().is_empty() {
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| house.server.stop(NEVER));
        assert_eq!(rest(&mut idle), "", "the connection is closed");
        while TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
        busy.write_all(b"x").expect("the connection is open");
        let answer = rest(&mut busy);
        assert!(
            status(&answer) == 200 && answer.contains("connection: close"),
            "{answer}"
        );
        assert!(
            stopping
                .join()
                .expect("the thread that stops the server does not panic"),
            "no request was cut off"
        );
    });
}

#[test]
fn t142_a_request_that_does_not_finish_is_cut_off_at_the_deadline_or_a_second_stop() {
    for cut in [false, true] {
        let house = Plan::new()
            .function("spin", SPIN, Settings::default())
            .start();
        let mut stream = house.connect();
        stream
            .write_all(b"GET /spin HTTP/1.1\r\nhost: t\r\n\r\n")
            .expect("the connection is open");
        while house.functions.vm().processes().is_empty() {
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            let time = if cut {
                NEVER
            } else {
                Duration::from_millis(50)
            };
            let server = &house.server;
            let stopping = scope.spawn(move || server.stop(time));
            if cut {
                while TcpStream::connect(house.address()).is_ok() {
                    std::thread::yield_now();
                }
                house.server.cut();
            }
            assert!(
                !stopping
                    .join()
                    .expect("the thread that stops the server does not panic"),
                "the request was cut off"
            );
        });
        assert_eq!(rest(&mut stream), "");
        all_gone(&house.functions);
    }
}

#[test]
fn serving_the_directory_that_contains_the_cache_key_disables_the_cache() {
    let home = tempfile::tempdir().expect("a temporary directory can be created");
    let cache = Cache::at(&home.path().join("cache")).expect("the directory is ours alone");
    let key = home.path().join("cache.key");
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    let plan = Plan::on(Vm::builder().host(host).cache(cache)).function(
        "f",
        &hello(),
        Settings::default(),
    );
    assert!(key.exists(), "the function is cached");
    let house = plan.files("/s", home.path()).start();
    assert!(!key.exists(), "a key that clients could read is removed");
    assert_eq!(status(&house.get("/s/cache.key")), 404);
    put(
        &house.functions,
        "g",
        1,
        &says("other", ""),
        Settings::default(),
    );
    assert!(!key.exists(), "nothing is cached from now on");
}

#[test]
fn no_link_leads_out_of_a_directory_that_is_served() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().expect("a temporary directory can be created");
    let directory = outside.path().join("public");
    std::fs::create_dir(&directory).expect("the directory can be created");
    std::fs::write(outside.path().join("secret"), "secret").expect("the file can be written");
    std::fs::write(directory.join("a.txt"), "inside").expect("the file can be written");
    let house = Plan::new().files("/s", &directory).start();
    // The links are created while the server is running. A function with write access to the
    // directory could do the same.
    let secret = outside.path().join("secret").display().to_string();
    for (name, target) in [
        ("absolute", secret.as_str()),
        ("relative", "../secret"),
        ("chain", "relative"),
        ("up", ".."),
        ("down", "up/public/a.txt"),
        ("root", "/"),
        ("magic", "/proc/self/root"),
        ("inside", "a.txt"),
    ] {
        symlink(target, directory.join(name)).expect("the link can be created");
    }
    mkfifoat(CWD, directory.join("fifo"), Mode::RUSR | Mode::WUSR)
        .expect("the FIFO can be created");
    let inside = house.get("/s/inside");
    assert!(
        status(&inside) == 200 && inside.ends_with("inside"),
        "{inside}"
    );
    let passwd = "/s/root/etc/passwd";
    let magic = "/s/magic/etc/passwd";
    let up = "/s/up/secret";
    for path in [
        "/s/absolute",
        "/s/relative",
        "/s/chain",
        up,
        "/s/down",
        passwd,
        magic,
        "/s/fifo",
    ] {
        assert_eq!(status(&house.get(path)), 404, "{path}");
    }
    // The directory itself becomes a link.
    std::fs::rename(&directory, outside.path().join("moved"))
        .expect("the directory can be renamed");
    symlink(outside.path(), &directory).expect("the link can be created");
    assert_eq!(status(&house.get("/s/secret")), 404);
}

#[test]
fn no_link_publishes_a_hidden_name() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    for hidden in [".git", ".well-known", "plain"] {
        let path = directory.path().join(hidden);
        std::fs::create_dir(&path).expect("the directory can be created");
        std::fs::write(path.join("index.html"), "index").expect("the file can be written");
    }
    std::fs::write(directory.path().join(".env"), "secret").expect("the file can be written");
    for (name, target) in [
        ("env", ".env"),
        ("chain", "env"),
        ("git", ".git"),
        ("plain/up", "../.git/index.html"),
        ("known", ".well-known"),
        ("link", "plain/index.html"),
    ] {
        symlink(target, directory.path().join(name)).expect("the link can be created");
    }
    let house = Plan::new().files("/s", directory.path()).start();
    for (path, expected) in [
        ("/s/env", 404),
        ("/s/chain", 404),
        ("/s/git", 404),
        ("/s/git/", 404),
        ("/s/git/index.html", 404),
        ("/s/plain/up", 404),
        ("/s/known/", 200),
        ("/s/known/index.html", 200),
        ("/s/link", 200),
        ("/s/plain/", 200),
    ] {
        assert_eq!(status(&house.get(path)), expected, "{path}");
    }
}

#[test]
fn an_answer_with_the_wrong_length_is_502_or_breaks_off() {
    let says_length = |then: &str| {
        let begun = says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun", then);
        Plan::new()
            .function("says", &begun, Settings::default())
            .start()
    };
    let answer = says_length("").get("/says");
    assert_eq!(status(&answer), 502, "{answer}");
    // If the function is slow, the head has already been sent by the time the wrong length is
    // noticed.
    let read =
        "(block $done (loop $more (br_if $done (i64.le_s (call $hear) (i64.const 0))) (br $more)))";
    let house = says_length(read);
    let mut stream = house.connect();
    stream
        .write_all(b"POST /says HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("the connection is open");
    let mut seen = Vec::new();
    while !seen.ends_with(b"begun") {
        let mut byte = [0];
        let count = stream.read(&mut byte).expect("the server answers");
        assert_eq!(count, 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    stream
        .write_all(b"0\r\n\r\n")
        .expect("the connection is open");
    assert_eq!(rest(&mut stream), "");
    all_gone(&house.functions);
}

#[test]
fn a_client_that_closes_its_sending_side_gets_its_answer() {
    // The end of the client's stream arrives while the function is still computing.
    let busy = "(local $left i32) (local.set $left (i32.const 100000000))
        (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    let busy = hello().replace("(local $count i64)", &format!("(local $count i64) {busy}"));
    let house = Plan::new()
        .function("busy", &busy, Settings::default())
        .start();
    for body in ["\r\n", "content-length: 2\r\n\r\nab"] {
        let mut stream = house.connect();
        let request = format!("POST /busy HTTP/1.1\r\nhost: t\r\n{body}");
        stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.shutdown(std::net::Shutdown::Write))
            .expect("the connection is open");
        let answer = rest(&mut stream);
        assert!(
            status(&answer) == 200 && answer.ends_with("hello"),
            "{answer}"
        );
    }
}

#[test]
fn the_connection_of_a_half_closed_client_ends_with_its_last_answer() {
    // An idle connection is closed after this time, so it would be closed if each of the other
    // connections ended only after a timeout of several seconds.
    let limits = HttpLimits {
        idle: Duration::from_secs(20),
        ..HttpLimits::default()
    };
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    // This is more than the sockets hold, so the gateway has to wait for the client.
    let file = "x".repeat(8 << 20) + "the end";
    std::fs::write(directory.path().join("file"), file).expect("the file can be written");
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .function("echo", &echo(), Settings::default())
        .files("/s", directory.path())
        .limits(limits)
        .start();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n");
    let post = |fields: &str| format!("POST /echo HTTP/1.1\r\nhost: t\r\n{fields}");
    let hello = get("/hello");
    for (requests, count, end) in [
        (hello.clone(), 1, "hello"),
        (hello.repeat(3), 3, "hello"),
        (post("content-length: 2\r\n\r\nab"), 1, "ab\r\n0\r\n\r\n"),
        (
            post("transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n") + &hello,
            2,
            "hello",
        ),
        (get("/s/file"), 1, "the end"),
        (hello + &get("/s/file"), 2, "the end"),
        (get("/s/other"), 0, "not found\n"),
    ] {
        let mut idle = house.connect();
        idle.write_all(GET).expect("the connection is open");
        assert_eq!(status(&answer(&mut idle)), 200);
        for _ in 0..5 {
            let mut stream = house.connect();
            stream
                .write_all(requests.as_bytes())
                .and_then(|()| stream.shutdown(std::net::Shutdown::Write))
                .expect("the connection is open");
            let answers = rest(&mut stream);
            assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), count);
            assert!(answers.ends_with(end), "{requests:?} does not get `{end}`");
        }
        idle.write_all(GET).expect("the connection is open");
        assert_eq!(status(&answer(&mut idle)), 200, "{requests:?} took long");
    }
    all_gone(&house.functions);
}

#[test]
fn a_malformed_request_is_refused_as_soon_as_the_one_before_it_has_been_answered() {
    // The gateway has no other reason to close the connection while the test waits.
    let limits = HttpLimits {
        idle: 2 * NEVER,
        head_time: 2 * NEVER,
        ..HttpLimits::default()
    };
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .limits(limits)
        .start();
    for count in [0, 1, 3] {
        let mut requests = GET.repeat(count);
        requests.extend_from_slice(b"GET /hello HTTP/1.1\nhost: t\r\n\r\n");
        let answers = house.raw(&requests);
        assert!(
            answers.matches("HTTP/1.1 200 ").count() == count
                && answers.matches("HTTP/1.1 400 ").count() == 1
                && answers.ends_with("a line ends without CR\n"),
            "{count}: {answers}"
        );
    }
}

#[test]
fn an_answer_to_a_request_that_is_not_read_to_its_end_says_that_the_connection_closes() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .files("/s", directory.path())
        .start();
    for (path, expected) in [("/hello", 200), ("/other", 404), ("/s/file", 405)] {
        for fields in ["", "expect: 100-continue\r\n"] {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: t\r\n{fields}content-length: 3\r\n\r\n");
            let answer = house.raw(head.as_bytes());
            // The gateway reads a function's request ahead.
            let answer = answer.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
            assert!(
                status(answer) == expected && answer.contains("\r\nconnection: close\r\n"),
                "{path}: {answer}"
            );
        }
        // A body that has arrived is skipped, and the next request is answered.
        let whole = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabc\
             GET /hello HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n"
        );
        let answers = house.raw(whole.as_bytes());
        assert!(
            status(&answers) == expected
                && answers.ends_with("hello")
                && answers.matches("HTTP/1.1 ").count() == 2
                && answers.matches("connection: close").count() == 1,
            "{path}: {answers}"
        );
    }
}

#[test]
fn the_built_in_function_http_calls_another_host() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = other.local_addr().expect("the listener is bound");
    let request = format!("GET http://{address}/path HTTP/1.1\r\nx-mine: yes\r\n\r\n");
    let settings = Settings {
        outbound: vec![address.to_string().parse().expect("the rule is valid")],
        private_addresses: true,
        ..Settings::default()
    };
    let house = Plan::new()
        .function("relay", &guests::relay("http", &request), settings)
        .start();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("the function connects");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
            head.push(byte[0]);
        }
        let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\nx-theirs: 1\r\n\r\nhello";
        stream.write_all(answer).expect("the function reads");
        String::from_utf8_lossy(&head).into_owned()
    });
    let answer = house.get("/relay");
    assert!(
        status(&answer) == 201 && answer.contains("x-theirs: 1") && answer.ends_with("hello"),
        "{answer}"
    );
    let head = serving.join().expect("the serving thread does not panic");
    assert!(
        head.starts_with("GET /path HTTP/1.1\r\n") && head.contains("x-mine: yes"),
        "{head}"
    );
    all_gone(&house.functions);
}

#[test]
fn an_http_2_client_from_a_library_is_served() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let house = Plan::new()
        .function("echo", &echo(), Settings::default())
        .function("hello", &hello(), Settings::default())
        .start();
    let address = house.address();
    let client = async {
        let stream = tokio::net::TcpStream::connect(address).await;
        let stream = TokioIo::new(stream.expect("the server is listening"));
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .expect("the server speaks HTTP/2");
        let connection = tokio::spawn(connection);
        let request = |path: &str, body: String| {
            let request = http::Request::post(format!("http://test/{path}"));
            let request = request.body(Full::<bytes::Bytes>::from(body));
            let mut sender = sender.clone();
            async move {
                let answer = sender
                    .send_request(request.expect("the request is valid"))
                    .await;
                let (head, body) = answer.expect("the server answers").into_parts();
                let body = body.collect().await.expect("the response is complete");
                (head.status.as_u16(), body.to_bytes())
            }
        };
        assert_eq!(request("hello", String::new()).await, (200, "hello".into()));
        // The requests are sent all at once on a single connection.
        let mut answers = tokio::task::JoinSet::new();
        for number in 0..20_usize {
            let body = number.to_string().repeat(10_000);
            let answer = request("echo", body.clone());
            answers.spawn(async move { (body, answer.await) });
        }
        while let Some(answer) = answers.join_next().await {
            let (sent, (status, body)) = answer.expect("the request task does not panic");
            let body = std::str::from_utf8(&body).expect("the body is UTF-8");
            assert!(status == 200 && body.ends_with(&sent), "{status}");
        }
        drop(sender);
        connection
            .await
            .expect("the connection task does not panic")
            .expect("the connection ends without an error");
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime can be built")
        .block_on(client);
    all_gone(&house.functions);
}

#[test]
fn t143_files_are_served_only_from_their_directory() {
    let outside = tempfile::tempdir().expect("a temporary directory can be created");
    let directory = outside.path().join("public");
    std::fs::create_dir_all(directory.join("sub")).expect("the directory can be created");
    for (path, text) in [
        ("public/a.txt", "0123456789"),
        ("public/sub/index.html", "index"),
        ("secret", "s"),
        ("public/.env", "e"),
    ] {
        std::fs::write(outside.path().join(path), text).expect("the file can be written");
    }
    let house = Plan::new()
        .files("/s", &directory)
        .function("hello", &hello(), Settings::default())
        .start();
    let answer = house.get("/s/a.txt");
    assert!(
        status(&answer) == 200
            && answer.contains("content-type: text/plain")
            && answer.ends_with("0123456789"),
        "{answer}"
    );
    assert!(house.get("/s/sub/").ends_with("index"));
    assert!(
        house.get("/s/sub?x").contains("location: /s/sub/"),
        "{}",
        house.get("/s/sub")
    );
    let part = house
        .raw(b"GET /s/a.txt HTTP/1.1\r\nhost: t\r\nconnection: close\r\nrange: bytes=2-3\r\n\r\n");
    assert!(
        status(&part) == 206 && part.ends_with("\r\n\r\n23"),
        "{part}"
    );
    let post = house.raw(
        b"POST /s/a.txt HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(status(&post), 405);
    for path in [
        "/s/",
        "/s",
        "/s/.env",
        "/s/%2eenv",
        "/s/../secret",
        "/s/%2e%2e/secret",
        "/s/..%2fsecret",
        "/s/sub/../../secret",
        "/s//../secret",
        "/s/..%5csecret",
        "/s/%00",
        "/s/a.txt%00",
    ] {
        let answer = house.get(path);
        assert!([400, 404].contains(&status(&answer)), "{path}: {answer}");
    }
}

#[test]
fn gateways_can_be_changed_while_they_run_and_either_all_or_none_start() {
    let plan = Plan::new()
        .function("hello", &hello(), Settings::default())
        .function("late", &late(), Settings::default());
    let before = plan.gateway();
    let house = plan.start();
    let mut open = house.connect();
    let mut after = before.clone();
    let Protocol::Http(http) = &mut after.protocol else {
        panic!("the gateway must be an HTTP gateway")
    };
    http.routes = vec![Route {
        path: "/new".into(),
        target: Target::Function(name("hello")),
    }];
    house
        .server
        .reload(&[after.clone()])
        .expect("the gateways can be started");
    open.write_all(b"GET /new HTTP/1.1\r\nhost: t\r\n\r\n")
        .expect("the connection is open");
    assert_eq!(
        status(&answer(&mut open)),
        200,
        "the change also applies to existing connections"
    );
    assert_eq!(status(&house.get("/hello")), 404);

    let taken = Gateway {
        name: "second".into(),
        address: house.address(),
        ..before.clone()
    };
    let error = house
        .server
        .reload(&[before, taken])
        .expect_err("the address is taken")
        .to_string();
    assert!(
        error.contains("gateway `second` cannot listen on 127.0.0.1:"),
        "{error}"
    );
    assert_eq!(
        status(&house.get("/new")),
        200,
        "the gateway must be unchanged"
    );
    assert_eq!(house.server.listening().len(), 1);
    house
        .server
        .reload(&[])
        .expect("the gateways can be started");
    assert_eq!(house.server.listening(), []);
}

#[test]
fn a_stream_through_a_function_is_never_held_in_memory_as_a_whole() {
    const SIZE: usize = 100 << 20;
    let settings = Settings {
        body: SIZE as u64,
        deadline: NEVER,
        ..Settings::default()
    };
    let house = Plan::new().function("echo", &echo(), settings).start();
    let mut stream = house.connect();
    let mut writer = stream.try_clone().expect("the socket can be cloned");
    let before = resident();
    let writing = std::thread::spawn(move || {
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {SIZE}\r\n\r\n"
        );
        writer
            .write_all(head.as_bytes())
            .expect("the connection is open");
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..SIZE / piece.len() {
            writer.write_all(&piece).expect("the server is reading");
        }
    });
    let (mut count, mut most) = (0, 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        match stream.read(&mut piece).expect("the server answers") {
            0 => break,
            more => count += piece[..more].iter().filter(|&&byte| byte == b'x').count(),
        }
        most = most.max(resident());
    }
    writing.join().expect("the writing thread does not panic");
    assert!(count >= SIZE, "{count}");
    // Other tests run in this operating system process at the same time.
    assert!(
        most < before + (SIZE as u64) / 2,
        "memory use rose from {before} bytes to {most}"
    );
}

/// Returns how many bytes of memory this operating system process uses.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the platform is Linux");
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("the text is a number");
    pages * 4096
}

/// Returns an HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("the length fits")
        .to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Returns a request's encoded fields: the method GET or POST, the scheme http, a path and an
/// authority.
fn fields(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![
        method,
        0x86,
        0x04,
        u8::try_from(path.len()).expect("the length fits"),
    ];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x41, 1, b't']);
    block
}

/// Sends the preface and frames. Returns the kinds of all frames that arrive until the connection
/// ends.
fn flood(house: &House, frames: impl Iterator<Item = Vec<u8>> + Send) -> Vec<u8> {
    let mut stream = house.connect();
    let mut writer = stream.try_clone().expect("the socket can be cloned");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            let _ = writer.write_all(&frame(SETTINGS, 0, 0, &[]));
            let mut all = frames.peekable();
            while all.peek().is_some() {
                let some: Vec<u8> = all.by_ref().take(100).flatten().collect();
                // The server may already have closed the connection.
                if writer.write_all(&some).is_err() {
                    return;
                }
            }
        });
        let mut kinds = Vec::new();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            kinds.push(head[3]);
            if stream.read_exact(&mut vec![0; length]).is_err() {
                break;
            }
        }
        kinds
    })
}

#[test]
fn t133_floods_of_http_2_frames_end_only_their_own_connection() {
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .function("spin", SPIN, Settings::default())
        .start();
    let streams = || (0..100_000u32).map(|number| 2 * number + 1);
    let open = |path: &'static str| {
        move |stream| {
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &fields(0x82, path),
            )
        }
    };
    let reset = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());

    let at_once = flood(
        &house,
        streams().map(|stream| [open("/spin")(stream), reset(stream)].concat()),
    );
    assert!(
        at_once.contains(&GOAWAY),
        "rapid reset: {:?}",
        at_once.len()
    );

    let post = frame(HEADERS, END_HEADERS, 1, &fields(0x83, "/hello"));
    let empty = std::iter::once(post).chain((0..100_000).map(|_| frame(DATA, 0, 1, &[])));
    assert!(flood(&house, empty).contains(&GOAWAY), "empty frames");

    let begun = frame(HEADERS, END_STREAM, 1, &fields(0x82, "/hello"));
    let more = std::iter::repeat_n(
        frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b'].repeat(3000)),
        10_000,
    );
    assert!(
        flood(&house, std::iter::once(begun).chain(more)).contains(&GOAWAY),
        "a head that never ends"
    );

    assert_eq!(status(&house.get("/hello")), 200);
    all_gone(&house.functions);
}

#[test]
fn t133_each_stream_beyond_the_limit_is_refused() {
    let house = Plan::new()
        .function("late", &late(), Settings::default())
        .limits(hasty())
        .start();
    let opened = (0..1000u32)
        .map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, &fields(0x83, "/late")));
    // The accepted streams time out, after which the connection is idle.
    let kinds = flood(&house, opened);
    let resets = kinds.iter().filter(|&&kind| kind == RST_STREAM).count();
    assert!(resets > 0 || kinds.contains(&GOAWAY), "{kinds:?}");
    all_gone(&house.functions);
}

#[test]
fn t133_pings_and_settings_are_answered_and_an_idle_connection_is_closed() {
    let house = Plan::new()
        .function("hello", &hello(), Settings::default())
        .limits(hasty())
        .start();
    let kinds = flood(&house, (0..20_000).map(|_| frame(PING, 0, 0, &[0; 8])));
    assert!(
        kinds.contains(&PING) && kinds.len() <= 20_010,
        "{}",
        kinds.len()
    );
    let kinds = flood(&house, (0..20_000).map(|_| frame(SETTINGS, 0, 0, &[])));
    assert!(
        kinds.contains(&SETTINGS) && kinds.len() <= 20_010,
        "{}",
        kinds.len()
    );
    assert_eq!(status(&house.get("/hello")), 200);
}

/// Writes a certificate for `localhost` and its key to files. Returns the files, and the
/// certificate that a client should trust.
fn certificate(directory: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".into()])
        .expect("a certificate can be generated");
    let files = TlsFiles {
        certificates: directory.join("certificates.pem"),
        key: directory.join("key.pem"),
    };
    std::fs::write(&files.certificates, made.cert.pem()).expect("the file can be written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("the file can be written");
    (files, made.cert.der().clone())
}

/// Performs a TLS handshake with a server, offering one protocol and trusting one certificate.
fn secure(
    house: &House,
    protocol: &[u8],
    trusted: &CertificateDer<'static>,
) -> std::io::Result<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(trusted.clone())
        .expect("the certificate can be a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .expect("the provider supports these TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = "localhost".try_into().expect("the name is valid");
    let mut client =
        rustls::ClientConnection::new(Arc::new(config), name).expect("the configuration is valid");
    let mut stream = house.connect();
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(rustls::StreamOwned::new(client, stream))
}

#[test]
fn t118_tls_uses_the_certificates_in_the_files_and_invalid_files_change_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let (files, first) = certificate(directory.path());
    let mut plan = Plan::new().function("hello", &hello(), Settings::default());
    plan.tls = Some(files.clone());
    let house = plan.start();

    let mut stream = secure(&house, b"http/1.1", &first).expect("the certificate is trusted");
    stream
        .write_all(&[GET, GET].concat())
        .expect("the connection is open");
    let mut seen = String::new();
    while seen.matches("hello").count() < 2 {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).expect("the server answers");
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    let mut two = secure(&house, b"h2", &first).expect("the certificate is trusted");
    assert_eq!(two.conn.alpn_protocol(), Some(&b"h2"[..]));
    two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .expect("the connection is open");
    let mut head = [0; 9];
    two.read_exact(&mut head).expect("the server answers");
    assert_eq!(head[3], SETTINGS);

    std::fs::write(&files.certificates, "nonsense").expect("the file can be written");
    secure(&house, b"http/1.1", &first).expect("the previous certificate is still used");
    let (_, second) = certificate(directory.path());
    secure(&house, b"http/1.1", &second).expect("the new certificate is used");
    assert!(
        secure(&house, b"http/1.1", &first).is_err(),
        "the old certificate is no longer used"
    );

    std::fs::remove_file(&files.key).expect("the key was written above");
    let mut plan = Plan::new();
    plan.tls = Some(files);
    let error = Server::builder(&plan.functions)
        .gateway(plan.gateway())
        .start()
        .expect_err("there is no key")
        .to_string();
    assert!(
        error.contains("gateway `test`: ") && error.contains("key.pem"),
        "{error}"
    );
}

#[test]
fn t118_a_handshake_that_is_invalid_or_never_ends_is_aborted() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let (files, trusted) = certificate(directory.path());
    let mut plan = Plan::new()
        .function("hello", &hello(), Settings::default())
        .limits(hasty());
    plan.tls = Some(files);
    let house = plan.start();
    let mut stalled = house.connect();
    stalled
        .write_all(&[0x16, 3, 1])
        .expect("the connection is open");
    assert_eq!(rest(&mut stalled), "");
    // The client gets a TLS alert, which is not HTTP.
    assert!(!house.raw(GET).contains("HTTP"));
    secure(&house, b"http/1.1", &trusted).expect("other clients are served");
}
