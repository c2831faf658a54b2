//! `wasi:http` for components, through which they receive requests and call other hosts.
//!
//! The functions come from `wasmtime-wasi-http`. This file limits the size of each head, string and
//! piece of a body that these functions hold for a component (`kept` counts them), and sends the
//! component's calls through the function's [`Outbound`].

use super::body::InstanceBody;
use super::grants::Grants;
use super::job::Progress;
use crate::body::{Body, BodyError};
use crate::outbound::Times;
use crate::{Name, Outbound, OutboundError};
use http_body_util::BodyExt;
use lunatic_vm::Guest;
use std::sync::Arc;
use tokio::sync::watch;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method};
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

/// The maximum size of a head that a component can create, in bytes.
const MAX_HEAD: usize = 32 << 10;

/// The maximum size, in bytes, of a piece of a body that a component can write in one call. Two
/// pieces are buffered until they are read.
pub(super) const MAX_PIECE: usize = 64 << 10;

/// The maximum length of a method or an authority that a component sets, in bytes.
const MAX_TEXT: usize = 4 << 10;

/// The state of a component's interfaces.
pub(super) struct Interfaces {
    context: WasiHttpCtx,
    calls: Calls,
    client_secret: Option<String>,
}

/// The calls made by a component, and the function on whose behalf it makes them.
#[derive(Default)]
struct Calls {
    function: Option<Name>,
    outbound: Option<Arc<Outbound>>,
    /// The component's progress with its current request.
    progress: Option<watch::Receiver<Progress>>,
}

impl Default for Interfaces {
    fn default() -> Interfaces {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_HEAD);
        Interfaces {
            context,
            calls: Calls::default(),
            client_secret: None,
        }
    }
}

impl Interfaces {
    /// Grants what a function may use.
    pub(super) fn grant(&mut self, grants: Grants) {
        self.client_secret = grants.client_secret;
        self.calls = Calls {
            function: Some(grants.function),
            outbound: Some(grants.outbound),
            progress: None,
        };
    }

    /// Begins a request.
    pub(super) fn begin(&mut self, progress: watch::Receiver<Progress>) {
        self.calls.progress = Some(progress);
    }

    pub(super) fn secret(&self) -> Option<&str> {
        self.client_secret.as_deref()
    }
}

/// Adds `wasi:http` to the interfaces that components can import.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    outgoing_handler::add_to_linker::<Guest, WasiHttp>(linker, view)?;
    types::add_to_linker::<Guest, WasiHttp>(linker, &LinkOptions::default().into(), view)?;
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap("[method]outgoing-request.set-method", set_method)?;
    types.func_wrap("[method]outgoing-request.set-authority", set_authority)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Sets the method of a request, unless it is too long.
fn set_method(
    mut store: StoreContextMut<'_, Guest>,
    (request, method): (Resource<HostOutgoingRequest>, Method),
) -> wasmtime::Result<(Result<(), ()>,)> {
    if matches!(&method, Method::Other(name) if name.len() > MAX_TEXT) {
        return Ok((Err(()),));
    }
    Ok((view(store.data_mut()).set_method(request, method)?,))
}

/// Sets the authority of a request, unless it is too long.
fn set_authority(
    mut store: StoreContextMut<'_, Guest>,
    (request, authority): (Resource<HostOutgoingRequest>, Option<String>),
) -> wasmtime::Result<(Result<(), ()>,)> {
    if authority.as_ref().is_some_and(|name| name.len() > MAX_TEXT) {
        return Ok((Err(()),));
    }
    Ok((view(store.data_mut()).set_authority(request, authority)?,))
}

/// Returns the state used by the `wasi:http` functions.
pub(super) fn view(guest: &mut Guest) -> WasiHttpCtxView<'_> {
    let (wasi, interfaces) = guest.wasi_and_extension::<Interfaces>();
    WasiHttpCtxView {
        hooks: &mut interfaces.calls,
        table: wasi.table,
        ctx: &mut interfaces.context,
    }
}

/// A response, and a future that must be driven for the response's body to arrive. Here, the future
/// is always complete.
type Sent = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Calls {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (function, outbound) = (self.function.clone(), self.outbound.clone());
        let progress = self.progress.clone();
        let default = Times::default();
        let times = options.map_or(default, |options| Times {
            connect: options.connect_timeout.unwrap_or(default.connect),
            first_byte: options.first_byte_timeout.unwrap_or(default.first_byte),
            between_bytes: options
                .between_bytes_timeout
                .unwrap_or(default.between_bytes),
        });
        Box::new(async move {
            let (Some(function), Some(outbound)) = (function, outbound) else {
                return Err(Error::HttpRequestDenied);
            };
            let request = request.map(|body| InstanceBody { body, progress }.boxed_unsync());
            let response = outbound
                .send_within(request, times)
                .await
                .map_err(|error| {
                    log::info!("a call by `{function}` failed: {error}");
                    error_of(&error)
                })?;
            let body = |body: Body| body.map_err(|error| error_of_body(&error)).boxed_unsync();
            Ok((response.map(body), Box::new(async { Ok(()) }) as Box<_>))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_PIECE
    }
}

/// Returns the error that a component gets when a call it made fails.
fn error_of(error: &OutboundError) -> Error {
    match error {
        OutboundError::NotAllowed(_) => Error::HttpRequestDenied,
        OutboundError::Address(_) => Error::HttpRequestUriInvalid,
        OutboundError::Prohibited { .. } | OutboundError::Reserved(..) => {
            Error::DestinationIpProhibited
        }
        OutboundError::Name(..) => Error::DnsError {
            rcode: None,
            info_code: None,
        },
        OutboundError::NameTime(..) => Error::DnsTimeout,
        OutboundError::Connect(_) => Error::ConnectionRefused,
        OutboundError::Tls(_) => Error::TlsProtocolError,
        OutboundError::ConnectTime(_) => Error::ConnectionTimeout,
        OutboundError::Time(..) => Error::ConnectionReadTimeout,
        OutboundError::Busy(_) => Error::ConnectionLimitReached,
        OutboundError::Protocol(_) => Error::HttpProtocolError,
    }
}

fn error_of_body(error: &BodyError) -> Error {
    error
        .downcast_ref::<OutboundError>()
        .map_or(Error::HttpResponseIncomplete, error_of)
}
