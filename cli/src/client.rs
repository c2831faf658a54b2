//! Sends requests to a running service, for `lunatic functions`, `lunatic logs` and `lunatic
//! invoke`.
//!
//! The client speaks plain HTTP/1.1. To reach a service that uses TLS, use a client that can check
//! certificates, such as curl.

use crate::command_line::Deployer;
use crate::failure::{Failure, tell};
use crate::stdout;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lunatic_vm::{printable_lines, tokio_handle};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpStream;

/// The exit status if there is no service at the address.
const NO_SERVICE: i32 = 2;

/// A service's default addresses, and the environment variables that override them.
pub(crate) const DEPLOY: (&str, &str) = ("127.0.0.1:8002", "LUNATIC_DEPLOY");
pub(crate) const INVOKE: (&str, &str) = ("127.0.0.1:8000", "LUNATIC_INVOKE");

/// The environment variable that holds the token.
pub(crate) const TOKEN: &str = "LUNATIC_TOKEN";

/// A response whose body has not been read yet.
pub(crate) type Answer = Response<Incoming>;

/// Blocks on a future that uses the network.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio_handle()
        .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?
        .block_on(future)
}

/// Returns a service's address: from the flag, the variable or the default, in that order.
pub(crate) fn address(
    flag: Option<SocketAddr>,
    (default, variable): (&str, &str),
) -> Result<SocketAddr, Failure> {
    if let Some(address) = flag {
        return Ok(address);
    }
    let text = std::env::var(variable).unwrap_or_else(|_| default.to_string());
    text.parse().map_err(|_| {
        Failure::new(format!(
            "`{}`, the value of the variable {variable}, is not an address",
            printable_lines(&text)
        ))
        .hint(format!("use an address such as {default}"))
    })
}

/// Sends an authenticated GET request and returns the response if it is successful.
pub(crate) async fn ask(deployer: &Deployer, path: &str, accept: &str) -> Result<Answer, Failure> {
    let address = address(deployer.deploy, DEPLOY)?;
    let mut request = Request::get(path).header("accept", accept);
    if let Some(token) = token(deployer.token_file.as_deref())? {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::default())
        .map_err(|error| Failure::new(format!("the request is invalid: {error}")))?;
    let answer = send(address, request).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(refused(address, status, &read(answer).await?)),
    }
}

/// Sends a request and returns the response as soon as its head has arrived.
pub(crate) async fn send(
    address: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Result<Answer, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let failure = Failure::new(format!("no service at {address}: {error}")).status(NO_SERVICE);
        match error.kind() {
            ErrorKind::ConnectionRefused => {
                failure.hint("`lunatic serve --deploy` starts a service")
            }
            _ => failure,
        }
    })?;
    let broken = |error| {
        Failure::new(format!(
            "the program at {address} does not respond like a service: {error}"
        ))
        .status(NO_SERVICE)
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // The connection task finishes when the response does. Connection errors also surface when the
    // body is read.
    tokio::spawn(connection);
    if !request.headers().contains_key(HOST) {
        let host = address
            .to_string()
            .parse()
            .expect("an address is a valid header value");
        request.headers_mut().insert(HOST, host);
    }
    sender.send_request(request).await.map_err(broken)
}

/// Reads a response's entire body.
pub(crate) async fn read(answer: Answer) -> Result<Bytes, Failure> {
    let body = answer.into_body().collect().await;
    Ok(body.map_err(interrupted)?.to_bytes())
}

/// Prints a response's body as it arrives.
pub(crate) async fn print(answer: Answer) -> Result<(), Failure> {
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(interrupted)?.into_data() else {
            continue;
        };
        if !stdout::print(&chunk)? {
            break;
        }
    }
    Ok(())
}

fn interrupted(error: hyper::Error) -> Failure {
    Failure::new(format!("the response was interrupted: {error}"))
}

fn refused(address: SocketAddr, status: StatusCode, body: &[u8]) -> Failure {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|said| said["error"].as_str());
    match (status, said) {
        (StatusCode::UNAUTHORIZED, Some(said)) => {
            Failure::new(said).hint(format!("use `--token-file`, or set {TOKEN}"))
        }
        (_, Some(said)) => Failure::new(said),
        (_, None) => Failure::new(format!(
            "the program at {address} is not a service: it responded with status {status}"
        ))
        .hint("`lunatic functions` and `lunatic logs` need the deploy address")
        .status(NO_SERVICE),
    }
}

/// Returns the deploy token: the first one in the file if a file is given, otherwise the one in the
/// variable.
fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else {
        return Ok(std::env::var(TOKEN)
            .ok()
            .map(|token| token.trim().to_string())
            .filter(|token| !token.is_empty()));
    };
    let unreadable = |why: &str| {
        Failure::new(format!(
            "cannot read a token from `{}`: {why}",
            file.display()
        ))
    };
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error.to_string()))?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty());
    token
        .map(|token| Some(token.to_string()))
        .ok_or_else(|| unreadable("the file does not contain one"))
}

/// Percent-encodes text as a single path segment, so that an invalid name cannot change the path.
/// The service rejects invalid names.
pub(crate) fn segment(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// Prints the status of a request that failed.
pub(crate) fn tell_status(status: StatusCode) {
    tell(&format!("the response has status {status}\n"));
}
