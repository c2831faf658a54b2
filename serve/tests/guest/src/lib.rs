//! A component that misbehaves in a different way for each path. `/count` returns how many requests
//! the instance has served, including this one.

wit_bindgen::generate!({ path: "../../wit", world: "rvm:lambda/rvm", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use rvm::lambda::host;
use std::cell::Cell;
use std::hint::black_box;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use wasi::cli::stdout;
use wasi::clocks::monotonic_clock;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    RequestOptions, ResponseOutparam, Scheme,
};
use wasi::io::poll;
use wasi::io::streams::OutputStream;

struct Misbehaving;

export!(Misbehaving);

thread_local! {
    static SERVED: Cell<u32> = const { Cell::new(0) };
}

impl Guest for Misbehaving {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        SERVED.set(SERVED.get() + 1);
        let target = request.path_with_query().unwrap_or_default();
        match target.as_str() {
            "/count" => answer(out, &SERVED.get().to_string()),
            "/product" => answer(out, &host::multiply(6.0, 7.0).to_string()),
            "/trap" => panic!("the path asks for a trap"),
            "/trap-later" => {
                let _body = begun(out, &[]);
                panic!("the response has begun");
            }
            "/nothing" => {}
            "/error" => ResponseOutparam::set(
                out,
                Err(ErrorCode::InternalError(Some("set explicitly".to_string()))),
            ),
            "/denied" => ResponseOutparam::set(out, Err(ErrorCode::HttpRequestDenied)),
            "/unfinished" => drop(begun(out, &[])),
            // The body stays open when this function returns.
            "/kept" => std::mem::forget(begun(out, &[])),
            "/short" => {
                let _ = OutgoingBody::finish(begun(out, &[("content-length", "10")]), None);
            }
            "/exact" => {
                let _ = OutgoingBody::finish(begun(out, &[("content-length", "5")]), None);
            }
            "/spin" => loop {
                black_box(());
            },
            "/work" => {
                // Takes about ten million instructions.
                answer(
                    out,
                    &(0..5_000_000u64)
                        .fold(0, |sum, number| black_box(sum ^ number))
                        .to_string(),
                );
            }
            "/spin-later" => {
                let _body = begun(out, &[]);
                loop {
                    black_box(());
                }
            }
            "/wait" => {
                // Wait for the request's body.
                let body = request.consume().expect("the body is taken only once");
                let stream = body
                    .stream()
                    .expect("the stream or body is taken only once");
                stream.subscribe().block();
                answer(out, "it came");
            }
            "/flood" => {
                let body = begin(out, &[]);
                let stream = body.write().expect("the stream or body is taken only once");
                loop {
                    stream
                        .blocking_write_and_flush(&[7; 4096])
                        .expect("the client is reading");
                }
            }
            "/grow" => {
                let mut all = Vec::new();
                loop {
                    all.push(black_box(vec![1u8; 1 << 20]));
                }
            }
            "/hold-empty-fields" => hold(|_| Fields::new()),
            "/hold-fields" => hold(|_| {
                let fields = Fields::new();
                for number in 0..300 {
                    let _ = fields.append(&format!("x-{number}"), b"");
                }
                fields
            }),
            "/hold-values" => hold(|_| {
                let fields = Fields::new();
                fields
                    .append("a", &[b'x'; 30_000])
                    .expect("the field is valid");
                fields
            }),
            "/hold-copies" => {
                let fields = request.headers();
                hold(|_| {
                    let copy = fields.clone();
                    let _ = copy.append("a", &[b'x'; 20_000]);
                    copy
                })
            }
            "/hold-paths" => hold(|_| {
                let request = OutgoingRequest::new(Fields::new());
                let _ = request.set_path_with_query(Some(&"/".repeat(60_000)));
                request
            }),
            "/hold-methods" => hold(|_| {
                let request = OutgoingRequest::new(Fields::new());
                let long = Method::Other("X".repeat(1 << 20));
                assert!(
                    request.set_method(&long).is_err(),
                    "a long method is refused"
                );
                let _ = request.set_method(&Method::Other("X".repeat(4_000)));
                request
            }),
            "/hold-authorities" => hold(|_| {
                let request = OutgoingRequest::new(Fields::new());
                let long = "a".repeat(1 << 20);
                assert!(
                    request.set_authority(Some(&long)).is_err(),
                    "a long name is refused"
                );
                let _ = request.set_authority(Some(&"a".repeat(4_000)));
                request
            }),
            "/hold-requests" => hold(|_| {
                let request = OutgoingRequest::new(Fields::new());
                let body = request.body().expect("the body is taken only once");
                let stream = filled(&body);
                (stream, body, request)
            }),
            "/hold-finished-requests" => hold(|_| {
                let request = OutgoingRequest::new(Fields::new());
                let body = request.body().expect("the body is taken only once");
                drop(filled(&body));
                OutgoingBody::finish(body, None).expect("the body has no stated length");
                request
            }),
            "/hold-calls" => hold(|_| {
                let request = OutgoingRequest::new(Fields::new());
                request
                    .set_scheme(Some(&Scheme::Http))
                    .and_then(|()| request.set_authority(Some("192.0.2.1")))
                    .and_then(|()| request.set_path_with_query(Some("/")))
                    .expect("the address is valid");
                outgoing_handler::handle(request, None).expect("the request is valid")
            }),
            "/hold-responses" => hold(|_| {
                let response = OutgoingResponse::new(Fields::new());
                let body = response.body().expect("the body is taken only once");
                let stream = filled(&body);
                (stream, body, response)
            }),
            "/hold-options" => hold(|_| RequestOptions::new()),
            "/hold-pollables" => hold(|_| monotonic_clock::subscribe_duration(u64::MAX)),
            "/hold-streams" => hold(|_| stdout::get_stdout()),
            "/hold-many-polls" => {
                let pollable = monotonic_clock::subscribe_duration(u64::MAX);
                poll::poll(&vec![&pollable; 1 << 19]);
            }
            "/hold-listings" => {
                hold(|_| std::fs::read_dir("/data").expect("a limit is reached here"))
            }
            "/hold-output" => hold(|number| {
                let path = format!("/data/{}", number % 100);
                let mut file = std::fs::File::create(path).expect("a limit is reached here");
                file.write_all(&vec![7; 1 << 20])
                    .expect("a limit is reached here");
                file
            }),
            "/open-files" => answer(out, &open(|| std::fs::File::open("/data/f"))),
            "/open-directories" => answer(out, &open(|| std::fs::File::open("/data"))),
            "/open-listings" => answer(out, &open(|| std::fs::read_dir("/data"))),
            "/open-tcp" => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
                let address = listener.local_addr().expect("the listener is bound");
                answer(out, &open(|| TcpStream::connect(address)));
            }
            "/open-accepted" => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
                let address = listener.local_addr().expect("the listener is bound");
                answer(
                    out,
                    &open(|| {
                        let connected = TcpStream::connect(address)?;
                        Ok((connected, listener.accept()?))
                    }),
                );
            }
            "/open-udp" => answer(out, &open(|| UdpSocket::bind("127.0.0.1:0"))),
            "/after" => {
                answer(out, "answered");
                // The instance keeps running after its response.
                black_box((0..1_000_000u64).fold(0, |sum, number| black_box(sum ^ number)));
            }
            "/fields" => {
                let fields = request.headers().entries();
                let lines = fields
                    .iter()
                    .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
                answer(out, &lines.collect::<String>());
            }
            target => match target.strip_prefix("/call/") {
                Some(authority) => answer(out, &call(authority)),
                None => answer(out, "hello"),
            },
        }
    }
}

fn begin(out: ResponseOutparam, fields: &[(&str, &str)]) -> OutgoingBody {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    let response = OutgoingResponse::new(Fields::from_list(&fields).expect("the fields are valid"));
    let body = response
        .body()
        .expect("the stream or body is taken only once");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: &OutgoingBody, text: &str) {
    let stream = body.write().expect("the stream or body is taken only once");
    stream
        .blocking_write_and_flush(text.as_bytes())
        .expect("the client is reading");
}

/// Writes to a body until nothing more is accepted.
fn filled(body: &OutgoingBody) -> OutputStream {
    let stream = body.write().expect("the stream is taken only once");
    while let Ok(1..) = stream.check_write() {
        stream.write(&[7; 60_000]).expect("the write is permitted");
    }
    stream
}

/// Makes values, and keeps them until a limit is reached.
fn hold<T>(make: impl Fn(usize) -> T) {
    let mut held = Vec::new();
    // No limit allows this many values.
    for number in 0..100_000 {
        held.push(make(number));
    }
    black_box(held);
}

/// Calls `open` until it fails. Returns how many times it succeeded, and the error.
fn open<T>(open: impl Fn() -> std::io::Result<T>) -> String {
    let mut held = Vec::new();
    loop {
        match open() {
            Ok(opened) => held.push(opened),
            Err(error) => return format!("{} {error}", held.len()),
        }
    }
}

/// Begins a response but does not finish it.
fn begun(out: ResponseOutparam, fields: &[(&str, &str)]) -> OutgoingBody {
    let body = begin(out, fields);
    write(&body, "begun");
    body
}

fn answer(out: ResponseOutparam, text: &str) {
    let body = begin(out, &[]);
    write(&body, text);
    let _ = OutgoingBody::finish(body, None);
}

/// Makes a request and returns the status or the error.
fn call(authority: &str) -> String {
    let request = OutgoingRequest::new(Fields::new());
    request
        .set_scheme(Some(&Scheme::Http))
        .expect("the scheme is valid");
    request
        .set_authority(Some(authority))
        .expect("the authority is valid");
    request
        .set_path_with_query(Some("/"))
        .expect("the path is valid");
    let coming = match outgoing_handler::handle(request, None) {
        Ok(coming) => coming,
        Err(error) => return format!("{error:?}"),
    };
    coming.subscribe().block();
    match coming
        .get()
        .expect("the response has arrived")
        .expect("the response is taken only once")
    {
        Ok(response) => response.status().to_string(),
        Err(error) => format!("{error:?}"),
    }
}
