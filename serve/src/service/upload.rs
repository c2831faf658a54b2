//! Reads a deploy's body, limiting its size and the time it takes.

use super::refusal::Refusal;
use crate::Failure;
use crate::body::{Body, BodyError};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use std::time::Duration;

/// The maximum time between two chunks of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a body. Fails if it is larger than `most` bytes or takes longer than `within`.
pub(super) async fn read(mut body: Body, most: u64, within: Duration) -> Result<Bytes, Refusal> {
    let too_large = || {
        let sentence = format!("a function can have at most {most} bytes of wasm on this service");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    };
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let read = async {
        let mut bytes = BytesMut::new();
        loop {
            let Ok(frame) = tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await else {
                return Err(slow());
            };
            let Some(frame) = frame else {
                return Ok(bytes.freeze());
            };
            let Ok(piece) = frame.map_err(broken_off)?.into_data() else {
                continue;
            };
            if (bytes.len() + piece.len()) as u64 > most {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
    };
    tokio::time::timeout(within, read)
        .await
        .unwrap_or_else(|_| Err(slow()))
}

fn slow() -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_TIMEOUT,
        "the wasm did not arrive in time",
    )
}

fn broken_off(error: BodyError) -> Refusal {
    match error.downcast::<Failure>() {
        Ok(failure) => Refusal::new(failure.status(), failure),
        Err(error) => Refusal::bad_request(format!("the request's body was cut off: {error}")),
    }
}
