//! Request and response bodies, counted and monitored as they pass through the gateway.

use super::exchange::Exchange;
use super::guard::ExchangeGuard;
use crate::Failure;
use crate::body::{Body, BodyError, empty};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A request's body on its way to a function. If it is cut short or too large, the exchange fails.
pub(super) struct RequestBody {
    incoming: Incoming,
    exchange: Arc<Exchange>,
    left: u64,
    limit: u64,
}

impl RequestBody {
    /// Returns a body of at most `limit` bytes.
    pub(super) fn bounded(incoming: Incoming, exchange: &Arc<Exchange>, limit: u64) -> Body {
        if incoming.is_end_stream() {
            return empty();
        }
        exchange.body_taken();
        RequestBody {
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

impl http_body::Body for RequestBody {
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

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.exchange.body_dropped();
    }
}

/// A response's body on its way to a client. The exchange owns the bytes and drops them when it
/// runs out of time.
pub(super) struct ResponseBody {
    guard: ExchangeGuard,
    /// The reason why the body is cut off.
    error: Option<BodyError>,
}

impl ResponseBody {
    pub(super) fn new(guard: ExchangeGuard) -> ResponseBody {
        ResponseBody { guard, error: None }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(self.guard.exchange.poll_response(cx));
        let frame = self.guard.check(frame);
        self.guard.sent(frame.as_ref());
        match frame {
            Some(Err(error)) => {
                // On error, hyper discards whatever it has not sent yet. The error is therefore
                // returned only at the next poll. By then, hyper has sent the head and the bytes it
                // has, so that the client gets an incomplete response rather than none at all.
                self.error = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.error.is_none() && self.guard.exchange.is_response_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.guard.exchange.response_size()
    }
}
