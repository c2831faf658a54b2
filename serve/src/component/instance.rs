//! An instance of a component that serves requests.

use super::exchange::{Job, Progress, Reply, failure_of, late};
use super::interfaces::{self, Interfaces};
use crate::gateway::http::{Body, BodyError};
use crate::metrics::FunctionMetrics;
use crate::{Failure, Name, Outbound, Version};
use http::{HeaderValue, Request, header};
use http_body_util::BodyExt;
use lunatic_vm::{Exit, LiveComponent};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::sleep_until;
use wasmtime_wasi::WasiView;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};

/// What an instance is given beside what its environment grants.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) function: Name,
    pub(super) outbound: Arc<Outbound>,
    pub(super) client_secret: Option<String>,
    metrics: Arc<FunctionMetrics>,
}

impl Means {
    pub(super) fn of(version: &Version) -> Means {
        Means {
            function: version.name().clone(),
            outbound: version.outbound().clone(),
            client_secret: version.settings().client_secret.clone(),
            metrics: version.metrics().clone(),
        }
    }
}

/// An instance that can be given requests.
pub(super) struct Instance<'a> {
    live: &'a mut LiveComponent,
    proxy: Proxy,
    metrics: Arc<FunctionMetrics>,
}

impl<'a> Instance<'a> {
    pub(super) fn begin(live: &'a mut LiveComponent, means: Means) -> Result<Instance<'a>, Exit> {
        let metrics = means.metrics.clone();
        live.store()
            .data_mut()
            .extension::<Interfaces>()
            .have(means);
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

    /// Serves a request. Afterwards the instance can be given another, unless this is an `Err`.
    pub(super) async fn serve(&mut self, job: Job) -> Result<(), Exit> {
        let Job {
            request,
            ticket,
            reply,
            gone,
            progress,
            end,
            deadline,
        } = job;
        ticket.served_by(self.live.process());
        let is_secure = ticket.is_secure;
        // It knows its version, which is not to stay because of an instance that is at something else.
        drop(ticket);
        self.live.renew_compute();
        self.live
            .store()
            .data_mut()
            .extension::<Interfaces>()
            .begin(progress.subscribe());
        let is_given_up = async {
            if gone.await.is_ok() {
                // Nobody waits, and that is right.
                std::future::pending::<()>().await;
            }
        };
        let handled = tokio::select! {
            biased;
            () = is_given_up => Err(Exit::Killed),
            () = sleep_until(end) => Err(late(deadline)),
            handled = self.handle(request, is_secure, reply) => handled,
        };
        let told = match &handled {
            Ok(()) => Progress::Done,
            // It ended well, in the middle: there is nothing to fail but a body that is not finished.
            Err(Exit::Normal) => Progress::Done,
            Err(exit) => Progress::Failed(failure_of(exit.clone(), deadline)),
        };
        progress.send_replace(told);
        let left_something = self.abort_bodies();
        self.metrics.computed(self.live.instructions_used());
        self.metrics.had_memory(
            usize::try_from(self.live.store().data().memory_used()).unwrap_or(usize::MAX),
        );
        match handled {
            // What it began and did not finish is dropped with it.
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
        let set = move |answer| {
            // Whoever gave up in this moment does not want to know.
            let _ = reply.send(Reply::Set(answer));
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

    /// Breaks off what the component was writing and did not finish; returns whether there was anything.
    fn abort_bodies(&mut self) -> bool {
        let table = self.live.store().data_mut().ctx().table;
        let mut found = false;
        for entry in table.iter_mut() {
            if let Some(body) = entry.downcast_mut::<HostOutgoingBody>() {
                let (nobodys, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
                std::mem::replace(body, nobodys).abort();
                found = true;
            }
        }
        found
    }
}

/// Makes a request what a component can be given.
fn incoming(
    mut request: Request<Body>,
) -> Request<impl http_body::Body<Data = bytes::Bytes, Error = Error> + Send + 'static> {
    let has_host = request
        .headers()
        .get(header::HOST)
        .is_some_and(|host| host.to_str().is_ok());
    if request.uri().authority().is_none() && !has_host {
        // HTTP/1.0 needs none; a component asks for one.
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static(""));
    }
    request.map(|body| body.map_err(|error| error_of(&error)))
}

/// Returns what a component is told where its request breaks off.
fn error_of(error: &BodyError) -> Error {
    match error.downcast_ref::<Failure>() {
        Some(Failure::TooLarge(_)) => Error::HttpRequestBodySize(None),
        Some(Failure::Slow(_)) => Error::ConnectionReadTimeout,
        _ => Error::ConnectionTerminated,
    }
}
