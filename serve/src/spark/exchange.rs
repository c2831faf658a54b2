//! A request that a spark answers.
//!
//! The spark reads the request as one message, and writes its answer in as many as it likes. Both are streamed: what the spark
//! does not read stays with the client, and what the client does not read stays with the spark.

use super::comm::{Leash, comm};
use super::wire::{self, Decoder, Framing, Step};
use super::{Birth, Spark};
use crate::gateway::http::{Body, BodyError};
use crate::ticket::Ticket;
use crate::{Failure, Version};
use bytes::{Bytes, BytesMut};
use futures_lite::{future, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use lunatic_vm::{End, MessageReader, MessageWriter, Part, PipeClosed};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How many bytes are read at once.
const PIECE: usize = 8 << 10;

/// How long a spark may go on after its answer is complete. Nobody waits for it.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Has a spark answer a request, in a process of its own: there is no pool of processes that end with each answer.
///
/// Dropping the future or the answer's body kills the process and what it runs, unless the answer is complete: then the process
/// may go on for a second.
pub(crate) async fn answer(
    version: &Arc<Version>,
    spark: &Spark,
    ticket: &Arc<Ticket>,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let ((reader, writer), ends) = comm();
    let has_body = request.method() != Method::HEAD;
    let mut feed: Feed = Box::pin(write_request(writer, request, ticket.id.to_string()));
    // Most requests are with the spark before it begins.
    let feed = match future::poll_once(&mut feed).await {
        Some(fed) => fed.map(|()| None)?,
        None => Some(feed),
    };
    let birth = Birth {
        request: Some(ticket.id),
        depth: 0,
    };
    let process = spark
        .start(version, ends, birth)
        .map_err(Failure::of_spawn)?;
    ticket.served_by(&process);
    let source = Source {
        reader,
        feed,
        leash: Leash::new(process),
        version: version.clone(),
        ticket: ticket.clone(),
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
        // What follows the head of an answer that has no body, such as the whole page after a HEAD, is no mistake.
        incoming.complete(has_body && head.framing == Framing::Length(0));
        return Ok(response.map(|()| empty()));
    }
    let pieces = stream::unfold(Some((incoming, decoder)), |state| async move {
        let (mut incoming, mut decoder) = state?;
        match incoming.piece(&mut decoder).await {
            Ok(None) => None,
            Ok(Some(piece)) if decoder.is_done() => {
                // This comes before the piece is given: who knows the length asks for nothing after it.
                incoming.complete(true);
                Some((Ok(Frame::data(piece)), None))
            }
            Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some((incoming, decoder)))),
            Err(failure) => Some((Err(BodyError::from(failure)), None)),
        }
    });
    Ok(response.map(|()| StreamBody::new(pieces).boxed_unsync()))
}

fn empty() -> Body {
    Empty::new().map_err(|error| match error {}).boxed_unsync()
}

/// The request on its way to the spark.
type Feed = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Writes a request, and ends it. It is no failure where the spark does not read it.
async fn write_request(
    writer: MessageWriter,
    request: Request<Body>,
    number: String,
) -> Result<(), Failure> {
    let (parts, mut body) = request.into_parts();
    let length = http_body::Body::size_hint(&body).exact();
    let is_chunked = length.is_none();
    let unread = |_: PipeClosed| Ok(());
    if let Err(closed) = writer
        .write_all(&wire::write_request(&parts, &number, length))
        .await
    {
        return unread(closed);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast::<Failure>() {
            Ok(failure) => *failure,
            // The client sent no more, or nonsense.
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

/// Where an answer comes from.
struct Source {
    reader: MessageReader,
    /// There as long as the request is not with the spark. It goes on while the answer is waited for.
    feed: Option<Feed>,
    leash: Leash,
    version: Arc<Version>,
    ticket: Arc<Ticket>,
}

impl Source {
    /// Reads bytes; `None` where the spark has ended well, or has said that it had finished.
    async fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Failure> {
        let Source {
            reader,
            feed,
            leash,
            ..
        } = self;
        let read = async {
            let end = loop {
                match reader.read(into).await {
                    Part::Bytes(count) => return Ok(Some(count)),
                    Part::EndOfMessage => (),
                    Part::End(end) => break end,
                }
            };
            match end {
                End::Finished => Ok(None),
                End::Failed(why) => Err(Failure::Failed(why.to_string())),
                End::Gone => match leash.process().exited().await {
                    exit if exit.is_normal() => Ok(None),
                    exit => Err(Failure::of_exit(exit)),
                },
            }
        };
        let mut read = std::pin::pin!(read);
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

/// An answer while it comes in.
struct Incoming {
    source: Source,
    /// What was read and not looked at.
    buffer: BytesMut,
}

impl Incoming {
    /// Reads more into the buffer; false at the end.
    async fn more(&mut self) -> Result<bool, Failure> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + PIECE, 0);
        let read = self.source.read(&mut self.buffer[filled..]).await;
        self.buffer
            .truncate(filled + read.as_ref().ok().copied().flatten().unwrap_or(0));
        Ok(read?.is_some())
    }

    /// Reads the head of the answer. Those before it that only say that it will come are passed over.
    async fn head(&mut self, has_body: bool) -> Result<wire::AnswerHead, Failure> {
        let mut passed = 0;
        loop {
            let end = self.end_of_head(passed == 0).await?;
            let bytes = self.buffer.split_to(end);
            let head = wire::read_answer(&bytes, has_body).map_err(Failure::NotHttp)?;
            if !head.status.is_informational() {
                return Ok(head);
            }
            passed += end;
            if passed > wire::MOST_HEAD {
                return Err(too_large());
            }
        }
    }

    /// Waits until a head is in the buffer, and says where it ends.
    async fn end_of_head(&mut self, is_first: bool) -> Result<usize, Failure> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = wire::end_of_head(&self.buffer, looked_at) {
                return Ok(end);
            }
            looked_at = self.buffer.len();
            if !wire::begins_an_answer(&self.buffer) {
                return Err(Failure::NotHttp("it does not begin with `HTTP/1.`".into()));
            }
            if looked_at > wire::MOST_HEAD {
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

    /// Lets the spark end, for a while: the answer is complete, and nobody waits for what comes after it. Where that is more of
    /// an answer or a failure, the log says so.
    fn complete(self, is_told: bool) {
        let Incoming { source, buffer } = self;
        tokio::spawn(async move {
            let mut source = source;
            source.feed = None;
            let mut piece = [0; 1];
            let rest = async {
                match source.read(&mut piece).await {
                    Ok(None) if buffer.is_empty() => {
                        let exit = source.leash.process().exited().await;
                        (!exit.is_normal()).then(|| Failure::of_exit(exit))
                    }
                    Ok(_) => Some(Failure::NotHttp(
                        "more follows its end, which was cut off".into(),
                    )),
                    Err(failure) => Some(failure),
                }
            };
            if let Ok(Some(failure)) = tokio::time::timeout(AFTERWARDS, rest).await
                && is_told
            {
                source
                    .version
                    .log()
                    .failed(&source.ticket, source.version.number(), &failure);
            }
        });
    }
}

fn too_large() -> Failure {
    Failure::NotHttp(format!("its head is larger than {} bytes", wire::MOST_HEAD))
}
