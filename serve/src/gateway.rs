//! Gateways: from a connection to the function that serves it. Their descriptions are plain data.

pub(crate) mod http;
pub(crate) mod tcp;

use crate::Name;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The description of a gateway, such as a project file gives.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its name, for reports.
    pub name: String,
    /// Where it listens. Port 0 means any free port.
    pub address: SocketAddr,
    /// What it speaks.
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

/// What an HTTP gateway does with requests.
#[derive(Clone, Debug)]
pub struct HttpGateway {
    /// Where requests go. The longest path that matches decides.
    pub routes: Vec<Route>,
    /// If set, only TLS is spoken.
    pub tls: Option<TlsFiles>,
    /// What clients may do.
    pub limits: HttpLimits,
}

/// Where requests go whose path begins with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `/` or `/a/b`: this path and everything below it, but not `/a/bc`.
    pub path: String,
    /// What answers.
    pub target: Target,
}

/// What answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A function.
    Function(Name),
    /// Files below a directory. The route's path is removed first.
    Files(PathBuf),
    /// Any function of the table, named by the first part of the path, which is removed.
    Named,
    /// Nothing: the response is 404 with this text, which can say where to look instead.
    Notice(String),
}

/// A certificate and its key, as PEM files. They are reloaded when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain of certificates, beginning with the server's own.
    pub certificates: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
}

/// What clients of an HTTP gateway may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Concurrent connections.
    pub connections: usize,
    /// Concurrent requests, to all functions together.
    pub requests: usize,
    /// How long a request's head may take to arrive.
    pub head_time: Duration,
    /// Bytes of a request's head.
    pub head_size: usize,
    /// Fields of a request's head.
    pub fields: usize,
    /// How long a connection may be idle between requests.
    pub idle: Duration,
}

/// What a TCP gateway does with connections.
#[derive(Clone, Debug)]
pub struct TcpGateway {
    /// The function that serves each connection.
    pub function: Name,
    /// Concurrent connections.
    pub connections: usize,
    /// How long a connection may be idle, with no byte in either direction.
    pub idle: Duration,
    /// How long a connection may be open at all.
    pub life: Option<Duration>,
}

impl HttpGateway {
    /// Returns the functions that its routes name.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &Name> {
        self.routes.iter().filter_map(|route| match &route.target {
            Target::Function(name) => Some(name),
            Target::Files(_) | Target::Named | Target::Notice(_) => None,
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
