//! Reads the beginning of a response's body before its head is sent.
//!
//! A head that has been sent cannot be taken back. Most functions write a short body immediately,
//! and if its length differs from what the head states, the client can still be sent an error.

use super::check::untrue_length;
use crate::Failure;
use crate::body::{Body, BodyError};
use crate::fields;
use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use http::Response;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use std::time::Duration;

/// The maximum number of bytes to read ahead. This many bytes are buffered for a slow client
/// anyway.
const MAX_AHEAD: u64 = 64 << 10;

/// How long to wait for each piece of the body.
const AHEAD_TIME: Duration = Duration::from_millis(100);

/// Reads as much of the body as arrives soon, if the head states the body's length.
///
/// # Errors
///
/// Fails if the body is cut off or does not have the length that the head states.
pub(super) async fn read(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let Ok(Some(claimed)) = fields::length(response.headers()) else {
        return Ok(response);
    };
    let (head, mut body) = response.into_parts();
    if body.is_end_stream() {
        return Ok(Response::from_parts(head, body));
    }
    let mut frames: Vec<Result<Frame<Bytes>, BodyError>> = Vec::new();
    let mut came = 0;
    while came < MAX_AHEAD {
        let Ok(frame) = tokio::time::timeout(AHEAD_TIME, body.frame()).await else {
            break;
        };
        let Some(frame) = frame else {
            if came != claimed {
                return Err(untrue_length(claimed, came));
            }
            let body = StreamBody::new(stream::iter(frames));
            return Ok(Response::from_parts(head, body.boxed_unsync()));
        };
        let frame = frame.map_err(|error| failure(&error))?;
        came += frame.data_ref().map_or(0, |piece| piece.len() as u64);
        if came > claimed {
            return Err(untrue_length(claimed, came));
        }
        frames.push(Ok(frame));
        // The body is polled again only if there should be more bytes.
        if came == claimed {
            break;
        }
    }
    let body = StreamBody::new(stream::iter(frames).chain(BodyStream::new(body)));
    Ok(Response::from_parts(head, body.boxed_unsync()))
}

/// Returns why a body was cut off.
pub(super) fn failure(error: &BodyError) -> Failure {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.clone(),
        None => Failure::NotHttp(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_LENGTH;

    /// Reads ahead in a body that consists of the given pieces and then ends or stays open. Returns
    /// the number of bytes that are available afterwards.
    async fn check(claimed: u64, pieces: &[&'static str], ends: bool) -> Result<usize, String> {
        let frame = |piece: &&'static str| Ok::<_, BodyError>(Frame::data(Bytes::from(*piece)));
        let pieces = stream::iter(pieces.iter().map(frame).collect::<Vec<_>>());
        let body = match ends {
            true => StreamBody::new(pieces).boxed_unsync(),
            false => StreamBody::new(pieces.chain(stream::pending())).boxed_unsync(),
        };
        let response = Response::builder().header(CONTENT_LENGTH, claimed);
        let response = response.body(body).expect("the fields are valid");
        let response = read(response)
            .await
            .map_err(|failure| failure.to_string())?;
        let mut body = response.into_body();
        let mut came = 0;
        while let Ok(frame) = tokio::time::timeout(Duration::ZERO, body.frame()).await {
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| error.to_string())?;
            came += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok(came)
    }

    #[tokio::test]
    async fn a_short_body_of_the_wrong_length_is_refused() {
        assert_eq!(check(5, &["abc", "de"], true).await, Ok(5));
        for (claimed, pieces) in [(9, &["abc", "de"][..]), (4, &["abc", "de"]), (1, &[])] {
            let error = check(claimed, pieces, true)
                .await
                .expect_err("the length is wrong");
            assert!(error.contains("its head states a body of"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_slow_body_is_passed_on_with_the_bytes_that_have_arrived() {
        assert_eq!(check(9, &["abc", "de"], false).await, Ok(5));
        assert_eq!(check(9, &[], false).await, Ok(0));
    }
}
