//! From what stands in files to a project: names lead somewhere, ports are taken once, and every function has what it needs.

use super::decode::{At, Report};
use super::embly::EmblyFile;
use super::file::{
    DependencyEntry, EnvironmentEntry, File, FilesEntry, FunctionEntry, GatewayEntry, GatewayType,
    Language, LimitsEntry, NameOr, PolicyEntry, SecretEntry, ServiceEntry, Size, StaticFiles,
    StorageEntry, Target as BuildTarget, Time, TlsEntry,
};
use super::problem::{ProjectError, Source, Span, list, suggestion};
use super::secret::{Origin, Secret};
use super::service::{ProjectService, ProjectStorage, StorageOption};
use super::tree::Node;
use super::{Project, ProjectFunction, Recipe, SecretUse, directory_of};
use crate::settings::Directory;
use crate::{
    Gateway, HttpGateway, HttpLimits, Name, Policy, Protocol, Route, Settings, Target, TcpGateway,
    TlsFiles,
};
use lunatic_vm::Access;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest project file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads a project file and those of the projects that it depends on.
pub(super) fn read(file: &Path) -> Result<Project, ProjectError> {
    let mut projects = Projects::default();
    let (gateways, service) = projects.read(file, None)?;
    ProjectError::of(projects.problems)?;
    Ok(Project {
        file: file.to_path_buf(),
        files: projects.files,
        functions: projects.functions,
        gateways,
        service,
    })
}

/// What was read so far.
#[derive(Default)]
struct Projects {
    files: Vec<PathBuf>,
    functions: Vec<ProjectFunction>,
    problems: Vec<super::Problem>,
    /// The projects on the way to the one that is being read: what each is called, and where it is.
    way: Vec<(String, PathBuf)>,
    /// Where the project is whose functions are called so.
    owners: BTreeMap<String, PathBuf>,
}

/// The sections of a file, whichever kind it is.
struct Sections {
    functions: Vec<(At<String>, FunctionEntry)>,
    environments: Vec<(At<String>, EnvironmentEntry)>,
    gateways: Vec<(At<String>, GatewayEntry)>,
    dependencies: Vec<(At<String>, DependencyEntry)>,
    service: Option<ServiceEntry>,
}

impl Projects {
    /// Reads one project, and before it those that it depends on. What is wrong in it is kept for later; an error is what
    /// leaves nothing to go on with.
    fn read(
        &mut self,
        path: &Path,
        owner: Option<&str>,
    ) -> Result<(Vec<Gateway>, Option<ProjectService>), ProjectError> {
        let source = Arc::new(Source {
            path: path.to_path_buf(),
            text: text_of(path)?,
        });
        self.files.push(path.to_path_buf());
        let report = Report::new(source);
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_yaml = matches!(extension, Some("yml" | "yaml"));
        let file = match sections(&report, is_yaml) {
            Some(sections) => FileCheck {
                directory: directory_of(path),
                owner,
                report: &report,
                is_yaml,
                sections,
            },
            None => {
                self.problems.extend(report.into_problems());
                return Ok((Vec::new(), None));
            }
        };
        let called = owner.map_or_else(|| path.display().to_string(), str::to_string);
        self.way.push((called, real(file.directory)));
        for (name, dependency) in &file.sections.dependencies {
            self.depend(&file, name, dependency);
        }
        self.way.pop();
        self.functions.extend(file.functions());
        // Those of a project that another depends on do not run.
        let served = match owner {
            None => (file.gateways(&self.functions), file.service()),
            Some(_) => (Vec::new(), None),
        };
        self.problems.extend(report.into_problems());
        Ok(served)
    }

    /// Reads a project that another depends on.
    fn depend(&mut self, file: &FileCheck<'_>, name: &At<String>, dependency: &DependencyEntry) {
        if let Err(error) = Name::new(&name.value) {
            file.report.problem(name.span, error.to_string(), None);
            return;
        }
        let At { value: path, span } = &dependency.path;
        let directory = file.directory.join(path);
        let Some(found) = super::FILES
            .iter()
            .map(|name| directory.join(name))
            .find(|file| file.is_file())
        else {
            let message = format!("there is no project in `{}`", directory.display());
            let help = format!(
                "the directory of a dependency has a file {}",
                list(&super::FILES).replace(" and ", " or ")
            );
            file.report.problem(*span, message, help);
            return;
        };
        let place = real(&directory);
        if let Some(first) = self.way.iter().position(|(_, known)| *known == place) {
            let circle: Vec<&str> = self.way[first..]
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            let first = circle.first().copied().unwrap_or_default();
            let message = format!(
                "projects depend on each other in a circle: {} -> {first}",
                circle.join(" -> ")
            );
            file.report.problem(
                name.span,
                message,
                "take one of these dependencies out".to_string(),
            );
            return;
        }
        match self.owners.get(&name.value) {
            Some(known) if *known == place => return,
            Some(known) => {
                let message = format!(
                    "`{}` is another project elsewhere: `{}`",
                    name.value,
                    known.display()
                );
                file.report.problem(
                    name.span,
                    message,
                    "give one of them another name".to_string(),
                );
                return;
            }
            None => _ = self.owners.insert(name.value.clone(), place),
        }
        if let Err(error) = self.read(&found, Some(&name.value)) {
            self.problems.extend(error.into_problems());
        }
    }
}

/// Reads a file that is no larger than project files are.
fn text_of(path: &Path) -> Result<String, ProjectError> {
    let unreadable =
        |why: String| ProjectError::of_file(path, format!("this file cannot be read: {why}"), None);
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    String::from_utf8(text).map_err(|error| unreadable(format!("it is not UTF-8: {error}")))
}

/// Returns where a directory really is, so that two ways to it are told to be one.
fn real(directory: &Path) -> PathBuf {
    directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_path_buf())
}

/// Reads what a file says.
fn sections(report: &Report, is_yaml: bool) -> Option<Sections> {
    let read = if is_yaml {
        Node::of_yaml(&report.source)
    } else {
        Node::of_toml(&report.source)
    };
    let node = match read {
        Ok(node) => node,
        Err(problems) => {
            problems.into_iter().for_each(|problem| report.add(problem));
            return None;
        }
    };
    let whole = Span { start: 0, end: 0 };
    if is_yaml {
        let file: EmblyFile = report.decode(&node, whole)?;
        let (functions, gateways) = (file.functions(report), file.gateways(report));
        return Some(Sections {
            functions,
            environments: Vec::new(),
            gateways,
            dependencies: Vec::new(),
            service: None,
        });
    }
    let file: File = report.decode(&node, whole)?;
    Some(Sections {
        functions: file.functions.entries(report),
        environments: file.environments.entries(report),
        gateways: file.gateways.entries(report),
        dependencies: file.dependencies.entries(report),
        service: file.service,
    })
}

/// One file that is being checked.
struct FileCheck<'f> {
    directory: &'f Path,
    /// What the project is called where another depends on it.
    owner: Option<&'f str>,
    report: &'f Report,
    is_yaml: bool,
    sections: Sections,
}

impl FileCheck<'_> {
    fn functions(&self) -> Vec<ProjectFunction> {
        if self.sections.functions.is_empty() && !self.report.has_problems() {
            let help = match self.is_yaml {
                false => "a function is a table: `[functions.hello]` with `path = \"hello\"`",
                true => {
                    "a function is an entry below `functions:` with `name`, `path` and `language`"
                }
            };
            self.report.problem(
                Span::default(),
                "the project has no functions",
                help.to_string(),
            );
        }
        let mut names: BTreeMap<&str, Span> = BTreeMap::new();
        let mut functions = Vec::new();
        for (name, entry) in &self.sections.functions {
            if names.insert(&name.value, name.span).is_some() {
                let help = "names are used once".to_string();
                self.report.problem(
                    name.span,
                    format!("there are two functions `{}`", name.value),
                    help,
                );
                continue;
            }
            let checked = match self.owner {
                None => Name::new(&name.value),
                Some(owner) => Name::owned(owner, &name.value),
            };
            let Some(checked) = checked
                .map_err(|error| self.report.problem(name.span, error.to_string(), None))
                .ok()
            else {
                continue;
            };
            functions.extend(self.function(checked, name.span, entry));
        }
        functions
    }

    fn function(&self, name: Name, place: Span, entry: &FunctionEntry) -> Option<ProjectFunction> {
        let recipe = self.recipe(place, entry);
        let sources = entry
            .sources
            .iter()
            .map(|source| self.directory.join(&source.value))
            .collect();
        let environment = self.environment(entry.environment.as_ref())?;
        let settings = self.settings(&environment, entry.policy);
        let secrets = self.secrets(&environment);
        Some(ProjectFunction {
            name,
            recipe: recipe?,
            sources,
            settings,
            secrets,
        })
    }

    /// Returns the environment that is meant.
    fn environment(
        &self,
        choice: Option<&At<NameOr<EnvironmentEntry>>>,
    ) -> Option<Cow<'_, EnvironmentEntry>> {
        match choice {
            None => Some(Cow::Owned(EnvironmentEntry::default())),
            Some(At {
                value: NameOr::Table(environment),
                ..
            }) => Some(Cow::Owned(environment.clone())),
            Some(At {
                value: NameOr::Name(name),
                span,
            }) => {
                let environments = &self.sections.environments;
                let found = environments.iter().find(|(known, _)| known.value == *name);
                if found.is_none() {
                    let known = environments.iter().map(|(known, _)| known.value.as_str());
                    let help = suggestion(name, "environments", known);
                    self.report
                        .problem(*span, format!("there is no environment `{name}`"), help);
                }
                found.map(|(_, environment)| Cow::Borrowed(environment))
            }
        }
    }

    /// Decides how a function is built.
    fn recipe(&self, place: Span, entry: &FunctionEntry) -> Option<Recipe> {
        let at = |path: &At<PathBuf>| self.directory.join(&path.value);
        let refuse = |span: Span, message: &str, help: &str| {
            self.report.problem(span, message, Some(help.to_string()));
            None
        };
        let cargos: [(&str, Option<Span>); 4] = [
            ("language", entry.language.as_ref().map(|at| at.span)),
            ("target", entry.target.as_ref().map(|at| at.span)),
            ("profile", entry.profile.as_ref().map(|at| at.span)),
            ("binary", entry.binary.as_ref().map(|at| at.span)),
        ];
        let said_for_cargo = cargos
            .iter()
            .find_map(|(field, span)| span.map(|span| (*field, span)));
        if let Some(path) = &entry.path
            && !at(path).is_dir()
        {
            return refuse(
                path.span,
                &format!("there is no directory `{}`", at(path).display()),
                "paths are relative to this file",
            );
        }
        match (&entry.wasm, &entry.command, &entry.path) {
            (Some(wasm), None, path) => {
                if let Some(span) = path
                    .as_ref()
                    .map(|path| path.span)
                    .or(said_for_cargo.map(|(_, span)| span))
                {
                    return refuse(
                        span,
                        "a function with a `wasm` file is not built",
                        "take this out, or `wasm`",
                    );
                }
                Some(Recipe::Wasm(at(wasm)))
            }
            (None, Some(command), path) => {
                if let Some((field, span)) = said_for_cargo {
                    let message = format!(
                        "`{field}` is for functions that cargo builds, and this one has a `command`"
                    );
                    return refuse(span, &message, "take one of the two out");
                }
                if command.value.first().is_none_or(String::is_empty) {
                    return refuse(
                        command.span,
                        "the command names no program",
                        "write `command = [\"make\", \"all\"]`",
                    );
                }
                let Some(output) = &entry.output else {
                    let help = "`output = \"a.wasm\"` says which file, below the directory that it runs in";
                    return refuse(command.span, "it is not said what the command writes", help);
                };
                let directory = path
                    .as_ref()
                    .map_or_else(|| self.directory.to_path_buf(), at);
                let output = directory.join(&output.value);
                Some(Recipe::Command {
                    directory,
                    command: command.value.clone(),
                    output,
                })
            }
            (None, None, Some(path)) => {
                if let Some(output) = &entry.output {
                    return refuse(
                        output.span,
                        "`output` is for functions with a `command`",
                        "take it out",
                    );
                }
                let directory = at(path);
                if !directory.join("Cargo.toml").is_file() {
                    return refuse(
                        path.span,
                        &format!(
                            "`{}` is no cargo package: it has no Cargo.toml",
                            directory.display()
                        ),
                        "for another language say the `command` that builds it and its `output`",
                    );
                }
                let Language::Rust = entry
                    .language
                    .as_ref()
                    .map_or(Language::Rust, |language| language.value);
                Some(Recipe::Cargo {
                    directory,
                    target: match entry
                        .target
                        .as_ref()
                        .map(|target| target.value)
                        .unwrap_or_default()
                    {
                        BuildTarget::Wasip1 => "wasm32-wasip1",
                        BuildTarget::Wasip2 => "wasm32-wasip2",
                    },
                    profile: entry
                        .profile
                        .as_ref()
                        .map_or_else(|| "release".into(), |profile| profile.value.clone()),
                    binary: entry.binary.as_ref().map(|binary| binary.value.clone()),
                })
            }
            (None, None, None) => {
                let help = "give its `path` (a cargo package), its `wasm` file, or a `command` and its `output`";
                refuse(place, "it is not said what the function runs", help)
            }
            (Some(wasm), Some(_), _) => refuse(
                wasm.span,
                "a function has a `wasm` file or a `command`, not both",
                "take one of the two out",
            ),
        }
    }

    fn settings(&self, entry: &EnvironmentEntry, policy: PolicyEntry) -> Settings {
        let default = Settings::default();
        let directory = |(guest, files): (&String, &FilesEntry)| {
            let host = self.directory.join(&files.path.value);
            if !host.is_dir() {
                let message = format!("there is no directory `{}`", host.display());
                self.report.problem(
                    files.path.span,
                    message,
                    "paths are relative to this file".to_string(),
                );
            }
            let access = if files.write {
                Access::Write
            } else {
                Access::Read
            };
            Directory {
                host,
                guest: guest.clone(),
                access,
            }
        };
        for (name, at) in &entry.variables {
            self.variable(name, at.span);
        }
        Settings {
            policy: match policy {
                PolicyEntry::Fresh => Policy::Fresh,
                PolicyEntry::Single => Policy::Single,
                PolicyEntry::Pool(instances) => Policy::Pool(instances),
            },
            memory: entry.memory.map_or(default.memory, |Size(bytes)| bytes),
            compute: entry.compute.map(u64::from).or(default.compute),
            processes: entry.processes.map_or(default.processes, u64::from),
            deadline: entry.deadline.map_or(default.deadline, |Time(time)| time),
            body: entry.body.map_or(default.body, |Size(bytes)| bytes),
            requests: entry.requests.unwrap_or(default.requests),
            namespaces: entry.namespaces.clone(),
            outbound: entry.outbound.clone(),
            private_addresses: entry.private_addresses,
            directories: entry.files.iter().map(directory).collect(),
            variables: entry
                .variables
                .iter()
                .map(|(name, at)| (name.clone(), at.value.clone()))
                .collect(),
            ..default
        }
    }

    fn secret(&self, at: &At<SecretEntry>) -> Secret {
        Secret {
            origin: match &at.value {
                SecretEntry::Env(name) => Origin::Variable(name.clone()),
                SecretEntry::File(path) => Origin::File(self.directory.join(path)),
            },
            source: self.report.source.clone(),
            span: at.span,
        }
    }

    fn secrets(&self, entry: &EnvironmentEntry) -> Vec<SecretUse> {
        let secret = |variable: Option<&String>, at: &At<SecretEntry>| SecretUse {
            variable: variable.cloned(),
            secret: self.secret(at),
        };
        for (name, at) in &entry.secrets {
            self.variable(name, at.span);
            if entry.variables.contains_key(name) {
                let message = format!("`{name}` is a variable and a secret");
                self.report
                    .problem(at.span, message, "take one of the two out".to_string());
            }
        }
        let variables = entry
            .secrets
            .iter()
            .map(|(name, at)| secret(Some(name), at));
        variables
            .chain(entry.client_secret.iter().map(|at| secret(None, at)))
            .collect()
    }

    /// Checks the name of an environment variable.
    fn variable(&self, name: &str, span: Span) {
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("`{name}` is no name of an environment variable");
            self.report.problem(
                span,
                message,
                "it has neither `=` nor a null byte".to_string(),
            );
        }
    }

    fn gateways(&self, functions: &[ProjectFunction]) -> Vec<Gateway> {
        let mut names: BTreeMap<&str, Span> = BTreeMap::new();
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let mut gateways = Vec::new();
        for (name, entry) in &self.sections.gateways {
            if names.insert(&name.value, name.span).is_some() {
                let help = "names are used once".to_string();
                self.report.problem(
                    name.span,
                    format!("there are two gateways `{}`", name.value),
                    help,
                );
                continue;
            }
            let address = SocketAddr::new(
                entry.address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
                entry.port.value,
            );
            if let Some((other, _)) = taken.iter().find(|(_, other)| collide(*other, address)) {
                let message = format!(
                    "port {} is the one of the gateway `{other}` already",
                    address.port()
                );
                self.report.problem(
                    entry.port.span,
                    message,
                    "choose another; 0 is any that is free".to_string(),
                );
            }
            taken.push((&name.value, address));
            let protocol = match entry.kind {
                GatewayType::Http => self.http(name.span, entry, functions).map(Protocol::Http),
                GatewayType::Tcp => self.tcp(name.span, entry, functions).map(Protocol::Tcp),
            };
            gateways.extend(protocol.map(|protocol| Gateway {
                name: name.value.clone(),
                address,
                protocol,
            }));
        }
        gateways
    }

    fn http(
        &self,
        place: Span,
        entry: &GatewayEntry,
        functions: &[ProjectFunction],
    ) -> Option<HttpGateway> {
        if let Some(life) = &entry.limits.life {
            let help =
                "a request's time is the `deadline` of its function's environment".to_string();
            self.report
                .problem(life.span, "`life` is for gateways of type `tcp`", help);
        }
        let mut routes = Vec::new();
        if let Some(function) = &entry.function {
            let target = Target::Function(self.known(function, functions)?);
            routes.push(Route {
                path: "/".into(),
                target,
            });
        }
        let mut is_sound = true;
        for (path, route) in entry.routes.entries(self.report) {
            match self.route(&path, &route, functions) {
                Some(_) if path.value == "/" && entry.function.is_some() => {
                    let help = "`function` is the route `/`; take one of the two out".to_string();
                    self.report
                        .problem(path.span, "there are two routes `/`", help);
                }
                Some(target) => routes.push(Route {
                    path: path.value,
                    target,
                }),
                None => is_sound = false,
            }
        }
        if routes.is_empty() && is_sound {
            let help = "give it a `function`, or `routes` such as `\"/\" = \"hello\"`".to_string();
            self.report
                .problem(place, "the gateway leads nowhere", help);
            return None;
        }
        let tls = entry.tls.as_ref().map(|tls| self.tls(tls));
        let (limits, default) = (&entry.limits, HttpLimits::default());
        let limits = HttpLimits {
            connections: limits.connections.map_or(default.connections, usize::from),
            requests: limits
                .requests
                .as_ref()
                .map_or(default.requests, |at| at.value.get()),
            head_time: limits
                .head_time
                .as_ref()
                .map_or(default.head_time, |at| at.value.0),
            head_size: match &limits.head_size {
                Some(At {
                    value: Size(bytes), ..
                }) => usize::try_from(*bytes).unwrap_or(usize::MAX),
                None => default.head_size,
            },
            fields: limits
                .fields
                .as_ref()
                .map_or(default.fields, |at| at.value.get()),
            idle: limits.idle.map_or(default.idle, |Time(time)| time),
        };
        Some(HttpGateway {
            routes,
            tls,
            limits,
        })
    }

    fn tls(&self, At { value: tls, span }: &At<TlsEntry>) -> TlsFiles {
        let [certificates, key] =
            [&tls.certificates, &tls.key].map(|path| self.directory.join(path));
        for file in [&certificates, &key] {
            if !file.is_file() {
                let message = format!("there is no file `{}`", file.display());
                self.report.problem(
                    *span,
                    message,
                    "paths are relative to this file".to_string(),
                );
            }
        }
        TlsFiles { certificates, key }
    }

    fn service(&self) -> Option<ProjectService> {
        let entry = self.sections.service.as_ref()?;
        let environment = self.environment(entry.environment.as_ref())?;
        let option = |(name, at): (&String, &At<NameOr<SecretEntry>>)| {
            let option = match &at.value {
                NameOr::Name(text) => StorageOption::Text(text.clone()),
                NameOr::Table(secret) => StorageOption::Secret(self.secret(&At {
                    value: secret.clone(),
                    span: at.span,
                })),
            };
            (name.clone(), option)
        };
        let storage = match &entry.storage {
            None => ProjectStorage::Directory(self.directory.join("module-store")),
            Some(NameOr::Name(directory)) => {
                ProjectStorage::Directory(self.directory.join(directory))
            }
            Some(NameOr::Table(StorageEntry { s3 })) => {
                ProjectStorage::S3(s3.iter().map(option).collect())
            }
        };
        Some(ProjectService {
            deploy: entry.deploy,
            invoke: entry.invoke,
            storage,
            token: entry.token.as_ref().map(|token| self.secret(token)),
            tls: entry.tls.as_ref().map(|tls| self.tls(tls)),
            settings: self.settings(&environment, PolicyEntry::Fresh),
            secrets: self.secrets(&environment),
        })
    }

    fn route(
        &self,
        path: &At<String>,
        route: &At<NameOr<StaticFiles>>,
        functions: &[ProjectFunction],
    ) -> Option<Target> {
        let wrong = match path.value.as_str() {
            "/" => None,
            path if !path.starts_with('/') => Some("begins with `/`"),
            path if path.ends_with('/') => {
                Some("does not end with `/`: it is for everything below it anyway")
            }
            path if path
                .split('/')
                .skip(1)
                .any(|part| matches!(part, "" | "." | "..")) =>
            {
                Some("has no empty parts, no `.` and no `..`")
            }
            path if path.contains(['?', '#', '*', '{', '%'])
                || path.contains(char::is_whitespace) =>
            {
                Some("is plain text, without patterns, escapes and blanks")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.report.problem(
                path.span,
                format!("`{}` is no route", path.value),
                format!("a route {wrong}"),
            );
            return None;
        }
        match &route.value {
            NameOr::Name(name) => self
                .known(
                    &At {
                        value: name.clone(),
                        span: route.span,
                    },
                    functions,
                )
                .map(Target::Function),
            NameOr::Table(StaticFiles { files }) => {
                let directory = self.directory.join(&files.value);
                if !directory.is_dir() {
                    let message = format!("there is no directory `{}`", directory.display());
                    self.report.problem(
                        files.span,
                        message,
                        "paths are relative to this file".to_string(),
                    );
                    return None;
                }
                Some(Target::Files(directory))
            }
        }
    }

    fn tcp(
        &self,
        place: Span,
        entry: &GatewayEntry,
        functions: &[ProjectFunction],
    ) -> Option<TcpGateway> {
        let LimitsEntry {
            requests,
            head_time,
            head_size,
            fields,
            ..
        } = &entry.limits;
        let foreign = [
            ("requests", requests.as_ref().map(|at| at.span)),
            ("head-time", head_time.as_ref().map(|at| at.span)),
            ("head-size", head_size.as_ref().map(|at| at.span)),
            ("fields", fields.as_ref().map(|at| at.span)),
            ("tls", entry.tls.as_ref().map(|at| at.span)),
        ];
        for (field, span) in foreign {
            if let Some(span) = span {
                let message = format!("`{field}` is for gateways of type `http`");
                self.report
                    .problem(span, message, "take it out".to_string());
            }
        }
        if let Some((path, _)) = entry.routes.entries(self.report).first() {
            let help = "a gateway of type `tcp` has a `function` alone".to_string();
            self.report.problem(path.span, "bytes have no routes", help);
        }
        let Some(function) = &entry.function else {
            let help = "say which `function` gets its connections".to_string();
            self.report
                .problem(place, "the gateway leads nowhere", help);
            return None;
        };
        Some(TcpGateway {
            function: self.known(function, functions)?,
            connections: entry
                .limits
                .connections
                .map_or(HttpLimits::default().connections, usize::from),
            idle: entry
                .limits
                .idle
                .map_or(HttpLimits::default().idle, |Time(time)| time),
            life: entry.limits.life.as_ref().map(|at| at.value.0),
        })
    }

    /// Finds the function that a gateway names. Those that are wrong themselves are known too: one error suffices.
    fn known(&self, written: &At<String>, functions: &[ProjectFunction]) -> Option<Name> {
        if let Some(function) = functions
            .iter()
            .find(|function| function.name.as_str() == written.value)
        {
            return Some(function.name.clone());
        }
        let own = self
            .sections
            .functions
            .iter()
            .map(|(name, _)| name.value.as_str());
        if own.clone().any(|name| name == written.value) || self.sections.functions.is_empty() {
            return None;
        }
        let owned = functions
            .iter()
            .map(|function| function.name.as_str())
            .filter(|name| name.contains('/'));
        let help = suggestion(&written.value, "functions", own.chain(owned));
        self.report.problem(
            written.span,
            format!("there is no function `{}`", written.value),
            help,
        );
        None
    }
}

/// Whether two addresses cannot be listened at at the same time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = |address: SocketAddr| address.ip().is_unspecified();
    let same_ip = one.ip() == other.ip() || everywhere(one) || everywhere(other);
    one.port() != 0 && one.port() == other.port() && same_ip
}
