//! Gateways: what listens, and what leads from a connection to a function.

pub(crate) mod http;
pub(crate) mod tcp;

use crate::Name;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Something that listens: plain data, from a project file.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// What it is called, in reports.
    pub name: String,
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What a gateway speaks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http(HttpGateway),
    /// Bytes.
    Tcp(TcpGateway),
}

/// What an HTTP gateway does with requests.
#[derive(Clone, Debug)]
pub struct HttpGateway {
    /// Where requests go. The longest path that fits decides.
    pub routes: Vec<Route>,
    /// With it, only TLS is spoken.
    pub tls: Option<TlsFiles>,
    /// What clients may do.
    pub limits: HttpLimits,
}

/// Where requests go whose path begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `/` or `/a/b`: this path and everything below it, never `/a/bc`.
    pub path: String,
    /// Who answers.
    pub target: Target,
}

/// Who answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A function.
    Function(Name),
    /// Files below a directory; the route's path is taken off.
    Files(PathBuf),
    /// Any function of the table, by the first part of the path, which is taken off.
    Named,
    /// Nobody: the answer is 404, with this text. Where something is looked for that is elsewhere, it says where.
    Notice(String),
}

/// A certificate and its key, as PEM files. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain of certificates, the server's own first.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What clients of an HTTP gateway may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at the same time.
    pub connections: usize,
    /// Requests at the same time, over all functions.
    pub requests: usize,
    /// Time in which a request's head has to be there.
    pub head_time: Duration,
    /// Bytes of a request's head, and its fields.
    pub head_size: usize,
    /// Fields of a request's head.
    pub fields: usize,
    /// How long a connection may lie idle between requests.
    pub idle: Duration,
}

/// What a TCP gateway does with connections.
#[derive(Clone, Debug)]
pub struct TcpGateway {
    /// The function that each connection is given to.
    pub function: Name,
    /// Connections at the same time.
    pub connections: usize,
    /// How long no byte may come or go.
    pub idle: Duration,
    /// How long a connection may live at all.
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
