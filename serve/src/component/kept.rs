//! Computes how many bytes the host holds for a component's requests and responses.
//!
//! The pieces of a body are not visible here, so a body counts as the most that it may buffer.

use super::interfaces::MAX_PIECE;
use crate::outbound::MAX_HEAD as MAX_RECEIVED_HEAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::any::Any;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::{Method, Scheme};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse,
};

/// The maximum number of bytes that a body written by a component may hold until they are read.
/// While a connection reads the body, the limit on connections bounds the number of such bodies.
const WRITTEN: usize = 2 * MAX_PIECE;

/// The maximum number of bytes that a body read by a component may hold.
const READ: usize = MAX_PIECE;

/// Returns the maximum number of bytes that a `wasi:http` resource takes up, or `None` for any
/// other entry.
pub(super) fn size(entry: &(dyn Any + Send)) -> Option<u64> {
    let bytes = if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        head(fields)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let method = match &request.method {
            Method::Other(method) => method.len(),
            _ => 0,
        };
        let scheme = match &request.scheme {
            Some(Scheme::Other(scheme)) => scheme.len(),
            _ => 0,
        };
        let texts = [&request.authority, &request.path_with_query];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        method + scheme + texts + head(&request.headers) + written(request.body.is_some())
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        head(&response.headers) + written(response.body.is_some())
    } else if let Some(coming) = entry.downcast_ref::<HostFutureIncomingResponse>() {
        match coming {
            HostFutureIncomingResponse::Consumed => 0,
            // The request may not have been sent yet, and the response may already have arrived.
            _ => WRITTEN + 2 * MAX_RECEIVED_HEAD,
        }
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        head(&response.headers) + READ
    } else if entry.is::<HostIncomingRequest>() || entry.is::<HostFutureTrailers>() {
        MAX_RECEIVED_HEAD
    } else if entry.is::<HostIncomingBody>() {
        READ
    } else {
        return None;
    };
    Some(bytes as u64)
}

fn written(has_body: bool) -> usize {
    if has_body { WRITTEN } else { 0 }
}

/// The maximum number of a head's fields whose sizes are added up one by one.
const FEW: usize = 64;

/// Returns the maximum number of bytes that a head takes up. The time to compute this does not
/// depend on the size of the head.
fn head(fields: &HeaderMap) -> usize {
    /// A field in the map, including the indices that lead to it.
    const FIELD: usize = size_of::<(HeaderName, HeaderValue, [usize; 5])>();
    /// Another value of the same field. The list of such values may have twice the capacity it
    /// needs.
    const VALUE: usize = 2 * size_of::<(HeaderValue, [usize; 4])>();
    let more = fields.len() - fields.keys_len();
    let texts = if fields.len() > FEW {
        MAX_RECEIVED_HEAD
    } else {
        // Each string is allocated separately.
        let texts = fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 64);
        texts.sum()
    };
    fields.capacity() * FIELD + more * VALUE + texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_takes_up_at_least_the_size_of_its_strings_and_slots() {
        assert_eq!(head(&HeaderMap::new()), 0);
        let mut fields = HeaderMap::new();
        for number in 0..FEW + 1 {
            let name: HeaderName = format!("x-{number}").parse().expect("the name is valid");
            fields.append(name.clone(), HeaderValue::from_static("one"));
            fields.append(name, HeaderValue::from_static("two"));
            assert!(head(&fields) >= fields.len() * size_of::<(HeaderName, HeaderValue)>() / 2);
        }
        assert!(head(&fields) > MAX_RECEIVED_HEAD);
    }
}
