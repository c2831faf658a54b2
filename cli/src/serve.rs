//! `lunatic serve`: runs gateways to functions until a signal arrives.

use crate::command_line::Serve;
use crate::failure::{Failure, Outcome, not_started, tell};
use crate::output;
use crate::project::{self, Progress};
use crate::run::{builder, cache};
use crate::service;
use crate::signals;
use lunatic_serve::{
    Builder, Functions, Gateway, Listening, Project, Protocol, Route, Server, Target,
};
use lunatic_vm::{Host, Vm};
use std::path::Path;

/// Serves until a signal arrives, and then lets in-flight requests finish.
pub(crate) fn serve(serve: &Serve) -> Outcome {
    crate::log_lines::start(serve.verbose);
    let file = project::find(&serve.project);
    if file.is_none() && serve.service.deploy.is_none() {
        return Err(
            project::missing().hint("`--deploy` serves deployed functions without a project")
        );
    }
    let vm = machine()?;
    let functions = Functions::new(&vm);
    let project = file.map(|file| load(&file, &vm, &functions)).transpose()?;
    let gateways = project.as_ref().map_or(&[][..], Project::gateways);
    let described = project
        .as_ref()
        .map(Project::service)
        .transpose()
        .map_err(|error| project::wrong(&error))?
        .flatten();
    let service = service::open(&functions, described, &serve.service)?;
    if gateways.is_empty() && service.is_none() {
        return Err(Failure::new("the project has no gateways").hint(
            "add a `[gateways.web]` table with `type = \"http\"`, a `port` and a `function`",
        ));
    }
    let mut builder = Server::builder(&functions);
    for gateway in gateways {
        builder = builder.gateway(gateway.clone());
    }
    if let Some(service) = &service {
        builder = service.add_to(builder);
    }
    let server = builder.start().map_err(not_started)?;
    tell(&addresses(&server.listening(), gateways));
    signals::wait().map_err(not_started)?;
    if let Some(service) = &service {
        // Otherwise, clients that follow a log would keep the server from stopping.
        service.drain();
    }
    server.stop(serve.drain);
    // Not dropped, for the same reason as in `build`.
    std::mem::forget(vm);
    Ok(0)
}

/// Creates a machine for functions.
pub(crate) fn machine() -> Result<Vm, Failure> {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    builder()
        .host(host)
        .cache(cache())
        .build()
        .map_err(not_started)
}

/// Lists the gateways' addresses and routes. A listener that does not belong to one of the
/// project's gateways speaks HTTP.
pub(crate) fn addresses(listening: &[Listening], gateways: &[Gateway]) -> String {
    let line = |one: &Listening| {
        let protocol = gateways
            .iter()
            .find(|gateway| gateway.name == one.name)
            .map(|gateway| &gateway.protocol);
        let (scheme, routes) = match protocol {
            Some(Protocol::Tcp(tcp)) => ("tcp", tcp.function.to_string()),
            Some(Protocol::Http(http)) => {
                let scheme = if http.tls.is_some() { "https" } else { "http" };
                (
                    scheme,
                    http.routes.iter().map(route).collect::<Vec<_>>().join(", "),
                )
            }
            _ => ("http", String::new()),
        };
        let arrow = if routes.is_empty() { "" } else { " -> " };
        format!("{}: {scheme}://{}{arrow}{routes}\n", one.name, one.address)
    };
    listening.iter().map(line).collect()
}

fn route(Route { path, target }: &Route) -> String {
    let target = match target {
        Target::Function(name) => name.to_string(),
        Target::Files(directory) => directory.display().to_string(),
        _ => "functions by name".to_string(),
    };
    if path == "/" {
        target
    } else {
        format!("{path} {target}")
    }
}

/// Builds a project's functions and starts serving them.
fn load(file: &Path, vm: &Vm, functions: &Functions) -> Result<Project, Failure> {
    let project = Project::read(file).map_err(|error| project::wrong(&error))?;
    // Builds take a long time, so the settings are checked first.
    let settings = project.settings().map_err(|error| project::wrong(&error))?;
    let progress = Progress::new();
    let results = Builder::new(vm, &project).build(project.functions(), &|name, event| {
        progress.show(name, &event)
    });
    let mut built = Vec::new();
    for result in results {
        built.push(result.map_err(|_| {
            Failure::new("nothing will be served, because some functions could not be built")
        })?);
    }
    for (built, settings) in built.iter().zip(settings) {
        let name = built.name();
        let put = functions.put(name, 1, built.hash(), built.code().clone(), settings);
        put.map_err(|error| Failure::new(format!("`{name}`: {error}")))?;
        if let Some(function) = functions.get(name.as_str()) {
            output::show(&function);
        }
    }
    Ok(project)
}
