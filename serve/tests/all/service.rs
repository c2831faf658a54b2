//! Deploys and invokes functions over real sockets, the way curl would and the way an attacker
//! would.

#[cfg(feature = "s3")]
mod s3;

use crate::alone::{is_alone, resident};
use lunatic_serve::{
    Code, Directory, Functions, Gateway, HttpGateway, HttpLimits, Name, Protocol, Route, Server,
    Service, ServiceConfig, ServiceError, Settings, StorageError, StorageSettings, Target, Token,
};
use lunatic_vm::{Access, Host, Shortage, Vm};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A timeout longer than any test should ever need to wait.
const NEVER: Duration = Duration::from_secs(60);

const TOKEN: &str = "correct-horse-battery-staple";

/// A running service and its server.
struct House {
    functions: Functions,
    service: Service,
    server: Server,
}

/// A response.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Checks that this is a refusal, and returns its message.
    fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()["error"]
            .as_str()
            .expect("a refusal has a message")
            .to_string()
    }

    fn deployed(&self) -> u64 {
        assert!(
            self.status == 200 || self.status == 201,
            "{} {}",
            self.status,
            self.body
        );
        self.json()["version"]
            .as_u64()
            .expect("a deploy has a version")
    }
}

fn vm() -> Vm {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    Vm::builder()
        .host(host)
        .build()
        .expect("the VM can be built")
}

/// The default configuration, with free ports and empty in-memory storage.
fn config() -> ServiceConfig {
    let free = "127.0.0.1:0".parse().expect("the address is valid");
    ServiceConfig {
        invoke: free,
        deploy: free,
        storage: StorageSettings::Memory,
        ..ServiceConfig::default()
    }
}

fn stored_in(directory: &Path) -> ServiceConfig {
    ServiceConfig {
        storage: StorageSettings::Directory(directory.to_path_buf()),
        ..config()
    }
}

impl House {
    fn new(config: ServiceConfig) -> House {
        House::on(&vm(), config)
    }

    fn on(vm: &Vm, config: ServiceConfig) -> House {
        let functions = Functions::new(vm);
        let service = Service::open(&functions, config).expect("the storage is usable");
        let server = service
            .add_to(Server::builder(&functions))
            .start()
            .expect("the addresses are free");
        House {
            functions,
            service,
            server,
        }
    }

    fn address(&self, name: &str) -> SocketAddr {
        let listening = self.server.listening();
        listening
            .iter()
            .find(|one| one.name == name)
            .expect("the service is listening")
            .address
    }

    fn deploy(&self, what: &str, wasm: &[u8]) -> Answer {
        self.ask("POST", &format!("/deploy/{what}"), &[], wasm)
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.address("deploy"), method, path, fields, body)
    }

    fn invoke(&self, path: &str) -> Answer {
        ask(self.address("invoke"), "GET", path, &[], b"")
    }
}

/// Sends one request the way curl would, and reads its response.
fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !fields.iter().any(|(name, _)| *name == "host") {
        head += &format!("host: {address}\r\n");
    }
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = connect(address);
    // The server may answer and close the connection before everything has been sent.
    let _ = stream
        .write_all(format!("{head}\r\n").as_bytes())
        .and_then(|()| stream.write_all(body));
    answer(stream)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server is listening");
    stream
        .set_read_timeout(Some(NEVER))
        .expect("the socket is open");
    stream
}

/// Reads a response, whether or not it is sent in chunks.
fn answer(stream: TcpStream) -> Answer {
    let mut reader = BufReader::new(stream);
    let (head, fields) = head(&mut reader);
    let mut body = Vec::new();
    if fields.contains("transfer-encoding: chunked") {
        while let Some(piece) = piece(&mut reader) {
            body.extend(piece);
        }
    } else {
        // Nothing more arrives on a connection that has been reset.
        let _ = reader.read_to_end(&mut body);
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {head:?}"));
    Answer {
        status,
        head: fields,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// Reads a response's first line and its fields. The fields are returned in lower case.
fn head(reader: &mut BufReader<TcpStream>) -> (String, String) {
    let mut first = String::new();
    reader.read_line(&mut first).expect("a response arrives");
    let mut fields = String::new();
    loop {
        let before = fields.len();
        reader.read_line(&mut fields).expect("the server answers");
        if fields[before..].trim().is_empty() {
            return (first, fields.to_ascii_lowercase());
        }
    }
}

fn piece(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).expect("a chunk arrives");
    let size = usize::from_str_radix(size.trim(), 16).expect("a chunk has a size");
    let mut piece = vec![0; size + 2];
    reader.read_exact(&mut piece).expect("all the bytes arrive");
    piece.truncate(size);
    (size > 0).then_some(piece)
}

/// Returns a spark that answers every request with the given text.
fn spark(text: &str) -> Vec<u8> {
    spark_with("", "", text)
}

/// Returns a spark that has `more` in its module and executes `first` before it answers.
fn spark_with(more: &str, first: &str, text: &str) -> Vec<u8> {
    let answer = format!(
        "HTTP/1.1 200 OK\\0d\\0acontent-length: {}\\0d\\0a\\0d\\0a{text}",
        text.len()
    );
    // Each escape sequence is three characters long and stands for one byte.
    let length = answer.len() - 2 * answer.matches('\\').count();
    let wat = format!(
        r#"(module
            (import "embly" "_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "lunatic::spark" "read" (func $read (param i64 i32 i32) (result i64)))
            (import "wasi_snapshot_preview1" "fd_write" (func $print (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (data (i32.const 1024) "{answer}")
            {more}
            (func (export "_start")
                {first}
                (drop (call $write (i32.const 1) (i32.const 1024) (i32.const {length}) (i32.const 0)))))"#
    );
    wat::parse_str(wat).expect("the text is valid WAT")
}

/// Returns a spark that reads its request to the end before it answers.
fn reader(text: &str) -> Vec<u8> {
    let more = r#"(func $read_all (loop (br_if 0 (i64.gt_s (call $read (i64.const 0) (i32.const 8) (i32.const 100)) (i64.const 0)))))"#;
    spark_with(more, "(call $read_all)", text)
}

/// Returns a spark that writes to its standard output before it answers.
fn talker(line: &str) -> Vec<u8> {
    let length = line.len() + 1;
    let more = format!(r#"(data (i32.const 8) "\10\00\00\00\{length:02x}\00\00\00" "{line}\0a")"#);
    spark_with(
        &more,
        "(drop (call $print (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 4)))",
        "talked",
    )
}

const TRAPS: &str = r#"(module (func (export "_start") unreachable))"#;

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory exists");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the directory is readable").path())
        .collect();
    files.sort();
    files
}

#[test]
fn a_function_is_deployed_and_invoked() {
    let house = House::new(config());
    let wasm = spark("hello");
    let deployed = house.deploy("my-http-server", &wasm);
    assert_eq!(deployed.status, 201, "{}", deployed.body);
    let expected = serde_json::json!({
        "name": "my-http-server", "version": 1, "hash": blake3::hash(&wasm).to_hex().as_str()
    });
    assert_eq!(deployed.json(), expected);
    for path in [
        "/my-http-server/secret",
        "/my-http-server/",
        "/my-http-server",
        "/my-http-server?a=b",
    ] {
        let answer = house.invoke(path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "hello"),
            "{path}"
        );
    }
    assert_eq!(house.invoke("/unknown/path").status, 404);
    assert_eq!(house.ask("PUT", "/deploy/other", &[], &wasm).deployed(), 1);
}

#[test]
fn a_deploy_to_the_wrong_address_is_refused_and_the_message_names_the_right_one() {
    let deploy: SocketAddr = "127.0.0.1:0".parse().expect("the address is valid");
    let house = House::new(ServiceConfig { deploy, ..config() });
    for path in ["/deploy/my-http-server", "/deploy"] {
        let answer = ask(house.address("invoke"), "POST", path, &[], &spark("x"));
        assert_eq!(answer.status, 404);
        assert!(
            answer.body.contains("deployed at a different address"),
            "{}",
            answer.body
        );
    }
    assert!(
        house
            .deploy("deploy", &spark("x"))
            .refusal(400)
            .contains("reserved")
    );
}

#[test]
fn the_same_wasm_is_a_new_version_only_with_different_settings() {
    let house = House::new(config());
    let wasm = spark("x");
    assert_eq!(house.deploy("f", &wasm).deployed(), 1);
    let again = house.deploy("f", &wasm);
    assert_eq!((again.status, again.deployed()), (200, 1));
    assert_eq!(house.deploy("f?memory=1MiB", &wasm).deployed(), 2);
    assert_eq!(house.deploy("f?memory=1024KiB", &wasm).deployed(), 2);
    assert_eq!(house.deploy("f", &wasm).deployed(), 3);
}

#[test]
fn settings_are_granted_within_limits() {
    let house = House::new(config());
    let query = "policy=pool:4&memory=268000KiB&compute=1000&deadline=10s&requests=7&processes=9&outbound=example.com,*.example.org";
    let fields = [("x-variable", "KEY=a=b"), ("x-client-secret", "hush")];
    let answer = house.ask("POST", &format!("/deploy/f?{query}"), &fields, &spark("x"));
    assert_eq!(answer.deployed(), 1);
    let version = house.functions.get("f").expect("`f` is deployed").version();
    let settings: &Settings = version.settings();
    assert_eq!(
        (settings.memory, settings.compute),
        (268_000 << 10, Some(1000))
    );
    assert_eq!(
        (
            settings.deadline,
            settings.requests.get(),
            settings.processes
        ),
        (Duration::from_secs(10), 7, 9)
    );
    assert_eq!(settings.outbound.len(), 2);
    assert_eq!(settings.variables, [("KEY".to_string(), "a=b".to_string())]);
    assert_eq!(settings.client_secret.as_deref(), Some("hush"));
    let described = house.ask("GET", "/functions/f", &[], b"");
    assert_eq!(described.json()["settings"]["policy"], "pool:4");
    assert!(
        !described.body.contains("hush") && !described.body.contains("a=b"),
        "{}",
        described.body
    );
    for (query, why) in [
        ("memory=5GiB", "at most 4294967296"),
        ("policy=pool:1000", "at most 64"),
        ("policy=often", "a policy must be"),
        ("compute=0", "at least 1"),
        ("deadline=soon", "whole number"),
        ("namespaces=lunatic", "no such setting"),
        ("private-addresses=true", "no such setting"),
        ("outbound=http:%2F%2F", "outbound"),
        ("%ff=1", "UTF-8"),
    ] {
        let refusal = house
            .deploy(&format!("f?{query}"), &spark("x"))
            .refusal(400);
        assert!(refusal.contains(why), "{query}: {refusal}");
    }
    assert_eq!(
        house
            .ask("POST", "/deploy/f", &[("x-variable", "=1")], &spark("x"))
            .status,
        400
    );
}

#[test]
fn a_deploy_can_require_that_a_certain_version_is_serving() {
    let house = House::new(config());
    let (one, two) = (spark("one"), spark("two"));
    let hash = |wasm: &[u8]| format!("\"{}\"", blake3::hash(wasm).to_hex());
    let deploy = |wasm: &[u8], expected: &str| {
        house.ask("POST", "/deploy/f", &[("if-match", expected)], wasm)
    };
    assert_eq!(deploy(&one, "*").status, 412);
    assert_eq!(house.deploy("f", &one).deployed(), 1);
    assert!(
        deploy(&two, &hash(&two))
            .refusal(412)
            .contains("another version is being served")
    );
    assert_eq!(deploy(&two, &hash(&one)).deployed(), 2);
    assert_eq!(house.invoke("/f").body, "two");
}

#[test]
fn t150_nothing_works_without_the_token() {
    let token = Token::new(TOKEN).expect("the token is long enough");
    let house = House::new(ServiceConfig {
        token: Some(token),
        ..config()
    });
    let bearer = format!("Bearer {TOKEN}");
    for (method, path) in [
        ("POST", "/deploy/f"),
        ("GET", "/functions"),
        ("GET", "/metrics"),
        ("DELETE", "/functions/f"),
        ("GET", "/x"),
    ] {
        for fields in [
            &[][..],
            &[("authorization", "Bearer wrong-wrong-wrong-wrong")],
            &[("authorization", TOKEN)],
            &[("authorization", "Basic dXNlcjpwYXNz")],
            &[("authorization", &bearer[..bearer.len() - 1])],
        ] {
            let answer = house.ask(method, path, fields, b"");
            assert_eq!(answer.status, 401, "{method} {path} {fields:?}");
            assert!(
                answer.head.contains("www-authenticate: bearer"),
                "{}",
                answer.head
            );
            assert!(!answer.body.contains(TOKEN));
        }
    }
    let fields = [
        ("authorization", bearer.as_str()),
        ("host", "functions.example"),
        ("origin", "https://a.example"),
    ];
    assert_eq!(
        house
            .ask("POST", "/deploy/f", &fields, &spark("x"))
            .deployed(),
        1
    );
    assert_eq!(house.ask("GET", "/healthz", &[], b"").status, 200);
    assert_eq!(house.invoke("/f").status, 200);
    assert!(!format!("{:?}", house.service).contains("horse"));
}

#[test]
fn t150_an_address_that_other_computers_can_reach_needs_a_token() {
    let anywhere = ServiceConfig {
        deploy: "0.0.0.0:0".parse().expect("the address is valid"),
        ..config()
    };
    let error = Service::open(&Functions::new(&vm()), anywhere.clone())
        .expect_err("anyone could deploy without a token");
    assert!(matches!(error, ServiceError::NoToken(_)), "{error}");
    assert!(error.to_string().contains("LUNATIC_TOKEN"), "{error}");
    let token = Token::new(TOKEN).expect("the token is long enough");
    House::new(ServiceConfig {
        token: Some(token),
        ..anywhere
    });
}

#[test]
fn t183_a_web_page_cannot_deploy() {
    let house = House::new(config());
    for fields in [
        &[("origin", "http://localhost:3000")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("host", "rebound.example:8002")],
    ] {
        assert_eq!(
            house.ask("POST", "/deploy/f", fields, &spark("x")).status,
            403,
            "{fields:?}"
        );
    }
    assert_eq!(
        house
            .ask(
                "POST",
                "/deploy/f",
                &[("host", "localhost:8002")],
                &spark("x")
            )
            .status,
        201
    );
}

#[test]
fn t151_invalid_names_are_refused_and_nothing_is_stored() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let store = directory.path().join("store");
    let house = House::new(stored_in(&store));
    let long = "a".repeat(300);
    for name in [
        "..%2Fescape",
        "..",
        "%2e%2e%2fescape",
        "a%2Fb",
        "a%00b",
        "CON",
        "-a",
        "%D0%B0pp",
        "a.b",
        "a%20b",
        "",
        &long,
    ] {
        let answer = house.deploy(name, &spark("x"));
        assert!(
            answer.status == 400,
            "{name}: {} {}",
            answer.status,
            answer.body
        );
    }
    assert_eq!(house.deploy("a/b", &spark("x")).status, 404);
    assert!(files(&store.join("blobs")).is_empty() && files(&store.join("functions")).is_empty());
    assert_eq!(files(directory.path()), [store]);
}

#[test]
fn t152_uploads_that_are_too_large_or_too_many_are_refused() {
    let house = House::new(ServiceConfig {
        size: 100_000,
        deploys: NonZeroUsize::MIN,
        waiting: 0,
        ..config()
    });
    assert!(
        house
            .deploy("f", &[0; 100_001])
            .refusal(413)
            .contains("100000 bytes")
    );

    // This body does not state its length and never ends.
    let mut endless = connect(house.address("deploy"));
    let head = format!(
        "POST /deploy/f HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        house.address("deploy")
    );
    endless
        .write_all(head.as_bytes())
        .expect("the server is reading");
    let piece = format!("2710\r\n{}\r\n", "x".repeat(10_000));
    while endless.write_all(piece.as_bytes()).is_ok() {}
    drop(endless);

    // This body never arrives, but occupies the only slot.
    let mut slow = connect(house.address("deploy"));
    let head = format!(
        "POST /deploy/f HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\nexpect: 100-continue\r\n\r\n",
        house.address("deploy")
    );
    slow.write_all(head.as_bytes())
        .expect("the server is reading");
    // The server sends `100 Continue` when it is waiting for the body.
    let mut line = [0; 12];
    slow.read_exact(&mut line)
        .expect("the server sends `100 Continue`");
    assert_eq!(&line, b"HTTP/1.1 100");
    let others: Vec<_> = (0..50).map(|_| house.deploy("f", &spark("x"))).collect();
    for other in &others {
        other.refusal(429);
        assert!(other.head.contains("retry-after: "), "{}", other.head);
    }
    assert_eq!(house.ask("GET", "/functions", &[], b"").status, 200);
    drop(slow);
    // The slot is free once the server has noticed that the client disconnected.
    while house.deploy("f", &spark("x")).status == 429 {
        std::thread::yield_now();
    }
    assert_eq!(house.invoke("/f").status, 200);
}

#[test]
fn t152_a_slow_upload_is_refused() {
    let house = House::new(ServiceConfig {
        upload_time: Duration::from_millis(100),
        ..config()
    });
    let mut slow = connect(house.address("deploy"));
    let head = format!(
        "POST /deploy/f HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\n\r\n\0asm",
        house.address("deploy")
    );
    slow.write_all(head.as_bytes())
        .expect("the server is reading");
    assert!(answer(slow).refusal(408).contains("in time"));
}

#[test]
fn t153_anything_but_a_function_is_rejected_with_a_reason() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let house = House::new(stored_in(directory.path()));
    let wasm = spark("x");
    let wat = |text: &str| wat::parse_str(text).expect("the text is valid WAT");
    for (bytes, why) in [
        (vec![], "not wasm: at offset 0x0"),
        (b"hello, this is text".to_vec(), "not wasm: at offset 0x0"),
        (b"(module)".to_vec(), "not wasm"),
        (b"\0asm\x01\0\0".to_vec(), "offset"),
        (b"\0asm\x07\0\0\0".to_vec(), "offset"),
        (wasm[..wasm.len() - 7].to_vec(), "offset"),
        ([&wasm[..], b"\x63rest"].concat(), "offset"),
        (wat("(module)"), "_start"),
        (
            wat(r#"(module (import "env" "missing" (func)) (func (export "_start")))"#),
            "env::missing",
        ),
        (
            wat(r#"(module (memory 65536) (func (export "_start")))"#),
            "4294967296",
        ),
    ] {
        let refusal = house.deploy("f", &bytes).refusal(422);
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
    assert!(files(&directory.path().join("blobs")).is_empty());
    assert!(files(&directory.path().join("functions")).is_empty());
    assert_eq!(house.invoke("/f").status, 404);
}

#[test]
fn t155_compiled_code_is_never_accepted() {
    let house = House::new(config());
    let engine = wasmtime::Engine::default();
    let compiled = engine
        .precompile_module(&spark("x"))
        .expect("the spark is valid");
    assert!(
        house
            .deploy("f", &compiled)
            .refusal(422)
            .contains("never accepted")
    );
    let mut disguised = b"\0asm\x01\0\0\0".to_vec();
    disguised.extend(compiled);
    assert_eq!(house.deploy("f", &disguised).status, 422);
}

#[test]
fn t157_every_request_is_served_by_a_single_version_and_no_request_fails() {
    let house = House::new(config());
    let versions: Vec<_> = (0..4)
        .map(|number| spark(&format!("version {number} ").repeat(500)))
        .collect();
    assert_eq!(house.deploy("f", &versions[0]).deployed(), 1);
    let is_over = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut reader = BufReader::new(connect(house.address("invoke")));
                    while served.fetch_add(1, Ordering::Relaxed) < 10_000 {
                        let request = b"GET /f HTTP/1.1\r\nhost: test\r\n\r\n";
                        reader
                            .get_mut()
                            .write_all(request)
                            .expect("the connection is open");
                        let (first, fields) = head(&mut reader);
                        assert!(first.starts_with("HTTP/1.1 200"), "{first}{fields}");
                        let length = fields
                            .split("content-length: ")
                            .nth(1)
                            .and_then(|rest| rest.lines().next());
                        let length = length
                            .and_then(|length| length.trim().parse().ok())
                            .expect("the response has a length");
                        let mut body = vec![0; length];
                        reader.read_exact(&mut body).expect("all the bytes arrive");
                        let text = String::from_utf8(body).expect("the body is text");
                        assert_eq!(
                            text,
                            text[..10].repeat(500),
                            "the whole response is from the same version"
                        );
                    }
                })
            })
            .collect();
        let deploying = scope.spawn(|| {
            let mut deploys = 0;
            while !is_over.load(Ordering::SeqCst) {
                deploys += 1;
                assert_eq!(house.deploy("f", &versions[deploys % 4]).status, 201);
            }
            deploys
        });
        for client in clients {
            client
                .join()
                .expect("the thread of a client does not panic");
        }
        is_over.store(true, Ordering::SeqCst);
        let deploys = deploying
            .join()
            .expect("the deploying thread does not panic");
        assert!(deploys > 1, "{deploys} deploys");
    });
}

#[test]
fn t158_a_version_that_does_not_start_is_refused_and_the_old_version_keeps_serving() {
    let house = House::new(config());
    assert_eq!(house.deploy("f", &spark("old")).deployed(), 1);
    let start = |body: &str| {
        let wat =
            format!(r#"(module (func $start {body}) (start $start) (func (export "_start")))"#);
        wat::parse_str(wat).expect("the text is valid WAT")
    };
    let refusal = house.deploy("f", &start("unreachable")).refusal(422);
    assert!(
        refusal.contains("trapped") && refusal.contains("unreachable"),
        "{refusal}"
    );
    // The endless loop is terminated when it has used up its compute.
    let refusal = house
        .deploy("f?compute=1", &start("(loop br 0)"))
        .refusal(422);
    assert!(refusal.contains("compute"), "{refusal}");
    let many = wat::parse_str(
        r#"(module (memory 2) (data (i32.const 200000) "x") (func (export "_start")))"#,
    );
    assert_eq!(
        house
            .deploy("f", &many.expect("the text is valid WAT"))
            .status,
        422
    );
    assert_eq!(
        (
            house.invoke("/f").body.as_str(),
            house.deploy("f", &spark("new")).deployed()
        ),
        ("old", 2)
    );
    assert_eq!(house.invoke("/f").body, "new");
}

#[test]
fn t159_deployed_functions_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let vm = vm();
    let house = House::on(&vm, stored_in(directory.path()));
    assert_eq!(house.deploy("f", &spark("one")).deployed(), 1);
    assert_eq!(house.deploy("f?memory=1MiB", &spark("two")).deployed(), 2);
    assert_eq!(house.deploy("g", &spark("other")).deployed(), 1);
    drop(house);
    let house = House::on(&vm, stored_in(directory.path()));
    assert_eq!(
        (
            house.invoke("/f").body.as_str(),
            house.invoke("/g").body.as_str()
        ),
        ("two", "other")
    );
    let version = house.functions.get("f").expect("`f` is deployed").version();
    assert_eq!((version.number(), version.settings().memory), (2, 1 << 20));
    assert_eq!(house.deploy("f", &spark("three")).deployed(), 3);
}

#[test]
fn t159_after_a_crash_either_the_old_or_the_new_version_serves() {
    let vm = vm();
    let (old, new) = (
        tempfile::tempdir().expect("a temporary directory can be created"),
        tempfile::tempdir().expect("a temporary directory can be created"),
    );
    for (directory, deploys) in [(&old, 1), (&new, 2)] {
        let house = House::on(
            &vm,
            ServiceConfig {
                versions: NonZeroUsize::MIN,
                ..stored_in(directory.path())
            },
        );
        for text in ["old", "new"].iter().take(deploys) {
            house.deploy("f", &spark(text)).deployed();
        }
    }
    let blob = |text: &str| {
        PathBuf::from(format!(
            "blobs/{}.wasm",
            blake3::hash(&spark(text)).to_hex()
        ))
    };
    let manifest = PathBuf::from("functions/f.json");
    let half = |file: PathBuf| {
        let whole = std::fs::read(new.path().join(file)).expect("the service wrote the file");
        whole[..whole.len() / 2].to_vec()
    };
    let whole =
        |file: PathBuf| std::fs::read(new.path().join(file)).expect("the service wrote the file");
    // The steps of a deploy, in order. Each step changes the contents of one file or deletes it.
    let steps: [(&str, PathBuf, Option<Vec<u8>>); 7] = [
        (
            "the wasm is being written",
            "unfinished/a.wasm".into(),
            Some(half(blob("new"))),
        ),
        (
            "the wasm is written",
            "unfinished/a.wasm".into(),
            Some(whole(blob("new"))),
        ),
        (
            "the wasm has its name",
            blob("new"),
            Some(whole(blob("new"))),
        ),
        (
            "the manifest is being written",
            "unfinished/b.json".into(),
            Some(half(manifest.clone())),
        ),
        (
            "the manifest is written",
            "unfinished/b.json".into(),
            Some(whole(manifest.clone())),
        ),
        (
            "the manifest has its name",
            manifest.clone(),
            Some(whole(manifest.clone())),
        ),
        ("the old wasm is deleted", blob("old"), None),
    ];
    for (count, (step, ..)) in steps.iter().enumerate() {
        let crashed = tempfile::tempdir().expect("a temporary directory can be created");
        for part in ["blobs", "functions", "unfinished"] {
            std::fs::create_dir(crashed.path().join(part)).expect("there is disk space");
        }
        for file in [blob("old"), manifest.clone()] {
            std::fs::copy(old.path().join(&file), crashed.path().join(&file))
                .expect("there is disk space");
        }
        for (_, file, bytes) in &steps[..=count] {
            match bytes {
                Some(bytes) => {
                    std::fs::write(crashed.path().join(file), bytes).expect("there is disk space")
                }
                None => std::fs::remove_file(crashed.path().join(file))
                    .expect("the file was just written"),
            }
        }
        let house = House::on(&vm, stored_in(crashed.path()));
        let expected = if count < 5 { "old" } else { "new" };
        assert_eq!(house.invoke("/f").body, expected, "when {step}");
        assert!(house.service.skipped().is_empty(), "when {step}");
        // Startup deletes any leftover files.
        assert_eq!(
            files(&crashed.path().join("blobs")),
            [crashed.path().join(blob(expected))],
            "when {step}"
        );
        assert!(
            files(&crashed.path().join("unfinished")).is_empty(),
            "when {step}"
        );
    }
}

#[test]
fn damaged_functions_are_skipped_and_reported() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let vm = vm();
    let house = House::on(&vm, stored_in(directory.path()));
    for name in ["good", "flipped", "gone", "torn"] {
        assert_eq!(house.deploy(name, &spark(name)).deployed(), 1);
    }
    drop(house);
    let path = |file: &str| directory.path().join(file);
    let blob = |text: &str| {
        path(&format!(
            "blobs/{}.wasm",
            blake3::hash(&spark(text)).to_hex()
        ))
    };
    let mut flipped = std::fs::read(blob("flipped")).expect("the function was deployed");
    flipped[20] ^= 1;
    std::fs::write(blob("flipped"), flipped).expect("there is disk space");
    std::fs::remove_file(blob("gone")).expect("the function was deployed");
    std::fs::write(path("functions/torn.json"), "{\"form\": 1, \"curr")
        .expect("there is disk space");
    std::fs::write(path("functions/No Name.json"), "{}").expect("there is disk space");

    let house = House::on(&vm, stored_in(directory.path()));
    assert_eq!(house.invoke("/good").body, "good");
    let skipped: Vec<_> = house
        .service
        .skipped()
        .iter()
        .map(|one| (one.name.as_str(), one.why.as_str()))
        .collect();
    for (name, why) in [
        ("flipped", "their hash differs"),
        ("gone", "it is missing"),
        ("torn", "manifest cannot be read"),
        ("No Name", "not a valid function name"),
    ] {
        let found = skipped.iter().find(|(other, _)| *other == name);
        assert!(
            found.is_some_and(|(_, told)| told.contains(why)),
            "{name}: {skipped:?}"
        );
        assert_eq!(
            house.invoke(&format!("/{}", name.replace(' ', ""))).status,
            404
        );
    }
    assert_eq!(skipped.len(), 4);
    let list = house.ask("GET", "/functions", &[], b"").json();
    let states: Vec<_> = list["functions"]
        .as_array()
        .expect("the field is a list")
        .iter()
        .map(|one| &one["state"])
        .collect();
    assert_eq!(states, ["broken", "broken", "broken", "serving", "broken"]);
    // A deploy repairs a broken function. The wasm that belongs to an unreadable manifest is kept.
    assert_eq!(house.deploy("torn", &spark("repaired")).deployed(), 1);
    assert_eq!(house.invoke("/torn").body, "repaired");
    assert!(blob("torn").exists());
    assert_eq!(house.deploy("flipped", &spark("flipped")).deployed(), 2);
    assert_eq!(house.ask("DELETE", "/functions/gone", &[], b"").status, 200);
}

#[cfg(not(feature = "s3"))]
#[test]
fn a_build_without_s3_reports_how_to_enable_it() {
    let config = ServiceConfig {
        storage: StorageSettings::from(PathBuf::from("s3://somewhere/below")),
        ..config()
    };
    let error = Service::open(&Functions::new(&vm()), config)
        .expect_err("this build does not include S3 support");
    let error = error.to_string();
    assert!(
        error.contains("`somewhere`") && error.contains("--features s3"),
        "{error}"
    );
}

#[test]
fn unusable_storage_is_an_error_at_startup() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("there is disk space");
    let vm = vm();
    let open = |path: &Path| {
        Service::open(&Functions::new(&vm), stored_in(path)).expect_err("the storage is unusable")
    };
    assert!(matches!(
        open(&file),
        ServiceError::Storage(StorageError::Open { .. })
    ));
    let house = House::on(&vm, stored_in(directory.path()));
    let error = open(directory.path());
    assert!(
        matches!(error, ServiceError::Storage(StorageError::InUse(_))),
        "{error}"
    );
    drop(house);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_storage() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let store = directory.path().join("store");
    House::new(stored_in(&store));
    let mode = std::fs::metadata(&store)
        .expect("the service created the directory")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_function_can_be_rolled_back_to_an_older_version() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let vm = vm();
    let config = ServiceConfig {
        versions: NonZeroUsize::new(3).expect("3 is not zero"),
        ..stored_in(directory.path())
    };
    let house = House::on(&vm, config.clone());
    for number in 1..=4 {
        assert_eq!(
            house.deploy("f", &spark(&number.to_string())).deployed(),
            number
        );
    }
    let back = |query: &str| house.ask("POST", &format!("/functions/f/rollback{query}"), &[], b"");
    assert_eq!(back("").deployed(), 3);
    assert_eq!(house.invoke("/f").body, "3");
    assert_eq!(back("?version=2").deployed(), 2);
    assert!(back("?version=1").refusal(404).contains("it has 2, 3, 4"));
    assert!(back("").refusal(409).contains("no version before"));
    assert_eq!(back("?version=x").status, 400);
    assert_eq!(files(&directory.path().join("blobs")).len(), 3);
    drop(house);
    let house = House::on(&vm, config);
    assert_eq!(house.invoke("/f").body, "2");
    assert_eq!(house.deploy("f", &spark("5")).deployed(), 5);
    let described = house.ask("GET", "/functions/f", &[], b"").json();
    let versions = described["versions"]
        .as_array()
        .expect("the description lists the versions");
    let numbers: Vec<_> = versions
        .iter()
        .map(|one| (one["version"].as_u64(), one["serving"].as_bool()))
        .collect();
    assert_eq!(
        numbers,
        [
            (Some(3), Some(false)),
            (Some(4), Some(false)),
            (Some(5), Some(true))
        ]
    );
    assert_eq!(
        house
            .ask("POST", "/functions/none/rollback", &[], b"")
            .status,
        404
    );
}

#[test]
fn t161_requests_are_finished_when_their_function_is_deleted() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let house = House::new(stored_in(directory.path()));
    assert_eq!(house.deploy("f", &reader("to the end")).deployed(), 1);
    let version = house.functions.get("f").expect("`f` is deployed").version();
    let mut client = connect(house.address("invoke"));
    client
        .write_all(
            b"POST /f HTTP/1.1\r\nhost: f\r\nconnection: close\r\ncontent-length: 4\r\n\r\nha",
        )
        .expect("the server is reading");
    while version.environment().processes().is_empty() {
        std::thread::yield_now();
    }
    let (deleted, again) = (
        house.ask("DELETE", "/functions/f", &[], b""),
        house.ask("DELETE", "/functions/f", &[], b""),
    );
    assert_eq!((deleted.status, again.status), (200, 404));
    assert_eq!(house.invoke("/f").status, 404);
    assert!(files(&directory.path().join("blobs")).is_empty());
    assert!(files(&directory.path().join("functions")).is_empty());
    // A new function with the same name does not inherit anything from the old one.
    assert_eq!(house.deploy("f", &spark("other")).deployed(), 1);
    client.write_all(b"lf").expect("the server is reading");
    assert_eq!(answer(client).body, "to the end");
    assert_eq!(house.invoke("/f").body, "other");
}

#[test]
fn t154_a_compilation_that_takes_too_long_is_refused_and_delays_no_request() {
    let time = Duration::from_millis(100);
    let house = House::new(ServiceConfig {
        compile_time: time,
        compiles: NonZeroUsize::MIN,
        ..config()
    });
    assert_eq!(house.deploy("f", &spark("served")).deployed(), 1);
    // The module has 20,000 functions, each with some code.
    let functions =
        "(func (param i64) (result i64) (i64.mul (i64.add (local.get 0) (i64.const 3)) (local.get 0)))".repeat(20_000);
    let bomb = wat::parse_str(format!(r#"(module {functions} (func (export "_start")))"#))
        .expect("the text is valid WAT");
    let refusal = house.deploy("bomb", &bomb).refusal(422);
    assert!(
        refusal.contains("compiling the function took longer than 100ms"),
        "{refusal}"
    );
    assert_eq!(house.invoke("/f").body, "served");
    assert_eq!(house.invoke("/bomb").status, 404);
    // The thread that compiles counts toward the limit until it ends. Only then can the next
    // function be compiled.
    while house.deploy("f", &spark("next")).status != 201 {
        std::thread::yield_now();
    }
    assert_eq!(house.invoke("/f").body, "next");
}

#[test]
fn t154_wasm_that_would_take_too_long_to_compile_is_refused_with_its_offset() {
    let house = House::new(config());
    // These three kilobytes would take minutes to compile.
    let (locals, loops, ends) = ("i32 ".repeat(500), "loop ".repeat(500), "end ".repeat(500));
    let bomb = format!(r#"(module (func (export "_start") (local {locals}) {loops} {ends}))"#);
    let refusal = house
        .deploy(
            "bomb",
            &wat::parse_str(bomb).expect("the text is valid WAT"),
        )
        .refusal(422);
    assert!(
        refusal.contains("microseconds of compiling one function")
            && refusal.contains("at offset 0x"),
        "{refusal}"
    );
    assert_eq!(house.invoke("/bomb").status, 404);
}

#[test]
fn t154_a_giant_or_deeply_nested_function_is_refused_or_compiled_without_harm_to_others() {
    let house = House::new(config());
    assert_eq!(house.deploy("f", &spark("served")).deployed(), 1);
    let deep = format!("{}nop{}", "(block ".repeat(10_000), ")".repeat(10_000));
    let locals = format!("(local {})", "i64 ".repeat(60_000));
    let table = format!("(block (br_table {} (i32.const 0)))", "0 ".repeat(100_000));
    let exports: String = (0..100_000)
        .map(|number| format!("(export \"e{number}\" (func 0))"))
        .collect();
    for body in [
        format!("(func (export \"_start\") {deep})"),
        format!("(func (export \"_start\") {locals})"),
        format!("(func (export \"_start\") {table})"),
        format!("(func (export \"_start\")){exports}"),
    ] {
        let bomb = wat::parse_str(format!("(module {body})")).expect("the text is valid WAT");
        let status = house.deploy("bomb", &bomb).status;
        assert!([201, 422].contains(&status), "{status}");
        assert_eq!(house.invoke("/f").body, "served");
    }
}

#[test]
fn a_function_of_the_project_cannot_be_replaced() {
    let vm = vm();
    let functions = Functions::new(&vm);
    let wasm = spark("project");
    let code = lunatic_serve::Code::new(&vm, "f", &wasm).expect("the spark is valid");
    let name = lunatic_serve::Name::new("f").expect("the name is valid");
    functions
        .put(&name, 1, blake3::hash(&wasm), code, Settings::default())
        .expect("the default settings can be granted");
    let service = Service::open(&functions, config()).expect("the storage is usable");
    let server = service
        .add_to(Server::builder(&functions))
        .start()
        .expect("the server starts");
    let house = House {
        functions,
        service,
        server,
    };
    assert!(
        house
            .deploy("f", &spark("x"))
            .refusal(409)
            .contains("project")
    );
    assert_eq!(house.ask("DELETE", "/functions/f", &[], b"").status, 404);
    assert_eq!(house.invoke("/f").body, "project");
    assert_eq!(
        house.ask("GET", "/functions", &[], b"").json()["functions"][0]["origin"],
        "project"
    );
}

#[test]
fn the_number_of_functions_is_limited() {
    let house = House::new(ServiceConfig {
        functions: NonZeroUsize::MIN,
        ..config()
    });
    assert_eq!(house.deploy("f", &spark("x")).deployed(), 1);
    assert!(
        house
            .deploy("g", &spark("x"))
            .refusal(507)
            .contains("delete one")
    );
    assert_eq!(house.deploy("f", &spark("y")).deployed(), 2);
}

#[test]
fn output_and_failures_are_in_the_log() {
    let house = House::new(config());
    house.deploy("f", &talker("hello from f")).deployed();
    assert_eq!(house.invoke("/f").body, "talked");
    house
        .deploy("f", &wat::parse_str(TRAPS).expect("the text is valid WAT"))
        .deployed();
    let trapped = house.invoke("/f");
    assert_eq!(trapped.status, 500);
    let log = house.ask(
        "GET",
        "/functions/f/logs",
        &[("accept", "application/json")],
        b"",
    );
    let lines: Vec<Value> = log
        .body
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let texts: Vec<_> = lines
        .iter()
        .map(|line| (line["kind"].as_str(), line["version"].as_u64()))
        .collect();
    assert_eq!(
        texts[..2],
        [(Some("output"), Some(1)), (Some("failure"), Some(2))],
        "{}",
        log.body
    );
    assert_eq!(lines[0]["text"], "hello from f");
    assert!(lines[0]["process"].is_string());
    assert!(
        lines[1]["text"]
            .as_str()
            .is_some_and(|text| text.contains("unreachable")),
        "{}",
        log.body
    );
    let request = lines[1]["request"]
        .as_str()
        .expect("the line belongs to a request");
    assert!(
        trapped.head.contains(request),
        "the client's response must contain the id {request}: {}",
        trapped.head
    );
    let text = house
        .ask("GET", "/functions/f/logs?lines=1000", &[], b"")
        .body;
    assert!(
        text.lines()
            .next()
            .is_some_and(|line| line.ends_with("output: hello from f")),
        "{text}"
    );
    assert_eq!(house.ask("GET", "/functions/g/logs", &[], b"").status, 404);
}

#[test]
fn t181_endless_output_is_limited_and_reported() {
    let house = House::new(config());
    // The function writes 64 MB in pieces of 64 KiB, without a line break.
    let more = r#"
        (data (i32.const 8) "\00\08\00\00\00\00\01\00")
        (func $flood (local $left i32)
            (local.set $left (i32.const 1000))
            (loop
                (drop (call $print (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 4)))
                (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#;
    house
        .deploy("f", &spark_with(more, "(call $flood)", "flooded"))
        .deployed();
    for _ in 0..3 {
        assert_eq!(house.invoke("/f").body, "flooded");
    }
    let lines = house
        .functions
        .get("f")
        .expect("`f` is deployed")
        .log()
        .lines();
    let kept: usize = lines.iter().map(|line| line.text.len()).sum();
    assert!(kept <= 256 << 10, "{kept} bytes are kept");
    assert!(
        lines
            .iter()
            .any(|line| line.text.contains("bytes of output were left out")),
        "the log must report the missing output"
    );
    assert!(
        lines.iter().all(|line| line.text.len() <= 5 * 4096),
        "long lines must be split"
    );
}

#[test]
fn concurrent_deploys_wait_for_each_other() {
    let house = House::new(ServiceConfig {
        deploys: NonZeroUsize::MIN,
        ..config()
    });
    std::thread::scope(|scope| {
        for number in 0..50 {
            let house = &house;
            scope.spawn(move || {
                assert_eq!(
                    house
                        .deploy(&format!("f{number}"), &spark(&number.to_string()))
                        .deployed(),
                    1
                );
                assert_eq!(
                    house.invoke(&format!("/f{number}")).body,
                    number.to_string()
                );
            });
        }
    });
}

#[test]
fn following_a_log_ends_when_its_function_is_deleted() {
    let house = House::new(config());
    house.deploy("f", &talker("once")).deployed();
    let mut stream = connect(house.address("deploy"));
    let request = format!(
        "GET /functions/f/logs?follow HTTP/1.1\r\nhost: {}\r\n\r\n",
        house.address("deploy")
    );
    stream
        .write_all(request.as_bytes())
        .expect("the server is reading");
    let mut reader = BufReader::new(stream);
    head(&mut reader);
    house.invoke("/f");
    assert!(piece(&mut reader).is_some());
    assert_eq!(house.ask("DELETE", "/functions/f", &[], b"").status, 200);
    assert_eq!(piece(&mut reader), None);
}

#[test]
fn a_log_can_be_followed_until_the_service_ends() {
    let house = House::new(config());
    house.deploy("f", &talker("once")).deployed();
    house.invoke("/f");
    let mut stream = connect(house.address("deploy"));
    let request = format!(
        "GET /functions/f/logs?follow HTTP/1.1\r\nhost: {}\r\n\r\n",
        house.address("deploy")
    );
    stream
        .write_all(request.as_bytes())
        .expect("the server is reading");
    let mut reader = BufReader::new(stream);
    let (first, _) = head(&mut reader);
    assert!(first.contains("200"), "{first}");
    let text = |piece: Option<Vec<u8>>| {
        String::from_utf8(piece.expect("the connection is open")).expect("the body is text")
    };
    assert!(text(piece(&mut reader)).ends_with("output: once\n"));
    house.invoke("/f");
    assert!(text(piece(&mut reader)).ends_with("output: once\n"));
    house.service.drain();
    assert_eq!(piece(&mut reader), None);
    assert!(house.server.stop(NEVER), "no connection has to be cut off");
}

#[test]
fn metrics_count_requests_and_deploys() {
    let house = House::new(config());
    house.deploy("f", &spark("x")).deployed();
    house.deploy("f", b"no wasm").refusal(422);
    house
        .deploy("g", &wat::parse_str(TRAPS).expect("the text is valid WAT"))
        .deployed();
    for path in ["/f", "/f", "/g", "/unknown"] {
        house.invoke(path);
    }
    let page = house.ask("GET", "/metrics", &[], b"");
    assert!(
        page.head.contains("text/plain; version=0.0.4"),
        "{}",
        page.head
    );
    for line in [
        "lunatic_function_requests_total{function=\"f\",outcome=\"answered\"} 2",
        "lunatic_function_requests_total{function=\"g\",outcome=\"trap\"} 1",
        "lunatic_function_request_seconds_count{function=\"f\"} 2",
        "lunatic_function_memory_bytes_sum{function=\"f\"} 262144.0",
        "lunatic_function_running{function=\"f\"} 0",
        "lunatic_function_deploys_total{outcome=\"deployed\"} 2",
        "lunatic_function_deploys_total{outcome=\"refused\"} 1",
    ] {
        assert!(
            page.body.lines().any(|other| other == line),
            "`{line}` is not in:\n{}",
            page.body
        );
    }
    assert!(
        page.body.contains("lunatic_machine_"),
        "the page must contain the VM's own metrics too"
    );
    assert!(
        !page.body.contains("unknown"),
        "text from clients must not become a label"
    );
    assert_eq!(house.ask("GET", "/healthz", &[], b"").body, "ok\n");
}

#[test]
fn invalid_requests_get_a_message_and_a_status() {
    let house = House::new(config());
    for (method, path, status) in [
        ("GET", "/deploy/f", 405),
        ("POST", "/functions", 405),
        ("GET", "/functions/f", 404),
        ("GET", "/functions/F", 400),
        ("GET", "/functions/f/rollback", 405),
        ("GET", "/", 404),
        ("POST", "/deploy", 404),
    ] {
        let answer = house.ask(method, path, &[], b"");
        assert!(!answer.refusal(status).is_empty());
        assert_eq!(
            answer.head.contains("allow: "),
            status == 405,
            "{}",
            answer.head
        );
    }
}

#[test]
fn while_memory_is_short_deploys_and_then_requests_are_refused_until_it_is_free_again() {
    const TEST: &str = "service::while_memory_is_short_deploys_and_then_requests_are_refused_until_it_is_free_again";
    if !is_alone(TEST) {
        return;
    }
    const MIB: u64 = 1 << 20;
    // An eighth of this is the reserve. Each level takes up a quarter of the reserve.
    const ALLOWED: u64 = 800 * MIB;
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    let vm = Vm::builder().host(host).memory(ALLOWED);
    let house = House::on(&vm.build().expect("the VM can be built"), config());
    assert_eq!(house.deploy("f", &spark("one")).deployed(), 1);
    assert_eq!(house.invoke("/f").status, 200);
    let mut ballast: Vec<Vec<u8>> = Vec::new();
    let mut leave = |left: u64, level| {
        while resident() < ALLOWED - left {
            ballast.push(vec![1; MIB as usize]);
        }
        while house.functions.vm().shortage() < level {
            std::thread::yield_now();
        }
    };

    leave(85 * MIB, Shortage::Compiles);
    let told = house.deploy("g", &spark("two")).refusal(503);
    assert!(told.contains("short of memory"), "{told}");
    assert_eq!(house.invoke("/f").status, 200, "requests are served");

    leave(12 * MIB, Shortage::Requests);
    // The connection is accepted and answered.
    let refused = house.invoke("/f");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    house.deploy("g", &spark("two")).refusal(503);

    drop(ballast);
    while house.functions.vm().shortage() > Shortage::None {
        std::thread::yield_now();
    }
    assert_eq!(house.invoke("/f").status, 200);
    assert_eq!(house.deploy("g", &spark("two")).deployed(), 1);
}

#[test]
fn the_storage_is_neither_granted_nor_served() {
    let project = tempfile::tempdir().expect("a temporary directory can be created");
    let store = project.path().join("store");
    let vm = vm();
    let wat: &[u8] = br#"(module (func (export "_start")))"#;
    let code = Code::new(&vm, "f", wat).expect("the module is a function");
    let granted = |directory: &Path, access| Settings {
        directories: vec![Directory {
            host: directory.to_path_buf(),
            guest: "/data".into(),
            access,
        }],
        ..Settings::default()
    };
    let put = |functions: &Functions, settings| {
        let name = Name::new("f").expect("the name is valid");
        functions.put(&name, 1, blake3::hash(wat), code.clone(), settings)
    };
    let functions = Functions::new(&vm);
    let service = Service::open(&functions, stored_in(&store)).expect("the storage is usable");
    for directory in [project.path(), &store, &store.join("functions")] {
        for access in [Access::Read, Access::Write] {
            let refused = put(&functions, granted(directory, access));
            let told = refused.expect_err("the storage is private").to_string();
            assert!(told.contains("`--storage`"), "{told}");
        }
        let gateway = Gateway {
            name: "files".into(),
            address: "127.0.0.1:0".parse().expect("the address is valid"),
            protocol: Protocol::Http(HttpGateway {
                routes: vec![Route {
                    path: "/".into(),
                    target: Target::Files(directory.to_path_buf()),
                }],
                tls: None,
                limits: HttpLimits::default(),
            }),
        };
        let refused = Server::builder(&functions).gateway(gateway).start();
        let told = refused.expect_err("the storage is private").to_string();
        assert!(told.contains("`--storage`"), "{told}");
    }
    put(&functions, Settings::default()).expect("this grants no directory");
    drop(service);

    // A service does not start if its storage has already been granted.
    let functions = Functions::new(&vm);
    put(&functions, granted(project.path(), Access::Read)).expect("no service uses the directory");
    let refused = Service::open(&functions, stored_in(&store));
    assert!(
        matches!(&refused, Err(ServiceError::Exposed(name, _)) if name.as_str() == "f"),
        "{refused:?}"
    );
    let refused = Service::open(
        &Functions::new(&vm),
        ServiceConfig {
            defaults: granted(&store, Access::Write),
            ..stored_in(&store)
        },
    );
    assert!(
        matches!(refused, Err(ServiceError::ExposedByDefault(_))),
        "{refused:?}"
    );
}
