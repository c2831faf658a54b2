//! Serves a client's connection: detects the HTTP version and limits how long the connection may
//! last.
//!
//! Each connection has a single timer for all of its timeouts. The timer is reset only when it
//! fires or when an earlier timeout is set, so requests that end in time do not need to reset it.

use super::connection::{Action, Connection, Version};
use super::exchange::GRACE_PERIOD;
use super::framing::Framing;
use super::listener::HttpListener;
use super::reply::raw_response;
use super::request;
use super::setup::Setup;
use super::wire::{Stream, Wire};
use crate::gateway::tcp::hand_over::hand_over;
use crate::stop::Stop;
use crate::{Code, HttpLimits};
use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};

/// The maximum number of concurrent requests on an HTTP/2 connection.
const STREAMS: u32 = 128;
/// How many streams a client may reset before they are accepted.
const PENDING_RESETS: usize = 32;
/// How many streams the gateway may reset because of a client's errors before the connection is
/// closed.
const ERROR_RESETS: usize = 128;
/// The maximum number of bytes in flight to a function that has not read them yet, per stream and
/// per connection.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The maximum number of response bytes waiting for the client.
const SEND_BUFFER: usize = 128 << 10;
/// The smallest buffer that hyper accepts.
const MIN_BUFFER: usize = 8192;
/// The first bytes that an HTTP/2 client sends.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection until it ends. If all requests go to a single function that is a program,
/// the program receives the connection and speaks HTTP itself.
pub(crate) async fn serve(
    listener: Arc<HttpListener>,
    stream: TcpStream,
    client: SocketAddr,
    stop: Stop,
) {
    if let Some(version) = listener.only_version()
        && let Code::Program(module) = version.code()
    {
        return hand_over(&version, module, stream, client, None).await;
    }
    serve_http(listener, stream, client, stop).await;
}

async fn serve_http(
    listener: Arc<HttpListener>,
    stream: TcpStream,
    client: SocketAddr,
    mut stop: Stop,
) {
    let setup = listener.setup();
    let begun = tokio::select! {
        biased;
        begun = begin(&setup, stream) => begun,
        () = stop.draining() => return,
    };
    let Some((stream, version, ahead)) = begun else {
        return;
    };
    let limits = setup.limits.clone();
    drop(setup);
    let is_secure = matches!(stream, Stream::Right(_));
    let connection = Arc::new(Connection::new(client, is_secure));
    let service = service_fn({
        let connection = connection.clone();
        move |request| request::serve(&listener, &connection, request)
    });
    match version {
        Version::One => {
            let framing = Framing::new(limits.head_size, limits.fields);
            let io = TokioIo::new(Wire::new(stream, ahead, &connection, Some(framing)));
            let mut conn = http1_builder(&limits).serve_connection(io, service);
            let finish = |conn: Pin<&mut http1::Connection<_, _>>| conn.graceful_shutdown();
            drive(
                Pin::new(&mut conn),
                finish,
                &connection,
                &limits,
                version,
                stop,
            )
            .await;
            let wire = conn.into_parts().io.into_inner();
            let last = match wire.error() {
                Some(error) if !error.is_in_body => raw_response(error.status, error.why),
                None if connection.is_late() => raw_response(
                    StatusCode::REQUEST_TIMEOUT,
                    "the request's head took too long to arrive",
                ),
                _ => String::new(),
            };
            let is_unread = !last.is_empty() || connection.is_unread();
            let _ = timeout(GRACE_PERIOD, wire.close(last.as_bytes(), is_unread)).await;
        }
        Version::Two => {
            let io = TokioIo::new(Wire::new(stream, ahead, &connection, None));
            let conn = pin!(http2_builder(&limits, stop.clone()).serve_connection(io, service));
            let finish = |conn: Pin<&mut http2::Connection<_, _, _>>| conn.graceful_shutdown();
            drive(conn, finish, &connection, &limits, version, stop).await;
        }
    }
}

/// Detects the protocol, and also returns the bytes that had to be read for this. Returns `None` if
/// the client did not send anything that can be answered.
async fn begin(setup: &Setup, mut stream: TcpStream) -> Option<(Stream, Version, Vec<u8>)> {
    let limits = &setup.limits;
    if let Some(tls) = &setup.tls {
        return match timeout(limits.head_time, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let version = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    Version::Two
                } else {
                    Version::One
                };
                Some((Stream::Right(Box::new(stream)), version, Vec::new()))
            }
            Ok(Err(error)) => {
                log::debug!("a handshake failed: {error}");
                None
            }
            Err(_) => {
                log::debug!("a handshake took longer than {:?}", limits.head_time);
                None
            }
        };
    }
    let mut ahead = [0; PREFACE.len()];
    let mut count = 0;
    // A connection may be idle before its first request for as long as between two requests.
    let mut time = limits.idle;
    while count < ahead.len() && ahead[..count] == PREFACE[..count] {
        match timeout(time, stream.read(&mut ahead[count..])).await {
            Ok(Ok(read)) if read > 0 => count += read,
            _ => return None,
        }
        time = limits.head_time;
    }
    let version = if ahead == PREFACE {
        Version::Two
    } else {
        Version::One
    };
    Some((Stream::Left(stream), version, ahead[..count].to_vec()))
}

fn http1_builder(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The connection's own timer covers this.
        .header_read_timeout(None)
        .max_headers(limits.fields)
        .max_header_size(limits.head_size)
        .max_buf_size(limits.head_size.max(MIN_BUFFER));
    builder
}

fn http2_builder(limits: &HttpLimits, stop: Stop) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams(stop));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// Runs an HTTP/2 connection's requests, each in its own task.
#[derive(Clone)]
struct Streams(Stop);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let mut stop = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stream => {}
                () = stop.cut() => {}
            }
        });
    }
}

/// Drives a connection until it ends on its own or has to be cut off.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut conn: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    connection: &Connection,
    limits: &HttpLimits,
    version: Version,
    mut stop: Stop,
) {
    let watch = stop.clone();
    let mut draining = pin!(stop.draining());
    let mut timer: Pin<&mut Sleep> = pin!(tokio::time::sleep_until(connection.opened.into()));
    // No waker is registered for this task yet, so the first turn polls everything.
    let mut is_first = true;
    let mut armed = u64::MAX;
    let mut is_finishing = false;
    std::future::poll_fn(|cx| {
        if is_first && draining.as_mut().poll(cx).is_ready() || watch.is_draining() && !is_finishing
        {
            is_finishing = true;
            finish(conn.as_mut());
        }
        is_first = false;
        let mut polled = conn.as_mut().poll(cx);
        // An HTTP/1 connection's requests begin and end only while it is polled, so nothing has to
        // wake this task for this.
        if polled.is_pending() && !is_finishing && connection.is_over() {
            is_finishing = true;
            finish(conn.as_mut());
            polled = conn.as_mut().poll(cx);
        }
        if let Poll::Ready(ended) = polled {
            if let Err(error) = ended {
                log::debug!("the connection of {} ended: {error}", connection.client);
            }
            return Poll::Ready(());
        }
        // The timer always wakes this task, so it is polled only after it has been reset.
        while timer.is_elapsed() || connection.due.load(Ordering::SeqCst) < armed {
            let now = Instant::now();
            connection.due.store(u64::MAX, Ordering::SeqCst);
            let at = match connection.check(now, limits, version) {
                Action::CheckAt(at) => at,
                Action::Finish if !is_finishing => {
                    is_finishing = true;
                    finish(conn.as_mut());
                    cx.waker().wake_by_ref();
                    now + GRACE_PERIOD
                }
                Action::Timeout if !connection.is_late() => {
                    connection.is_late.store(true, Ordering::SeqCst);
                    cx.waker().wake_by_ref();
                    now + GRACE_PERIOD
                }
                Action::Timeout | Action::Finish | Action::Cut => return Poll::Ready(()),
            };
            connection.check_by(at);
            armed = connection.due.load(Ordering::SeqCst);
            let armed_at = connection.opened + Duration::from_millis(armed);
            timer.as_mut().reset(armed_at.into());
            let _ = timer.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await;
}
