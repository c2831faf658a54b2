//! What components do wrong, by path. `/count` tells how many requests the instance has served, this one included.

wit_bindgen::generate!({ path: "../../wit", world: "rvm:lambda/rvm", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use rvm::lambda::host;
use std::cell::Cell;
use std::hint::black_box;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
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
            "/trap" => panic!("this is what it is for"),
            "/trap-later" => {
                let _body = begun(out, &[]);
                panic!("the answer has begun");
            }
            "/nothing" => {}
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("told by itself".to_string())))),
            "/denied" => ResponseOutparam::set(out, Err(ErrorCode::HttpRequestDenied)),
            "/unfinished" => drop(begun(out, &[])),
            // It stays open when this returns.
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
                // About ten million instructions.
                answer(out, &(0..5_000_000u64).fold(0, |sum, number| black_box(sum ^ number)).to_string());
            }
            "/spin-later" => {
                let _body = begun(out, &[]);
                loop {
                    black_box(());
                }
            }
            "/wait" => {
                // For a reader of the request's body, which does not come.
                let body = request.consume().expect("it is asked for once");
                let stream = body.stream().expect("it is asked for once");
                stream.subscribe().block();
                answer(out, "it came");
            }
            "/flood" => {
                let body = begin(out, &[]);
                let stream = body.write().expect("it is asked for once");
                loop {
                    stream.blocking_write_and_flush(&[7; 4096]).expect("somebody reads");
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
                // Work of its own, which nobody waits for.
                black_box((0..1_000_000u64).fold(0, |sum, number| black_box(sum ^ number)));
            }
            target => match target.strip_prefix("/call/") {
                Some(authority) => answer(out, &call(authority)),
                None => answer(out, "hello"),
            },
        }
    }
}

fn begin(out: ResponseOutparam, fields: &[(&str, &str)]) -> OutgoingBody {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&fields).expect("they are fields"));
    let body = response.body().expect("it is asked for once");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: &OutgoingBody, text: &str) {
    let stream = body.write().expect("it is asked for once");
    stream.blocking_write_and_flush(text.as_bytes()).expect("somebody reads");
}

/// Answers, and does not finish that.
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

/// Calls somebody, and says how that went.
fn call(authority: &str) -> String {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("it is one");
    request.set_authority(Some(authority)).expect("it is one");
    request.set_path_with_query(Some("/")).expect("it is one");
    let coming = match outgoing_handler::handle(request, None) {
        Ok(coming) => coming,
        Err(error) => return format!("{error:?}"),
    };
    coming.subscribe().block();
    match coming.get().expect("it is there").expect("it is asked for once") {
        Ok(response) => response.status().to_string(),
        Err(error) => format!("{error:?}"),
    }
}
