//! Records an exchange in its connection, the function's metrics and the access log.

use super::ahead;
use super::check::untrue_length;
use super::connection::Connection;
use super::exchange::Exchange;
use crate::body::BodyError;
use crate::fields;
use crate::in_flight::InFlight;
use crate::turnstile::Permit;
use crate::{Failure, Version};
use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use http_body::Frame;
use std::sync::Arc;
use std::time::Instant;

/// Records an exchange. When dropped, records the end of the exchange, no matter how it ended.
pub(super) struct ExchangeGuard {
    pub(super) exchange: Arc<Exchange>,
    connection: Arc<Connection>,
    version: Option<Arc<Version>>,
    /// Set while a function serves the request.
    pub(super) in_flight: Option<InFlight>,
    /// The first line of the request, if requests are logged.
    line: Option<String>,
    /// `None` until there is a response.
    status: Option<StatusCode>,
    /// The number of bytes of the response's body sent so far.
    bytes: u64,
    /// The length of the response's body, if its head states it.
    length: Option<u64>,
    /// The permits from the function, if a function answers, and from the gateway.
    pub(super) permits: Option<(Option<Permit>, Permit)>,
}

impl ExchangeGuard {
    pub(super) fn new(
        exchange: Arc<Exchange>,
        connection: Arc<Connection>,
        version: Option<Arc<Version>>,
        line: Option<String>,
    ) -> ExchangeGuard {
        ExchangeGuard {
            exchange,
            connection,
            version,
            in_flight: None,
            line,
            status: None,
            bytes: 0,
            length: None,
            permits: None,
        }
    }

    /// Records why the backend did not return a response.
    pub(super) fn failed(&mut self, failure: &Failure) {
        match self.in_flight.take() {
            Some(in_flight) => in_flight.failed(failure),
            None => log::debug!("request {}: {failure}", self.exchange.info.id),
        }
    }

    /// Records that the response is now being sent.
    pub(super) fn sends(&mut self, head: &Parts) {
        self.status = Some(head.status);
        if self.exchange.is_response_over() {
            self.ended(None);
        } else {
            self.length = fields::length(&head.headers).ok().flatten();
        }
    }

    /// Fails a frame of the response's body if the body does not have the length stated in its
    /// head.
    pub(super) fn check(
        &self,
        frame: Option<Result<Frame<Bytes>, BodyError>>,
    ) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Some(length) = self.length else {
            return frame;
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |piece| piece.len() as u64),
            Some(Err(_)) => return frame,
            None => 0,
        };
        let bytes = self.bytes + bytes;
        if bytes > length || frame.is_none() && bytes < length {
            return Some(Err(untrue_length(length, bytes).into()));
        }
        frame
    }

    /// Records a frame of the response's body, or its end.
    pub(super) fn sent(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |piece| piece.len() as u64),
            Some(Err(error)) => return self.ended(Some(error)),
            None => return self.ended(None),
        }
        // If the length is known, the body is not polled for its end.
        if self.length.is_some_and(|length| self.bytes >= length)
            || self.exchange.is_response_over()
        {
            self.ended(None);
        }
    }

    fn ended(&mut self, error: Option<&BodyError>) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        match error {
            None => in_flight.answered(),
            Some(error) => in_flight.failed(&ahead::failure(error)),
        }
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        let now = Instant::now();
        self.connection
            .ended(&self.exchange, now, self.status.is_some());
        let Some(line) = &self.line else { return };
        let info = &self.exchange.info;
        let client = info
            .client
            .map_or_else(|| "-".to_string(), |client| client.ip().to_string());
        let status = self
            .status
            .unwrap_or_else(|| Failure::Gone.status())
            .as_u16();
        let micros = now.duration_since(self.exchange.began).as_micros();
        let (bytes, id) = (self.bytes, info.id);
        let function = match &self.version {
            Some(version) => format!("{} {}", version.name(), version.number()),
            None => "- -".to_string(),
        };
        log::info!(target: "access", "{client} \"{line}\" {status} {bytes} {micros}us {id} {function}");
    }
}
