//! An HTTP gateway gives each request to a process of its own.
//!
//! All servers are processes of their own; two of them are this program, told which by its argument.

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lunatic_benches::client::{load, load_over};
use lunatic_benches::{Bar, Figures, Peer, Row, Server, promise};
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

/// The components are those that the tests of functions build.
#[path = "../serve/tests/all/guests.rs"]
#[expect(dead_code, reason = "tests have more guests")]
mod guests;

const REQUEST: &[u8] =
    b"GET /secret HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

/// A small core function: it writes an answer and ends.
const FUNCTION: &str = r#"
    (module
        (import "lunatic::spark" "write" (func $write (param i64 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (data (i32.const 0) "HTTP/1.1 200 OK\0d\0aContent-Type: text/plain\0d\0aContent-Length: 13\0d\0a\0d\0aHello, world!")
        (func (export "_start") (drop (call $write (i64.const 0) (i32.const 0) (i32.const 78)))))"#;

/// Threads that read and write the gateway's connections, where another number is to be tried.
const THREADS: &str = "GATEWAY_THREADS";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("serve-function") => return serve(FUNCTION.as_bytes(), Policy::Fresh),
        Some("serve-component") => return serve_component(),
        Some("serve-hyper") => return serve_hyper(),
        _ => {}
    }
    let depth = promise(
        "HTTP gateway, a fresh process of a small core function per request, 1,000 connections",
    );
    let go = Peer::go("http");
    let itself = |how| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg(how);
        Server::start(command)
    };
    let (function, ceiling) = (itself("serve-function"), itself("serve-hyper"));
    let peer = go.command(&["net/http"]).map(Server::start);

    let time = depth.choose(Duration::from_secs(2), Duration::from_millis(100));
    let mut figures = [const { Vec::new() }; 3].map(Figures::from_iter);
    for _ in 0..depth.choose(5, 1) {
        for (figures, server) in
            figures
                .iter_mut()
                .zip([Some(&function), Some(&ceiling), peer.as_ref()])
        {
            figures.extend(server.map(|server| load(server, REQUEST, length, time)));
        }
    }
    let [ours, hyper, go] = &figures;
    Row::new("answers", "/s", ours)
        .beside("Go's net/http", go)
        .beside("plain hyper", hyper)
        .print(Bar::AtLeastTimes(0.4));
    drop(peer);

    // One after the other: with many connections only throughput shows.
    latency("small core function, fresh", &function, time);
    latency("plain hyper", &ceiling, time);
    drop((function, ceiling));
    // The small component is compiled before, and CPython from then on lies in the cache.
    let small = keep(
        "small.wasm",
        &guests::rust("examples/http-server", "http_server.wasm"),
    );
    // Fewer than there are instances of components at once.
    components("small component", &small, 256, time);
    match guests::python() {
        Some(bytes) => components("CPython component", &keep("python.wasm", &bytes), 64, time),
        None => println!("  CPython component: cannot be built here"),
    }
}

/// Prints how long an answer takes, asked for over one connection.
fn latency(what: &str, server: &Server, time: Duration) {
    let answers = (0..3).map(|_| 1e6 / load_over(1, server, REQUEST, length, time / 2));
    let what = format!("{what}, from a request to its answer");
    Row::new(&what, "µs", &Figures::from_iter(answers)).print(Bar::None);
}

/// Prints what a component does with an instance for each request, and with a pool of them.
fn components(what: &str, file: &Path, connections: usize, time: Duration) {
    for policy in ["fresh", "pool"] {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("serve-component").arg(policy).arg(file);
        let server = Server::start(command);
        let what = format!("{what}, {policy}");
        let answers = (0..3).map(|_| load_over(connections, &server, REQUEST, length, time));
        let row = format!("{what}, {connections} connections: answers");
        Row::new(&row, "/s", &Figures::from_iter(answers)).print(Bar::None);
        latency(&what, &server, time);
    }
}

/// Keeps bytes in a file for another process.
fn keep(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("there is room");
    path
}

/// Returns the length of an answer whose head has come.
fn length(answer: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    match fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        Some((_, value)) => Some(head.len() + 4 + value.trim().parse::<usize>().ok()?),
        // What has no length comes in chunks, of which the last is empty.
        None => text.ends_with("\r\n0\r\n\r\n").then_some(text.len()),
    }
}

/// Serves a component as the arguments say.
fn serve_component() {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [policy, file] = &arguments[..] else {
        panic!("a policy and a file are given")
    };
    let policy = match policy.as_str() {
        "pool" => Policy::Pool(NonZeroUsize::new(4).expect("it is not zero")),
        _ => Policy::Fresh,
    };
    serve(&std::fs::read(file).expect("it was written"), policy);
}

/// Serves a function until this process is killed.
fn serve(bytes: &[u8], policy: Policy) {
    let mut host = Host::default();
    add_to_host(&mut host);
    let cache =
        Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")).expect("it is ours");
    let vm = Vm::builder()
        .host(host)
        .cache(cache)
        .build()
        .expect("a machine");
    let functions = Functions::new(&vm);
    let name = Name::new("hello").expect("it is one");
    let code = Code::new(&vm, "hello", bytes).expect("it is a function");
    // Every connection asks at once.
    let settings = Settings {
        policy,
        requests: NonZeroUsize::new(2000).expect("it is not zero"),
        client_secret: Some("Hello, world!".into()),
        ..Settings::default()
    };
    functions
        .put(&name, 1, blake3::hash(bytes), code, settings)
        .expect("nothing is asked for");
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
    let address = "127.0.0.1:0".parse().expect("an address");
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
    let server = server.start().expect("it starts");
    println!("{}", server.listening()[0].address);
    wait();
}

/// The ceiling: what reads and writes HTTP for us, with nothing behind it.
fn serve_hyper() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        println!("{}", listener.local_addr().expect("it is bound"));
        loop {
            let (stream, _) = listener.accept().await.expect("there is room");
            stream.set_nodelay(true).expect("it is a TCP stream");
            let service = service_fn(async |_| {
                let answer = http::Response::builder().header("content-type", "text/plain");
                Ok::<_, Infallible>(
                    answer
                        .body(Full::new(Bytes::from_static(b"Hello, world!")))
                        .expect("it is an answer"),
                )
            });
            tokio::spawn(async move {
                // A client that closes is no failure.
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
