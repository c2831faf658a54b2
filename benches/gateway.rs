//! An HTTP gateway handles each request in its own process.
//!
//! Each server is a separate operating system process. Some of the servers are this program,
//! started with an argument that selects one.

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lunatic_benches::client::{answer_length, load, load_over};
use lunatic_benches::{Bar, Figures, Peer, Row, Server, promise, side_by_side};
use lunatic_serve::{
    Code, Functions, Gateway, HttpGateway, HttpLimits, Name, Policy, Protocol, Route, Settings,
    Target, add_to_host,
};
use lunatic_vm::{Cache, Host, Vm};
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The components that the `serve` tests use.
#[path = "../serve/tests/all/guests.rs"]
#[expect(dead_code, reason = "the tests use more guests than this bench")]
mod guests;

const REQUEST: &[u8] =
    b"GET /secret HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

/// A small core-module function that writes a response and exits.
const FUNCTION: &str = r#"
    (module
        (import "lunatic::spark" "write" (func $write (param i64 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (data (i32.const 0) "HTTP/1.1 200 OK\0d\0aContent-Type: text/plain\0d\0aContent-Length: 13\0d\0a\0d\0aHello, world!")
        (func (export "_start") (drop (call $write (i64.const 0) (i32.const 0) (i32.const 78)))))"#;

/// The environment variable that overrides how many threads serve the gateway's connections.
const THREADS: &str = "GATEWAY_THREADS";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("serve-function") => return serve(FUNCTION.as_bytes(), Policy::Fresh),
        Some("serve-component") => return serve_component(),
        Some("serve-hyper") => return serve_hyper(),
        _ => {}
    }
    let depth = promise(
        "HTTP gateway, a fresh process for each request to a small core function, 1,000 connections",
    );
    let go = Peer::go("http");
    let itself = |how| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg(how);
        Server::start(command)
    };
    let (function, hyper) = (itself("serve-function"), itself("serve-hyper"));
    let go = go.command(&["net/http"]).map(Server::start);

    let time = depth.choose(Duration::from_secs(2), Duration::from_millis(100));
    let answers = |server: &Server| load(server, REQUEST, answer_length, time);
    let [ours, of_hyper, of_go] = side_by_side(
        depth.choose(5, 1),
        [
            &|| vec![answers(&function)],
            &|| vec![answers(&hyper)],
            &|| go.iter().map(answers).collect(),
        ],
    );
    Row::new("responses", "/s", &ours)
        .beside("Go's net/http", &of_go)
        .beside("plain hyper", &of_hyper)
        .print(Bar::AtLeastTimes(0.4));
    drop(go);

    // Latency is measured over a single connection, because with many, only the throughput shows.
    latency("small core function, fresh", &function, time);
    latency("plain hyper", &hyper, time);
    drop((function, hyper));
    // The first server compiles the component; after that, it is in the cache.
    let small = keep(
        "small.wasm",
        &guests::rust("examples/http-server", "http_server.wasm"),
    );
    // There are fewer connections than the maximum number of component instances.
    components("small component", &small, 256, time);
    match guests::python() {
        Some(bytes) => components("CPython component", &keep("python.wasm", &bytes), 64, time),
        None => println!("  CPython component: cannot be built on this computer"),
    }
}

/// Measures and prints how long a response takes on a single connection.
fn latency(what: &str, server: &Server, time: Duration) {
    let answers = (0..3).map(|_| 1e6 / load_over(1, server, REQUEST, answer_length, time / 2));
    let what = format!("{what}, from a request to its response");
    Row::new(&what, "µs", &Figures::from_iter(answers)).print(Bar::None);
}

/// Measures and prints a component's figures, with a new instance per request and with a pool of
/// instances.
fn components(what: &str, file: &Path, connections: usize, time: Duration) {
    for policy in ["fresh", "pool"] {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("serve-component").arg(policy).arg(file);
        let server = Server::start(command);
        let what = format!("{what}, {policy}");
        let answers = (0..3).map(|_| load_over(connections, &server, REQUEST, answer_length, time));
        let row = format!("{what}, {connections} connections: responses");
        Row::new(&row, "/s", &Figures::from_iter(answers)).print(Bar::None);
        latency(&what, &server, time);
    }
}

/// Writes bytes to a file for another process to read.
fn keep(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("cargo has created the directory");
    path
}

/// Serves a component. The command-line arguments give the policy and the component's file.
fn serve_component() {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [policy, file] = &arguments[..] else {
        panic!("the arguments must be a policy and a file")
    };
    let policy = match policy.as_str() {
        "pool" => Policy::Pool(NonZeroUsize::new(4).expect("four is not zero")),
        _ => Policy::Fresh,
    };
    serve(
        &std::fs::read(file).expect("the bench wrote the file"),
        policy,
    );
}

/// Serves a function until this process is killed.
fn serve(bytes: &[u8], policy: Policy) {
    let mut host = Host::default();
    add_to_host(&mut host);
    let cache = Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"))
        .expect("the cache is in this program's own directory");
    let vm = Vm::builder()
        .host(host)
        .cache(cache)
        .build()
        .expect("the machine can be created");
    let functions = Functions::new(&vm);
    let name = Name::new("hello").expect("the name is valid");
    let code = Code::new(&vm, "hello", bytes).expect("the guest is a function");
    // All connections send requests concurrently.
    let settings = Settings {
        policy,
        requests: NonZeroUsize::new(2000).expect("2,000 is not zero"),
        client_secret: Some("Hello, world!".into()),
        ..Settings::default()
    };
    functions
        .put(&name, 1, blake3::hash(bytes), code, settings)
        .expect("the function needs no grants");
    let http = HttpGateway {
        routes: vec![Route {
            path: "/".into(),
            target: Target::Function(name),
        }],
        tls: None,
        limits: HttpLimits {
            requests: 2000,
            ..HttpLimits::default()
        },
    };
    let address = "127.0.0.1:0".parse().expect("the address is valid");
    let gateway = Gateway {
        name: "index".into(),
        address,
        protocol: Protocol::Http(http),
    };
    let mut server = lunatic_serve::Server::builder(&functions).gateway(gateway);
    if let Some(threads) = std::env::var(THREADS)
        .ok()
        .and_then(|threads| threads.parse().ok())
    {
        server = server.threads(threads);
    }
    let server = server.start().expect("a port is free");
    println!("{}", server.listening()[0].address);
    wait();
}

/// Serves with just the HTTP library that the gateway uses, to show the upper bound.
fn serve_hyper() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread can be started");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        println!("{}", listener.local_addr().expect("the listener is bound"));
        loop {
            let (stream, _) = listener
                .accept()
                .await
                .expect("there are enough file descriptors");
            stream
                .set_nodelay(true)
                .expect("TCP streams have this option");
            let service = service_fn(async |_| {
                let answer = http::Response::builder().header("content-type", "text/plain");
                Ok::<_, Infallible>(
                    answer
                        .body(Full::new(Bytes::from_static(b"Hello, world!")))
                        .expect("the response is valid"),
                )
            });
            tokio::spawn(async move {
                // An error means that the client closed its connection.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
}

/// Waits until this process is killed.
fn wait() {
    loop {
        std::thread::park();
    }
}
