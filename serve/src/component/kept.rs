//! How many bytes the host holds for the requests and responses of a component.
//!
//! A body is counted as what it may buffer, because its pieces are not visible.

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

/// The bytes that a body which a component writes may hold until they are read. While a connection
/// reads the body, the limit on connections bounds the number of such bodies.
const WRITTEN: usize = 2 * MAX_PIECE;

/// The bytes that a body which a component reads may hold.
const READ: usize = MAX_PIECE;

/// Returns how many bytes a resource of `wasi:http` may take.
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
            // The request may still be there, and the response may be there already.
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

/// The number of fields of a head that are looked at one by one.
const FEW: usize = 64;

/// Returns how many bytes a head takes at most. The time that this takes does not depend on the
/// size of the head.
fn head(fields: &HeaderMap) -> usize {
    /// A field in the map, with the indices that lead to it.
    const FIELD: usize = size_of::<(HeaderName, HeaderValue, [usize; 5])>();
    /// A further value of a field. The list of these values grows to twice its length.
    const VALUE: usize = 2 * size_of::<(HeaderValue, [usize; 4])>();
    let more = fields.len() - fields.keys_len();
    let texts = if fields.len() > FEW {
        MAX_RECEIVED_HEAD
    } else {
        // Each text is allocated separately.
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
    fn a_head_takes_at_least_its_texts_and_its_slots() {
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
