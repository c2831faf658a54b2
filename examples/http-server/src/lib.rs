//! An HTTP server as a component: `GET /secret`, `POST /echo`, and `GET /hash-all`, which fetches
//! the URL in each `url` header and answers with the SHA-256 of each response's body. Everything is
//! streamed.

wit_bindgen::generate!({ path: "../../serve/wit", world: "rvm:lambda/rvm", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use rvm::lambda::host;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, Method, OutgoingBody,
    OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasi::io::streams::{InputStream, OutputStream, StreamError};

/// The maximum number of bytes per read.
const PIECE: u64 = 1 << 16;

struct Server;

export!(Server);

impl Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match (request.method(), path) {
            (Method::Get, "/secret") => {
                let secret = host::client_secret();
                answer(out, 200, &text(), |body| write(body, secret.as_bytes()));
            }
            (Method::Post, "/echo") => {
                let kept = request
                    .headers()
                    .get("content-type")
                    .pop()
                    .map(|value| ("content-type".to_string(), value));
                answer(out, 200, kept.as_slice(), |body| copy(request, body));
            }
            (Method::Get, "/hash-all") => {
                let urls = request.headers().get("url");
                let urls: Vec<String> = urls
                    .iter()
                    .map(|url| String::from_utf8_lossy(url).into_owned())
                    .collect();
                answer(out, 200, &text(), |body| hash_all(&urls, body));
            }
            _ => answer(out, 400, &[], |_| Ok(())),
        }
    }
}

fn text() -> [(String, Vec<u8>); 1] {
    [("content-type".to_string(), b"text/plain".to_vec())]
}

/// Sends a status and header fields immediately, followed by a body. If the body cannot be written
/// completely, the client gets an error.
fn answer(
    out: ResponseOutparam,
    status: u16,
    fields: &[(String, Vec<u8>)],
    write_body: impl FnOnce(&OutputStream) -> Result<(), StreamError>,
) {
    let fields = Fields::from_list(fields).expect("the fields are valid");
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(status)
        .expect("the status is valid");
    let body = response.body().expect("the body is taken only once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken only once");
    let written = write_body(&stream);
    drop(stream);
    if written.is_ok() {
        // Otherwise, the body is dropped unfinished, which aborts the response.
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Writes all bytes, as many at a time as the client accepts.
fn write(body: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    let ready = body.subscribe();
    while !bytes.is_empty() {
        let room = body.check_write()?;
        if room == 0 {
            ready.block();
            continue;
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(room as usize));
        body.write(piece)?;
        bytes = rest;
    }
    Ok(())
}

fn copy(request: IncomingRequest, to: &OutputStream) -> Result<(), StreamError> {
    let Ok(body) = request.consume() else {
        return Ok(());
    };
    read(&body, |piece| write(to, piece))
}

/// Reads a body to the end, piece by piece.
fn read(
    body: &IncomingBody,
    mut each: impl FnMut(&[u8]) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let stream: InputStream = body.stream().expect("the stream is taken only once");
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) => each(&piece)?,
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Fetches all URLs concurrently, and writes a line for each one, in order.
fn hash_all(urls: &[String], body: &OutputStream) -> Result<(), StreamError> {
    let responses: Vec<_> = urls.iter().map(|url| fetch(url)).collect();
    for (url, response) in urls.iter().zip(responses) {
        let digest = response
            .and_then(|response| digest(&response))
            .unwrap_or_else(|error| error);
        write(body, format!("{url}: {digest}\n").as_bytes())?;
    }
    Ok(())
}

fn fetch(url: &str) -> Result<FutureIncomingResponse, String> {
    let (scheme, rest) = url.split_once("://").ok_or("failed: the URL has no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "http" {
        Scheme::Http
    } else {
        Scheme::Https
    };
    request
        .set_scheme(Some(&scheme))
        .expect("the scheme is valid");
    let malformed = |()| "failed: the URL is malformed".to_string();
    request.set_authority(Some(authority)).map_err(malformed)?;
    request
        .set_path_with_query(Some(if path.is_empty() { "/" } else { path }))
        .map_err(malformed)?;
    outgoing_handler::handle(request, None).map_err(|error| format!("failed: {error}"))
}

fn digest(future: &FutureIncomingResponse) -> Result<String, String> {
    future.subscribe().block();
    let response = future
        .get()
        .expect("`block` waited for the response")
        .expect("the response is taken only once");
    let response = response.map_err(|error| format!("failed: {error}"))?;
    if response.status() != 200 {
        return Err(format!("unexpected status: {}", response.status()));
    }
    let mut sha256 = Sha256::new();
    let body = response.consume().expect("the body is taken only once");
    let read = read(&body, |piece| {
        sha256.update(piece);
        Ok(())
    });
    read.map_err(|error| format!("failed: {error}"))?;
    Ok(sha256
        .finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string never fails");
            text
        }))
}
