//! How an HTTP listener handles requests, once its description has been checked.

use super::files::without_links;
use super::route::{RouteError, Routes};
use super::tls::Tls;
use crate::body::Body;
use crate::{HttpGateway, HttpLimits, Name, Target, TlsFiles};
use http::{Request, Response};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Answers requests in place of a function. Dropping the future or the response's body stops the
/// work.
pub(crate) type Responder = Arc<dyn Fn(Request<Body>) -> BoxFuture<Response<Body>> + Send + Sync>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers a listener's requests if they do not go to functions.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) responder: Responder,
    /// The maximum size of a request's body, in bytes.
    pub(crate) body: u64,
    /// How long a request may take, including sending its response.
    pub(crate) deadline: Duration,
}

/// How a listener handles requests. A setup is never modified, only replaced.
pub(crate) struct Setup {
    pub(super) dispatch: Dispatch,
    pub(super) limits: HttpLimits,
    pub(super) tls: Option<Tls>,
}

/// Where requests go.
pub(super) enum Dispatch {
    Routes(Routes),
    Handler(Handler),
}

/// Why a listener's description cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Tls(#[from] std::io::Error),
    #[error("the limit `{0}` is zero, so no request would ever be answered")]
    Limit(&'static str),
}

impl Setup {
    pub(crate) fn of_gateway(gateway: &HttpGateway) -> Result<Setup, SetupError> {
        let mut routes = gateway.routes.clone();
        for route in &mut routes {
            if let Target::Files(directory) = &mut route.target {
                *directory = without_links(directory);
            }
        }
        let dispatch = Dispatch::Routes(Routes::new(&routes)?);
        Setup::new(dispatch, gateway.tls.as_ref(), gateway.limits.clone())
    }

    pub(crate) fn of_handler(
        handler: Handler,
        tls: Option<&TlsFiles>,
        limits: HttpLimits,
    ) -> Result<Setup, SetupError> {
        Setup::new(Dispatch::Handler(handler), tls, limits)
    }

    fn new(
        dispatch: Dispatch,
        tls: Option<&TlsFiles>,
        limits: HttpLimits,
    ) -> Result<Setup, SetupError> {
        let HttpLimits {
            connections,
            requests,
            head_time,
            head_size,
            fields,
            idle,
        } = limits;
        let zero = [
            ("connections", connections == 0),
            ("requests", requests == 0),
            ("head_size", head_size == 0),
            ("fields", fields == 0),
            ("head_time", head_time.is_zero()),
            ("idle", idle.is_zero()),
        ];
        match zero.iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(SetupError::Limit(name)),
            None => Ok(Setup {
                dispatch,
                limits,
                tls: tls.map(Tls::new).transpose()?,
            }),
        }
    }

    /// If a single function answers all requests, returns that function.
    pub(super) fn only_function(&self) -> Option<&Name> {
        match &self.dispatch {
            Dispatch::Routes(routes) => routes.only_function(),
            Dispatch::Handler(_) => None,
        }
    }
}
