//! Requests to a service that runs, from `lunatic functions`, `lunatic logs` and `lunatic invoke`.
//!
//! It speaks HTTP/1.1 in clear. A service that speaks TLS is asked with a program that knows its certificate, such as curl.

use crate::command_line::Deployer;
use crate::failure::{Failure, tell};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lunatic_vm::printable;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpStream;

/// The status of a command that found no service.
const NO_SERVICE: i32 = 2;

/// Where a service listens where nothing else is said, and the variables that say something else.
pub(crate) const DEPLOY: (&str, &str) = ("127.0.0.1:8002", "LUNATIC_DEPLOY");
pub(crate) const INVOKE: (&str, &str) = ("127.0.0.1:8000", "LUNATIC_INVOKE");

/// The variable that the token is in.
pub(crate) const TOKEN: &str = "LUNATIC_TOKEN";

/// An answer whose body has not been read.
pub(crate) type Answer = Response<Incoming>;

/// Runs what a command does with a service.
pub(crate) fn block_on<T>(done: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|error| Failure::new(format!("there are no means to wait: {error}")))?
        .block_on(done)
}

/// Returns the address of a service: a flag's, a variable's, or the usual one.
pub(crate) fn address(
    flag: Option<SocketAddr>,
    (usual, variable): (&str, &str),
) -> Result<SocketAddr, Failure> {
    if let Some(address) = flag {
        return Ok(address);
    }
    let text = std::env::var(variable).unwrap_or_else(|_| usual.to_string());
    text.parse().map_err(|_| {
        Failure::new(format!(
            "the variable {variable} is `{}`, which is no address",
            printable(&text)
        ))
        .hint(format!("write for example {usual}"))
    })
}

/// Asks whoever deploys may ask, and returns the answer if it is what was asked for.
pub(crate) async fn ask(deployer: &Deployer, path: &str, accept: &str) -> Result<Answer, Failure> {
    let address = address(deployer.deploy, DEPLOY)?;
    let mut request = Request::get(path).header("accept", accept);
    if let Some(token) = token(deployer.token_file.as_deref())? {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::default())
        .map_err(|error| Failure::new(format!("this cannot be asked: {error}")))?;
    let answer = send(address, request).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(refused(address, status, &read(answer).await?)),
    }
}

/// Sends a request and returns the answer, when its head is there.
pub(crate) async fn send(
    address: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Result<Answer, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let failure =
            Failure::new(format!("no service answers at {address}: {error}")).status(NO_SERVICE);
        match error.kind() {
            ErrorKind::ConnectionRefused => failure.hint("`lunatic serve --deploy` starts one"),
            _ => failure,
        }
    })?;
    let broken = |error| {
        Failure::new(format!(
            "{address} does not answer as a service does: {error}"
        ))
        .status(NO_SERVICE)
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // It ends with the answer, which says itself where it broke off.
    tokio::spawn(connection);
    if !request.headers().contains_key(HOST) {
        let host = address
            .to_string()
            .parse()
            .expect("an address is a field's value");
        request.headers_mut().insert(HOST, host);
    }
    sender.send_request(request).await.map_err(broken)
}

/// Reads an answer to its end.
pub(crate) async fn read(answer: Answer) -> Result<Bytes, Failure> {
    let body = answer.into_body().collect().await;
    Ok(body
        .map_err(|error| Failure::new(format!("the answer broke off: {error}")))?
        .to_bytes())
}

/// Writes an answer's body as it comes.
pub(crate) async fn print(answer: Answer) -> Result<(), Failure> {
    let mut body = answer.into_body();
    let mut out = std::io::stdout();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::new(format!("the answer broke off: {error}")))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        match out.write_all(&piece).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Who reads has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => {
                return Err(Failure::new(format!(
                    "the answer cannot be written: {error}"
                )));
            }
        }
    }
    Ok(())
}

fn refused(address: SocketAddr, status: StatusCode, body: &[u8]) -> Failure {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|said| said["error"].as_str());
    match (status, said) {
        (StatusCode::UNAUTHORIZED, Some(said)) => {
            Failure::new(said).hint(format!("give `--token-file`, or set {TOKEN}"))
        }
        (_, Some(said)) => Failure::new(said),
        (_, None) => Failure::new(format!(
            "{address} answers with the status {status}, which is not how a service answers"
        ))
        .hint("the commands `functions` and `logs` need the address for deploying")
        .status(NO_SERVICE),
    }
}

/// Returns the token that whoever deploys has to know: the first of a file, or that of a variable.
fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else {
        return Ok(std::env::var(TOKEN)
            .ok()
            .map(|token| token.trim().to_string())
            .filter(|token| !token.is_empty()));
    };
    let unreadable =
        |why: &str| Failure::new(format!("the file of tokens `{}`: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error.to_string()))?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty());
    token
        .map(|token| Some(token.to_string()))
        .ok_or_else(|| unreadable("there is none in it"))
}

/// Returns text as one part of a path: a name that is none is refused by the service, and leads nowhere else.
pub(crate) fn part(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// Tells what became of a request, where that is no success.
pub(crate) fn tell_status(status: StatusCode) {
    tell(&format!("the answer has the status {status}\n"));
}
