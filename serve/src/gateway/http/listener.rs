//! State shared by an HTTP listener's connections.

use super::setup::Setup;
use crate::gateway::tcp;
use crate::turnstile::Turnstile;
use crate::{Functions, Version};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpStream;

/// A listener that speaks HTTP.
pub(crate) struct HttpListener {
    name: String,
    pub(super) functions: Functions,
    pub(super) is_logged: bool,
    /// Admits requests to all functions.
    pub(super) requests: Turnstile,
    setup: RwLock<Arc<Setup>>,
}

impl HttpListener {
    pub(crate) fn new(
        name: &str,
        setup: Setup,
        functions: &Functions,
        is_logged: bool,
    ) -> HttpListener {
        HttpListener {
            name: name.to_string(),
            functions: functions.clone(),
            is_logged,
            requests: Turnstile::default(),
            setup: RwLock::new(Arc::new(setup)),
        }
    }

    /// Replaces the setup for later requests.
    pub(crate) fn set_up(&self, setup: Setup) {
        *self.setup.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
    }

    /// Returns the maximum number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.setup().limits.connections
    }

    /// Refuses a connection because there are too many, with a response if one can be sent without
    /// blocking.
    pub(crate) fn turn_away(&self, stream: &TcpStream) {
        log::debug!(
            "gateway `{}` has reached the maximum number of connections",
            self.name
        );
        // A client that speaks TLS does not understand this response but immediately notices that
        // it has been refused.
        let response =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.try_write(response);
    }

    /// Starts the program that receives all connections, if there is one.
    pub(crate) fn begin(&self) {
        if let Some(function) = self.setup().only_function() {
            tcp::begin(&self.functions, function);
        }
    }

    /// Returns the version that serves all requests, if they all go to a single function and the
    /// gateway does not use TLS.
    pub(super) fn only_version(&self) -> Option<Arc<Version>> {
        let setup = self.setup();
        let function = setup.only_function().filter(|_| setup.tls.is_none())?;
        Some(self.functions.get(function.as_str())?.version())
    }

    pub(super) fn setup(&self) -> Arc<Setup> {
        self.setup
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
