//! A component that misbehaves in a different way for each path. `/count` returns how many requests
//! the instance has served, including this one.

wit_bindgen::generate!({ path: "../../wit", world: "rvm:lambda/rvm", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use rvm::lambda::host;
use std::cell::Cell;
use std::hint::black_box;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};

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
                panic!("the answer has begun");
            }
            "/nothing" => {}
            "/error" => ResponseOutparam::set(
                out,
                Err(ErrorCode::InternalError(Some("told by itself".to_string()))),
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
            "/after" => {
                answer(out, "answered");
                // The instance keeps running after its answer.
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

/// Begins an answer but does not finish it.
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
        .expect("the stream or body is taken only once")
    {
        Ok(response) => response.status().to_string(),
        Err(error) => format!("{error:?}"),
    }
}
