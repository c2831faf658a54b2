//! Named functions behind gateways. Each request is served by its own process in the function's
//! environment.
//!
//! A [`Function`] has a name, [`Settings`] and versions, one of which serves new requests. Its code
//! is a *spark* (a module that reads and writes bytes, like Embly's functions), a component that
//! handles HTTP requests (`wasi:http/incoming-handler`), or a program, which runs on the machine
//! and gets a gateway's connections as messages. Functions come from a [`Project`] or are deployed
//! over HTTP. HTTP and TCP gateways lead to them.
//!
//! This crate uses only the public API of `lunatic_vm`. It adds names and gateways; limiting
//! processes is left to their environments.

#![forbid(unsafe_code)]

mod answer;
mod body;
mod bounded_file;
mod build;
mod code;
mod component;
mod dev;
mod failure;
mod fields;
mod function;
mod functions;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod in_flight;
mod kill_on_drop;
mod log;
mod metrics;
mod name;
mod outbound;
mod private;
mod program;
mod project;
pub mod quantity;
mod request_id;
mod request_info;
mod runtime;
mod server;
mod service;
mod settings;
mod spark;
mod stop;
mod turnstile;

pub use build::{BuildError, BuildEvent, Builder, Built, OnBuildEvent};
pub use code::{Code, CodeError, Spark};
pub use dev::{Dev, DevError, DevEvent};
pub use failure::Failure;
pub use function::{TryOutError, Version};
pub use functions::{Function, Functions};
pub use gateway::{
    Gateway, HttpGateway, HttpLimits, Protocol, Route, Target, TcpGateway, TlsFiles,
};
pub use log::{Follower, Line, LineKind, Log};
pub use name::{Name, NameError};
pub use outbound::Outbound;
pub use outbound::error::OutboundError;
pub use outbound::rule::{OutboundRule, OutboundRuleError};
pub use private::PrivateDirectory;
pub use project::{Problem, Project, ProjectError, ProjectFunction, Recipe};
pub use server::{Listening, Server, ServerBuilder, StartError};
pub use service::{
    DeployLimits, Service, ServiceConfig, ServiceError, Skipped, StorageError, StorageSettings,
    Token, TokenError,
};
pub use settings::{Directory, Policy, Settings, SettingsError};

/// Adds to a machine's host all interfaces that functions can import besides the machine's own.
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
