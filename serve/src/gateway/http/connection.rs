//! A connection of a client: which version of HTTP it speaks, and how long it may do so.
//!
//! Each has one alarm for everything that takes time. It is set again only when it goes off, or when something is due
//! before it: a request whose time is not over costs no timer.

use super::exchange::{self, Exchange, GRACE, Look};
use super::framing::Framing;
use super::wire::{Stream, Wire};
use super::{Http, HttpLimits, Setup};
use crate::server::Stop;
use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};

/// Requests of one connection at the same time, in HTTP/2.
const STREAMS: u32 = 128;
/// Streams that a client may take back before they were looked at.
const PENDING_RESETS: usize = 32;
/// Streams that we may reset for a client's errors before the connection ends.
const ERROR_RESETS: usize = 128;
/// Requests that a client may leave before they are answered, beside as many as it waits for.
const ABANDONED: u64 = 256;
/// Bytes that are on their way to a function before it has read them: of a stream, and of all of a connection.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer that wait for the client.
const SEND_BUFFER: usize = 128 << 10;
/// hyper reads no less at a time.
const LEAST_BUFFER: usize = 8192;

/// What the parts of a connection know of each other.
pub(super) struct Connection {
    pub(super) client: SocketAddr,
    pub(super) is_secure: bool,
    opened: Instant,
    /// When it is to be looked at next, in milliseconds since it was opened; never later than what is due.
    due: AtomicU64,
    /// A head was not there in time.
    is_late: AtomicBool,
    life: Mutex<Life>,
}

struct Life {
    exchanges: Vec<Arc<Exchange>>,
    /// Since when there is none.
    quiet_since: Instant,
    /// Since when there is the beginning of a head.
    head_since: Option<Instant>,
    /// A request was answered before its body was read.
    is_unread: bool,
    /// Requests that were answered, and that their client left.
    answered: u64,
    abandoned: u64,
}

/// What is to be done with a connection.
enum Next {
    LookAt(Instant),
    /// The head of its request takes too long.
    Late,
    /// It has been idle for too long.
    Finish,
    /// Nothing good comes of it.
    Cut,
}

impl Connection {
    fn new(client: SocketAddr, is_secure: bool) -> Connection {
        let now = Instant::now();
        let life = Life {
            exchanges: Vec::new(),
            quiet_since: now,
            head_since: None,
            is_unread: false,
            answered: 0,
            abandoned: 0,
        };
        let (due, is_late) = (AtomicU64::new(0), AtomicBool::new(false));
        Connection {
            client,
            is_secure,
            opened: now,
            due,
            is_late,
            life: Mutex::new(life),
        }
    }

    /// Takes note of a request.
    pub(super) fn began(&self, exchange: &Arc<Exchange>, first_look: Instant) {
        self.life().exchanges.push(exchange.clone());
        self.is_due(first_look);
    }

    /// Takes note of a request's end.
    pub(super) fn ended(&self, exchange: &Arc<Exchange>, now: Instant, is_answered: bool) {
        let mut life = self.life();
        if let Some(place) = life
            .exchanges
            .iter()
            .position(|one| Arc::ptr_eq(one, exchange))
        {
            life.exchanges.swap_remove(place);
        }
        life.quiet_since = now;
        life.is_unread |= exchange.is_unread();
        if is_answered {
            life.answered += 1;
        } else {
            life.abandoned += 1;
        }
        if life.abandoned > ABANDONED + life.answered {
            self.due.store(0, Ordering::SeqCst);
        }
    }

    /// Takes note of whether there is the beginning of a head.
    pub(super) fn reads_head(&self, is_in_head: bool) {
        let mut life = self.life();
        match (life.head_since, is_in_head) {
            (Some(_), false) => life.head_since = None,
            (None, true) => {
                life.head_since = Some(Instant::now());
                // How long it may take is known where it is looked at.
                self.due.store(0, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    /// Whether the client has been told that he took too long.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::SeqCst)
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        !self.life().exchanges.is_empty()
    }

    fn is_due(&self, at: Instant) {
        self.due.fetch_min(self.millis(at), Ordering::SeqCst);
    }

    /// Rounded up, so that nothing is looked at before it is due.
    fn millis(&self, at: Instant) -> u64 {
        let nanos = at.duration_since(self.opened).as_nanos();
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    fn look(&self, now: Instant, limits: &HttpLimits, version: Version) -> Next {
        let life = self.life();
        if life.abandoned > ABANDONED + life.answered {
            log::debug!(
                "{} leaves its requests before they are answered",
                self.client
            );
            return Next::Cut;
        }
        if life.exchanges.is_empty() {
            if let Some(since) = life.head_since {
                let end = since + limits.head_time;
                return if now >= end {
                    Next::Late
                } else {
                    Next::LookAt(end)
                };
            }
            let end = life.quiet_since + limits.idle;
            return if now >= end {
                Next::Finish
            } else {
                Next::LookAt(end)
            };
        }
        let exchanges = life.exchanges.clone();
        drop(life);
        let mut next = now + limits.idle;
        for exchange in exchanges {
            match exchange.look(now, limits.head_time) {
                Look::At(at) => next = next.min(at),
                // What the client does not read of one answer is before every other.
                Look::Stuck if version == Version::One => return Next::Cut,
                Look::Stuck => self.ended(&exchange, now, false),
            }
        }
        Next::LookAt(next)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a connection until its end.
pub(super) async fn serve(http: Arc<Http>, stream: TcpStream, client: SocketAddr, mut stop: Stop) {
    let setup = http.setup();
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
    let connection = Arc::new(Connection::new(client, matches!(stream, Stream::Secure(_))));
    let service = service_fn({
        let connection = connection.clone();
        move |request| exchange::begin(&http, &connection, request)
    });
    match version {
        Version::One => {
            let framing = Framing::new(limits.head_size, limits.fields);
            let io = TokioIo::new(Wire::new(stream, ahead, &connection, Some(framing)));
            let mut conn = one(&limits).serve_connection(io, service);
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
            let last = match wire.refused() {
                Some(refused) if !refused.is_in_body => last_words(refused.status, refused.why),
                None if connection.is_late() => last_words(
                    StatusCode::REQUEST_TIMEOUT,
                    "the request's head took too long to come",
                ),
                _ => String::new(),
            };
            let is_unread = !last.is_empty() || connection.life().is_unread;
            let _ = timeout(GRACE, wire.close(last.as_bytes(), is_unread)).await;
        }
        Version::Two => {
            let io = TokioIo::new(Wire::new(stream, ahead, &connection, None));
            let conn = pin!(two(&limits, stop.clone()).serve_connection(io, service));
            let finish = |conn: Pin<&mut http2::Connection<_, _, _>>| conn.graceful_shutdown();
            drive(conn, finish, &connection, &limits, version, stop).await;
        }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What a client of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Finds out what is spoken, and returns what was read for that. `None` where the client said nothing that can be answered.
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
                Some((Stream::Secure(Box::new(stream)), version, Vec::new()))
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
    // A connection may lie idle before its first request as it may between two.
    let mut patience = limits.idle;
    while count < ahead.len() && ahead[..count] == PREFACE[..count] {
        match timeout(patience, stream.read(&mut ahead[count..])).await {
            Ok(Ok(read)) if read > 0 => count += read,
            _ => return None,
        }
        patience = limits.head_time;
    }
    let version = if ahead == PREFACE {
        Version::Two
    } else {
        Version::One
    };
    Some((Stream::Clear(stream), version, ahead[..count].to_vec()))
}

/// Returns an answer that hyper has no part in, after which the connection ends.
fn last_words(status: StatusCode, text: &str) -> String {
    let (length, reason) = (
        text.len() + 1,
        status.canonical_reason().unwrap_or_default(),
    );
    let code = status.as_u16();
    format!(
        "HTTP/1.1 {code} {reason}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\n\r\n{text}\n"
    )
}

fn one(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The alarm of the connection sees to it.
        .header_read_timeout(None)
        .max_headers(limits.fields)
        .max_header_size(limits.head_size)
        .max_buf_size(limits.head_size.max(LEAST_BUFFER));
    builder
}

fn two(limits: &HttpLimits, stop: Stop) -> http2::Builder<Streams> {
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

/// Runs the requests of a connection of HTTP/2, each as a task of its own.
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

/// Has a connection speak until it ends, or is ended.
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
    let mut alarm: Pin<&mut Sleep> = pin!(tokio::time::sleep_until(connection.opened.into()));
    // Nothing has been asked to wake this task yet: the first turn looks at everything.
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
        if let Poll::Ready(ended) = conn.as_mut().poll(cx) {
            if let Err(error) = ended {
                log::debug!("the connection of {} ended: {error}", connection.client);
            }
            return Poll::Ready(());
        }
        // The alarm wakes this task, which stays the same; it is asked again only when it is set anew.
        while alarm.is_elapsed() || connection.due.load(Ordering::SeqCst) < armed {
            let now = Instant::now();
            connection.due.store(u64::MAX, Ordering::SeqCst);
            let at = match connection.look(now, limits, version) {
                Next::LookAt(at) => at,
                Next::Finish if !is_finishing => {
                    is_finishing = true;
                    finish(conn.as_mut());
                    cx.waker().wake_by_ref();
                    now + GRACE
                }
                Next::Late if !connection.is_late() => {
                    connection.is_late.store(true, Ordering::SeqCst);
                    cx.waker().wake_by_ref();
                    now + GRACE
                }
                Next::Late | Next::Finish | Next::Cut => return Poll::Ready(()),
            };
            connection.is_due(at);
            armed = connection.due.load(Ordering::SeqCst);
            alarm
                .as_mut()
                .reset((connection.opened + Duration::from_millis(armed)).into());
            let _ = alarm.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await;
}
