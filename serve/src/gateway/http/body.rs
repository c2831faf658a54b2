//! The bodies of requests and answers, while they are counted and watched.

use super::exchange::{Exchange, Served};
use super::{Body, BodyError};
use crate::Failure;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A request's body on its way to a function. What is wrong with it ends the exchange.
pub(super) struct Asked {
    incoming: Incoming,
    exchange: Arc<Exchange>,
    left: u64,
    limit: u64,
}

impl Asked {
    /// Returns a body that may be so large.
    pub(super) fn body(incoming: Incoming, exchange: &Arc<Exchange>, limit: u64) -> Body {
        if incoming.is_end_stream() {
            return empty();
        }
        Asked {
            incoming,
            exchange: exchange.clone(),
            left: limit,
            limit,
        }
        .boxed_unsync()
    }

    fn fail(&self, failure: Failure) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.exchange.fail(failure.clone());
        Some(Err(failure.into()))
    }
}

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            self.exchange.waits_for_body();
            return Poll::Pending;
        };
        self.exchange
            .body_came(frame.is_none() || self.incoming.is_end_stream());
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                return Poll::Ready(self.fail(Failure::Malformed(error.to_string())));
            }
        };
        let length = frame.data_ref().map_or(0, |piece| piece.len() as u64);
        let Some(left) = self.left.checked_sub(length) else {
            return Poll::Ready(self.fail(Failure::TooLarge(self.limit)));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // Nobody waits for what nobody reads.
        self.exchange.body_came(false);
    }
}

/// An answer's body on its way to a client. It belongs to the exchange, which takes it away where the time is over.
pub(super) struct Answer(Served);

impl Answer {
    pub(super) fn new(served: Served) -> Answer {
        Answer(served)
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.0.exchange.poll_answer(cx));
        self.0.sent(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.exchange.is_answer_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.exchange.answer_size()
    }
}

pub(super) fn empty() -> Body {
    http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(super) fn full(text: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(text.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
