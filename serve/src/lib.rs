//! Named functions behind gateways: each request is a process of its own, in an environment that its function was given.
//!
//! A [`Function`] has a name, [`Settings`] and versions, of which one serves. What it runs is a *spark* (a module that reads
//! and writes bytes, as Embly's functions do), a component that handles HTTP requests (`wasi:http/incoming-handler`), or a
//! program of the machine that takes a gateway's connections as messages. Functions come from a [`Project`] or are deployed
//! over HTTP; gateways for HTTP and TCP lead to them.
//!
//! Everything here stands on what `lunatic_vm` exports. It adds names and ways in; what limits a process is its environment.

mod background;
mod build;
mod component;
mod dev;
mod failure;
mod function;
mod gateway;
mod log;
mod metrics;
mod name;
mod outbound;
mod project;
pub mod quantity;
mod server;
mod service;
mod serving;
mod settings;
mod spark;
mod ticket;

pub use build::{BuildError, BuildEvent, Builder, Built, Tell};
pub use dev::{Dev, DevError, DevEvent};
pub use failure::Failure;
pub use function::{Code, CodeError, Function, Functions, Version};
pub use gateway::{
    Gateway, HttpGateway, HttpLimits, Protocol, Route, Target, TcpGateway, TlsFiles,
};
pub use log::{Follower, Line, LineKind, Log};
pub use name::{Name, NameError};
pub use outbound::{Outbound, OutboundError, OutboundRule, OutboundRuleError};
pub use project::{Problem, Project, ProjectError, ProjectFunction, Recipe};
pub use server::{Listening, Server, ServerBuilder, StartError};
pub use service::{
    Most, Service, ServiceConfig, ServiceError, Skipped, StorageError, StorageSettings, Token,
    TokenError,
};
pub use settings::{Policy, Settings, SettingsError};
pub use spark::Spark;

/// Adds everything that functions can import, beside what the machine itself has, to the host of a machine.
///
/// ```
/// use lunatic_vm::{Host, Vm};
///
/// let mut host = Host::default();
/// lunatic_serve::add_to_host(&mut host);
/// let vm = Vm::builder().host(host).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn add_to_host(host: &mut lunatic_vm::Host) {
    spark::add_to_host(host);
    component::add_to_host(host);
}
