//! How a spark answers a request.
//!
//! The spark reads the request as one message, and writes its response in any number of messages.
//! Both are streamed: a client can send no faster than the spark reads, and a spark can write no
//! faster than the client reads.

use super::comm::comm_pair;
use super::connection::read_bytes;
use super::process;
use super::state::SpawnOptions;
use super::wire::{self, Decoder, Framing, Step};
use crate::body::{Body, BodyError, empty};
use crate::kill_on_drop::KillOnDrop;
use crate::request_info::RequestInfo;
use crate::{Failure, Functions, Spark, Version};
use bytes::{Bytes, BytesMut};
use futures_lite::{future, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use lunatic_vm::{MessageReader, MessageWriter, PipeClosed};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The maximum number of bytes per read.
const PIECE: usize = 8 << 10;

/// How long a spark may continue after its response is complete. Nothing waits for it.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Has a spark answer a request, in a process of its own: a spark ends with its response, so there
/// is nothing to pool.
///
/// Dropping the future or the response's body kills the process and what it runs, unless the
/// response is complete: then the process may continue for a second.
pub(crate) async fn answer(
    functions: &Functions,
    version: &Arc<Version>,
    spark: &Spark,
    info: &Arc<RequestInfo>,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let ((reader, writer), pipes) = comm_pair();
    let has_body = request.method() != Method::HEAD;
    let mut feed: Feed = Box::pin(write_request(writer, request, info.id.to_string()));
    // Most requests fit into the comm before the spark starts.
    let feed = match future::poll_once(&mut feed).await {
        Some(fed) => fed.map(|()| None)?,
        None => Some(feed),
    };
    let options = SpawnOptions::for_request(info.id);
    let process = process::start(version, spark, functions.downgrade(), pipes, options)
        .map_err(Failure::of_spawn)?;
    info.served_by(&process);
    let source = Source {
        reader,
        feed,
        process: KillOnDrop::new(process),
        info: info.clone(),
    };
    let mut incoming = Incoming {
        source,
        buffer: BytesMut::new(),
    };
    let head = incoming.head(has_body).await?;

    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (head.status, head.fields);
    let decoder = Decoder::new(head.framing);
    if decoder.is_done() {
        // What follows the head of a response without a body, such as the whole page after a HEAD,
        // is not an error.
        incoming.complete(has_body && head.framing == Framing::Length(0));
        return Ok(response.map(|()| empty()));
    }
    let pieces = stream::unfold(Some((incoming, decoder)), |state| async move {
        let (mut incoming, mut decoder) = state?;
        match incoming.piece(&mut decoder).await {
            Ok(None) => None,
            Ok(Some(piece)) if decoder.is_done() => {
                // This happens before the piece is returned: a reader that knows the length
                // requests nothing after it.
                incoming.complete(true);
                Some((Ok(Frame::data(piece)), None))
            }
            Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some((incoming, decoder)))),
            Err(failure) => Some((Err(BodyError::from(failure)), None)),
        }
    });
    Ok(response.map(|()| StreamBody::new(pieces).boxed_unsync()))
}

/// The request on its way to the spark.
type Feed = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Writes a request, and ends it. It is not a failure if the spark does not read it.
async fn write_request(
    writer: MessageWriter,
    request: Request<Body>,
    id: String,
) -> Result<(), Failure> {
    let (parts, mut body) = request.into_parts();
    let length = http_body::Body::size_hint(&body).exact();
    let is_chunked = length.is_none();
    let unread = |_: PipeClosed| Ok(());
    if let Err(closed) = writer
        .write_all(&wire::write_request(&parts, &id, length))
        .await
    {
        return unread(closed);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast::<Failure>() {
            Ok(failure) => *failure,
            // The client did not send its whole request.
            Err(_) => Failure::Gone,
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.is_empty() {
            continue;
        }
        let written = async {
            if is_chunked {
                writer
                    .write_all(format!("{:x}\r\n", data.len()).as_bytes())
                    .await?;
            }
            writer.write_all(&data).await?;
            if is_chunked {
                writer.write_all(b"\r\n").await
            } else {
                Ok(())
            }
        };
        if let Err(closed) = written.await {
            return unread(closed);
        }
    }
    if is_chunked && let Err(closed) = writer.write_all(b"0\r\n\r\n").await {
        return unread(closed);
    }
    let _ = writer.end_message().await;
    writer.finish();
    Ok(())
}

/// Where a response comes from.
struct Source {
    reader: MessageReader,
    /// Set until the request has been written. It is driven while waiting for the response.
    feed: Option<Feed>,
    process: KillOnDrop,
    info: Arc<RequestInfo>,
}

impl Source {
    /// Reads bytes, as [`read_bytes`] does; zero means the end.
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        let Source {
            reader,
            feed,
            process,
            ..
        } = self;
        let mut read = std::pin::pin!(read_bytes(reader, process.process(), into));
        std::future::poll_fn(|context| {
            if let Some(feeding) = feed
                && let Poll::Ready(fed) = feeding.as_mut().poll(context)
            {
                *feed = None;
                fed?;
            }
            read.as_mut().poll(context)
        })
        .await
    }
}

/// A response as it arrives.
struct Incoming {
    source: Source,
    /// Bytes that were read but not yet parsed.
    buffer: BytesMut,
}

impl Incoming {
    /// Reads more into the buffer. Returns false at the end.
    async fn more(&mut self) -> Result<bool, Failure> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + PIECE, 0);
        let read = self.source.read(&mut self.buffer[filled..]).await;
        self.buffer
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        Ok(read? > 0)
    }

    /// Reads the head of the response. Informational responses before it are skipped.
    async fn head(&mut self, has_body: bool) -> Result<wire::ResponseHead, Failure> {
        let mut skipped = 0;
        loop {
            let end = self.end_of_head(skipped == 0).await?;
            let bytes = self.buffer.split_to(end);
            let head = wire::read_response(&bytes, has_body).map_err(Failure::NotHttp)?;
            if !head.status.is_informational() {
                return Ok(head);
            }
            skipped += end;
            if skipped > wire::MAX_HEAD {
                return Err(too_large());
            }
        }
    }

    /// Waits until a head is in the buffer, and returns where it ends.
    async fn end_of_head(&mut self, is_first: bool) -> Result<usize, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = wire::end_of_head(&self.buffer, searched) {
                return Ok(end);
            }
            searched = self.buffer.len();
            if !wire::begins_response(&self.buffer) {
                return Err(Failure::NotHttp("it does not begin with `HTTP/1.`".into()));
            }
            if searched > wire::MAX_HEAD {
                return Err(too_large());
            }
            if !self.more().await? {
                let nothing = is_first && self.buffer.is_empty();
                return Err(if nothing {
                    Failure::NoAnswer
                } else {
                    Failure::NotHttp("it ends within its head".into())
                });
            }
        }
    }

    /// Reads a piece of the body; `None` at its end.
    async fn piece(&mut self, decoder: &mut Decoder) -> Result<Option<Bytes>, Failure> {
        loop {
            match decoder.step(&mut self.buffer).map_err(Failure::NotHttp)? {
                Step::Piece(piece) => return Ok(Some(piece)),
                Step::Done => return Ok(None),
                Step::More if self.more().await? => (),
                Step::More => return decoder.end().map(|()| None).map_err(Failure::NotHttp),
            }
        }
    }

    /// Gives the spark a little time to end: the response is complete, and nothing waits for what
    /// follows. If that is more output or a failure, it is logged.
    fn complete(self, is_logged: bool) {
        let Incoming { source, buffer } = self;
        tokio::spawn(async move {
            let mut source = source;
            source.feed = None;
            let mut piece = [0; 1];
            let rest = async {
                match source.read(&mut piece).await {
                    Ok(0) if buffer.is_empty() => {
                        let exit = source.process.process().exited().await;
                        (!exit.is_normal()).then(|| Failure::of_exit(exit))
                    }
                    Ok(_) => Some(Failure::NotHttp(
                        "more follows its end, which was cut off".into(),
                    )),
                    Err(failure) => Some(failure),
                }
            };
            if let Ok(Some(failure)) = tokio::time::timeout(LINGER_TIME, rest).await
                && is_logged
            {
                source.info.failed(&failure);
            }
        });
    }
}

fn too_large() -> Failure {
    Failure::NotHttp(format!("its head is larger than {} bytes", wire::MAX_HEAD))
}
