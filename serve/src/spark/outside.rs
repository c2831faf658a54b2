//! HTTP that a spark speaks with others, through a comm as with everybody: the function `http`, which calls hosts, and
//! components of the project, which answer requests.
//!
//! The first message is the request, as it would be sent: with a whole address, or a path and a field `host`. What follows
//! the head until the message ends is the body. The answer comes back in the same way, as one message.

use super::comm::Ends;
use super::wire::{self, Decoder, Framing, Step};
use crate::gateway::http::{Body, BodyError};
use crate::ticket::Ticket;
use crate::{Failure, Outbound, Version};
use bytes::{Bytes, BytesMut};
use futures_lite::future::{self, Boxed};
use futures_lite::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use lunatic_vm::{MessageReader, MessageWriter, Part};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// How many bytes are read at once.
const PIECE: usize = 16 << 10;

/// Told whether a call is made: as soon as that is known, which is before there is an answer.
pub(super) type Verdict = oneshot::Receiver<Result<(), String>>;

/// Makes the call that the first message of a comm asks for, if the rules allow it.
pub(super) fn call(outbound: Arc<Outbound>, ends: Ends) -> (AbortHandle, Verdict) {
    let (told, verdict) = oneshot::channel();
    let send = move |request| -> Boxed<Result<Response<Body>, String>> {
        Box::pin(async move {
            outbound
                .send(request)
                .await
                .map_err(|error| error.to_string())
        })
    };
    (
        tokio::spawn(serve(ends, Some(told), send)).abort_handle(),
        verdict,
    )
}

/// Has a component answer the request that is the first message of a comm.
pub(super) fn ask(version: Arc<Version>, ends: Ends) -> AbortHandle {
    let answer = move |request| -> Boxed<Result<Response<Body>, String>> {
        Box::pin(async move {
            let ticket = Arc::new(Ticket::new(None, false));
            let answer = crate::gateway::http::answer(&version, &ticket, request).await;
            answer.map_err(|failure| failure.to_string())
        })
    };
    tokio::spawn(serve(ends, None, answer)).abort_handle()
}

/// Reads a request, has it answered, and writes the answer. What goes wrong is the end of what is written.
async fn serve(
    (reader, writer): Ends,
    told: Option<oneshot::Sender<Result<(), String>>>,
    answer: impl FnOnce(Request<Body>) -> Boxed<Result<Response<Body>, String>>,
) {
    let mut told = told;
    let mut tell = |verdict| {
        if let Some(told) = told.take() {
            // Who does not wait for it finds it at the end of the comm.
            let _ = told.send(verdict);
        }
    };
    let answered = async {
        let request = read_request(reader).await?;
        let mut answer = answer(request);
        // What is refused is refused before anything is waited for.
        let answer = match future::poll_once(&mut answer).await {
            Some(answer) => answer?,
            None => {
                tell(Ok(()));
                answer.await?
            }
        };
        tell(Ok(()));
        write_answer(&writer, answer).await
    };
    match answered.await {
        Ok(()) => writer.finish(),
        Err(why) => {
            writer.fail(&why);
            tell(Err(why));
        }
    }
}

async fn read_request(reader: MessageReader) -> Result<Request<Body>, String> {
    let mut message = Message {
        reader,
        buffer: BytesMut::new(),
        has_ended: false,
    };
    let mut looked_at = 0;
    let end = loop {
        if let Some(end) = wire::end_of_head(&message.buffer, looked_at) {
            break end;
        }
        looked_at = message.buffer.len();
        if looked_at > wire::MOST_HEAD {
            return Err(format!(
                "the request's head is larger than {} bytes",
                wire::MOST_HEAD
            ));
        }
        if !message.more().await {
            return Err("the message ends within the request's head".into());
        }
    };
    let head = message.buffer.split_to(end);
    let (parts, framing) = wire::read_request(&head)?;
    let decoder = Decoder::new(framing.unwrap_or(Framing::UntilEnd));
    if framing.is_none() && message.is_over() {
        return Ok(Request::from_parts(
            parts,
            http_body_util::Empty::new()
                .map_err(|error| match error {})
                .boxed_unsync(),
        ));
    }
    let pieces = stream::unfold(Some((message, decoder)), |state| async move {
        let (mut message, mut decoder) = state?;
        match piece(&mut message, &mut decoder).await {
            Ok(None) => None,
            Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some((message, decoder)))),
            Err(why) => Some((Err(BodyError::from(why)), None)),
        }
    });
    Ok(Request::from_parts(
        parts,
        StreamBody::new(pieces).boxed_unsync(),
    ))
}

async fn piece(message: &mut Message, decoder: &mut Decoder) -> Result<Option<Bytes>, String> {
    loop {
        match decoder.step(&mut message.buffer)? {
            Step::Piece(piece) => return Ok(Some(piece)),
            Step::Done => return Ok(None),
            Step::More if message.more().await => (),
            Step::More => return decoder.end().map(|()| None),
        }
    }
}

/// A message that is being read.
struct Message {
    reader: MessageReader,
    buffer: BytesMut,
    has_ended: bool,
}

impl Message {
    /// Reads more of it; false where it has ended.
    async fn more(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        let mut piece = [0; PIECE];
        match self.reader.read(&mut piece).await {
            Part::Bytes(count) => self.buffer.extend_from_slice(&piece[..count]),
            Part::EndOfMessage | Part::End(_) => self.has_ended = true,
        }
        !self.has_ended
    }

    /// Whether it is known that nothing more comes.
    fn is_over(&mut self) -> bool {
        if self.buffer.is_empty() && !self.has_ended {
            let mut piece = [0; PIECE];
            match self.reader.try_read(&mut piece) {
                Some(Part::Bytes(count)) => self.buffer.extend_from_slice(&piece[..count]),
                Some(_) => self.has_ended = true,
                None => (),
            }
        }
        self.buffer.is_empty() && self.has_ended
    }
}

async fn write_answer(writer: &MessageWriter, answer: Response<Body>) -> Result<(), String> {
    let (parts, mut body) = answer.into_parts();
    // Who reads no more needs no reason.
    if writer.write_all(&wire::write_answer(&parts)).await.is_err() {
        return Ok(());
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast::<Failure>() {
            Ok(failure) => failure.to_string(),
            Err(error) => error.to_string(),
        })?;
        if let Ok(data) = frame.into_data()
            && writer.write_all(&data).await.is_err()
        {
            return Ok(());
        }
    }
    let _ = writer.end_message().await;
    Ok(())
}
