//! `lunatic invoke`: sends a request to one of a service's functions.

use crate::call::read_data;
use crate::client;
use crate::command_line::Invoke;
use crate::failure::{Failure, Outcome};
use http_body_util::Full;
use hyper::Request;

/// Sends a request and prints the response's body. If the response has an error status, reports the
/// status and fails.
pub(crate) fn invoke(invoke: &Invoke) -> Outcome {
    let address = client::address(invoke.invoke, client::INVOKE)?;
    let method = invoke
        .request
        .as_deref()
        .unwrap_or(if invoke.data.is_some() { "POST" } else { "GET" });
    let path = invoke
        .path
        .as_deref()
        .unwrap_or_default()
        .trim_start_matches('/');
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/{}/{path}", client::segment(&invoke.name)));
    for field in &invoke.header {
        let (name, value) = field.split_once(':').ok_or_else(|| {
            Failure::new(format!("`{field}` is not a header")).hint("use `NAME: VALUE`")
        })?;
        request = request.header(name.trim(), value.trim());
    }
    let body = invoke.data.as_deref().map_or(Ok(Vec::new()), read_data)?;
    let request = request
        .body(Full::new(body.into()))
        .map_err(|error| Failure::new(format!("the request is invalid: {error}")))?;
    let status = client::block_on(async {
        let answer = client::send(address, request).await?;
        let status = answer.status();
        client::print(answer).await?;
        Ok(status)
    })?;
    if status.is_client_error() || status.is_server_error() {
        client::tell_status(status);
        return Ok(1);
    }
    Ok(0)
}
