//! A component instance that serves requests.

use super::grants::Grants;
use super::interfaces::{self, Interfaces};
use super::job::{Job, Progress, Reply, failure_of, late};
use crate::Failure;
use crate::body::{Body, BodyError};
use crate::metrics::FunctionMetrics;
use http::{HeaderValue, Request, header};
use http_body_util::BodyExt;
use lunatic_vm::{Exit, LiveComponent};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::sleep_until;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};

/// An instance that can be given requests.
pub(super) struct Instance<'a> {
    live: &'a mut LiveComponent,
    proxy: Proxy,
    metrics: Arc<FunctionMetrics>,
}

impl<'a> Instance<'a> {
    pub(super) fn begin(live: &'a mut LiveComponent, grants: Grants) -> Result<Instance<'a>, Exit> {
        let metrics = grants.metrics.clone();
        live.store()
            .data_mut()
            .extension::<Interfaces>()
            .grant(grants);
        let instance = live.instance();
        match Proxy::new(live.store(), &instance) {
            Ok(proxy) => Ok(Instance {
                live,
                proxy,
                metrics,
            }),
            Err(error) => Err(live.exit(&error)),
        }
    }

    /// Serves a request. Unless this returns an error, the instance can then serve another one.
    pub(super) async fn serve(&mut self, job: Job) -> Result<(), Exit> {
        let Job {
            request,
            info,
            reply,
            gone,
            progress,
            end,
            deadline,
        } = job;
        info.served_by(self.live.process());
        let is_secure = info.is_secure;
        self.live.renew_compute();
        self.live
            .store()
            .data_mut()
            .extension::<Interfaces>()
            .begin(progress.subscribe());
        let is_given_up = async {
            if gone.await.is_ok() {
                // The response is complete, so nothing is waiting for it any longer.
                std::future::pending::<()>().await;
            }
        };
        let handled = tokio::select! {
            biased;
            () = is_given_up => Err(Exit::Killed),
            () = sleep_until(end) => Err(late(deadline)),
            handled = self.handle(request, is_secure, reply) => handled,
        };
        let outcome = match &handled {
            Ok(()) => Progress::Done,
            // The instance exited normally in the middle of the request, so this is a failure only
            // if the body is unfinished.
            Err(Exit::Normal) => Progress::Done,
            Err(exit) => Progress::Failed(failure_of(exit.clone(), deadline)),
        };
        progress.send_replace(outcome);
        let left_something = self.abort_bodies();
        self.metrics.computed(self.live.instructions_used());
        self.metrics.had_memory(
            usize::try_from(self.live.store().data().memory_used()).unwrap_or(usize::MAX),
        );
        match handled {
            // Bodies that the instance has not finished are dropped with it.
            Ok(()) if left_something => Err(Exit::Normal),
            handled => handled,
        }
    }

    async fn handle(
        &mut self,
        request: Request<Body>,
        is_secure: bool,
        reply: oneshot::Sender<Reply>,
    ) -> Result<(), Exit> {
        let scheme = if is_secure {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let set = move |response| {
            // An error means that the client has just given up.
            let _ = reply.send(Reply::Set(response));
        };
        let mut view = interfaces::view(self.live.store().data_mut());
        let resources = view
            .new_incoming_request(scheme, incoming(request))
            .and_then(|request| {
                let outparam = view.new_response_outparam_from_callback(set)?;
                Ok((request, outparam))
            });
        let handled = match resources {
            Ok((request, outparam)) => {
                self.proxy
                    .wasi_http_incoming_handler()
                    .call_handle(self.live.store(), request, outparam)
                    .await
            }
            Err(error) => Err(error),
        };
        handled.map_err(|error| self.live.exit(&error))
    }

    /// Aborts the bodies that the component has not finished. Returns whether there were any.
    fn abort_bodies(&mut self) -> bool {
        let table = self.live.store().data_mut().resources();
        let mut found = false;
        for entry in table.iter_mut() {
            if let Some(body) = entry.downcast_mut::<HostOutgoingBody>() {
                let (placeholder, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
                std::mem::replace(body, placeholder).abort();
                found = true;
            }
        }
        found
    }
}

/// Converts a request to one that can be passed to a component.
fn incoming(
    mut request: Request<Body>,
) -> Request<impl http_body::Body<Data = bytes::Bytes, Error = Error> + Send + 'static> {
    let has_host = request
        .headers()
        .get(header::HOST)
        .is_some_and(|host| host.to_str().is_ok());
    if request.uri().authority().is_none() && !has_host {
        // HTTP/1.0 does not require a host, but components do.
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static(""));
    }
    request.map(|body| body.map_err(|error| error_of(&error)))
}

/// Returns the error that a component gets when the request it is reading is cut short.
fn error_of(error: &BodyError) -> Error {
    match error.downcast_ref::<Failure>() {
        Some(Failure::TooLarge(_)) => Error::HttpRequestBodySize(None),
        Some(Failure::Slow(_)) => Error::ConnectionReadTimeout,
        _ => Error::ConnectionTerminated,
    }
}
