//! Files below a directory, served by `tower-http`, which handles ranges, conditional requests,
//! content types and `index.html`.
//!
//! Directories are not listed, and no path can refer to anything above the directory. Names that
//! begin with a dot are not served, except `.well-known`. Symbolic links are followed wherever they
//! lead, so anyone with write access to the directory decides what is served.

use super::reply::short_response;
use crate::body::Body;
use http::header::{HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::Path;
use tower_http::services::ServeDir;
use tower_service::Service;

/// The characters that are percent-encoded in a path, which are all characters except letters,
/// digits and those listed here.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Responds with a file. The path is decoded and normalized. The prefix is the part that was
/// removed from its front.
pub(super) async fn serve(
    directory: &Path,
    prefix: &str,
    path: &str,
    request: Request<Body>,
) -> Response<Body> {
    let is_hidden = |part: &str| part.starts_with('.') && part != ".well-known";
    if path.split('/').any(is_hidden) {
        return error(StatusCode::NOT_FOUND);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return error(StatusCode::METHOD_NOT_ALLOWED);
    }
    let encoded = utf8_percent_encode(path, ENCODED).to_string();
    let Ok(uri) = Uri::try_from(encoded) else {
        return error(StatusCode::NOT_FOUND);
    };
    let (mut head, _) = request.into_parts();
    let query = head.uri.query().map(str::to_string);
    head.uri = uri;
    // The service is always ready.
    let served = ServeDir::new(directory)
        .call(Request::from_parts(head, ()))
        .await;
    let mut response = served
        .unwrap_or_else(|never| match never {})
        .map(|body| body.map_err(Into::into).boxed_unsync());
    // `ServeDir` redirects to a path without the prefix, so the prefix is added.
    if let Some(location) = response
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
    {
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let whole = format!("{}{location}{query}", utf8_percent_encode(prefix, ENCODED));
        match HeaderValue::try_from(whole) {
            Ok(whole) => response.headers_mut().insert(LOCATION, whole),
            Err(_) => return error(StatusCode::NOT_FOUND),
        };
    }
    response
}

fn error(status: StatusCode) -> Response<Body> {
    let text = status.canonical_reason().unwrap_or_default().to_lowercase();
    short_response(status, &text)
}
