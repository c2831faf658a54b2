//! `--metrics`: serves the metrics of the machine and the program to Prometheus.
//!
//! There is only one page. No client can delay another.

use crate::failure::{Failure, not_started, tell};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lunatic_vm::{Reserved, Vm, tokio_handle};
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The page's path.
const PATH: &str = "/metrics";

/// The page's format.
const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The time limits for a request's head to arrive and for an entire connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// The maximum number of concurrent connections. Further connections are closed.
const MAX_CONNECTIONS: usize = 16;

/// How long to wait after failing to accept a connection, for example because no file descriptors
/// are left.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Starts serving metrics, which continues until the command exits. If port 0 was requested, prints
/// the address with the port that the system chose.
pub(super) fn serve(address: SocketAddr, vm: &Vm) -> Result<(), Failure> {
    let start = || {
        let runtime = tokio_handle()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let bound = listener.local_addr()?;
        runtime.spawn(accept(listener, vm.clone(), Reserved::new(bound)));
        io::Result::Ok(bound)
    };
    let bound = start()
        .map_err(|error| not_started(format!("metrics cannot be served at {address}: {error}")))?;
    if address.port() == 0 {
        tell(&format!("metrics are served at http://{bound}{PATH}\n"));
    }
    Ok(())
}

/// Accepts connections. Programs in the machine cannot connect to the address.
async fn accept(listener: TcpListener, vm: Vm, _reserved: Reserved) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = permits.clone().try_acquire_owned() else {
                    continue;
                };
                let vm = vm.clone();
                tokio::spawn(async move {
                    match timeout(CONNECTION_TIMEOUT, connection(stream, vm)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => log::debug!("a request for metrics failed: {error}"),
                        Err(_) => log::debug!("a request for metrics took too long"),
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                log::debug!("cannot accept connections for metrics: {error}");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Responds to one request and closes the connection.
async fn connection(stream: TcpStream, vm: Vm) -> io::Result<()> {
    let answer = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &vm);
        ready(Ok::<_, Infallible>(response))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    stream.shutdown().await?;
    // If the connection were closed with unread input, the system would discard the response.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    served.map_err(io::Error::other)
}

fn answer(method: &Method, path: &str, vm: &Vm) -> Response<String> {
    let (status, body) = match (path, method) {
        (PATH, &Method::GET) => (StatusCode::OK, vm.metrics()),
        (PATH, _) => {
            let sentence = "metrics can only be read; use GET\n";
            (StatusCode::METHOD_NOT_ALLOWED, sentence.into())
        }
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT_FORMAT);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}
