//! HTTP that a spark speaks through a comm. On the other side is either the function `http`, which
//! calls other hosts, or a component in the project, which answers requests.
//!
//! The first message is the request, in the form in which it would be sent: with an absolute URL,
//! or with a path and a `host` field. Whatever follows the head in that message is the body. The
//! response comes back the same way, as one message.

use super::comm::CommPipes;
use super::incoming::{Incoming, Source};
use super::wire::{self, Decoder, Framing};
use crate::body::{Body, empty};
use crate::component;
use crate::request_info::RequestInfo;
use crate::{Failure, Outbound, Version};
use futures_lite::future::{self, Boxed};
use http::{Request, Response};
use http_body_util::BodyExt;
use lunatic_vm::{Component, MessageReader, MessageWriter, Part};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Says whether a call will be made, as soon as that is known and before there is a response.
pub(super) type Verdict = oneshot::Receiver<Result<(), String>>;

/// Makes the call requested by a comm's first message, if the rules permit it.
pub(super) fn call(outbound: Arc<Outbound>, pipes: CommPipes) -> (JoinSet<()>, Verdict) {
    let (sender, verdict) = oneshot::channel();
    let send = move |request| -> Boxed<Result<Response<Body>, String>> {
        Box::pin(async move {
            outbound
                .send(request)
                .await
                .map_err(|error| error.to_string())
        })
    };
    (
        JoinSet::from_iter([serve(pipes, Some(sender), send)]),
        verdict,
    )
}

/// Has a component answer the request in a comm's first message.
pub(super) fn ask(version: Arc<Version>, component: Component, pipes: CommPipes) -> JoinSet<()> {
    let answer = move |request| -> Boxed<Result<Response<Body>, String>> {
        Box::pin(async move {
            let info = Arc::new(RequestInfo::new(None, false));
            let answered = component::answer::answer(&version, &component, &info, request).await;
            answered.map_err(|failure| failure.to_string())
        })
    };
    JoinSet::from_iter([serve(pipes, None, answer)])
}

/// Reads a request, waits for the response, and writes it. If anything goes wrong, the output ends
/// with the reason.
async fn serve(
    (reader, writer): CommPipes,
    mut verdict: Option<oneshot::Sender<Result<(), String>>>,
    answer: impl FnOnce(Request<Body>) -> Boxed<Result<Response<Body>, String>>,
) {
    let mut decide = |decision| {
        if let Some(verdict) = verdict.take() {
            // If nothing is waiting for the verdict, the end of the comm still reports it.
            let _ = verdict.send(decision);
        }
    };
    let answered = async {
        let request = read_request(reader).await?;
        let mut answer = answer(request);
        // A refused call fails on the first poll, before there is anything to wait for.
        let response = match future::poll_once(&mut answer).await {
            Some(answered) => answered?,
            None => {
                decide(Ok(()));
                answer.await?
            }
        };
        decide(Ok(()));
        write_response(&writer, response).await
    };
    match answered.await {
        Ok(()) => writer.finish(),
        Err(why) => {
            writer.fail(&why);
            decide(Err(why));
        }
    }
}

async fn read_request(reader: MessageReader) -> Result<Request<Body>, String> {
    let mut incoming = Incoming::new(Message {
        reader,
        has_ended: false,
    });
    let head = incoming.head().await?;
    let head = head.ok_or("the message ends partway through the request's head")?;
    let (parts, framing) = wire::read_request(&head)?;
    let body = if framing.is_none() && incoming.is_over() {
        empty()
    } else {
        let decoder = Decoder::new(framing.unwrap_or(Framing::UntilEnd));
        incoming.into_body(decoder, drop)
    };
    Ok(Request::from_parts(parts, body))
}

/// A message being read.
struct Message {
    reader: MessageReader,
    has_ended: bool,
}

impl Source for Message {
    type Error = String;
    const WHOLE: &str = "the message";
    const HEAD: &str = "the request's head";

    async fn read(&mut self, into: &mut [u8]) -> Result<usize, String> {
        if !self.has_ended
            && let Part::Bytes(count) = self.reader.read(into).await
        {
            return Ok(count);
        }
        self.has_ended = true;
        Ok(0)
    }

    fn malformed(why: String) -> String {
        why
    }
}

impl Incoming<Message> {
    /// Returns whether it is already known that nothing more will come.
    fn is_over(&mut self) -> bool {
        if self.buffer.is_empty() && !self.source.has_ended {
            let mut piece = [0; 512];
            match self.source.reader.try_read(&mut piece) {
                Some(Part::Bytes(count)) => self.buffer.extend_from_slice(&piece[..count]),
                Some(_) => self.source.has_ended = true,
                None => (),
            }
        }
        self.buffer.is_empty() && self.source.has_ended
    }
}

async fn write_response(writer: &MessageWriter, response: Response<Body>) -> Result<(), String> {
    let (parts, mut body) = response.into_parts();
    // A spark that has stopped reading does not need to be told the reason.
    if writer
        .write_all(&wire::write_response(&parts))
        .await
        .is_err()
    {
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
