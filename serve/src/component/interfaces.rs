//! `wasi:http` for components: what they are given requests with, and what they call others with.
//!
//! The functions are `wasmtime-wasi-http`'s; what is here bounds what they keep for a component and sends its calls the way
//! that all functions' calls go.

use super::exchange::{Checked, Progress};
use super::instance::Means;
use crate::Name;
use crate::gateway::http::BodyError;
use crate::outbound::{Outbound, OutboundError, Times};
use http_body_util::BodyExt;
use lunatic_vm::Guest;
use std::sync::Arc;
use tokio::sync::watch;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

/// The largest head that a component can make, in bytes. It can make as many as its table of resources holds, so that all of
/// them together take no more than its memory may.
const LARGEST_HEAD: usize = 32 << 10;

/// The largest piece of a body that a component can write at once, in bytes; two are kept until they are read.
const LARGEST_PIECE: usize = 64 << 10;

/// What the interfaces of one component work on.
pub(super) struct Interfaces {
    context: WasiHttpCtx,
    calls: Calls,
    client_secret: Option<String>,
}

/// Whom a component calls, and on whose behalf.
#[derive(Default)]
struct Calls {
    function: Option<Name>,
    outbound: Option<Arc<Outbound>>,
    /// How far it is with the request that it is at.
    progress: Option<watch::Receiver<Progress>>,
}

impl Default for Interfaces {
    fn default() -> Interfaces {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(LARGEST_HEAD);
        Interfaces {
            context,
            calls: Calls::default(),
            client_secret: None,
        }
    }
}

impl Interfaces {
    /// Has what a function may use.
    pub(super) fn have(&mut self, means: Means) {
        self.client_secret = means.client_secret;
        self.calls = Calls {
            function: Some(means.function),
            outbound: Some(means.outbound),
            progress: None,
        };
    }

    /// Begins to work on a request.
    pub(super) fn begin(&mut self, progress: watch::Receiver<Progress>) {
        self.calls.progress = Some(progress);
    }

    pub(super) fn secret(&self) -> Option<&str> {
        self.client_secret.as_deref()
    }
}

/// Adds `wasi:http` to what components import.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    outgoing_handler::add_to_linker::<Guest, WasiHttp>(linker, view)?;
    types::add_to_linker::<Guest, WasiHttp>(linker, &LinkOptions::default().into(), view)
}

/// Returns what the functions of `wasi:http` work on.
pub(super) fn view(guest: &mut Guest) -> WasiHttpCtxView<'_> {
    let (wasi, interfaces) = guest.wasi_and_extension::<Interfaces>();
    WasiHttpCtxView {
        hooks: &mut interfaces.calls,
        table: wasi.table,
        ctx: &mut interfaces.context,
    }
}

/// The head of an answer, with what has to be done for the rest to come, which is nothing here.
type Answered = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Calls {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answered, Error>> + Send> {
        let (function, outbound) = (self.function.clone(), self.outbound.clone());
        let progress = self.progress.clone();
        let usual = Times::default();
        let times = options.map_or(usual, |options| Times {
            connect: options.connect_timeout.unwrap_or(usual.connect),
            first_byte: options.first_byte_timeout.unwrap_or(usual.first_byte),
            between_bytes: options.between_bytes_timeout.unwrap_or(usual.between_bytes),
        });
        Box::new(async move {
            let (Some(function), Some(outbound)) = (function, outbound) else {
                return Err(Error::HttpRequestDenied);
            };
            let request = request.map(|body| Checked { body, progress }.boxed_unsync());
            let answer = outbound
                .send_within(request, times)
                .await
                .map_err(|error| {
                    log::info!("a call of `{function}`: {error}");
                    error_of(&error)
                })?;
            let body = |body: crate::gateway::http::Body| {
                body.map_err(|error| error_of_body(&error)).boxed_unsync()
            };
            Ok((answer.map(body), Box::new(async { Ok(()) }) as Box<_>))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        LARGEST_PIECE
    }
}

/// Returns what a component is told where its call fails.
fn error_of(error: &OutboundError) -> Error {
    match error {
        OutboundError::NotAllowed(_) => Error::HttpRequestDenied,
        OutboundError::Address(_) => Error::HttpRequestUriInvalid,
        OutboundError::Prohibited { .. } => Error::DestinationIpProhibited,
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
