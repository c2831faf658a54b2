//! Gateways route each connection to the function that serves it. This file describes them as plain
//! data.

pub(crate) mod http;
pub(crate) mod tcp;

use crate::Name;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A description of a gateway, such as one from a project file.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The gateway's name, for messages.
    pub name: String,
    /// The address to listen on. Port 0 means any free port.
    pub address: SocketAddr,
    /// The protocol that the gateway speaks.
    pub protocol: Protocol,
}

/// The protocol that a gateway speaks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http(HttpGateway),
    /// Plain bytes.
    Tcp(TcpGateway),
}

/// How an HTTP gateway handles requests.
#[derive(Clone, Debug)]
pub struct HttpGateway {
    /// The routes. The longest matching path wins.
    pub routes: Vec<Route>,
    /// If set, the gateway accepts only TLS connections.
    pub tls: Option<TlsFiles>,
    /// The limits for clients.
    pub limits: HttpLimits,
}

/// Where to route requests whose path starts with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `/` or `/a/b`, which also matches everything below it, but not `/a/bc`.
    pub path: String,
    /// What answers these requests.
    pub target: Target,
}

/// What answers a route's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A function.
    Function(Name),
    /// Files in a directory. The route's path is removed first.
    Files(PathBuf),
    /// Any function in the table. The first part of the path names it and is then removed.
    Named,
    /// Nothing. The response is a 404 with this text, which can point to the right address.
    Notice(String),
}

/// A certificate and its key, as PEM files, which are reloaded when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, starting with the server's own certificate.
    pub certificates: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
}

/// Limits for an HTTP gateway's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The maximum number of concurrent connections.
    pub connections: usize,
    /// The maximum number of concurrent requests, for all functions in total.
    pub requests: usize,
    /// How long a request's head may take to arrive.
    pub head_time: Duration,
    /// The maximum size of a request's head, in bytes.
    pub head_size: usize,
    /// The maximum number of fields in a request's head.
    pub fields: usize,
    /// How long a connection may be idle between requests.
    pub idle: Duration,
}

/// How a TCP gateway handles connections.
#[derive(Clone, Debug)]
pub struct TcpGateway {
    /// The function that serves each connection.
    pub function: Name,
    /// The maximum number of concurrent connections.
    pub connections: usize,
    /// How long a connection may be idle, with no data sent in either direction.
    pub idle: Duration,
    /// A connection's maximum lifetime.
    pub life: Option<Duration>,
}

impl Protocol {
    /// Returns the functions that a gateway refers to by name.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &Name> {
        let (routes, function) = match self {
            Protocol::Http(http) => (&http.routes[..], None),
            Protocol::Tcp(tcp) => (&[][..], Some(&tcp.function)),
        };
        let named = routes.iter().filter_map(|route| match &route.target {
            Target::Function(name) => Some(name),
            Target::Files(_) | Target::Named | Target::Notice(_) => None,
        });
        named.chain(function)
    }

    /// Returns the directories from which a gateway serves files.
    pub(crate) fn served_directories(&self) -> impl Iterator<Item = &Path> {
        let routes = match self {
            Protocol::Http(http) => &http.routes[..],
            Protocol::Tcp(_) => &[],
        };
        routes.iter().filter_map(|route| match &route.target {
            Target::Files(directory) => Some(directory.as_path()),
            Target::Function(_) | Target::Named | Target::Notice(_) => None,
        })
    }
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            connections: 10_000,
            requests: 1024,
            head_time: Duration::from_secs(10),
            head_size: 64 << 10,
            fields: 100,
            idle: Duration::from_secs(60),
        }
    }
}
