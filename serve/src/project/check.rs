//! Turns project files into a project: resolves names, and checks that no port is used twice and
//! that every function has all required fields.

use super::decode::{Report, Spanned};
use super::embly::EmblyFile;
use super::file::{
    DependencyEntry, EnvironmentEntry, File, FilesEntry, FunctionEntry, GatewayEntry, GatewayType,
    Language, LimitsEntry, NameOr, PolicyEntry, SecretEntry, ServiceEntry, Size, StaticFiles,
    StorageEntry, Target as BuildTarget, Time, TlsEntry,
};
use super::function::{ProjectFunction, Recipe, SecretUse};
use super::paths::{self, FILE_NAMES, directory_of};
use super::problem::{Problem, ProjectError, Source, Span, list, suggestion};
use super::secret::{Origin, Secret};
use super::service::{ProjectService, ProjectStorage, StorageOption};
use super::tree::Node;
use crate::bounded_file;
use crate::settings::Directory;
use crate::{
    Gateway, HttpGateway, HttpLimits, Name, Policy, Protocol, Route, Settings, Target, TcpGateway,
    TlsFiles,
};
use lunatic_vm::Access;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The maximum size of a project file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A project without problems.
#[derive(Debug)]
pub(super) struct Checked {
    /// The project's own file, followed by those of all its dependencies.
    pub(super) files: Vec<PathBuf>,
    pub(super) functions: Vec<ProjectFunction>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) service: Option<ProjectService>,
}

/// Reads a project file and the files of the projects it depends on.
pub(super) fn read(file: &Path) -> Result<Checked, ProjectError> {
    let mut projects = Projects::default();
    let (gateways, service) = projects.read(file, None)?;
    ProjectError::of(projects.problems)?;
    Ok(Checked {
        files: projects.files,
        functions: projects.functions,
        gateways,
        service,
    })
}

/// Everything read so far.
#[derive(Default)]
struct Projects {
    files: Vec<PathBuf>,
    functions: Vec<ProjectFunction>,
    problems: Vec<Problem>,
    /// The names and directories of the projects that led to the one being read, each depending on
    /// the next.
    ancestors: Vec<(String, PathBuf)>,
    /// The directory of the project that owns the functions `name/…`, by name.
    owners: BTreeMap<String, PathBuf>,
}

/// The sections of a project file, in either format.
struct Sections {
    functions: Vec<(Spanned<String>, FunctionEntry)>,
    environments: Vec<(Spanned<String>, EnvironmentEntry)>,
    gateways: Vec<(Spanned<String>, GatewayEntry)>,
    dependencies: Vec<(Spanned<String>, DependencyEntry)>,
    service: Option<ServiceEntry>,
}

impl Projects {
    /// Reads the projects that a project depends on and then the project itself. Collects problems,
    /// and fails only if the project's own file cannot be read.
    fn read(
        &mut self,
        path: &Path,
        owner: Option<&str>,
    ) -> Result<(Vec<Gateway>, Option<ProjectService>), ProjectError> {
        let source = Arc::new(Source {
            path: path.to_path_buf(),
            text: bounded_file::read_text(path, MAX_FILE).map_err(|error| {
                let message = format!("this file cannot be read: {error}");
                ProjectError::of_file(path, message)
            })?,
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
        let name = owner.map_or_else(|| path.display().to_string(), str::to_string);
        self.ancestors.push((name, canonical(file.directory)));
        for (name, dependency) in &file.sections.dependencies {
            self.read_dependency(&file, name, dependency);
        }
        self.ancestors.pop();
        self.functions.extend(file.functions());
        // Gateways in dependencies are not run.
        let ways_in = match owner {
            None => (file.gateways(&self.functions), file.service()),
            Some(_) => (Vec::new(), None),
        };
        self.problems.extend(report.into_problems());
        Ok(ways_in)
    }

    /// Reads a project that another one depends on.
    fn read_dependency(
        &mut self,
        file: &FileCheck<'_>,
        name: &Spanned<String>,
        dependency: &DependencyEntry,
    ) {
        if let Err(error) = Name::new(&name.value) {
            file.report.fault(name.span, error.to_string(), None);
            return;
        }
        let Spanned { value: path, span } = &dependency.path;
        let directory = file.directory.join(path);
        let Some(found) = paths::file_in(&directory) else {
            let message = format!("there is no project in `{}`", directory.display());
            let help = format!(
                "the directory of a dependency must contain {}",
                list(&FILE_NAMES)
            );
            file.report.problem(*span, message, help);
            return;
        };
        let place = canonical(&directory);
        if let Some(first) = self.ancestors.iter().position(|(_, known)| *known == place) {
            let cycle: Vec<&str> = self.ancestors[first..]
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            let first = cycle.first().copied().unwrap_or_default();
            let message = format!(
                "projects depend on each other in a cycle: {} -> {first}",
                cycle.join(" -> ")
            );
            file.report
                .problem(name.span, message, "remove one of these dependencies");
            return;
        }
        match self.owners.get(&name.value) {
            Some(known) if *known == place => return,
            Some(known) => {
                let message = format!(
                    "another project is already called `{}`: `{}`",
                    name.value,
                    known.display()
                );
                file.report
                    .problem(name.span, message, "give one of them another name");
                return;
            }
            None => _ = self.owners.insert(name.value.clone(), place),
        }
        if let Err(error) = self.read(&found, Some(&name.value)) {
            self.problems.extend(error.into_problems());
        }
    }
}

/// Returns a directory's canonical path, so that different paths to the same directory compare
/// equal.
fn canonical(directory: &Path) -> PathBuf {
    directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_path_buf())
}

/// Reads a file's sections.
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

/// A file being checked.
struct FileCheck<'f> {
    directory: &'f Path,
    /// The project's name, if another project depends on it.
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
                    "a function is an entry under `functions:` with `name`, `path` and `language`"
                }
            };
            self.report
                .problem(Span::default(), "the project has no functions", help);
        }
        let mut names = BTreeSet::new();
        let mut functions = Vec::new();
        for (name, entry) in &self.sections.functions {
            if !self.is_first(&mut names, name, "functions") {
                continue;
            }
            let checked = match self.owner {
                None => Name::new(&name.value),
                Some(owner) => Name::owned(owner, &name.value),
            };
            let Some(checked) = checked
                .map_err(|error| self.report.fault(name.span, error.to_string(), None))
                .ok()
            else {
                continue;
            };
            functions.extend(self.function(checked, name.span, entry));
        }
        functions
    }

    /// Returns whether a name is used for the first time, and reports it if not.
    fn is_first<'n>(
        &self,
        names: &mut BTreeSet<&'n str>,
        name: &'n Spanned<String>,
        kind: &str,
    ) -> bool {
        let is_first = names.insert(&name.value);
        if !is_first {
            let message = format!("there are two {kind} named `{}`", name.value);
            self.report
                .problem(name.span, message, "names must be unique");
        }
        is_first
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

    /// Resolves a reference to an environment.
    fn environment(
        &self,
        choice: Option<&Spanned<NameOr<EnvironmentEntry>>>,
    ) -> Option<Cow<'_, EnvironmentEntry>> {
        match choice {
            None => Some(Cow::Owned(EnvironmentEntry::default())),
            Some(Spanned {
                value: NameOr::Table(environment),
                ..
            }) => Some(Cow::Owned(environment.clone())),
            Some(Spanned {
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

    /// Returns the path of a directory that the file refers to, or reports that there is no such
    /// directory.
    fn existing(&self, path: &Spanned<PathBuf>) -> Option<PathBuf> {
        let directory = self.directory.join(&path.value);
        if directory.is_dir() {
            return Some(directory);
        }
        let message = format!("there is no directory `{}`", directory.display());
        self.report
            .problem(path.span, message, "paths are relative to this file");
        None
    }

    /// Determines how a function is built.
    fn recipe(&self, place: Span, entry: &FunctionEntry) -> Option<Recipe> {
        let at = |path: &Spanned<PathBuf>| self.directory.join(&path.value);
        let refuse = |span: Span, message: &str, help: &str| {
            self.report.problem(span, message, help);
            None
        };
        let cargo_fields: [(&str, Option<Span>); 4] = [
            ("language", entry.language.as_ref().map(|at| at.span)),
            ("target", entry.target.as_ref().map(|at| at.span)),
            ("profile", entry.profile.as_ref().map(|at| at.span)),
            ("binary", entry.binary.as_ref().map(|at| at.span)),
        ];
        let cargo_field = cargo_fields
            .iter()
            .find_map(|(field, span)| span.map(|span| (*field, span)));
        if let Some(path) = &entry.path {
            self.existing(path)?;
        }
        match (&entry.wasm, &entry.command, &entry.path) {
            (Some(wasm), None, path) => {
                if let Some(span) = path
                    .as_ref()
                    .map(|path| path.span)
                    .or(cargo_field.map(|(_, span)| span))
                {
                    return refuse(
                        span,
                        "a function with a `wasm` file is not built",
                        "remove this, or remove `wasm`",
                    );
                }
                Some(Recipe::Wasm(at(wasm)))
            }
            (None, Some(command), path) => {
                if let Some((field, span)) = cargo_field {
                    let message = format!(
                        "`{field}` is for functions that cargo builds, but this one has a `command`"
                    );
                    return refuse(span, &message, "remove one of the two");
                }
                if command.value.first().is_none_or(String::is_empty) {
                    return refuse(
                        command.span,
                        "the command is empty",
                        "write `command = [\"make\", \"all\"]`",
                    );
                }
                let Some(output) = &entry.output else {
                    let help = "name the file, relative to the directory that the command runs in: `output = \"a.wasm\"`";
                    return refuse(command.span, "the `output` of the command is missing", help);
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
                        "remove it",
                    );
                }
                let directory = at(path);
                if !directory.join("Cargo.toml").is_file() {
                    return refuse(
                        path.span,
                        &format!(
                            "`{}` is not a cargo package: it has no Cargo.toml",
                            directory.display()
                        ),
                        "for any other language, set the `command` that builds it and its `output`",
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
                let help = "set its `path` (a cargo package), its `wasm` file, or a `command` and its `output`";
                refuse(place, "the function does not specify what it runs", help)
            }
            (Some(wasm), Some(_), _) => refuse(
                wasm.span,
                "a function can have a `wasm` file or a `command`, but not both",
                "remove one of the two",
            ),
        }
    }

    fn settings(&self, entry: &EnvironmentEntry, policy: PolicyEntry) -> Settings {
        let default = Settings::default();
        let directory = |(guest, files): (&String, &FilesEntry)| {
            self.existing(&files.path);
            let access = if files.write {
                Access::Write
            } else {
                Access::Read
            };
            Directory {
                host: self.directory.join(&files.path.value),
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
            host_memory: entry
                .host_memory
                .map_or(default.host_memory, |Size(bytes)| bytes),
            total_host_memory: entry
                .total_host_memory
                .map_or(default.total_host_memory, |Size(bytes)| bytes),
            descriptors: entry.descriptors.map_or(default.descriptors, u64::from),
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

    fn secret(&self, at: &Spanned<SecretEntry>) -> Secret {
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
        let secret = |variable: Option<&String>, at: &Spanned<SecretEntry>| SecretUse {
            variable: variable.cloned(),
            secret: self.secret(at),
        };
        for (name, at) in &entry.secrets {
            self.variable(name, at.span);
            if entry.variables.contains_key(name) {
                let message = format!("`{name}` is both a variable and a secret");
                self.report
                    .problem(at.span, message, "remove one of the two");
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
            let message = format!("`{name}` is not a valid name for an environment variable");
            self.report.problem(
                span,
                message,
                "a name must not be empty or contain `=` or a null byte",
            );
        }
    }

    fn gateways(&self, functions: &[ProjectFunction]) -> Vec<Gateway> {
        let mut names = BTreeSet::new();
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let mut gateways = Vec::new();
        for (name, entry) in &self.sections.gateways {
            if !self.is_first(&mut names, name, "gateways") {
                continue;
            }
            let address = SocketAddr::new(
                entry.address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
                entry.port.value,
            );
            if let Some((other, _)) = taken.iter().find(|(_, other)| collide(*other, address)) {
                let message = format!(
                    "port {} is already used by the gateway `{other}`",
                    address.port()
                );
                self.report.problem(
                    entry.port.span,
                    message,
                    "choose another port; 0 stands for any free port",
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
                "a request's time is limited by the `deadline` of its function's environment";
            self.report
                .problem(life.span, "`life` is for gateways of type `tcp`", help);
        }
        let mut routes = Vec::new();
        if let Some(function) = &entry.function {
            let target = Target::Function(self.resolve(function, functions)?);
            routes.push(Route {
                path: "/".into(),
                target,
            });
        }
        let mut is_sound = true;
        for (path, route) in entry.routes.entries(self.report) {
            match self.route(&path, &route, functions) {
                Some(_) if path.value == "/" && entry.function.is_some() => {
                    let help = "`function` is the route `/`; remove one of the two";
                    self.report
                        .problem(path.span, "there are two routes for `/`", help);
                }
                Some(target) => routes.push(Route {
                    path: path.value,
                    target,
                }),
                None => is_sound = false,
            }
        }
        if routes.is_empty() && is_sound {
            let help = "set its `function`, or `routes` such as `\"/\" = \"hello\"`";
            self.report
                .problem(place, "the gateway does not lead to a function", help);
            return None;
        }
        let tls = entry.tls.as_ref().map(|tls| self.tls(tls));
        let (limits, default) = (&entry.limits, HttpLimits::default());
        let count = |field: &Option<Spanned<NonZeroUsize>>| Some(field.as_ref()?.value.get());
        let head_size = limits.head_size.as_ref().map(|field| field.value.0);
        let head_time = limits.head_time.as_ref().map(|field| field.value.0);
        let limits = HttpLimits {
            connections: limits.connections.map_or(default.connections, usize::from),
            requests: count(&limits.requests).unwrap_or(default.requests),
            head_time: head_time.unwrap_or(default.head_time),
            head_size: head_size.map_or(default.head_size, |bytes| {
                usize::try_from(bytes).unwrap_or(usize::MAX)
            }),
            fields: count(&limits.fields).unwrap_or(default.fields),
            idle: limits.idle.map_or(default.idle, |Time(time)| time),
        };
        Some(HttpGateway {
            routes,
            tls,
            limits,
        })
    }

    fn tls(&self, Spanned { value: tls, span }: &Spanned<TlsEntry>) -> TlsFiles {
        let [certificates, key] =
            [&tls.certificates, &tls.key].map(|path| self.directory.join(path));
        for file in [&certificates, &key] {
            if !file.is_file() {
                let message = format!("there is no file `{}`", file.display());
                self.report
                    .problem(*span, message, "paths are relative to this file");
            }
        }
        TlsFiles { certificates, key }
    }

    fn service(&self) -> Option<ProjectService> {
        let entry = self.sections.service.as_ref()?;
        let environment = self.environment(entry.environment.as_ref())?;
        let option = |(name, at): (&String, &Spanned<NameOr<SecretEntry>>)| {
            let option = match &at.value {
                NameOr::Name(text) => StorageOption::Text(text.clone()),
                NameOr::Table(secret) => StorageOption::Secret(self.secret(&Spanned {
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
        path: &Spanned<String>,
        route: &Spanned<NameOr<StaticFiles>>,
        functions: &[ProjectFunction],
    ) -> Option<Target> {
        let wrong = match path.value.as_str() {
            "/" => None,
            path if !path.starts_with('/') => Some("begin with `/`"),
            path if path.ends_with('/') => {
                Some("not end with `/`: it includes everything below it anyway")
            }
            path if path
                .split('/')
                .skip(1)
                .any(|part| matches!(part, "" | "." | "..")) =>
            {
                Some("not have empty parts, `.` or `..`")
            }
            path if path.contains(['?', '#', '*', '{', '%'])
                || path.contains(char::is_whitespace) =>
            {
                Some("be plain text, without patterns, escapes or spaces")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.report.problem(
                path.span,
                format!("`{}` is not a route", path.value),
                format!("a route must {wrong}"),
            );
            return None;
        }
        match &route.value {
            NameOr::Name(name) => self
                .resolve(
                    &Spanned {
                        value: name.clone(),
                        span: route.span,
                    },
                    functions,
                )
                .map(Target::Function),
            NameOr::Table(StaticFiles { files }) => self.existing(files).map(Target::Files),
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
        let http_fields = [
            ("requests", requests.as_ref().map(|at| at.span)),
            ("head-time", head_time.as_ref().map(|at| at.span)),
            ("head-size", head_size.as_ref().map(|at| at.span)),
            ("fields", fields.as_ref().map(|at| at.span)),
            ("tls", entry.tls.as_ref().map(|at| at.span)),
        ];
        for (field, span) in http_fields {
            if let Some(span) = span {
                let message = format!("`{field}` is for gateways of type `http`");
                self.report.problem(span, message, "remove it");
            }
        }
        if let Some((path, _)) = entry.routes.entries(self.report).first() {
            let help = "a gateway of type `tcp` has only a `function`";
            self.report
                .problem(path.span, "`routes` are for gateways of type `http`", help);
        }
        let Some(function) = &entry.function else {
            let help = "set the `function` that receives its connections";
            self.report
                .problem(place, "the gateway does not lead to a function", help);
            return None;
        };
        let (limits, default) = (&entry.limits, HttpLimits::default());
        Some(TcpGateway {
            function: self.resolve(function, functions)?,
            connections: limits.connections.map_or(default.connections, usize::from),
            idle: limits.idle.map_or(default.idle, |Time(time)| time),
            life: limits.life.as_ref().map(|at| at.value.0),
        })
    }

    /// Resolves a function's name. If the function itself has a problem, does not report another.
    fn resolve(&self, written: &Spanned<String>, functions: &[ProjectFunction]) -> Option<Name> {
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

/// Returns whether two addresses collide, so that only one of them can be listened on.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = |address: SocketAddr| address.ip().is_unspecified();
    let same_ip = one.ip() == other.ip() || everywhere(one) || everywhere(other);
    one.port() != 0 && one.port() == other.port() && same_ip
}
