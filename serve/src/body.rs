//! Request and response bodies, as passed between gateways, functions and their outbound calls.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// A body that is produced as it is read. At most one chunk is buffered ahead of the reader.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended prematurely.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Returns an empty body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body that is already complete.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
