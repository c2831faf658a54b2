//! Has a spark answer a request.
//!
//! The spark reads the request as one message, and writes its response in any number of messages.
//! Both are streamed: a client cannot send faster than the spark reads, and a spark cannot write
//! faster than the client reads.

use super::comm::comm_pair;
use super::connection::read_bytes;
use super::incoming::{Incoming, Source, check_size};
use super::process;
use super::state::SpawnOptions;
use super::wire::{self, Decoder, Framing};
use crate::body::{Body, empty};
use crate::kill_on_drop::KillOnDrop;
use crate::request_info::RequestInfo;
use crate::{Failure, Functions, Spark, Version};
use futures_lite::future;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use lunatic_vm::{MessageReader, MessageWriter, PipeClosed};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long a spark may continue after its response is complete. Nothing is waiting for it during
/// this time.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Has a spark answer a request in a new process. A spark ends with its response, so its processes
/// cannot be pooled.
///
/// Dropping the future or the response's body kills the process and the functions it runs. If the
/// response is complete, the process may continue for a second.
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
    // Most requests fit in the comm before the spark starts.
    let feed = match future::poll_once(&mut feed).await {
        Some(fed) => fed.map(|()| None)?,
        None => Some(feed),
    };
    let options = SpawnOptions::for_request(info.id);
    let process = process::start(version, spark, functions.downgrade(), pipes, options)
        .map_err(Failure::of_spawn)?;
    info.served_by(&process);
    let source = SparkOutput {
        reader,
        feed,
        process: KillOnDrop::new(process),
        info: info.clone(),
    };
    let mut incoming = Incoming::new(source);
    let head = incoming.response(has_body).await?;

    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (head.status, head.fields);
    let decoder = Decoder::new(head.framing);
    if decoder.is_done() {
        // It is not an error if a spark writes anything after the head of a response that has no
        // body, such as a whole page after a HEAD request.
        incoming.complete(has_body && head.framing == Framing::Length(0));
        return Ok(response.map(|()| empty()));
    }
    Ok(response.map(|()| incoming.into_body(decoder, |incoming| incoming.complete(true))))
}

/// The request on its way to the spark.
type Feed = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Writes a request and ends the message. It is not a failure if the spark does not read it.
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
            // The client did not send its entire request.
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

/// Where a response comes from: a spark's output.
struct SparkOutput {
    reader: MessageReader,
    /// Set until the request has been written. Driven while waiting for the response.
    feed: Option<Feed>,
    process: KillOnDrop,
    info: Arc<RequestInfo>,
}

impl Source for SparkOutput {
    type Error = Failure;
    const WHOLE: &str = "it";
    const HEAD: &str = "its head";

    /// Like [`read_bytes`], but keeps writing the request in the meantime.
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        let SparkOutput {
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

    fn malformed(why: String) -> Failure {
        Failure::NotHttp(why)
    }

    fn check_start(bytes: &[u8]) -> Result<(), Failure> {
        if wire::begins_response(bytes) {
            return Ok(());
        }
        Err(Failure::NotHttp("it does not begin with `HTTP/1.`".into()))
    }
}

impl Incoming<SparkOutput> {
    /// Reads the response's head, skipping any informational responses before it.
    async fn response(&mut self, has_body: bool) -> Result<wire::ResponseHead, Failure> {
        let mut skipped = 0;
        loop {
            let Some(bytes) = self.head().await? else {
                return Err(match skipped {
                    0 => Failure::NoAnswer,
                    _ => Failure::NotHttp("it ends partway through its head".into()),
                });
            };
            let head = wire::read_response(&bytes, has_body).map_err(Failure::NotHttp)?;
            if !head.status.is_informational() {
                return Ok(head);
            }
            skipped += bytes.len();
            check_size::<SparkOutput>(skipped)?;
        }
    }

    /// Gives the spark a little time to exit, now that the response is complete and nothing is
    /// waiting for the spark any longer. Logs any further output or failure.
    fn complete(self, is_logged: bool) {
        let Incoming { mut source, buffer } = self;
        // The gateway checks whether the request is still being read before it sends the head.
        source.feed = None;
        tokio::spawn(async move {
            let mut piece = [0; 1];
            let rest = async {
                match source.read(&mut piece).await {
                    Ok(0) if buffer.is_empty() => {
                        let exit = source.process.process().exited().await;
                        (!exit.is_normal()).then(|| Failure::of_exit(exit))
                    }
                    Ok(_) => Some(Failure::NotHttp("output past its end was discarded".into())),
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
