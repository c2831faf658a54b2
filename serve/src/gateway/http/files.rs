//! Files below a directory, by `tower-http`: ranges, conditions, types and `index.html` are its doing.
//!
//! Nothing is listed, and nothing above the directory can be named. Names that begin with a dot are not served, save
//! `.well-known`. Links of the file system are followed, wherever they lead: who may write the directory decides.

use super::Body;
use http::header::{HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::Path;
use tower_http::services::ServeDir;
use tower_service::Service;

/// What a path is written without, but for these.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Answers with a file. The path is decoded and normal; the prefix is what was taken off before it.
pub(super) async fn answer(
    directory: &Path,
    prefix: &str,
    path: &str,
    request: Request<Body>,
) -> Response<Body> {
    let is_hidden = |part: &str| part.starts_with('.') && part != ".well-known";
    if path.split('/').any(is_hidden) {
        return status(StatusCode::NOT_FOUND);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut answer = status(StatusCode::METHOD_NOT_ALLOWED);
        answer
            .headers_mut()
            .insert(http::header::ALLOW, HeaderValue::from_static("GET,HEAD"));
        return answer;
    }
    let encoded = utf8_percent_encode(path, ENCODED).to_string();
    let Ok(uri) = Uri::try_from(encoded) else {
        return status(StatusCode::NOT_FOUND);
    };
    let (mut head, _) = request.into_parts();
    let query = head.uri.query().map(str::to_string);
    head.uri = uri;
    // It is always ready.
    let answered = ServeDir::new(directory)
        .call(Request::from_parts(head, ()))
        .await;
    let mut answer = answered
        .unwrap_or_else(|never| match never {})
        .map(|body| body.map_err(Into::into).boxed_unsync());
    // It sends to the path that it knows, which is what stands behind the prefix.
    if let Some(location) = answer
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
    {
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let whole = format!("{}{location}{query}", utf8_percent_encode(prefix, ENCODED));
        match HeaderValue::try_from(whole) {
            Ok(whole) => answer.headers_mut().insert(LOCATION, whole),
            Err(_) => return status(StatusCode::NOT_FOUND),
        };
    }
    answer
}

fn status(status: StatusCode) -> Response<Body> {
    let text = status.canonical_reason().unwrap_or_default().to_lowercase();
    super::exchange::short(status, &text)
}
